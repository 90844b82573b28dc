"""A branch of focal modulation from context and gates to the modulator (Video-FocalNet, Eq. 6 to 9)."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.gradients import computed_again, keeping, with_gradients
from keras_video_focalnet.ops.depthwise import depthwise_conv2d, depthwise_conv2d_gradients
from keras_video_focalnet.ops.gated_sum import gated_sum, gated_sum_gradients
from keras_video_focalnet.ops.gelu import gelu, gelu_gradient
from keras_video_focalnet.ops.linear import linear, linear_gradients
from keras_video_focalnet.ops.temporal import temporal_conv, temporal_conv_gradients


class Convolution(NamedTuple):
    """A convolution of a branch.

    Attributes:
        convolve: A function of the context and a kernel.
        gradients: A function of both and of the gradient of its result, that gives those of the context and the kernel.
    """

    convolve: Callable
    gradients: Callable


DEPTHWISE = Convolution(depthwise_conv2d, depthwise_conv2d_gradients)
TEMPORAL = Convolution(temporal_conv, temporal_conv_gradients)


def aggregate(context: Tensor, gates: Tensor, kernels: Sequence, convolve: Callable, axes) -> Tensor:
    """Hierarchical contextualization and gated aggregation of one branch (Video-FocalNet, Eq. 6 to 8).

    Args:
        context: `(batch, frames, tokens, channels)`, or `(batch, height, width, channels)`.
        gates: The same but for `len(kernels) + 1` channels.
        kernels: The kernel of each focal level, as `convolve` takes it.
        convolve: A function of the context and a kernel that keeps the shape of the context.
        axes: Over which the context of the last level is averaged: of one branch space or time.

    Returns:
        A tensor of the shape of the context.
    """
    _, contexts = _levels(context, kernels, convolve, axes)
    return gated_sum(contexts, gates)


def _levels(context, kernels, convolve, axes):
    """What the convolution of each focal level gives, and the contexts of all levels, the average last."""
    convolved, contexts = [], []
    for kernel in kernels:
        convolved.append(convolve(context, kernel))
        context = gelu(convolved[-1])
        contexts.append(context)
    # The published code passes the average of the last level through GELU once more.
    contexts.append(gelu(ops.mean(context, axis=axes, keepdims=True)))
    return convolved, contexts


def modulator(
    context: Tensor,
    gates: Tensor,
    kernels: Sequence[Tensor],
    projection: tuple[Tensor, Tensor],
    convolution: Convolution,
    axes: int | tuple[int, ...],
    factor: float = 1.0,
) -> Tensor:
    """`linear(factor * aggregate(context, gates, kernels, ...), *projection)`, for training.

    The backward pass keeps the context, the gates and the result of each convolution. What a GELU, the mean and the sum
    make of them it computes again, which takes little time; the automatic gradient keeps each.
    """
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return _modulator(len(kernels), convolution, axes, factor)(context, gates, *projection, *kernels)


@functools.cache
def _modulator(levels, convolution, axes, factor):
    """The function of so many levels; made once, since JAX compiles a new function anew where nothing compiles it."""

    @with_gradients
    def compute(context, gates, kernel, bias, *kernels):
        convolved, contexts = _levels(context, kernels, convolution.convolve, axes)
        total = gated_sum(contexts, gates)
        result = linear(total if factor == 1 else total * factor, kernel, bias)
        return result, keeping(gradients, context, gates, kernel, *kernels, *convolved)

    @computed_again
    def gradients(context, gates, kernel, *tensors):
        kernels, convolved, upstream = tensors[:levels], tensors[levels:-1], tensors[-1]
        activated = [context, *map(_materialized_gelu, convolved)]
        mean = ops.mean(activated[-1], axis=axes, keepdims=True)
        contexts = [*activated[1:], gelu(mean)]
        total = gated_sum(contexts, gates)
        by_total, by_kernel, by_bias = linear_gradients(total if factor == 1 else total * factor, kernel, upstream)
        by_contexts, by_gates = gated_sum_gradients(contexts, gates, by_total if factor == 1 else by_total * factor)
        by_level = gelu_gradient(mean, by_contexts.pop()) / _size(context, axes)
        by_kernels = []
        for level in reversed(range(levels)):
            by_convolved = gelu_gradient(convolved[level], by_contexts[level] + by_level)
            by_level, by_filters = convolution.gradients(activated[level], kernels[level], by_convolved)
            by_kernels.insert(0, by_filters)
        by_context = by_level if levels else ops.broadcast_to(by_level, ops.shape(context))
        return by_context, by_gates, by_kernel, by_bias, *by_kernels

    return compute


_materialized_gelu = compiled_apart(gelu)


def _size(x, axes):
    """The number of values that an average over axes has; a tensor where a size is not known yet."""
    size = functools.reduce(operator.mul, [ops.shape(x)[axis] for axis in axes])
    return size if isinstance(size, int) else ops.cast(size, x.dtype)


def product(query: Tensor, *modulators: Tensor) -> Tensor:
    """Modulates the query by every modulator (Video-FocalNet, Eq. 9)."""
    return functools.reduce(operator.mul, modulators, query)


def projected_product(factors: Sequence[Tensor], projection: tuple[Tensor, Tensor]) -> Tensor:
    """`linear(product(*factors), *projection)`, for training: what is kept are the factors alone."""
    return _projected_product(*projection, *factors)


@with_gradients
def _projected_product(kernel, bias, *factors):
    return linear(product(*factors), kernel, bias), keeping(_projected_product_gradients, kernel, *factors)


@computed_again
def _projected_product_gradients(kernel, *tensors):
    *factors, upstream = tensors
    by_product, by_kernel, by_bias = linear_gradients(product(*factors), kernel, upstream)
    by_factors = [product(by_product, *factors[:place], *factors[place + 1 :]) for place in range(len(factors))]
    return by_kernel, by_bias, *by_factors
