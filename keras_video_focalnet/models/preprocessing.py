"""Pixels -> what a model without its own preprocessing takes."""

import numpy as np

# ImageNet mean and standard deviation of red, green and blue, in pixel values (0-255).
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def preprocess_input(x, data_format=None):
    """Normalize pixels with the ImageNet mean and standard deviation, as the published models were trained.

    Only for models built with `include_preprocessing=False`; the others do it inside.

    Args:
        x: Pixels of 0 to 255, red, green, blue on the last axis: a frame, a clip or a batch of clips, such as
            `(batch, frames, height, width, 3)`. A NumPy array, nested lists or a tensor of the running backend, of any
            numeric dtype. It is not changed.
        data_format: None or `"channels_last"`.

    Returns:
        float32 of the shape of `x`, about -2.1 to 2.6: a NumPy array for a NumPy array or lists, else a tensor.

    Raises:
        ValueError: The last axis is not 3, or `data_format` is anything else.

    Example:
        >>> clip = read_clip("bikes.mp4", size=64)
        >>> model = VideoFocalNetNano(weights=None, include_preprocessing=False)
        >>> model.predict(preprocess_input(clip[None]), verbose=0).shape
        (1, 400)
    """
    if data_format not in (None, "channels_last"):
        raise ValueError(
            f'data_format must be None or "channels_last", received {data_format!r}. Clips are (batch, frames, height, '
            "width, 3): move the channels to the last axis, for example with numpy.moveaxis(x, 2, -1)."
        )
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    if len(x.shape) == 0 or x.shape[-1] not in (3, None):
        raise ValueError(
            f"x must have 3 channels (red, green, blue) on its last axis, received shape {tuple(x.shape)}. Move the "
            "channels there, or repeat a grey picture three times."
        )
    if isinstance(x, np.ndarray):
        return (x.astype(np.float32) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    # Data workers, which hold arrays, import no Keras.
    from keras import ops

    mean = ops.convert_to_tensor(IMAGENET_MEAN, dtype="float32")
    std = ops.convert_to_tensor(IMAGENET_STD, dtype="float32")
    return (ops.cast(x, "float32") - mean) / std
