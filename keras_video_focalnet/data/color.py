"""Colour transforms of clips.

They work on a *sheet*: all frames of a clip, one below the other, as one Pillow image. One call of Pillow then changes
the whole clip, and what an operation measures (the mean grey of contrast, a histogram) it measures over the clip, so
that no frame flickers against its neighbours.
"""

import dataclasses
import typing

import numpy as np

from keras_video_focalnet.data.clip_transform import ClipTransform
from keras_video_focalnet.utils.checks import check_fraction, check_number

if typing.TYPE_CHECKING:
    from PIL import Image


def to_sheet(clip: np.ndarray) -> "Image.Image":
    """A clip `(frames, height, width, 3)` uint8 as one Pillow image of `frames * height` rows."""
    from PIL import Image

    frames, height, width, _ = clip.shape
    return Image.fromarray(np.ascontiguousarray(clip).reshape(frames * height, width, 3))


def from_sheet(sheet: "Image.Image", frames: int) -> np.ndarray:
    """The clip `(frames, height, width, 3)` uint8 that a sheet shows."""
    pixels = np.asarray(sheet)
    return pixels.reshape(frames, -1, *pixels.shape[1:])


def shift_hue(sheet: "Image.Image", shift: float) -> "Image.Image":
    """Turn the hue of a Pillow image by `shift` of the colour circle, -0.5 to 0.5.

    Hue has 255 steps here, as in all of Pillow's HSV images: a step is 1.4 degrees.
    """
    from PIL import Image

    hue, saturation, value = sheet.convert("HSV").split()
    hue = hue.point([(step + round(shift * 255)) % 255 for step in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


@dataclasses.dataclass(frozen=True)
class ColorJitter(ClipTransform):
    """Random brightness, contrast, saturation and hue, in random order; the numbers mean what they do in torchvision.

    Each result is clipped to 0-255 and its fraction cut off before the next, as Pillow does.

    Args:
        brightness: x >= 0: colours are multiplied by a factor drawn from [max(0, 1 - x), 1 + x].
        contrast: x >= 0: factor, drawn likewise, of the distance from the clip's mean grey.
        saturation: x >= 0: factor, drawn likewise, of the distance from each pixel's own grey.
        hue: x from 0 to 0.5: hues turn by a fraction of the colour circle drawn from [-x, x].
        probability: Chance that a clip is changed at all, 0 to 1.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> clip = np.full((8, 4, 4, 3), (200, 100, 50), np.uint8)
        >>> jitter = ColorJitter(brightness=0.4, contrast=0, saturation=0, hue=0, probability=1.0)
        >>> jitter(clip, np.random.default_rng(0))[:, 0, 0].tolist()[:2]
        [[122, 61, 30], [122, 61, 30]]
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    probability: float = 0.8

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation"):
            check_number(name, getattr(self, name), minimum=0, remedy="0 leaves it as it is")
        check_number("hue", self.hue, minimum=0, maximum=0.5, remedy="0.5 is half the colour circle")
        check_fraction("probability", self.probability)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        from PIL import ImageEnhance

        if rng.random() >= self.probability:
            return clip
        changes = [
            (self.brightness, lambda sheet, factor: ImageEnhance.Brightness(sheet).enhance(factor)),
            (self.contrast, lambda sheet, factor: ImageEnhance.Contrast(sheet).enhance(factor)),
            (self.saturation, lambda sheet, factor: ImageEnhance.Color(sheet).enhance(factor)),
            (self.hue, lambda sheet, factor: shift_hue(sheet, factor - 1)),
        ]
        sheet = to_sheet(clip)
        for index in rng.permutation(len(changes)):
            strength, change = changes[index]
            if strength > 0:
                sheet = change(sheet, rng.uniform(max(0.0, 1 - strength), 1 + strength))
        return from_sheet(sheet, len(clip))


@dataclasses.dataclass(frozen=True)
class RandomGray(ClipTransform):
    """Takes the colour away, keeping three equal channels.

    Args:
        probability: Chance that a clip is changed, 0 to 1.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: `probability` is out of its range.

    Example:
        >>> clip = np.full((8, 4, 4, 3), (200, 100, 50), np.uint8)
        >>> RandomGray(probability=1.0)(clip, np.random.default_rng(0))[0, 0, 0]
        array([124, 124, 124], dtype=uint8)
    """

    probability: float = 0.2

    def __post_init__(self):
        check_fraction("probability", self.probability)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.probability:
            return clip
        return from_sheet(to_sheet(clip).convert("L").convert("RGB"), len(clip))
