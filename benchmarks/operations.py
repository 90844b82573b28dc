"""Time of each formulation at the four stages of Tiny: `KERAS_BACKEND=jax python -m benchmarks.operations`.

One clip, float32; forward, and for convolutions, GELU and layer norm the gradients too. The formulations take turns. On
TensorFlow both in a graph and compiled by XLA. "automatic" gradients are those that the backend finds by itself.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from benchmarks.alternation import table, write
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.layer_norm import layer_norm
from keras_video_focalnet.ops.linear import linear
from keras_video_focalnet.ops.temporal import temporal_conv

BACKEND = keras.backend.backend()
STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))
MODES = {"tensorflow": ("graph", "xla"), "jax": ("xla",), "torch": ("eager",)}[BACKEND]
GRADIENTS = {"automatic": {"gradients": "automatic"}, "by hand": {"gradients": "by_hand"}}


def formulations(operation, *names):
    """What to force for each formulation of an operation, by its name."""
    return {name: {operation: name} for name in names}


def compiled(function, arguments, mode):
    """A function of no arguments that runs `function` in a mode of the backend and waits for the result."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(function, jit_compile=mode == "xla")
        return lambda: keras.tree.flatten(run(*arguments))[0][0, 0].numpy()
    if BACKEND == "jax":
        import jax

        run = jax.jit(lambda *tensors: function(*tensors))  # jit would remember what the same function compiled to
        return lambda: jax.block_until_ready(run(*arguments))
    import torch

    def infer():
        with torch.inference_mode():
            return function(*arguments)

    return function_with_gradients(function, arguments) if getattr(function, "needs_gradients", False) else infer


def function_with_gradients(function, arguments):
    """As it is, but on tensors that PyTorch records."""
    tensors = [tensor.clone().requires_grad_() for tensor in arguments]
    return lambda: function(*tensors)


def with_backward(function):
    """A function that computes `function` and its gradients by all arguments, for a gradient of its result of ones."""

    def run(*arguments):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(arguments)
                result = function(*arguments)
            return tape.gradient(result, arguments)
        if BACKEND == "jax":
            import jax

            result, backward = jax.vjp(function, *arguments)
            return backward(jax.numpy.ones_like(result))
        import torch

        result = function(*arguments)
        return torch.autograd.grad(result, arguments, torch.ones_like(result))

    run.needs_gradients = True
    return run


def cases():
    """Operation, what it is done to, function, arguments, and its formulations, for every stage."""
    rng = np.random.default_rng(0)
    linears = formulations("linear", "library", "onednn") if BACKEND == "torch" else {"library": {}}

    def random(*shape):
        return keras.ops.convert_to_tensor(rng.standard_normal(shape, dtype="float32") / 20)

    for side, channels in STAGES:
        tokens = random(1, 8, side * side, channels)
        frames = keras.ops.reshape(tokens, (8, side, side, channels))
        for window in (3, 5):
            where = f"{side * side} x {channels}, window {window}"
            arguments = tokens, random(window, 1, channels, channels)
            choices = formulations("temporal_conv", "convolution", "winograd")
            yield "temporal_conv", where, temporal_conv, arguments, choices
            yield "temporal_conv and gradients", where, with_backward(temporal_conv), arguments, GRADIENTS
            arguments = frames, random(window, window, channels, 1)
            choices = formulations("depthwise_conv2d", "convolution", "shifted")
            yield "depthwise_conv2d", where, depthwise_conv2d, arguments, choices
            yield "depthwise_conv2d and gradients", where, with_backward(depthwise_conv2d), arguments, GRADIENTS
        dense = (tokens, random(channels, 4 * channels), random(4 * channels))
        yield "linear", f"{side * side} x {channels}, to {4 * channels}", linear, dense, linears
        yield "linear", f"{side * side} x {channels}, to {4 * channels}, GELU", activated, dense, linears
        where = f"{side * side} x {channels}"
        yield "gelu and gradients", where, with_backward(gelu), (tokens,), GRADIENTS
        affine = (tokens, random(channels), random(channels))
        yield "layer_norm", where, normalized, affine, {"scale and shift": {}}
        yield "layer_norm", where, normalized_alone, (tokens,), {"neither": {}}
        yield "layer_norm and gradients", where, with_backward(normalized), affine, GRADIENTS
        gated = (random(1, 8, side * side, 3), tokens, random(*tokens.shape), random(1, 8, 1, channels))
        yield "gated_sum and gradients", where, with_backward(gated_sum_of), gated, GRADIENTS


def activated(*arguments):
    """A dense layer with its GELU."""
    return linear(*arguments, activate=True)


def normalized(x, gamma, beta):
    """A layer norm."""
    return layer_norm(x, gamma, beta, 1e-5)


def normalized_alone(x):
    """A layer norm without scale and shift: what folding them into the next product would leave."""
    mean = keras.ops.mean(x, axis=-1, keepdims=True)
    scale = keras.ops.rsqrt(keras.ops.mean(keras.ops.square(x - mean), axis=-1, keepdims=True) + 1e-5)
    if BACKEND == "torch":
        import torch

        return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-5)
    return (x - mean) * scale


def gated_sum_of(gates, *contexts):
    """A gated sum."""
    return gated_sum(contexts, gates)


def in_turn(runs, rounds):
    """The median milliseconds of each of `runs`, a function and what is forced by key, of which each has its turns."""
    seconds = {key: [] for key in runs}
    for _ in range(rounds):
        for key, (run, forced) in runs.items():
            with force(**forced):
                start = time.perf_counter()
                run()
                seconds[key].append(time.perf_counter() - start)
    return {key: 1e3 * statistics.median(values) for key, values in seconds.items()}


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Turns each has.")
@click.option("--only", default="", help="Operations that have this in their name; all by default.")
@click.option("--name", default="operations", show_default=True, help="Of the file of results.")
def main(rounds, only, name):
    """Prints a table and writes `results/NAME-BACKEND-cpu.json`."""
    rows = []
    for operation, where, function, arguments, choices in cases():
        if only not in operation:
            continue
        runs = {}
        for mode in MODES:
            for formulation, forced in choices.items():
                run = compiled(function, arguments, mode)
                with force(**forced):
                    run()
                runs[mode, formulation] = run, forced
        for (mode, formulation), milliseconds in in_turn(runs, rounds).items():
            rows.append(
                {"operation": operation, "where": where, "mode": mode, "formulation": formulation, "ms": milliseconds}
            )
    header = ["operation", "tokens x channels", "mode", "formulation", "ms"]
    click.echo(table(header, [[*list(row.values())[:-1], f"{row['ms']:.2f}"] for row in rows]))
    write(f"{name}-{BACKEND}", "cpu", rows)


if __name__ == "__main__":
    main()
