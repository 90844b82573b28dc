"""Pixels -> what the layers of a model take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_video_focalnet.utils.checks import check_resize_rule


@dataclass(frozen=True)
class Preprocessing:
    """How a video becomes the input of an architecture's layers.

    Attributes:
        mean: Mean of red, green and blue in pixels of 0 to 255, which is subtracted.
        std: Standard deviation of the same, by which is divided.
        frames: Frames of a clip where the model leaves them open.
        size: Height and width of a clip where the model leaves them open.
        crop_fraction: The part of a resized frame's tighter side that the centre crop of a single view shows.
        interpolation: How frames are resized, `"bilinear"` or `"bicubic"`.

    Raises:
        ValueError: The part or the interpolation is not of these.

    Example:
        >>> preprocessing = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), frames=16)
        >>> preprocessing.normalize(np.array([0, 255, 255], "uint8"))
        array([-1.,  1.,  1.], dtype=float32)
    """

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    frames: int = 8
    size: tuple[int, int] = (224, 224)
    crop_fraction: float = 224 / 256
    interpolation: str = "bilinear"

    def __post_init__(self):
        check_resize_rule(self.crop_fraction, self.interpolation)

    @property
    def resize_rule(self) -> dict[str, Any]:
        """What `read_clip` and `CenterCrop` take to resize and crop frames for the model, by the names there."""
        return {"crop_fraction": self.crop_fraction, "interpolation": self.interpolation}

    def normalize(self, x: Any) -> Any:
        """Subtract the mean and divide by the standard deviation.

        Returns float32 of the shape of `x`: an array for an array, else a tensor of the running backend.
        """
        if isinstance(x, np.ndarray):
            return (x.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        # Data workers, which hold arrays, import no Keras.
        from keras import ops

        mean = ops.convert_to_tensor(self.mean, dtype="float32")
        std = ops.convert_to_tensor(self.std, dtype="float32")
        return (ops.cast(x, "float32") - mean) / std


IMAGENET = Preprocessing()
"""The mean and standard deviation of ImageNet, with which most image and video models are trained."""


def preprocess_input(x: Any, data_format: str | None = None, preprocessing: Preprocessing = IMAGENET) -> Any:
    """Normalize pixels as a model was trained, by default with the ImageNet mean and standard deviation.

    It is needed only for models built with `include_preprocessing=False`; the others do it inside.

    Args:
        x: Pixels of 0 to 255, red, green, blue on the last axis: a frame, a clip or a batch of clips, such as
            `(batch, frames, height, width, 3)`. An array, nested lists or a tensor of the running backend, of any
            numeric dtype. It is not changed.
        data_format: None or `"channels_last"`.
        preprocessing: What the model takes, `model.preprocessing`.

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
    return preprocessing.normalize(x)
