"""Time of inter-frame attention beside PyTorch's: `KERAS_BACKEND=jax python -m benchmarks.inter_frame_attention`.

At the sizes of SIFA-Net-50's stages, three frames of one clip that attend to the next one, in float32; forward, and
forward with all gradients. The peer is our PyTorch rendering, which reads the window by `grid_sample` (of undisplaced
taps by `unfold`). Both run in this process, in turn.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np
import torch

from benchmarks.alternation import table, write
from benchmarks.operations import BACKEND, MODES, compiled, in_turn, with_backward
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.inter_frame_attention import inter_frame_attention
from weights_conversion.torch_sifa import inter_frame_attention as peer

# Stage: side of the map, channels, frames that attend.
STAGES = {"layer2": (28, 128, 3), "layer3": (14, 256, 3), "layer4": (7, 512, 3), "layer4_dual": (14, 512, 1)}
FORMULATIONS = ("product", "gather", "mixed")


def displaced(queries, keys, offsets):
    """Inter-frame attention with offsets."""
    return inter_frame_attention(queries, keys, offsets)[0]


def undisplaced(queries, keys):
    """Inter-frame attention without offsets."""
    return inter_frame_attention(queries, keys)[0]


def run_of_peer(arguments, backward):
    """The same in PyTorch, channels first, as a function of no arguments."""
    tensors = [torch.tensor(array.transpose(0, 3, 1, 2).copy()) for array in arguments]

    def forward():
        with torch.inference_mode():
            return peer(*tensors[:2], tensors[2] if len(tensors) > 2 else None)

    def both():
        recorded = [tensor.clone().requires_grad_() for tensor in tensors]
        sums, _ = peer(*recorded[:2], recorded[2] if len(recorded) > 2 else None)
        return torch.autograd.grad(sums.sum(), recorded)

    return both if backward else forward


def runs_of(function, arguments, backward, choices):
    """What takes turns: ours in each mode and formulation, and the peer."""
    tensors = [keras.ops.convert_to_tensor(array) for array in arguments]
    function = with_backward(function) if backward else function
    runs = {"PyTorch": (run_of_peer(arguments, backward), {})}
    for mode in MODES:
        for name, forced in choices.items():
            run = compiled(function, tensors, mode)
            with force(**forced):
                run()
            runs[f"{BACKEND} {mode} {name}"] = run, forced
    return runs


@click.command()
@click.option("--rounds", default=15, show_default=True, help="Turns each has.")
@click.option("--threads", default=None, type=int, help="Threads of PyTorch; all cores by default.")
def main(rounds, threads):
    """Prints a table and writes `results/inter_frame_attention-BACKEND-cpu.json`."""
    if threads:
        torch.set_num_threads(threads)
    rng, rows = np.random.default_rng(0), []
    for stage, (side, channels, frames) in STAGES.items():
        maps = [rng.normal(size=(frames, side, side, channels)).astype("float32") for _ in range(2)]
        offsets = rng.normal(size=(frames, side, side, 18)).astype("float32")
        given = {name: {"inter_frame_attention": name} for name in FORMULATIONS}
        undisplaced_choices = {name: {"undisplaced_attention": name} for name in ("shifted", "masked")}
        for what, function, arguments, choices in (
            ("offsets", displaced, [*maps, offsets], given),
            ("no offsets", undisplaced, maps, undisplaced_choices),
        ):
            for backward in (False, True):
                runs = runs_of(function, arguments, backward, choices)
                if what == "no offsets":
                    runs["PyTorch, offsets of 0"] = run_of_peer([*maps, np.zeros_like(offsets)], backward), {}
                medians = in_turn(runs, rounds)
                peer_ms = medians.get("PyTorch, offsets of 0", medians["PyTorch"])
                for key, ms in medians.items():
                    pass_ = "forward and backward" if backward else "forward"
                    row = {"stage": stage, "what": what, "pass": pass_, "run": key, "ms": ms, "ratio": peer_ms / ms}
                    rows.append(row)
    header = ["stage", "offsets", "pass", "run", "ms", "times as fast"]
    click.echo(table(header, [[*list(row.values())[:-2], f"{row['ms']:.2f}", f"{row['ratio']:.2f}"] for row in rows]))
    write(f"inter_frame_attention-{BACKEND}", "cpu", rows)


if __name__ == "__main__":
    main()
