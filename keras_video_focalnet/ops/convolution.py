"""A convolution in the middle of other operations."""

import keras
from keras import ops


def convolution(x, kernel, depthwise=False):
    """Convolve with stride 1 and zero padding that keeps the size, no bias; on PyTorch without a copy of `x`.

    Args:
        x: `(batch, height, width, channels)`, floating.
        kernel: `(k, k', channels, filters)`, or `(k, k', channels, 1)` if depth-wise; `k` and `k'` odd, the dtype of
            `x`.
        depthwise: bool, every channel has a filter of its own.

    Returns:
        `(batch, height, width, filters)`, the dtype of `x`.

    Example:
    >>> convolution(np.ones((1, 5, 5, 2), "float32"), np.ones((3, 3, 2, 4), "float32")).shape
    (1, 5, 5, 4)
    """
    if keras.backend.backend() == "torch":
        from torch.nn.functional import conv2d

        pictures, filters, padding, groups = _torch_arguments(x, kernel, depthwise)
        return conv2d(pictures, filters, padding=padding, groups=groups).permute(0, 2, 3, 1)
    if depthwise:
        return ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
    return ops.conv(x, kernel, padding="same", data_format="channels_last")


def gradients_on_torch(x, kernel, upstream, needed, depthwise=False):
    """The gradients of `convolution`'s arguments on PyTorch, those that are needed, without the convolution."""
    import torch

    pictures, filters, padding, groups = _torch_arguments(x, kernel, depthwise)
    of_pictures, of_filters, _ = torch.ops.aten.convolution_backward(
        upstream.permute(0, 3, 1, 2), pictures, filters, None, (1, 1), padding, (1, 1), False, (0, 0), groups,
        (*needed, False),
    )  # fmt: skip
    of_x = of_pictures.permute(0, 2, 3, 1) if needed[0] else None
    return of_x, of_filters.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)) if needed[1] else None


def _torch_arguments(x, kernel, depthwise):
    """Keras makes both ends contiguous; these views say channels last as they are."""
    pictures, kernel = ops.convert_to_tensor(x).permute(0, 3, 1, 2), ops.convert_to_tensor(kernel)
    filters = kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
    return pictures, filters, tuple(size // 2 for size in kernel.shape[:2]), x.shape[-1] if depthwise else 1
