"""Checks of clips: their shape, and whether their pixels are those of 0 to 255. They need NumPy alone."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

READ = "read_clip(path, like=model) reads the clip that the model takes"

# Where the axes (batch, frames, height, width, channels) may have been left, and what brings them to their places.
_LAYOUTS = {
    "channels first, (batch, channels, frames, height, width)": ((0, 2, 3, 4, 1), "numpy.moveaxis({name}, 1, -1)"),
    "(batch, frames, channels, height, width)": ((0, 1, 3, 4, 2), "numpy.moveaxis({name}, 2, -1)"),
    "frames and channels swapped": ((0, 4, 2, 3, 1), "numpy.swapaxes({name}, 1, -1)"),
}


def check_clip_shape(name: str, shape: Sequence[int | None], expected: Sequence[int | None]) -> None:
    """Checks the shape of a batch of clips.

    Args:
        name: Name of the argument that holds the clips.
        shape: Its shape; None stands for a side that is not known yet and fits.
        expected: `(frames, height, width, 3)`; None stands for a side that may have any length of at least 1.

    Raises:
        ValueError: The shape differs; the message says how the clips can be brought into it, where that is known.

    Example:
    >>> check_clip_shape("x", (1, 8, 64, 64, 3), (None, 64, 64, 3))
    """
    shape, wanted = tuple(shape), (None, *expected)
    if not _fits(shape, wanted):
        sides = ", ".join(("batch", "frames", "height", "width", "channels")[i] if side is None else str(side)
                          for i, side in enumerate(wanted))  # fmt: skip
        raise ValueError(f"{name} must have shape ({sides}), received {shape}; {_remedy(name, shape, wanted)}.")


def check_no_path(name: str, clips: Any) -> None:
    """Raises a `ValueError` where the path of a video is given in place of its clip."""
    array = clips if isinstance(clips, np.ndarray) else None
    if isinstance(clips, (str, bytes, os.PathLike)) or (array is not None and array.dtype.kind in "US"):
        raise ValueError(f"{name} must be clips, received the path {clips!r}; {READ}, and clip[None] makes it a batch.")


def check_not_apart(name: str, clips: Any) -> None:
    """Raises a `ValueError` where several clips, or the frames of one, are given as a list of arrays."""
    if isinstance(clips, (list, tuple)) and clips and all(hasattr(clip, "shape") for clip in clips):
        raise ValueError(
            f"{name} must be one array of clips, received a {type(clips).__name__} of {len(clips)}; "
            f"numpy.stack({name}) makes clips of one size a batch, and "
            f"{READ.replace('path', 'frames')} from a list of frames."
        )


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        side is None or (side == want if want is not None else side > 0 or axis == 0)
        for axis, (side, want) in enumerate(zip(shape, wanted, strict=True))
    )


def _remedy(name, shape, wanted):
    """What brings clips of a wrong shape into the right one, in words."""
    if len(shape) == len(wanted) - 1:
        if _fits((1, *shape), wanted):
            return f"this is one clip: {name}[None] makes it a batch"
        remedy = _layout(f"{name}[None]", (1, *shape), wanted)
        if remedy or not _fits((*shape, 3), wanted):
            return remedy or f"clips are batches of five axes: (batch, frames, height, width, channels); {READ}"
        return f"these are grey clips without channels: numpy.repeat({name}[..., None], 3, -1) gives them three"
    if len(shape) != len(wanted):
        return f"clips are batches of five axes: (batch, frames, height, width, channels); {READ}"
    if remedy := _layout(name, shape, wanted):
        return remedy
    if shape[-1] not in (3, None):
        return "the last axis holds red, green and blue, and a grey clip can be repeated three times along it"
    if any(_fits(shape[:2] + sides + shape[4:], wanted) for sides in [wanted[2:4]]):
        return f"{READ}; or build the model for this size"
    if _fits((shape[0], wanted[1], *shape[2:]), wanted):
        return f"{READ}; or build the model for this number of frames"
    return f"{READ}, and clip[None] makes it a batch"


def _layout(name, shape, wanted):
    for layout, (axes, call) in _LAYOUTS.items():
        if _fits(tuple(shape[axis] for axis in axes), wanted):
            return f"this looks like {layout}: {call.format(name=name)} brings the axes to their places"
    return None


def looks_scaled(clips: Any, to_numpy: Callable[[Any], np.ndarray] = np.asarray) -> bool:
    """Whether floats are pixels of 0 to 1, or normalized ones, and not of 0 to 255.

    Values below 0 are never pixels. Values of exactly 0 and 1 may be a dark picture and do not count. `clips` is an
    array, or a tensor of floats whose values `to_numpy` gives.

    Example:
    >>> looks_scaled(np.full((1, 1, 2, 2, 3), 0.5)), looks_scaled(np.full((1, 1, 2, 2, 3), 1.0))
    (True, False)
    """
    if 0 in clips.shape or (isinstance(clips, np.ndarray) and clips.dtype.kind != "f"):
        return False
    clips = to_numpy(clips)
    if clips.min() < 0:
        return True
    # The first frame nearly always tells, and the rest is read again only where it does not.
    if clips[(0,) * max(clips.ndim - 3, 0)].max() > 1:
        return False
    return bool(clips.max() <= 1 and (clips != np.rint(clips)).any())
