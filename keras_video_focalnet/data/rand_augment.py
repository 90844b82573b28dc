"""RandAugment on clips (Cubuk et al. 2020)."""

import dataclasses

import numpy as np

from keras_video_focalnet.data.clip_transform import ClipTransform
from keras_video_focalnet.data.color import from_sheet, to_sheet
from keras_video_focalnet.utils.checks import check_fraction, check_integer, check_number

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


def _operation(name, argument=None):
    """One of Pillow's operations without a direction; `argument` makes its argument of the strength, if it has one."""

    def change(sheet, strength):
        from PIL import ImageOps

        return getattr(ImageOps, name)(sheet, *([] if argument is None else [argument(abs(strength))]))

    return change


def _each_frame(clip, change):
    from PIL import Image

    return np.stack([np.asarray(change(Image.fromarray(np.ascontiguousarray(frame)))) for frame in clip])


def _affine(clip, x_from_y=0.0, y_from_x=0.0, x_shift=0.0, y_shift=0.0):
    """Shears the frames about their middle and shifts them, by fractions of their sides."""
    from PIL import Image

    height, width = clip.shape[1:3]
    x_offset, y_offset = x_shift * width - x_from_y * height / 2, y_shift * height - y_from_x * width / 2
    how = Image.Transform.AFFINE, (1, x_from_y, x_offset, y_from_x, 1, y_offset), Image.Resampling.BILINEAR
    return _each_frame(clip, lambda frame: frame.transform(frame.size, *how, fillcolor=FILL))


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
    "posterize": _colors(_operation("posterize", lambda strength: 8 - round(4 * strength))),
    "solarize": _colors(_operation("solarize", lambda strength: 256 * (1 - strength))),
    "auto contrast": _colors(_operation("autocontrast")),
    "equalize": _colors(_operation("equalize")),
}
"""The RandAugment paper's 14 operations, `(clip, strength from -1 to 1) -> clip`; some have no direction."""


@dataclasses.dataclass(frozen=True)
class RandAugment(ClipTransform):
    """`count` random operations of one strength, one after the other (Cubuk et al. 2020).

    The operations are the 14 of that paper (`OPERATIONS`), with the ranges that AutoAugment gave them: at full
    magnitude a shear of 0.3, a shift of 0.45 of the side, a turn of 30 degrees, enhancement by 0.1 or 1.9, 4 bits of
    colour, solarization of everything. Directions are drawn.

    Args:
        count: Operations a clip, an integer of 0 or more; an operation can come twice.
        magnitude: Their strength, 0 to 10, where 10 is the full range: the "m9" of "rand-m9". In the scale of 30 steps
            that torchvision has, this 9 is 27.
        operation_probability: Chance of each of the operations to be done, 1 by default.
        spread: Standard deviation of the strength, which is drawn for each operation and cut to 0 to 10: the "mstd0.5"
            of "rand-m9-mstd0.5"; 0 by default.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        >>> RandAugment(count=2, magnitude=9)(clip, np.random.default_rng(1)).shape
        (8, 32, 32, 3)
    """

    count: int = 2
    magnitude: float = 9.0
    operation_probability: float = 1.0
    spread: float = 0.0

    def __post_init__(self):
        check_integer("count", self.count, minimum=0, remedy="the usual number is 2")
        check_number("magnitude", self.magnitude, minimum=0, maximum=10, remedy="divide one of 30 steps by 3")
        check_fraction("operation_probability", self.operation_probability)
        check_number("spread", self.spread, minimum=0)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        operations = list(OPERATIONS.values())
        for index in rng.integers(len(operations), size=self.count):
            sign = rng.choice((-1, 1))
            # Nothing more is drawn by default: the clips of a seed stay the same.
            magnitude = np.clip(rng.normal(self.magnitude, self.spread), 0, 10) if self.spread else self.magnitude
            if self.operation_probability == 1 or rng.uniform() < self.operation_probability:
                clip = operations[index](clip, sign * magnitude / 10)
        return clip
