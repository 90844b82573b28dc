"""A convolution in the middle of other operations."""

import functools

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose


def convolution(x: Tensor, kernel: Tensor, depthwise: bool = False, strides: int = 1) -> Tensor:
    """Convolve `(batch, height, width, channels)`, padded on all sides alike by half of the kernel's side, without a
    bias; on PyTorch without a copy of `x`. The kernel is `(k, k', channels, filters)`, depth-wise `(k, k', channels,
    1)`, both sides odd. With a stride of 1 the size stays; with another, sides are divided by it and rounded up.
    """
    rows, columns = (size // 2 for size in kernel.shape[:2])
    if keras.backend.backend() == "torch":
        from torch.nn.functional import conv2d

        x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
        # Keras makes both ends contiguous; these views tell PyTorch that channels come last in memory.
        filters = kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        options = {"stride": strides, "padding": (rows, columns), "groups": x.shape[-1] if depthwise else 1}
        return conv2d(x.permute(0, 3, 1, 2), filters, **options).permute(0, 2, 3, 1)
    padding = "same"
    if strides > 1:
        # What libraries call "same" pads less on the first side than on the last one.
        x, padding = ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0))), "valid"
    convolve = ops.depthwise_conv if depthwise else ops.conv
    return convolve(x, kernel, strides=strides, padding=padding, data_format="channels_last")


def convolution_gradients(
    x: Tensor, kernel: Tensor, upstream: Tensor, depthwise: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradients of `convolution` with a stride of 1 by `x` and by the kernel, given that of its result."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        padding, groups = [size // 2 for size in kernel.shape[:2]], x.shape[-1] if depthwise else 1
        filters = kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        upstream, x = upstream.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
        options = [1, 1], padding, [1, 1], False, [0, 0], groups, (True, True, False)
        by_x, by_filters, _ = torch.ops.aten.convolution_backward(upstream, x, filters, None, *options)
        return by_x.permute(0, 2, 3, 1), by_filters.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    convolve = functools.partial(convolution, depthwise=depthwise)
    if backend == "jax":
        import jax

        return jax.vjp(convolve, x, kernel)[1](upstream)
    import tensorflow as tf

    # In a graph the convolution itself is left out, since nothing takes its result.
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        result = convolve(x, kernel)
    return tape.gradient(result, (x, kernel), upstream)


def pointwise(x: Tensor, kernel: Tensor, strides: int = 1) -> Tensor:
    """Convolve `(batch, height, width, channels)` with a kernel `(1, 1, channels, filters)`, without bias."""
    if strides > 1:
        return choose("strided_pointwise", {"sliced": _sliced, "convolution": convolution}, "sliced")(
            x, kernel, strides=strides
        )
    return _sliced(x, kernel, 1)


def _sliced(x, kernel, strides):
    if strides > 1:
        x = x[:, ::strides, ::strides]
    height, width, channels = x.shape[1:]
    filters = kernel.shape[-1]
    product = ops.matmul(ops.reshape(x, (-1, channels)), ops.reshape(kernel, (channels, filters)))
    return ops.reshape(product, (-1, height, width, filters))
