"""Convolution over time (Video-FocalNet, Eq. 6, the temporal branch).

As a 2-D convolution its window is `(k, 1)` over `(frames, tokens)`: the network's temporal view needs no transpose.
"""

import functools
import itertools
import operator

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_xla, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients
from keras_video_focalnet.ops.convolution import convolution
from keras_video_focalnet.ops.winograd import PRODUCTS, sequence_transforms, tile_transforms

# The transforms are products with matrices of frames by frames: of many frames they would cost more than they save, so
# a long clip is cut into segments of about as many tiles, which are four frames each.
SEGMENT_TILES = 4


def temporal_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve `(batch, frames, tokens, channels)` over frames by a kernel `(k, 1, channels, filters)`, k odd: full in
    channels, stride 1, zero padding that keeps the number of frames, no bias.
    """
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    window, _, channels, _ = kernel.shape
    # While a model is exported a size may be a symbol, which counts as unknown.
    frames, tokens = (size if type(size) is int else None for size in x.shape[1:3])
    gradients_by_hand = frames is not None and compiled_by_xla() and on_cpu(x)
    formulations = {"convolution": _with_gradients if gradients_by_hand else convolution}
    if window in PRODUCTS and frames is not None and tokens is not None:
        winograd = {"stacked": _winograd_in_segments, "unrolled": _unrolled_winograd}
        formulations["winograd"] = choose("winograd", winograd, "stacked")
    # With few channels the transforms take as long as they save, a GPU has units for plain products, and in half
    # precision rounding would show: see benchmarks/README.md.
    is_float32 = keras.backend.standardize_dtype(x.dtype) == "float32" and not half_precision_by_context(x)
    pays = channels >= 192 and (frames or 0) >= 4 and is_float32 and on_cpu(x)
    default = "winograd" if pays and "winograd" in formulations else "convolution"
    return choose("temporal_conv", formulations, default)(x, kernel)


@with_gradients
def _with_gradients(x, kernel):
    """The convolution, with the kernel's gradient as products of frames: XLA's own takes two or three times as long."""
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
        inputs = ops.swapaxes(x[:, first + shift : last + shift], 2, 3)
        products = ops.matmul(inputs, upstream[:, first:last])
        # In half precision the sum over many frames would be inexact.
        products = ops.cast(products, keras.backend.result_type(kernel.dtype, "float32"))
        taps.append(ops.sum(products, axis=(0, 1)))
    return ops.cast(ops.expand_dims(ops.stack(taps), 1), kernel.dtype)


def _winograd_in_segments(x, kernel):
    """Winograd's filtering of segments of frames, each of which reads half a window of its neighbours' frames too."""
    frames, window = x.shape[1], kernel.shape[0]
    results, half = [], window // 2
    for first, last in segments(frames, window):
        start, end = max(0, first - half), min(frames, last + half)
        results.append(_winograd(first - start, end - last)(x[:, start:end], kernel))
    return results[0] if len(results) == 1 else ops.concatenate(results, axis=1)


def segments(frames: int, window: int) -> list[tuple[int, int]]:
    """First frame and end of each segment: as equal as whole tiles can be, so that none is left with a frame or two."""
    outputs = PRODUCTS[window] - window + 1
    tiles = -(-frames // outputs)
    count = max(1, round(tiles / SEGMENT_TILES))
    ends = [min(frames, part * tiles // count * outputs) for part in range(count + 1)]
    return list(itertools.pairwise(ends))


@functools.cache
def _winograd(before, after):
    """Winograd's filtering of frames of which so many at the start and at the end give no outputs."""

    @with_gradients
    def filtered(x, kernel):
        """Three products of matrices, none of which moves memory: into tiles, with the filter, and back.

        The backward pass keeps `x` alone and makes the tiles again, which are up to twice as large.
        """
        tokens, filters = x.shape[2], kernel.shape[-1]
        transforms = _transforms(x, kernel, before, after)
        outputs = transforms[2]
        products = ops.matmul(_tiles(x, kernel, transforms), _transformed_filters(kernel, transforms))
        result = ops.matmul(outputs, ops.reshape(products, (-1, outputs.shape[1], tokens * filters)))
        result = ops.reshape(result, (-1, outputs.shape[0], tokens, filters))
        return result, keeping(gradients, x, kernel)

    def gradients(x, kernel, upstream):
        return _winograd_gradients(x, kernel, upstream, before, after)

    return filtered


@with_gradients
def _unrolled_winograd(x, kernel):
    """The same in operations that phones' GPUs have: they multiply by no constant stack of matrices.

    A depth-wise convolution takes what one product needs out of every tile, and sums of products give the outputs.
    TensorFlow runs this under XLA alone, since its own kernel takes one stride for both axes.
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
    filter_values = _transformed_filters(kernel, _transforms(x, kernel))
    values = []
    for product in range(products):
        taps = np.broadcast_to(b[product].reshape(products, 1, 1, 1), (products, 1, channels, 1))
        taps, strides = ops.convert_to_tensor(taps, x.dtype), (outputs, 1)
        inputs = ops.depthwise_conv(padded, taps, strides=strides, padding=padding, data_format="channels_last")
        values.append(ops.matmul(inputs, filter_values[product]))
    # The points are zero, pairs of opposite numbers, and infinity. Powers of a pair are equal or opposite.
    pairs = list(zip(values[1:-1:2], values[2:-1:2], strict=True))
    even, odd = [left + right for left, right in pairs], [left - right for left, right in pairs]
    rows, first_of_pairs = [], [0, *range(1, products - 1, 2), products - 1]
    for row, weights in enumerate(a):
        terms = zip([values[0], *(odd if row % 2 else even), values[-1]], weights[first_of_pairs], strict=True)
        weighted = [term if weight == 1 else term * weight for term, weight in terms if weight]
        rows.append(functools.reduce(operator.add, weighted))
    result = ops.reshape(ops.concatenate(rows, axis=2), (-1, tiles * outputs, tokens, filters))
    result = result if tiles * outputs == frames else result[:, :frames]
    return result, keeping(_winograd_gradients, x, kernel)


def _winograd_gradients(x, kernel, upstream, before=0, after=0):
    (_, frames, tokens, channels), (_, _, _, filters) = x.shape, kernel.shape
    transforms = _transforms(x, kernel, before, after)
    inputs, taps, outputs = map(ops.transpose, transforms)
    products = PRODUCTS[kernel.shape[0]]
    products_gradient = ops.matmul(outputs, ops.reshape(upstream, (-1, outputs.shape[1], tokens * filters)))
    rows = outputs.shape[0] // products * tokens
    products_gradient = ops.reshape(products_gradient, (-1, products, rows, filters))
    filters_gradient = ops.sum(ops.matmul(ops.swapaxes(_tiles(x, kernel, transforms), 2, 3), products_gradient), axis=0)
    kernel_gradient = ops.matmul(taps, ops.reshape(filters_gradient, (-1, channels * filters)))
    tiles_gradient = ops.matmul(products_gradient, ops.swapaxes(_transformed_filters(kernel, transforms), 1, 2))
    x_gradient = ops.matmul(inputs, ops.reshape(tiles_gradient, (-1, inputs.shape[1], tokens * channels)))
    return ops.reshape(x_gradient, (-1, frames, tokens, channels)), ops.reshape(kernel_gradient, kernel.shape)


def _transforms(x, kernel, before=0, after=0):
    matrices = sequence_transforms(kernel.shape[0], x.shape[1], before, after)
    return [ops.convert_to_tensor(matrix, x.dtype) for matrix in matrices]


def _tiles(x, kernel, transforms):
    """The inputs of every tile, transformed: `(batch, products, tiles * tokens, channels)`."""
    frames, tokens, channels = x.shape[1:]
    inputs, _, outputs = transforms
    products = PRODUCTS[kernel.shape[0]]
    tiles = ops.matmul(inputs, ops.reshape(x, (-1, frames, tokens * channels)))
    return ops.reshape(tiles, (-1, products, outputs.shape[1] // products * tokens, channels))


def _transformed_filters(kernel, transforms):
    """The filter of every product: `(products, channels, filters)`."""
    window, _, channels, filters = kernel.shape
    return ops.reshape(ops.matmul(transforms[1], ops.reshape(kernel, (window, -1))), (-1, channels, filters))
