"""Depth-wise convolution over height and width (paper Eq. 6, spatial branch)."""

from keras import ops

from keras_video_focalnet.ops.convolution import convolution
from keras_video_focalnet.ops.formulation import choose, compiled_by_xla, on_cpu


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


def _convolution(x, kernel):
    return convolution(x, kernel, depthwise=True)


def _shifted_sum(x, kernel):
    """Sum of shifted products: XLA fuses it, where its depth-wise convolution is some 50 times slower on a CPU."""
    size_h, size_w = kernel.shape[:2]
    height, width = x.shape[1:3]
    padded = ops.pad(x, ((0, 0), (size_h // 2, size_h // 2), (size_w // 2, size_w // 2), (0, 0)))
    total = None
    for row in range(size_h):
        for column in range(size_w):
            term = padded[:, row : row + height, column : column + width] * kernel[row, column, :, 0]
            total = term if total is None else total + term
    return total
