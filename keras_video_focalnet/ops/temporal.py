"""Convolution over time (paper Eq. 6, temporal branch).

As a 2-D convolution its window is `(k, 1)` over `(frames, tokens)`: the network's temporal view needs no transpose.
"""

import functools
import operator

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.ops.convolution import convolution, gradients_on_torch
from keras_video_focalnet.ops.formulation import choose, compiled_by_xla, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import keeping, with_gradients
from keras_video_focalnet.ops.recompute import costly
from keras_video_focalnet.ops.winograd import PRODUCTS, sequence_transforms, tile_transforms

# The transforms are products with matrices of frames by frames: beyond this they would cost more than they save.
MOST_FRAMES = 64


def temporal_conv(x, kernel):
    """Convolve over frames, full in channels, stride 1, zero padding that keeps the number of frames, no bias.

    Args:
        x: `(batch, frames, tokens, channels)`, floating.
        kernel: `(k, 1, channels, filters)`, `k` odd, same dtype as `x`.

    Returns:
        `(batch, frames, tokens, filters)`, the dtype of `x`.

    Example:
    >>> temporal_conv(np.ones((1, 8, 49, 2), "float32"), np.ones((3, 1, 2, 4), "float32")).shape
    (1, 8, 49, 4)
    """
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    window, _, channels, _ = kernel.shape
    # While a model is exported a size may be a symbol, which is as good as unknown.
    frames, tokens = (size if type(size) is int else None for size in x.shape[1:3])
    by_hand = frames is not None and compiled_by_xla() and on_cpu(x)
    formulations = {"convolution": costly(gradients_on_torch)(_with_gradients if by_hand else convolution)}
    if window in PRODUCTS and frames is not None and tokens is not None and frames <= MOST_FRAMES:
        winograd = choose("winograd", {"stacked": _winograd, "unrolled": _unrolled_winograd}, "stacked")
        formulations["winograd"] = costly(_winograd_gradients)(winograd)
    # With few channels transforming takes as long as it saves, a GPU has units for plain products, and half precision
    # would not bear it: see benchmarks/README.md.
    is_float32 = keras.backend.standardize_dtype(x.dtype) == "float32" and not half_precision_by_context(x)
    pays = channels >= 192 and (frames or 0) >= 4 and is_float32 and on_cpu(x)
    by_rule = "winograd" if pays and "winograd" in formulations else "convolution"
    return choose("temporal_conv", formulations, by_rule)(x, kernel)


@with_gradients
def _with_gradients(x, kernel):
    """The convolution, with the kernel's gradient as products of frames: XLA's own takes two to three times as long."""
    return convolution(x, kernel), keeping(_gradients, x, kernel)


def _gradients(x, kernel, upstream):
    mirrored = ops.swapaxes(ops.flip(kernel, 0), 2, 3)
    return convolution(upstream, mirrored), _kernel_gradient(x, kernel, upstream)


@compiled_apart
def _kernel_gradient(x, kernel, upstream):
    frames, half = x.shape[1], kernel.shape[0] // 2
    taps = []
    for shift in range(-half, half + 1):
        first, last = max(0, -shift), max(0, -shift, min(frames, frames - shift))
        seen = ops.swapaxes(x[:, first + shift : last + shift], 2, 3)
        products = ops.matmul(seen, upstream[:, first:last])
        # Half precision would not bear a sum over many frames.
        products = ops.cast(products, keras.backend.result_type(kernel.dtype, "float32"))
        taps.append(ops.sum(products, axis=(0, 1)))
    return ops.cast(ops.expand_dims(ops.stack(taps), 1), kernel.dtype)


@with_gradients
def _winograd(x, kernel):
    """Three products of matrices, all on the memory as it lies: into tiles, with the filter, and back.

    Keeps `x` alone for the backward pass, which makes the tiles again: they are up to twice as large.
    """
    frames, tokens, filters = *x.shape[1:3], kernel.shape[-1]
    _, _, outputs = _transforms(x, kernel)
    tiles = ops.matmul(_tiles(x, kernel), _filters_of_products(x, kernel))
    result = ops.matmul(outputs, ops.reshape(tiles, (-1, outputs.shape[1], tokens * filters)))
    return ops.reshape(result, (-1, frames, tokens, filters)), keeping(_winograd_gradients, x, kernel)


@with_gradients
def _unrolled_winograd(x, kernel):
    """In operations that phones' GPUs take too: of constants, they multiply by single matrices alone, from the right.

    A depth-wise convolution takes what a product needs out of every tile; sums of products give the outputs. TensorFlow
    itself runs it under XLA alone: its own kernel takes one stride for both axes.
    """
    (_, frames, tokens, _), (window, _, channels, filters) = x.shape, kernel.shape
    a, _, b = tile_transforms(window)
    outputs, products = a.shape
    tiles = -(-frames // outputs)
    padded, padding = x, "same"
    if frames % outputs:
        before = window // 2
        padded = ops.pad(x, ((0, 0), (before, tiles * outputs + before - frames), (0, 0), (0, 0)))
        padding = "valid"
    of_products = _filters_of_products(x, kernel)
    values = []
    for product in range(products):
        taps = np.broadcast_to(b[product].reshape(products, 1, 1, 1), (products, 1, channels, 1))
        seen = ops.depthwise_conv(
            padded,
            ops.convert_to_tensor(taps, x.dtype),
            strides=(outputs, 1),
            padding=padding,
            data_format="channels_last",
        )
        values.append(ops.matmul(seen, of_products[product]))
    # Zero, pairs of opposite points, infinity: a power is even or odd.
    pairs = list(zip(values[1:-1:2], values[2:-1:2], strict=True))
    even, odd = [left + right for left, right in pairs], [left - right for left, right in pairs]
    rows, of_terms = [], [0, *range(1, products - 1, 2), products - 1]
    for row, weights in enumerate(a):
        terms = zip([values[0], *(odd if row % 2 else even), values[-1]], weights[of_terms], strict=True)
        weighted = [term if weight == 1 else term * weight for term, weight in terms if weight]
        rows.append(functools.reduce(operator.add, weighted))
    result = ops.reshape(ops.concatenate(rows, axis=2), (-1, tiles * outputs, tokens, filters))
    result = result if tiles * outputs == frames else result[:, :frames]
    return result, keeping(_winograd_gradients, x, kernel)


def _winograd_gradients(x, kernel, upstream, needed=(True, True)):
    (_, frames, tokens, channels), (_, _, _, filters) = x.shape, kernel.shape
    inputs, taps, outputs = map(ops.transpose, _transforms(x, kernel))
    products = PRODUCTS[kernel.shape[0]]
    of_products = ops.matmul(outputs, ops.reshape(upstream, (-1, frames, tokens * filters)))
    of_products = ops.reshape(of_products, (-1, products, outputs.shape[0] // products * tokens, filters))
    of_x = of_kernel = None
    if needed[1]:
        of_filters = ops.sum(ops.matmul(ops.swapaxes(_tiles(x, kernel), 2, 3), of_products), axis=0)
        of_kernel = ops.matmul(taps, ops.reshape(of_filters, (-1, channels * filters)))
        of_kernel = ops.reshape(of_kernel, kernel.shape)
    if needed[0]:
        of_tiles = ops.matmul(of_products, ops.swapaxes(_filters_of_products(x, kernel), 1, 2))
        of_x = ops.matmul(inputs, ops.reshape(of_tiles, (-1, inputs.shape[1], tokens * channels)))
        of_x = ops.reshape(of_x, (-1, frames, tokens, channels))
    return of_x, of_kernel


def _transforms(x, kernel):
    return [ops.convert_to_tensor(matrix, x.dtype) for matrix in sequence_transforms(kernel.shape[0], x.shape[1])]


def _tiles(x, kernel):
    """`(batch, products, tiles * tokens, channels)`."""
    frames, tokens, channels = x.shape[1:]
    inputs, _, outputs = _transforms(x, kernel)
    products = PRODUCTS[kernel.shape[0]]
    tiles = ops.matmul(inputs, ops.reshape(x, (-1, frames, tokens * channels)))
    return ops.reshape(tiles, (-1, products, outputs.shape[1] // products * tokens, channels))


def _filters_of_products(x, kernel):
    window, _, channels, filters = kernel.shape
    _, taps, _ = _transforms(x, kernel)
    return ops.reshape(ops.matmul(taps, ops.reshape(kernel, (window, -1))), (-1, channels, filters))
