"""RandAugment on clips (Cubuk et al. 2020)."""

import dataclasses
import operator

import numpy as np

from keras_video_focalnet.data.clip_transform import ClipTransform
from keras_video_focalnet.data.color import from_sheet, to_sheet

FILL = (128, 128, 128)
"""What a geometric operation shows outside of the frame."""


def _colors(change):
    """An operation that changes the clip's colours; `change(sheet, strength)` gets and returns a Pillow image."""
    return lambda clip, strength: from_sheet(change(to_sheet(clip), strength), len(clip))


def _enhance(name):
    """One of Pillow's enhancements: factors from 0.1 to 1.9, 1 being no change."""

    def change(sheet, strength):
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(sheet).enhance(1 + 0.9 * strength)

    return change


def _sharpness(clip, strength):
    # Frame by frame: the filter would mix the edges of neighbours on a sheet.
    return _each_frame(clip, lambda frame: _enhance("Sharpness")(frame, strength))


def _auto_contrast(sheet, strength):
    from PIL import ImageOps

    return ImageOps.autocontrast(sheet)


def _equalize(sheet, strength):
    from PIL import ImageOps

    return ImageOps.equalize(sheet)


def _posterize(sheet, strength):
    from PIL import ImageOps

    return ImageOps.posterize(sheet, 8 - round(4 * abs(strength)))


def _solarize(sheet, strength):
    from PIL import ImageOps

    return ImageOps.solarize(sheet, 256 * (1 - abs(strength)))


def _each_frame(clip, change):
    from PIL import Image

    return np.stack([np.asarray(change(Image.fromarray(np.ascontiguousarray(frame)))) for frame in clip])


def _affine(clip, x_from_y=0.0, y_from_x=0.0, x_shift=0.0, y_shift=0.0):
    """Shears the frames about their middle and shifts them, by shares of their sides."""
    from PIL import Image

    height, width = clip.shape[1:3]
    matrix = (
        1,
        x_from_y,
        x_shift * width - x_from_y * height / 2,
        y_from_x,
        1,
        y_shift * height - y_from_x * width / 2,
    )
    return _each_frame(
        clip,
        lambda frame: frame.transform(
            frame.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL
        ),
    )


def _rotate(clip, strength):
    from PIL import Image

    return _each_frame(clip, lambda frame: frame.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=FILL))


OPERATIONS = {
    "identity": lambda clip, strength: clip,
    "shear x": lambda clip, strength: _affine(clip, x_from_y=0.3 * strength),
    "shear y": lambda clip, strength: _affine(clip, y_from_x=0.3 * strength),
    "translate x": lambda clip, strength: _affine(clip, x_shift=0.45 * strength),
    "translate y": lambda clip, strength: _affine(clip, y_shift=0.45 * strength),
    "rotate": _rotate,
    "brightness": _colors(_enhance("Brightness")),
    "saturation": _colors(_enhance("Color")),
    "contrast": _colors(_enhance("Contrast")),
    "sharpness": _sharpness,
    "posterize": _colors(_posterize),
    "solarize": _colors(_solarize),
    "auto contrast": _colors(_auto_contrast),
    "equalize": _colors(_equalize),
}
"""The paper's 14 operations, `(clip, strength from -1 to 1) -> clip`; those without a direction ignore the sign."""


@dataclasses.dataclass(frozen=True)
class RandAugment(ClipTransform):
    """`count` random operations of one strength, one after the other (Cubuk et al. 2020).

    The operations are the paper's 14 (`OPERATIONS`), with the ranges that AutoAugment gave them: at full magnitude a
    shear of 0.3, a shift of 0.45 of the side, a turn of 30 degrees, enhancement by 0.1 or 1.9, 4 bits of colour,
    solarization of everything. Directions are drawn.

    Args:
        count: Operations a clip, an integer of 0 or more; an operation can come twice.
        magnitude: Their strength, 0 to 10, where 10 is the full range: the "m9" of "rand-m9". In the scale of 30 steps
            that torchvision has, this 9 is 27.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `count` is no integer.

    Example:
        >>> clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        >>> RandAugment(count=2, magnitude=9)(clip, np.random.default_rng(1)).shape
        (8, 32, 32, 3)
    """

    count: int = 2
    magnitude: float = 9.0

    def __post_init__(self):
        if operator.index(self.count) < 0:
            raise ValueError(f"count must be 0 or more, received {self.count}; the usual number is 2.")
        if not 0 <= self.magnitude <= 10:
            raise ValueError(
                f"magnitude must be from 0 to 10, received {self.magnitude!r}; divide one of 30 steps by 3."
            )

    def apply(self, clip, rng):
        operations = list(OPERATIONS.values())
        for index in rng.integers(len(operations), size=self.count):
            sign = rng.choice((-1, 1))
            clip = operations[index](clip, sign * self.magnitude / 10)
        return clip
