"""Maps in colours over frames, and frames side by side under a line of text."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_video_focalnet.utils.texts import printable

# Colours from the least to the most, evenly apart: dark blue, blue, green, yellow, red.
_COLOURS = np.array([(0, 0, 128), (0, 128, 255), (64, 224, 96), (255, 216, 0), (216, 0, 0)], np.float32)
STRENGTH = 0.65
"""How much of a pixel the colour of the highest value takes, 0 to 1."""
GAP = 2
_BACKGROUND, _INK = 255, 0


def to_frames(grid: np.ndarray, frames: int, size: tuple[int, int], of_pairs: bool = False) -> np.ndarray:
    """Enlarge a map to frames.

    Args:
        grid: float32 `(grid_frames, height, width)`.
        frames: Number of frames of the clip; each of the map's stands for as many of these.
        size: Height and width of a frame in pixels.
        of_pairs: Whether the map tells of every frame of its own but the last.

    Returns:
        float32 `(frames, *size)`, bilinear between places; not a number in frames that the map tells nothing of.
    """
    height, width = size
    large = [
        np.asarray(Image.fromarray(np.ascontiguousarray(each, np.float32)).resize((width, height), Image.BILINEAR))
        for each in grid
    ]
    if of_pairs:
        large.append(np.full(size, np.nan, np.float32))
    return np.stack([large[frame * len(large) // frames] for frame in range(frames)])


def shares_of_range(values: np.ndarray) -> np.ndarray:
    """Values from 0, where they are least, to 1, where they are greatest; 0 throughout where all are the same."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0, 0)
    return (values - low) / (high - low) if high > low else np.where(np.isfinite(values), np.float32(0), np.nan)


def colours(shares: np.ndarray) -> np.ndarray:
    """Colours `(..., 3)`, floats of 0 to 255, of values of 0 to 1: from dark blue over green to red.

    Example:
        >>> colours(np.array([0.0, 0.5, 1.0])).tolist()
        [[0.0, 0.0, 128.0], [64.0, 224.0, 96.0], [216.0, 0.0, 0.0]]
    """
    places = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(shares, places, _COLOURS[:, channel]) for channel in range(3)], axis=-1)


def overlay(frames: np.ndarray, values: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Lay a map in colours over frames: the higher a value within the map, the more of its colour is seen.

    Args:
        frames: uint8 `(frames, height, width, 3)`.
        values: Floats `(frames, height, width)`; a frame without numbers is left as it is, and so is a pixel of the
            least value of all frames.
        strength: How much of a pixel the colour of the greatest value takes, 0 to 1, by default 0.65.

    Returns:
        uint8 `(frames, height, width, 3)`.

    Example:
        >>> frames = np.full((1, 1, 2, 3), 100, "uint8")
        >>> overlay(frames, np.array([[[0.0, 8.0]]]), strength=0.5).tolist()
        [[[[100, 100, 100], [158, 50, 50]]]]
    """
    shares = np.nan_to_num(shares_of_range(np.asarray(values, np.float32)))
    drawn = np.empty_like(frames)
    # One after the other: colours are floats, which take eight times the memory of a frame.
    for frame, share, picture in zip(frames, shares, drawn, strict=True):
        opaque = (strength * share)[..., None]
        picture[:] = np.rint((1 - opaque) * frame + opaque * colours(share))
    return drawn


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font; it has Latin letters, Greek and Cyrillic ones, and draws a box for others."""
    return ImageFont.load_default(size)


def text_strip(text: str, width: int, size: int = 12) -> np.ndarray:
    """A line of text on white, uint8 `(1.5 * size, width, 3)`; what does not fit is cut off."""
    strip = Image.new("RGB", (width, size * 3 // 2), (_BACKGROUND,) * 3)
    ImageDraw.Draw(strip).text((2, size // 8), printable(text[:width]), fill=(_INK,) * 3, font=font(size))
    return np.asarray(strip)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row, a thin line of white between."""
    return _joined(pictures, axis=1)


def one_above_the_other(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one width in a column, a thin line of white between."""
    return _joined(pictures, axis=0)


def _joined(pictures, axis):
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, _BACKGROUND, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=axis)
