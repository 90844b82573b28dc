"""Cheap results that a backward pass computes again from what they came from, instead of keeping them.

A product of matrices or a convolution needs its input again in the backward pass. Where that input is the result of a
cheap operation (a GELU, a gated sum) whose own inputs are kept anyway, it need not be kept too.
"""

import contextlib
import functools
import itertools
import threading

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, half_precision_by_context
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import recorded

_local = threading.local()


@contextlib.contextmanager
def recomputing():
    """What `cheap` functions give inside, `costly` functions inside do not keep.

    Example:
    >>> double, square = cheap(lambda x: 2.0 * x), costly(lambda x: x * x)
    >>> with recomputing():
    ...     y = square(double(ops.convert_to_tensor(3.0)))
    >>> float(y)
    36.0
    """
    before = getattr(_local, "recipes", None)
    _local.recipes = {}
    try:
        yield
    finally:
        _local.recipes = before


def cheap(function):
    """Have results of `function`, from tensors to a tensor, computed again; an example is at `recomputing`."""

    @functools.wraps(function)
    def call(*tensors):
        result = function(*tensors)
        recipes = getattr(_local, "recipes", None)
        if recipes is not None:
            # The result is kept beside its recipe, so that no other tensor gets its identity.
            recipes[id(result)] = (result, *_recipe(function, tensors, recipes))
        return result

    return call


def _recipe(function, tensors, recipes):
    """How to make a result from tensors that are not themselves results of cheap functions."""
    parts = [recipes.get(id(tensor), (None, lambda x: x, (tensor,)))[1:] for tensor in tensors]
    counts = [(make, len(own)) for make, own in parts]  # no tensors: what closes over them keeps them

    def again(*origins):
        origins = iter(origins)
        return function(*(make(*itertools.islice(origins, count)) for make, count in counts))

    return again, tuple(origin for _, own in parts for origin in own)


def costly(function, gradients=None):
    """Have `function(x, *weights)` not keep an `x` that a cheap function gave; an example is at `recomputing`.

    Args:
        function: from tensors to a tensor or a tuple of them.
        gradients: from `x`, the weights and the gradient of the result (or a tuple of them) to their gradients, without
            `function` itself: PyTorch would compute it again to find them.
    """

    @functools.wraps(function)
    def call(x, *weights):
        recipe = (getattr(_local, "recipes", None) or {}).get(id(x))
        if recipe is None or not recorded() or half_precision_by_context():
            return function(x, *weights)
        weights = tuple(map(ops.convert_to_tensor, weights))
        formulations = {"automatic": lambda: function(x, *weights)}
        formulations["by_hand"] = lambda: _BACKENDS[keras.backend.backend()](function, gradients, *recipe, weights)
        return choose("gradients", formulations, "by_hand")()

    return call


def _jax(function, gradients, result, again, origins, weights):
    import jax

    def backward(origins, weights, upstream):
        x, to_origins = jax.vjp(again, *origins)
        of_x, *of_weights = jax.vjp(function, x, *weights)[1](upstream)
        return to_origins(of_x), tuple(of_weights)

    # Apart, since XLA would find that it computes the same twice, compute it once and keep it.
    backward = compiled_apart(backward)
    run = jax.custom_vjp(lambda x, origins, weights: function(x, *weights))
    run.defvjp(
        lambda x, origins, weights: (function(x, *weights), (origins, weights)),
        lambda kept, upstream: (None, *backward(*kept, upstream)),
    )
    return run(result, origins, weights)


def _tensorflow(function, gradients, result, again, origins, weights):
    import tensorflow as tf

    @tf.custom_gradient
    def run(x, *tensors):
        def backward(*upstream):
            # From now on: the graph optimizer takes the same computed twice for one, and would keep it.
            with tf.control_dependencies(upstream):
                kept = list(map(tf.identity, tensors))
            with tf.GradientTape() as tape:
                tape.watch(kept)
                x = again(*kept[: len(origins)])
                y = function(x, *kept[len(origins) :])
            return None, *tape.gradient(y, kept, list(upstream) if isinstance(y, tuple) else upstream[0])

        return function(x, *tensors[len(origins) :]), backward

    # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
    return run(*map(tf.convert_to_tensor, (result, *origins, *weights)))


def _torch(function, gradients, result, again, origins, weights):
    return _torch_function().apply(function, gradients, again, len(origins), result.detach(), *origins, *weights)


@functools.cache
def _torch_function():
    import torch

    def slopes(function, tensors, needed, upstream):
        """The gradients of those tensors that need one, None for the others."""
        with torch.enable_grad():
            tensors = [t.detach().requires_grad_(need) for t, need in zip(tensors, needed, strict=True)]
            found = iter(torch.autograd.grad(function(*tensors), [t for t in tensors if t.requires_grad], upstream))
        return [next(found) if need else None for need in needed]

    class Recomputing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, gradients, again, count, x, *tensors):
            ctx.plan = function, gradients, again, count
            ctx.save_for_backward(*tensors)
            result = function(x, *tensors[count:])
            ctx.several = isinstance(result, tuple)
            return result

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, *upstream):
            (function, gradients, again, count), tensors = ctx.plan, ctx.saved_tensors
            origins, weights, needed = tensors[:count], tensors[count:], ctx.needs_input_grad[5:]
            x = again(*origins)
            upstream = upstream if ctx.several else upstream[0]
            if gradients is None:
                of_x, *of_weights = slopes(function, (x, *weights), (True, *needed[count:]), upstream)
            else:
                of_x, *of_weights = gradients(x, *weights, upstream)
            of_origins = slopes(again, origins, needed[:count], of_x) if any(needed[:count]) else [None] * count
            return *[None] * 5, *of_origins, *of_weights

    return Recomputing


_BACKENDS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
