"""What the random transforms of a clip share: one draw for all frames, or one for each, and checks of arguments."""

import abc
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClipTransform(abc.ABC):
    """A random change of a clip's pixels: call it with the clip and a generator. Subclasses implement `apply`.

    A transform is frozen data: it pickles to worker processes, compares, and prints what it does.

    Args:
        per_frame: Whether every frame gets a draw of its own instead of one for the whole clip.
    """

    per_frame: bool = dataclasses.field(default=False, kw_only=True)

    def __call__(self, clip, rng):
        """The changed clip.

        Args:
            clip: uint8 array `(frames, height, width, 3)`. It is not written to.
            rng: `numpy.random.Generator`; the result is a function of the clip and of it alone.

        Returns:
            uint8 array `(frames, new height, new width, 3)`; where nothing is changed, the clip itself.

        Raises:
            ValueError: The clip is of another shape or type.
            TypeError: `rng` is no generator.
        """
        check_clip(clip)
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, received {rng!r}; pass np.random.default_rng(0).")
        if not self.per_frame:
            return self.apply(clip, rng)
        return np.concatenate([self.apply(clip[index : index + 1], rng) for index in range(len(clip))])

    @abc.abstractmethod
    def apply(self, clip, rng):
        """The changed clip, the same draw in all its frames."""


def check_clip(clip):
    """Raise unless `clip` is uint8 `(frames, height, width, 3)` with at least one frame."""
    shape, dtype = getattr(clip, "shape", None), getattr(clip, "dtype", None)
    if shape is None or len(shape) != 4 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise ValueError(
            f"clip must be a uint8 array (frames, height, width, 3), received shape {shape}, dtype {dtype}; "
            "transforms come before batching and before floats."
        )


def check_share(name, value):
    """Raise unless `value` lies in [0, 1]."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, received {value!r}.")


def check_range(name, value, least=0.0, most=np.inf):
    """Raise unless `value` is `(low, high)` with `least < low <= high <= most`."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    if not pair or not least < value[0] <= value[1] <= most:
        limit = f"{least} < low <= high" + (f" <= {most}" if most < np.inf else "")
        raise ValueError(f"{name} must be a pair (low, high) with {limit}, received {value!r}.")


def draw_box(rng, height, width, area, aspect):
    """A box within a picture, of a random share of its area and a random aspect.

    Args:
        rng: `numpy.random.Generator`.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        area: Least and greatest share of the picture's area, drawn evenly.
        aspect: Least and greatest width through height, drawn evenly in the logarithm.

    Returns:
        `(top, left, rows, columns)`, or None where ten draws give no box that fits into the picture.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(aspect)))
        rows, columns = round(np.sqrt(pixels / ratio)), round(np.sqrt(pixels * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            return int(top), int(left), rows, columns
    return None
