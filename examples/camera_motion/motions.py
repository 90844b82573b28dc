"""Clips of known camera motion, made by moving a window over photographs or over real footage.

The nine classes are named by what the *camera* does. The picture does the reverse: when the camera pans left, what it
sees moves right; when it tilts up, what it sees moves down; when it rolls clockwise, what it sees turns
counter-clockwise; when it zooms in, what it sees grows.

Speeds are given for the entire clip, whatever its number of frames:

| motion   | unit of speed                                            | slowest | fastest |
|----------|----------------------------------------------------------|---------|---------|
| pan,tilt | displacement as a fraction of the window's side          | 0.06    | 0.6     |
| zoom     | factor by which the picture grows (in) or shrinks (out)  | 1.12    | 2.0     |
| roll     | degrees                                                  | 6       | 45      |

The slowest of each moves the middle of the window's edge by 5 to 6 % of the window's side: under 4 pixels in all at
64 x 64. A camera that is held still drifts by 2 % at most.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from examples.camera_motion.flaws import add_flaws
from examples.camera_motion.windowed_picture import Picture

CAMERA_MOTIONS = (
    "static",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "roll clockwise",
    "roll counter-clockwise",
)

OPPOSITE = {
    "static": "static",
    "pan left": "pan right",
    "pan right": "pan left",
    "tilt up": "tilt down",
    "tilt down": "tilt up",
    "zoom in": "zoom out",
    "zoom out": "zoom in",
    "roll clockwise": "roll counter-clockwise",
    "roll counter-clockwise": "roll clockwise",
}
"""What a motion becomes when its frames are shown in the reverse order."""

FLIPPED_HORIZONTALLY = {
    **{motion: motion for motion in CAMERA_MOTIONS},
    **{motion: OPPOSITE[motion] for motion in CAMERA_MOTIONS if motion.startswith(("pan", "roll"))},
}
"""What a motion becomes when every frame is mirrored left to right (`clip[:, :, ::-1]`)."""

ROTATED_BY_QUARTER = {
    **{motion: motion for motion in CAMERA_MOTIONS},
    "pan left": "tilt down",
    "tilt down": "pan right",
    "pan right": "tilt up",
    "tilt up": "pan left",
}
"""What a motion becomes when every frame is rotated counter-clockwise (`np.rot90(clip, axes=(1, 2))`)."""

SPEEDS = {"pan": (0.06, 0.6), "tilt": (0.06, 0.6), "zoom": (1.12, 2.0), "roll": (6.0, 45.0)}
"""Slowest and fastest speed of each kind of motion; the module's docstring gives the units."""

EASINGS = {
    "linear": lambda t: t,
    "accelerate": lambda t: t**1.7,
    "decelerate": lambda t: 1 - (1 - t) ** 1.7,
    "ease": lambda t: t * t * (3 - 2 * t),
}
"""How the motion's progress (0 to 1) depends on time (0 to 1)."""


@dataclasses.dataclass
class CameraPath:
    """Where the window is in every frame, relative to its mean place; each field is a `(frames,)` float array.

    Attributes:
        x: Displacement to the right, in window sides.
        y: Displacement downwards, in window sides.
        zoom: Natural logarithm of the magnification.
        angle: Clockwise turn of the window, in radians.
    """

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    angle: np.ndarray

    def __add__(self, other: "CameraPath") -> "CameraPath":
        return CameraPath(self.x + other.x, self.y + other.y, self.zoom + other.zoom, self.angle + other.angle)

    def corners(self, tilt: float = 0.0) -> np.ndarray:
        """The window's corners, `(frames, 4, 2)`, in mean window sides, in a picture rotated by `tilt` radians."""
        square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        rotated = square @ _rotation(self.angle + tilt).transpose(0, 2, 1)
        return rotated * np.exp(-self.zoom)[:, None, None] + self.centres(tilt)[:, None, :]

    def centres(self, tilt: float = 0.0) -> np.ndarray:
        """The window's centre, `(frames, 2)`, in mean window sides, in a picture rotated by `tilt` radians."""
        return np.stack([self.x, self.y], -1) @ _rotation(np.float64(tilt)).T


def _rotation(angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def camera_path(
    motion: str, speed: float | None = None, num_frames: int = 8, easing: str = "linear", off_axis: float = 0.0
) -> CameraPath:
    """Make the path of a camera that does one motion and nothing else.

    Args:
        motion: One of `CAMERA_MOTIONS`.
        speed: Amount of motion over the entire clip in the units of `SPEEDS`; by default the geometric mean of the
            slowest and the fastest. Ignored for `"static"`.
        num_frames: Number of frames, at least 2; 8 by default.
        easing: One of `EASINGS`, `"linear"` by default.
        off_axis: For a pan or a tilt, radians by which its direction differs from the axis; 0 by default.

    Returns:
        A `CameraPath`.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    >>> camera_path("pan right", speed=0.3, num_frames=4).x
    array([-0.15, -0.05,  0.05,  0.15])
    """
    if motion not in CAMERA_MOTIONS:
        raise ValueError(f"motion={motion!r} is not known; pass one of {', '.join(CAMERA_MOTIONS)}.")
    if easing not in EASINGS:
        raise ValueError(f"easing={easing!r} is not known; pass one of {', '.join(EASINGS)}.")
    if num_frames < 2:
        raise ValueError(f"num_frames={num_frames} shows no motion; pass 2 or more.")
    progress = EASINGS[easing](np.linspace(0.0, 1.0, num_frames)) - 0.5
    still = np.zeros(num_frames)
    if motion == "static":
        return CameraPath(still, still, still, still)
    kind, _, direction = motion.partition(" ")
    if speed is None:
        speed = float(np.sqrt(np.prod(SPEEDS[kind])))
    if speed <= (1.0 if kind == "zoom" else 0.0):
        raise ValueError(
            f"speed={speed} is too low for {motion!r}; a zoom takes a factor above 1, other motions a positive amount."
        )
    if kind == "zoom":
        growth = np.log(speed) * progress
        return CameraPath(still, still, growth if direction == "in" else -growth, still)
    if kind == "roll":
        angle = np.radians(speed) * progress
        return CameraPath(still, still, still, angle if direction == "clockwise" else -angle)
    unit = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    x, y = _rotation(np.float64(off_axis)) @ np.array(unit, float)
    return CameraPath(x * speed * progress, y * speed * progress, still, still)


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
        speed = _draw_speed(motion, rng)
    path = camera_path(motion, speed, len(pictures), easing)
    return _place(path, pictures[0], rng, coverage).view(pictures, size)


def _draw_speed(motion: str, rng: np.random.Generator, difficulty: float = 1.0) -> float:
    """Draw a speed evenly on a logarithmic scale; an easy one lies near the middle of that scale."""
    low, high = SPEEDS[motion.split()[0]]
    fraction = 0.5 + rng.uniform(-0.5, 0.5) * min(1.0, 0.4 + 0.6 * difficulty)
    if motion.startswith("zoom"):
        return float(np.exp(np.log(low) * (np.log(high) / np.log(low)) ** fraction))
    return float(low * (high / low) ** fraction)


def _shake(rng: np.random.Generator, num_frames: int, amount: float, max_drift: float = 0.014) -> CameraPath:
    """Draw what a hand adds: a tremor and a slow drift in all coordinates. An `amount` of 1 is the most it adds."""
    reach = np.array([1.0, 1.0, 2.0, 2.0])[:, None]  # The window's edge is half a side away from its centre.
    tremor = rng.normal(size=(4, num_frames)) * rng.uniform(0, 0.006)
    drift = rng.uniform(-max_drift, max_drift, (4, 1)) * np.linspace(-0.5, 0.5, num_frames)
    return CameraPath(*((tremor + drift) * reach * [[0.9], [0.9], [0.6], [0.6]] * amount))


def draw_path(motion: str, rng: np.random.Generator, num_frames: int = 8, difficulty: float = 1.0) -> CameraPath:
    """Draw the path of a camera in a hand: its speed, easing and direction, and what it does besides.

    Args:
        motion: One of `CAMERA_MOTIONS`.
        rng: A `numpy.random.Generator`.
        num_frames: Number of frames, 8 by default.
        difficulty: From 0 to 1.5, as `synthesize_clip` takes it; 1 by default.

    Returns:
        A `CameraPath`.

    Example:
    >>> draw_path("pan left", np.random.default_rng(0)).x.shape
    (8,)
    """
    easing = rng.choice(list(EASINGS)) if rng.uniform() < 0.7 * difficulty else "linear"
    if motion == "static":
        # A tripod, or a frozen picture, holds perfectly still.
        amount = min(1.0, difficulty) if rng.uniform() < 0.75 else 0.0
        return camera_path(motion, num_frames=num_frames) + _shake(rng, num_frames, amount, max_drift=0.024)
    speed = _draw_speed(motion, rng, difficulty)
    off_axis = rng.uniform(-1, 1) * np.radians(22.5) * difficulty
    path = camera_path(motion, speed, num_frames, easing, off_axis)
    # Nobody pans without also rolling or pushing in a little: by up to a sixth of the main motion.
    edge = np.abs([np.ptp(path.x), np.ptp(path.y), np.ptp(path.zoom) / 2, np.ptp(path.angle) / 2]).max()
    spill = rng.uniform(-1, 1, 4) * difficulty * edge / 6 * (rng.uniform() < 0.5)
    spill *= [not np.ptp(value) for value in (path.x, path.y, path.zoom, path.angle)]
    path = path + CameraPath(*(spill[:, None] * [[1], [1], [2], [2]] * np.linspace(-0.5, 0.5, num_frames)))
    return path + _shake(rng, num_frames, difficulty * rng.uniform())


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
