"""Depth-wise convolution over two axes (Video-FocalNet, Eq. 6, the spatial branch)."""

import functools

from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_xla, on_cpu
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart, sums_in_one_pass
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients
from keras_video_focalnet.ops.convolution import convolution, convolution_gradients


def depthwise_conv2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of `(batch, height, width, channels)` with its own filter of the kernel `(k, k', channels,
    1)`, both sides odd: stride 1, zero padding that keeps the size, no bias.
    """
    return _chosen(x, {"convolution": _convolution, "shifted": _shifted_sum})(x, kernel)


def depthwise_conv2d_gradients(x: Tensor, kernel: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `depthwise_conv2d` by `x` and by the kernel, given that of its result."""
    convolution = functools.partial(convolution_gradients, depthwise=True)
    return _chosen(x, {"convolution": convolution, "shifted": _gradients})(x, kernel, upstream)


def _chosen(x, formulations):
    # A sum of shifted products is cut out of sizes that are known.
    known = all(type(size) is int for size in x.shape[1:3])
    default = "shifted" if known and compiled_by_xla() and on_cpu(x) else "convolution"
    return choose("depthwise_conv2d", formulations, default)


def _convolution(x, kernel):
    return convolution(x, kernel, depthwise=True)


def _shifted_sum(x, kernel):
    """A sum of shifted products. XLA fuses it; its depth-wise convolution is some 50 times slower on a CPU."""
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    return _with_gradients(x, kernel) if compiled_by_xla() else _sum(x, kernel)


@with_gradients
def _with_gradients(x, kernel):
    """The sum, with gradients for XLA: the automatic ones read both tensors once for every tap of the kernel."""
    return _sum(x, kernel), keeping(_gradients, x, kernel)


@compiled_apart
def _gradients(x, kernel, upstream):
    return _sum(upstream, ops.flip(kernel, (0, 1))), _kernel_gradient(x, upstream, kernel)


def _sum(x, kernel):
    taps = ops.reshape(kernel, (-1, kernel.shape[2]))
    products = [shifted * taps[index] for index, shifted in enumerate(_shifted(_padded(x, kernel), x, kernel))]
    return functools.reduce(lambda left, right: left + right, products)


def _kernel_gradient(x, upstream, kernel):
    """The sums of all taps in one pass over both tensors, frame by frame, so that threads divide the frames."""
    padded = _padded_apart(x, kernel)
    sums = sums_in_one_pass([shifted * upstream for shifted in _shifted(padded, x, kernel)], (1, 2))
    return ops.cast(ops.reshape(ops.sum(ops.stack(sums), axis=1), kernel.shape), kernel.dtype)


def _padded(x, kernel):
    rows, columns = (size // 2 for size in kernel.shape[:2])
    return ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


_padded_apart = compiled_apart(_padded)


def _shifted(padded, x, kernel):
    """What each tap of the kernel sees, in turn."""
    height, width = x.shape[1:3]
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            yield padded[:, row : row + height, column : column + width]
