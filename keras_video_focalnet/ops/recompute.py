"""Cheap results that a backward pass computes again from what they came from, instead of keeping them.

A product of matrices or a convolution needs its input again in the backward pass. Where that input is the result of a
cheap operation (a GELU, a gated sum) whose own inputs are kept anyway, it need not be kept too.
"""

import contextlib
import functools
import threading

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, compiled_by_xla, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import recorded

_local = threading.local()


@contextlib.contextmanager
def recomputing():
    """What `cheap` functions give inside, `costly` functions inside do not keep.

    Such gradients can be differentiated once; for second derivatives or forward mode compute inside
    `keras_video_focalnet.ops.formulation.force(gradients="automatic")`.

    Example:
    >>> double, square = cheap(lambda x: 2.0 * x), costly()(lambda x: x * x)
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


def _recipes():
    return getattr(_local, "recipes", None) or {}


def cheap(function):
    """Have results of `function`, from tensors and fixed keyword arguments to a tensor, computed again.

    An example is at `recomputing`.
    """

    @functools.wraps(function)
    def call(*tensors, **fixed):
        result = function(*tensors, **fixed)
        recipes = getattr(_local, "recipes", None)
        if recipes is not None and recorded() and not half_precision_by_context(result):
            # A recipe is what makes a result from its origins, tensors that are not results of cheap functions: the
            # function and the recipes of its arguments, None where one is an origin itself.
            parts = [recipes.get(id(tensor), (None, None, (tensor,)))[1:] for tensor in tensors]
            recipe = function, tuple(sorted(fixed.items())), tuple(recipe for recipe, _ in parts)
            # The result is held beside its recipe, so that no other tensor gets its identity.
            recipes[id(result)] = result, recipe, tuple(origin for _, origins in parts for origin in origins)
        return result

    return call


def _again(recipe, origins):
    """The result that a recipe makes, from an iterator over its origins."""
    if recipe is None:
        return next(origins)
    function, fixed, parts = recipe
    return function(*[_again(part, origins) for part in parts], **dict(fixed))


def costly(gradients=None):
    """Have `function(x, *weights)` not keep an `x` that a cheap function gave; an example is at `recomputing`.

    Args:
        gradients: for PyTorch, which would compute the function again to find them: from `x`, the weights, the gradient
            of the result (or a tuple of them) and `needed`, a bool for `x` and each weight, to the gradients of `x` and
            the weights, None where not needed.
    """

    def decorate(function):
        @functools.wraps(function)
        def call(x, *weights):
            kept = _recipes().get(id(x))
            if kept is None or (keras.backend.backend() == "torch" and not x.requires_grad):
                return function(x, *weights)
            weights = tuple(map(ops.convert_to_tensor, weights))
            formulations = {"automatic": lambda: function(x, *weights)}
            formulations["by_hand"] = lambda: _BACKENDS[keras.backend.backend()](function, gradients, *kept, weights)
            return choose("gradients", formulations, "by_hand")()

        return call

    return decorate


def _jax(function, gradients, result, recipe, origins, weights):
    import jax

    run = jax.custom_vjp(lambda x, origins, weights: function(x, *weights))
    run.defvjp(
        lambda x, origins, weights: (function(x, *weights), (origins, weights)),
        lambda kept, upstream: (None, *_jax_backward(function, recipe)(*kept, upstream)),
    )
    return run(result, origins, weights)


@functools.cache
def _jax_backward(function, recipe):
    """Made once for all blocks that do the same: they share what is compiled."""
    import jax

    def backward(origins, weights, upstream):
        if not on_cpu(None):
            origins, weights, upstream = jax.lax.optimization_barrier((origins, weights, upstream))
        x, to_origins = jax.vjp(lambda *origins: _again(recipe, iter(origins)), *origins)
        of_x, *of_weights = jax.vjp(function, x, *weights)[1](upstream)
        return to_origins(of_x), tuple(of_weights)

    # Apart, or behind a barrier: XLA would find that it computes the same twice, compute it once and keep it.
    return compiled_apart(backward)


def _tensorflow(function, gradients, result, recipe, origins, weights):
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier
    from tensorflow.python.eager.record import stop_recording

    by_xla = compiled_by_xla()

    @tf.custom_gradient
    def run(x, *tensors):
        def backward(*upstream):
            # From now on: what optimizes the graph takes the same computed twice for one, and would keep it.
            if by_xla:
                kept = xla_optimization_barrier([*tensors, *upstream])[: len(tensors)]
            else:
                with tf.control_dependencies(upstream):
                    kept = list(map(tf.identity, tensors))
            with tf.GradientTape() as tape:
                tape.watch(kept)
                y = function(_again(recipe, iter(kept[: len(origins)])), *kept[len(origins) :])
            return None, *tape.gradient(y, kept, list(upstream) if isinstance(y, tuple) else upstream[0])

        with stop_recording():  # a tape outside would keep `x`
            return function(x, *tensors[len(origins) :]), backward

    # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
    return run(*map(tf.convert_to_tensor, (result, *origins, *weights)))


def _torch(function, gradients, result, recipe, origins, weights):
    return _torch_function().apply(function, gradients, recipe, len(origins), result.detach(), *origins, *weights)


@functools.cache
def _torch_function():
    import torch

    class Recomputing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, gradients, recipe, count, x, *tensors):
            ctx.plan = function, gradients, recipe, count
            ctx.save_for_backward(*tensors)
            result = function(x, *tensors[count:])
            ctx.several = isinstance(result, tuple)
            return result

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, *upstream):
            (function, gradients, recipe, count), tensors = ctx.plan, ctx.saved_tensors
            upstream = upstream if ctx.several else upstream[0]
            needed = ctx.needs_input_grad[5:]
            with torch.enable_grad():
                origins = _leaves(tensors[:count], needed)
                x = _again(recipe, iter(origins))
            needed_here = (any(needed[:count]), *needed[count:])
            if gradients is None:
                of_x, *of_weights = _slopes(function, (x.detach(), *tensors[count:]), needed_here, upstream)
            else:
                of_x, *of_weights = gradients(x.detach(), *tensors[count:], upstream, needed=needed_here)
            of_origins = [None] * count
            if of_x is not None:
                found = iter(torch.autograd.grad(x, [t for t in origins if t.requires_grad], of_x))
                of_origins = [next(found) if origin.requires_grad else None for origin in origins]
            return *[None] * 5, *of_origins, *of_weights

    return Recomputing


def _leaves(tensors, needed):
    return [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=False)]


def _slopes(function, tensors, needed, upstream):
    """The gradients of those tensors that need one, None for the others."""
    import torch

    with torch.enable_grad():
        tensors = _leaves(tensors, needed)
        found = iter(torch.autograd.grad(function(*tensors), [t for t in tensors if t.requires_grad], upstream))
    return [next(found) if need else None for need in needed]


_BACKENDS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
