"""Depth-wise convolution over height and width (paper Eq. 6, spatial branch)."""

import functools

from keras import ops

from keras_video_focalnet.ops.convolution import convolution, gradients_on_torch
from keras_video_focalnet.ops.formulation import choose, compiled_by_xla, on_cpu
from keras_video_focalnet.ops.fusion import compiled_apart, sums_in_one_pass
from keras_video_focalnet.ops.gradients import keeping, with_gradients
from keras_video_focalnet.ops.recompute import costly


def depthwise_conv2d(x, kernel):
    """Convolve every channel with its own filter, stride 1, zero padding that keeps the size, no bias.

    Args:
        x: `(batch, height, width, channels)`, floating; height and width static.
        kernel: `(k, k, channels, 1)`, `k` odd, same dtype as `x`.

    Returns:
        `(batch, height, width, channels)`, the dtype of `x`.

    Example:
    >>> depthwise_conv2d(np.ones((1, 5, 5, 2), "float32"), np.ones((3, 3, 2, 1), "float32")).shape
    (1, 5, 5, 2)
    """
    formulations = {"convolution": _convolution, "shifted": _shifted_sum}
    by_rule = "shifted" if compiled_by_xla() and on_cpu(x) else "convolution"
    return choose("depthwise_conv2d", formulations, by_rule)(x, kernel)


@costly(functools.partial(gradients_on_torch, depthwise=True))
def _convolution(x, kernel):
    return convolution(x, kernel, depthwise=True)


@costly()
def _shifted_sum(x, kernel):
    """Sum of shifted products: XLA fuses it, where its depth-wise convolution is some 50 times slower on a CPU."""
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    return _with_gradients(x, kernel) if compiled_by_xla() else _sum(x, kernel)


@with_gradients
def _with_gradients(x, kernel):
    """The sum, with gradients for XLA: the automatic one reads both tensors once for every tap of the kernel."""
    return _sum(x, kernel), keeping(_gradients, x, kernel)


@compiled_apart
def _gradients(x, kernel, upstream):
    return _sum(upstream, ops.flip(kernel, (0, 1))), _kernel_gradient(x, upstream, kernel)


def _sum(x, kernel):
    taps = ops.reshape(kernel, (-1, kernel.shape[2]))
    products = [shifted * taps[place] for place, shifted in enumerate(_shifted(_padded(x, kernel), x, kernel))]
    return functools.reduce(lambda left, right: left + right, products)


def _kernel_gradient(x, upstream, kernel):
    """The sums of all taps in one pass over both tensors; frame by frame, so that threads share them."""
    padded = _apart_padded(x, kernel)
    sums = sums_in_one_pass([shifted * upstream for shifted in _shifted(padded, x, kernel)], (1, 2))
    return ops.cast(ops.reshape(ops.sum(ops.stack(sums), axis=1), kernel.shape), kernel.dtype)


def _padded(x, kernel):
    rows, columns = (size // 2 for size in kernel.shape[:2])
    return ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


_apart_padded = compiled_apart(_padded)


def _shifted(padded, x, kernel):
    height, width = x.shape[1:3]
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            yield padded[:, row : row + height, column : column + width]
