"""The base of the random transforms of a clip: one draw for all frames, or one for each; and the check of a clip."""

import abc
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClipTransform(abc.ABC):
    """A random change of a clip's pixels: call it with the clip and a generator. Subclasses implement `apply`.

    A transform is frozen data: it pickles to worker processes, compares, and prints what it does. With `per_frame`
    every frame gets a draw of its own instead of one for the whole clip.
    """

    per_frame: bool = dataclasses.field(default=False, kw_only=True)

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed uint8 clip, from `(frames, height, width, 3)` to that with another height and width. It is a
        function of the clip, which is not written to, and of `rng` alone; where nothing is changed, the clip itself.
        """
        check_clip(clip)
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, received {rng!r}; pass np.random.default_rng(0).")
        if not self.per_frame:
            return self.apply(clip, rng)
        return np.concatenate([self.apply(clip[index : index + 1], rng) for index in range(len(clip))])

    @abc.abstractmethod
    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed clip, the same draw in all its frames."""


def check_clip(clip: np.ndarray) -> None:
    """Raise unless `clip` is uint8 `(frames, height, width, 3)` with at least one frame."""
    shape, dtype = getattr(clip, "shape", None), getattr(clip, "dtype", None)
    if shape is None or len(shape) != 4 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise ValueError(
            f"clip must be a uint8 array (frames, height, width, 3), received shape {shape}, dtype {dtype}; "
            "transforms come before batching and before floats."
        )


def draw_box(
    rng: np.random.Generator, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int] | None:
    """A box `(top, left, rows, columns)` within a picture, of a random fraction of its area, drawn evenly, and a random
    width through height, drawn evenly in the logarithm; None where ten draws give none that fits.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(aspect)))
        rows, columns = round(np.sqrt(pixels / ratio)), round(np.sqrt(pixels * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            return int(top), int(left), rows, columns
    return None
