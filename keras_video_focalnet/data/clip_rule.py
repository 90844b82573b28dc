"""What a model's clips are: how many frames of which size, and what becomes of their pixels."""

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_video_focalnet.utils.checks import fail

CROP_FRACTION = 224 / 256
_OF_MODELS = "keras_video_focalnet.models.clip_rules"


@dataclass(frozen=True)
class ClipRule:
    """How a video becomes a clip that a model takes; the defaults are those of most models.

    Attributes:
        num_frames: Frames of a clip, from the middles of equal segments of the video.
        size: Height and width in pixels.
        crop_fraction: The part of a resized frame's tighter side that the centre crop shows.
        interpolation: How frames are resized, `"bilinear"` or `"bicubic"`.
        prepare: Function of pixels that gives what the model takes; None where it takes pixels of 0 to 255.
    """

    num_frames: int = 8
    size: tuple[int, int] = (224, 224)
    crop_fraction: float = CROP_FRACTION
    interpolation: str = "bilinear"
    prepare: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def resize_rule(self) -> dict[str, Any]:
        """What `read_clip` and `CenterCrop` take to resize and crop frames for the model, by the names there."""
        return {"crop_fraction": self.crop_fraction, "interpolation": self.interpolation}


@functools.singledispatch
def clip_rule(like: Any) -> ClipRule:
    """The `ClipRule` of a model; kinds of models that know more than their input's shape register their own."""
    if isinstance(like, (str, os.PathLike)):
        # What a path stands for is known to the room of the models, which registers it when it is first imported.
        importlib.import_module(_OF_MODELS)
        return clip_rule(like)
    frames, height, width = clip_sides(like)
    default = ClipRule()
    return ClipRule(frames or default.num_frames, (height or default.size[0], width or default.size[1]))


def clip_sides(like: Any) -> tuple[int | None, int | None, int | None]:
    """Frames, height and width of the clips that a model takes; None where it takes any."""
    shape = getattr(like, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) not in (4, 5) or shape[-1] != 3:
        expected = "a model of clips, (batch, frames, height, width, 3), or an exported file's"
        raise fail("like", expected, like, "pass num_frames= and size= in its place")
    return shape[-4:-1]
