"""A convolution in the middle of other operations."""

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor


def convolution(x: Tensor, kernel: Tensor, depthwise: bool = False) -> Tensor:
    """Convolve `(batch, height, width, channels)` with stride 1 and zero padding that keeps the size, without bias; on
    PyTorch without a copy of `x`. The kernel is `(k, k', channels, filters)`, depth-wise `(k, k', channels, 1)`, both
    sides odd.
    """
    if keras.backend.backend() == "torch":
        from torch.nn.functional import conv2d

        x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
        # Keras makes both ends contiguous; these views tell PyTorch that channels come last in memory.
        filters = kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        padding = tuple(size // 2 for size in kernel.shape[:2])
        groups = x.shape[-1] if depthwise else 1
        return conv2d(x.permute(0, 3, 1, 2), filters, padding=padding, groups=groups).permute(0, 2, 3, 1)
    if depthwise:
        return ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
    return ops.conv(x, kernel, padding="same", data_format="channels_last")
