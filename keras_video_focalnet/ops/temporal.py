"""Convolution over time (paper Eq. 6, temporal branch).

As a 2-D convolution its window is `(k, 1)` over `(frames, tokens)`: the network's temporal view needs no transpose.
"""

import keras
from keras import ops

from keras_video_focalnet.ops.convolution import convolution
from keras_video_focalnet.ops.formulation import choose, compiled_by_xla, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.winograd import PRODUCTS, sequence_transforms

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
    formulations = {"convolution": _with_gradients if compiled_by_xla() and on_cpu(x) else convolution}
    window, _, channels, _ = kernel.shape
    # While a model is exported a size may be a symbol, which is as good as unknown.
    frames, tokens = (size if type(size) is int else None for size in x.shape[1:3])
    if window in PRODUCTS and frames is not None and tokens is not None and frames <= MOST_FRAMES:
        formulations["winograd"] = _winograd
    # With few channels transforming takes as long as it saves, a GPU has units for plain products, and half precision
    # would not bear it: see benchmarks/README.md.
    is_float32 = keras.backend.standardize_dtype(x.dtype) == "float32" and not half_precision_by_context()
    pays = channels >= 192 and (frames or 0) >= 4 and is_float32 and on_cpu(x)
    by_rule = "winograd" if pays and "winograd" in formulations else "convolution"
    return choose("temporal_conv", formulations, by_rule)(x, kernel)


@ops.custom_gradient
def _with_gradients(x, kernel):
    """The convolution, with the kernel's gradient as products of frames: XLA's own takes two to three times as long."""

    def gradients(upstream):
        mirrored = ops.swapaxes(ops.flip(kernel, 0), 2, 3)
        return convolution(upstream, mirrored), _kernel_gradient(x, upstream, kernel)

    return convolution(x, kernel), gradients


@compiled_apart
def _kernel_gradient(x, upstream, kernel):
    frames, half = x.shape[1], kernel.shape[0] // 2
    taps = []
    for shift in range(-half, half + 1):
        first, last = max(0, -shift), max(0, -shift, min(frames, frames - shift))
        seen = ops.swapaxes(x[:, first + shift : last + shift], 2, 3)
        taps.append(ops.sum(ops.matmul(seen, upstream[:, first:last]), axis=(0, 1)))
    return ops.expand_dims(ops.stack(taps), 1)


def _winograd(x, kernel):
    """Three products of matrices, all on the memory as it lies: into tiles, with the filter, and back."""
    window, _, channels, filters = kernel.shape
    frames, tokens = x.shape[1:3]
    inputs, taps, outputs = (ops.convert_to_tensor(t, x.dtype) for t in sequence_transforms(window, frames))
    products = PRODUCTS[window]
    filters_of_products = ops.reshape(ops.matmul(taps, ops.reshape(kernel, (window, -1))), (-1, channels, filters))
    tiles = ops.matmul(inputs, ops.reshape(x, (-1, frames, tokens * channels)))
    tiles = ops.reshape(tiles, (-1, products, outputs.shape[1] // products * tokens, channels))
    tiles = ops.matmul(tiles, filters_of_products)
    result = ops.matmul(outputs, ops.reshape(tiles, (-1, outputs.shape[1], tokens * filters)))
    return ops.reshape(result, (-1, frames, tokens, filters))
