"""The camera's motions: their names, and the paths that a camera takes in each.

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

import numpy as np

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


def draw_speed(motion: str, rng: np.random.Generator, difficulty: float = 1.0) -> float:
    """Draw the speed of a motion evenly on a logarithmic scale; an easy one lies near the middle of that scale.

    Args:
        motion: One of `CAMERA_MOTIONS` but `"static"`.
        rng: A `numpy.random.Generator`.
        difficulty: 0 or more, 1 by default.

    Returns:
        The speed, in the units of `SPEEDS`.
    """
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
    speed = draw_speed(motion, rng, difficulty)
    off_axis = rng.uniform(-1, 1) * np.radians(22.5) * difficulty
    path = camera_path(motion, speed, num_frames, easing, off_axis)
    # Nobody pans without also rolling or pushing in a little: by up to a sixth of the main motion.
    edge = np.abs([np.ptp(path.x), np.ptp(path.y), np.ptp(path.zoom) / 2, np.ptp(path.angle) / 2]).max()
    spill = rng.uniform(-1, 1, 4) * difficulty * edge / 6 * (rng.uniform() < 0.5)
    spill *= [not np.ptp(value) for value in (path.x, path.y, path.zoom, path.angle)]
    path = path + CameraPath(*(spill[:, None] * [[1], [1], [2], [2]] * np.linspace(-0.5, 0.5, num_frames)))
    return path + _shake(rng, num_frames, difficulty * rng.uniform())
