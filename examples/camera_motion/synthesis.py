"""Clips of known camera motion, made by moving a window over photographs or over real footage.

`motions.py` has the names of the motions and the paths of the camera.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from examples.camera_motion.flaws import add_flaws
from examples.camera_motion.motions import (
    CAMERA_MOTIONS,
    FLIPPED_HORIZONTALLY,
    OPPOSITE,
    ROTATED_BY_QUARTER,
    CameraPath,
    camera_path,
    draw_path,
    draw_speed,
)
from examples.camera_motion.windowed_picture import Picture


@dataclasses.dataclass
class _Placement:
    """A camera path on a picture: centres, sides and angles of the window in every frame, in pixels and radians."""

    centres: np.ndarray
    sides: np.ndarray
    angles: np.ndarray

    def view(self, pictures: Sequence[Picture], size: int) -> np.ndarray:
        windows = zip(pictures, self.centres, self.sides, self.angles, strict=True)
        return np.stack([np.asarray(p.window(centre, side, angle, size)) for p, centre, side, angle in windows])


def _place(
    path: CameraPath,
    picture: Picture,
    rng: np.random.Generator | None,
    coverage: float | tuple[float, float],
    tilt: float = 0.0,
) -> _Placement:
    """Place a path so that the window never leaves the picture; in the middle where there is no `rng`."""
    corners = path.corners(tilt).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    largest = min(picture.width / (high[0] - low[0]), picture.height / (high[1] - low[1])) * 0.999
    side = largest * (coverage if np.isscalar(coverage) else rng.uniform(*coverage))
    room = np.array([picture.width, picture.height]) - (high - low) * side
    origin = room * (0.5 if rng is None else rng.uniform(size=2)) - low * side
    return _Placement(path.centres(tilt) * side + origin, np.exp(-path.zoom) * side, path.angle + tilt)


def move_window(
    source: np.ndarray | Picture,
    motion: str,
    speed: float | None = None,
    *,
    rng: np.random.Generator | None = None,
    num_frames: int = 8,
    size: int = 64,
    easing: str = "linear",
    coverage: float = 0.95,
) -> np.ndarray:
    """Look at a photograph, or at real footage, through a window that moves as a camera would.

    Args:
        source: A photograph, `(height, width, 3)` uint8 or a `Picture`, or footage, `(frames, height, width, 3)` uint8:
            then every frame of it gives one frame of the clip, and whatever moves in it still moves.
        motion: One of `CAMERA_MOTIONS`.
        speed: Amount of motion over the clip in the units of `SPEEDS`; by default drawn by `rng`, or the middle of the
            range where there is none.
        rng: A `numpy.random.Generator` that draws the place of the window; without one the window is in the middle.
        num_frames: Number of frames, 8 by default; ignored for footage, which keeps its own number.
        size: Side of the clip in pixels, 64 by default.
        easing: One of `EASINGS`, `"linear"` by default.
        coverage: Side of the window as a fraction of the largest one that stays within the picture, above 0 and at most
            1; 0.95 by default.

    Returns:
        The clip, `(frames, size, size, 3)` uint8.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    >>> photograph = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    >>> move_window(photograph, "zoom in", speed=1.5, num_frames=8, size=64).shape
    (8, 64, 64, 3)
    """
    if not isinstance(source, Picture):
        source = np.asarray(source)
        if source.ndim not in (3, 4):
            raise ValueError(
                f"source has shape {source.shape}; pass a photograph, (height, width, 3), or footage, "
                "(frames, height, width, 3)."
            )
        source = Picture(source) if source.ndim == 3 else [Picture(frame) for frame in source]
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage} is not a fraction; pass a number above 0 and at most 1.")
    pictures = [source] * num_frames if isinstance(source, Picture) else source
    if speed is None and rng is not None and motion in CAMERA_MOTIONS[1:]:
        speed = draw_speed(motion, rng)
    path = camera_path(motion, speed, len(pictures), easing)
    return _place(path, pictures[0], rng, coverage).view(pictures, size)


def _shows_enough(view: Image.Image) -> bool:
    """Say whether a person could see how a camera moves here: three quadrants must have detail in both directions."""
    grey = np.asarray(view.convert("L"), np.float32)
    half = grey.shape[0] // 2
    across, down = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    quadrants = 0
    for rows in (slice(0, half), slice(half, None)):
        for columns in (slice(0, half), slice(half, None)):
            dx, dy = across[rows, columns], down[rows, columns]
            xx, yy, xy = (dx * dx).mean(), (dy * dy).mean(), (dx * dy).mean()
            weaker = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
            quadrants += weaker > 4.0
    return quadrants >= 3


def _place_where_seen(
    draw: Callable[[], CameraPath], picture: Picture, rng: np.random.Generator, size: int, rotation: float = 0.0
) -> _Placement:
    """Draw a path and its place until both ends of the clip show by what to judge, ten times at most."""
    for _ in range(10):
        placement = _place(draw(), picture, rng, (0.4, 1.0), rotation)
        ends = [picture.window(placement.centres[i], placement.sides[i], placement.angles[i], size) for i in (0, -1)]
        if all(map(_shows_enough, ends)):
            break
    return placement


def film(
    picture: Picture, draw: Callable[[], CameraPath], rng: np.random.Generator, num_frames: int = 8, size: int = 64
) -> np.ndarray:
    """Make a clip of a photograph by a camera that follows a path, with no other flaw of real footage than the path's.

    Args:
        picture: The photograph.
        draw: Draws a path of `num_frames` frames; called again, ten times at most, where the camera would see nothing
            by which to judge.
        rng: A `numpy.random.Generator` that draws the size and the place of the window.
        num_frames: Number of frames, 8 by default.
        size: Side of the clip in pixels, 64 by default.

    Returns:
        The clip, `(num_frames, size, size, 3)` uint8.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> photograph = Picture(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    >>> film(photograph, lambda: draw_path("pan left", rng), rng).shape
    (8, 64, 64, 3)
    """
    return _place_where_seen(draw, picture, rng, size).view([picture] * num_frames, size)


def synthesize_clip(
    photo: np.ndarray | Picture,
    motion: str,
    rng: np.random.Generator,
    difficulty: float = 1.0,
    *,
    others: Sequence[np.ndarray | Picture] = (),
    num_frames: int = 8,
    size: int = 64,
    rotation: float = 0.0,
) -> np.ndarray:
    """Make a clip of a known camera motion, with the flaws of real footage, from a photograph.

    Speed and easing are random; the hand shakes and drifts; the motion is off its axis by up to 22.5 degrees (half-way
    to the diagonal), with up to a sixth of every other motion in it; in half of the clips one or two objects, cut from
    other photographs, move on their own before the camera; exposure drifts, colours change; there is noise, blur,
    motion blur and compression.
    A place in the photograph where there is nothing to see by which to judge (a clear sky) is drawn again, ten times
    at most.

    Args:
        photo: The photograph, `(height, width, 3)` uint8 or a `Picture`.
        motion: One of `CAMERA_MOTIONS`.
        rng: A `numpy.random.Generator`; the clip is a function of it and the other arguments alone.
        difficulty: From 0 to 1.5, 1 by default. At 0 there is nothing but the motion, neither slow nor fast; at 1 there
            are all of these flaws; beyond 1 they are stronger, for training that is harder than testing.
        others: Photographs to cut objects from; by default the photograph itself.
        num_frames: Number of frames, 8 by default.
        size: Side of the clip in pixels, 64 by default.
        rotation: Angle of the window in the photograph in radians, 0 by default; it varies what few photographs show.

    Returns:
        The clip, `(num_frames, size, size, 3)` uint8.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> photograph = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    >>> synthesize_clip(photograph, "pan left", rng).shape
    (8, 64, 64, 3)
    """
    if motion not in CAMERA_MOTIONS:
        raise ValueError(f"motion={motion!r} is not known; pass one of {', '.join(CAMERA_MOTIONS)}.")
    if not 0 <= difficulty <= 1.5:
        raise ValueError(f"difficulty={difficulty} is out of range; pass a number from 0 to 1.5.")
    picture = photo if isinstance(photo, Picture) else Picture(photo)
    placement = _place_where_seen(lambda: draw_path(motion, rng, num_frames, difficulty), picture, rng, size, rotation)
    clip = placement.view([picture] * num_frames, size)
    if rng.uniform() < 0.15 * difficulty:
        clip = _smear(clip, placement, picture, size, rng)
    others = [other if isinstance(other, Picture) else Picture(other) for other in others] or [picture]
    return add_flaws(clip, rng, difficulty, others)


def _smear(
    clip: np.ndarray, placement: _Placement, picture: Picture, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Add motion blur: the mean of three moments while the shutter is open, up to half the time between frames."""
    shutter = rng.uniform(0.2, 0.5)
    total = clip.astype(np.uint16)
    for moment in (shutter / 2, shutter):
        between = [
            (1 - moment) * values + moment * np.concatenate([values[1:], 2 * values[-1:] - values[-2:-1]])
            for values in (placement.centres, placement.sides, placement.angles)
        ]
        total += _Placement(*between).view([picture] * len(clip), size)
    return (total // 3).astype(np.uint8)


def _indices(mapping: Mapping[str, str]) -> np.ndarray:
    return np.array([CAMERA_MOTIONS.index(mapping[motion]) for motion in CAMERA_MOTIONS])


def augment(
    clips: np.ndarray, labels: Sequence[int] | np.ndarray, rng: np.random.Generator, together: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror, rotate and reverse clips at random, and change their labels with them.

    Args:
        clips: `(batch, frames, size, size, 3)` array, square.
        labels: `(batch,)` integers, indices into `CAMERA_MOTIONS`.
        rng: A `numpy.random.Generator`.
        together: Whether all clips are changed alike; False (the default) draws for each of them.

    Returns:
        The changed clips and labels, of the same shapes and types.

    Raises:
        ValueError: If the frames are not square.
    """
    if clips.ndim != 5 or clips.shape[2] != clips.shape[3]:
        raise ValueError(
            f"clips has shape {clips.shape}; only square frames can be rotated: pass (batch, frames, size, size, 3)."
        )
    clips, labels = clips.copy(), np.array(labels)
    reverse, flip, rotate = _indices(OPPOSITE), _indices(FLIPPED_HORIZONTALLY), _indices(ROTATED_BY_QUARTER)
    for group in [slice(None)] if together else [slice(i, i + 1) for i in range(len(clips))]:
        changed, label = clips[group], labels[group]
        if rng.uniform() < 0.5:
            changed, label = changed[:, ::-1], reverse[label]
        if rng.uniform() < 0.5:
            changed, label = changed[:, :, :, ::-1], flip[label]
        for _ in range(rng.integers(4)):
            changed, label = np.rot90(changed, axes=(2, 3)), rotate[label]
        clips[group], labels[group] = changed.copy(), label
    return clips, labels
