"""Time of each formulation at the four stages of Tiny: `KERAS_BACKEND=jax python -m benchmarks.operations`.

One clip, float32, forward alone; the formulations take turns. On TensorFlow both in a graph and compiled by XLA.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from benchmarks.alternation import table, write
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.formulation import force
from keras_video_focalnet.ops.linear import linear
from keras_video_focalnet.ops.temporal import temporal_conv

BACKEND = keras.backend.backend()
STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))
MODES = {"tensorflow": ("graph", "xla"), "jax": ("xla",), "torch": ("eager",)}[BACKEND]
FORMULATIONS = {
    "temporal_conv": ("convolution", "winograd"),
    "depthwise_conv2d": ("convolution", "shifted"),
    "linear": ("library", "onednn") if BACKEND == "torch" else ("library",),
}


def compiled(function, arguments, mode):
    """A function of no arguments that runs `function` in a mode of the backend and waits for the result."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(function, jit_compile=mode == "xla")
        return lambda: run(*arguments)[0, 0].numpy()
    if BACKEND == "jax":
        import jax

        run = jax.jit(lambda *tensors: function(*tensors))  # jit would remember what the same function compiled to
        return lambda: run(*arguments).block_until_ready()
    import torch

    def infer():
        with torch.inference_mode():
            return function(*arguments)

    return infer


def cases():
    """Operation, what it is done to, function and arguments, for every stage."""
    rng = np.random.default_rng(0)

    def random(*shape):
        return keras.ops.convert_to_tensor(rng.standard_normal(shape, dtype="float32") / 20)

    for side, channels in STAGES:
        tokens = random(1, 8, side * side, channels)
        frames = keras.ops.reshape(tokens, (8, side, side, channels))
        for window in (3, 5):
            where = f"{side * side} x {channels}, window {window}"
            yield "temporal_conv", where, temporal_conv, (tokens, random(window, 1, channels, channels))
            yield "depthwise_conv2d", where, depthwise_conv2d, (frames, random(window, window, channels, 1))
        dense = (tokens, random(channels, 4 * channels), random(4 * channels))
        yield "linear", f"{side * side} x {channels}, to {4 * channels}", linear, dense
        yield "linear", f"{side * side} x {channels}, to {4 * channels}, GELU", activated, dense


def activated(*arguments):
    """A dense layer with its GELU."""
    return linear(*arguments, activate=True)


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Turns each has.")
def main(rounds):
    """Prints a table and writes `results/operations-BACKEND-cpu.json`."""
    rows = []
    for operation, where, function, arguments in cases():
        runs = {}
        for mode in MODES:
            for formulation in FORMULATIONS[operation]:
                run = compiled(function, arguments, mode)
                with force(**({operation: formulation} if len(FORMULATIONS[operation]) > 1 else {})):
                    run()
                runs[mode, formulation] = run
        seconds = {key: [] for key in runs}
        for _ in range(rounds):
            for (mode, formulation), run in runs.items():
                with force(**({operation: formulation} if len(FORMULATIONS[operation]) > 1 else {})):
                    start = time.perf_counter()
                    run()
                    seconds[mode, formulation].append(time.perf_counter() - start)
        for (mode, formulation), values in seconds.items():
            milliseconds = 1e3 * statistics.median(values)
            rows.append(
                {"operation": operation, "where": where, "mode": mode, "formulation": formulation, "ms": milliseconds}
            )
    header = ["operation", "tokens x channels", "mode", "formulation", "ms"]
    click.echo(table(header, [[*list(row.values())[:-1], f"{row['ms']:.2f}"] for row in rows]))
    write(f"operations-{BACKEND}", "cpu", rows)


if __name__ == "__main__":
    main()
