"""The two tasks of the study: what one move of a camera is, and in which order two moves come.

Both are clips of photographs, without noise, passing objects or other flaws of a picture. The camera of the first is in
a hand: it shakes, is off its axis, changes its pace and does a little of other moves. That of the second is steady and
off its axis by 15 degrees at most. The photographs of the tests are held out from training. A clip has 16 frames; a
model that takes 8 sees every second one.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from examples.camera_motion.motions import CAMERA_MOTIONS, CameraPath, camera_path, draw_path
from examples.camera_motion.photographs import HELD_OUT, TRAINING, load_photographs, vary_photographs
from examples.camera_motion.synthesis import film
from examples.camera_motion.windowed_picture import Picture

FRAMES = 16
SIDE = 32
VARIED = 150
DISPLACEMENT = (0.1, 0.4)
"""Of each of two moves, as a fraction of the window's side."""

PAIRS = tuple((pan, tilt) for pan in ("pan left", "pan right") for tilt in ("tilt up", "tilt down"))
ORDERS = tuple(order for pair in PAIRS for order in (pair, pair[::-1]))
"""What comes first and what comes then; both orders of a pair stand side by side."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """Clips of a task, `(clips, 16, 32, 32, 3)` uint8, and the numbers of their classes."""

    clips: np.ndarray
    labels: np.ndarray


def draw_two_moves(order: tuple[str, str], rng: np.random.Generator, num_frames: int = FRAMES) -> CameraPath:
    """Draw the path of a camera that does one move and then another, each for about half of the clip.

    Args:
        order: Two pans or tilts of `CAMERA_MOTIONS`.
        rng: A `numpy.random.Generator`.
        num_frames: Number of frames, at least 8; 16 by default.

    Returns:
        A `CameraPath`.

    Example:
    >>> path = draw_two_moves(("pan right", "tilt up"), np.random.default_rng(0))
    >>> bool(np.ptp(path.x[:7]) > np.ptp(path.x[9:])), bool(np.ptp(path.y[:7]) < np.ptp(path.y[9:]))
    (True, True)
    """
    turn = int(rng.integers(num_frames // 2 - 2, num_frames // 2 + 2))
    first, then = (
        camera_path(move, rng.uniform(*DISPLACEMENT), frames, off_axis=rng.uniform(-1, 1) * np.radians(15))
        for move, frames in zip(order, (turn + 1, num_frames - turn), strict=True)
    )
    joined = {}
    for field in dataclasses.fields(CameraPath):
        before, after = getattr(first, field.name), getattr(then, field.name)
        joined[field.name] = np.concatenate([before, after[1:] - after[0] + before[-1]])
    return CameraPath(**joined)


TASKS = {
    "camera motion": (CAMERA_MOTIONS, functools.partial(draw_path, num_frames=FRAMES)),
    "order of two moves": (ORDERS, draw_two_moves),
}
"""The classes of each task, and what draws the path of a camera of a class."""


@functools.cache
def training_pictures() -> list[Picture]:
    """The photographs of the training, and variants of them."""
    return vary_photographs(load_photographs(TRAINING), VARIED, np.random.default_rng(0))


@functools.cache
def unseen_pictures() -> list[Picture]:
    """The photographs that are held out."""
    return [Picture(photograph) for photograph in load_photographs(HELD_OUT)]


def make_clips(task: str, pictures: Sequence[Picture], scenes: int, seed: int) -> Clips:
    """Make clips of a task: of every scene, a photograph, one of each class, class after class.

    Args:
        task: One of `TASKS`.
        pictures: The photographs, which are taken in turn.
        scenes: Number of scenes.
        seed: Seed of the random numbers.

    Returns:
        `Clips`.

    Example:
    >>> made = make_clips("order of two moves", unseen_pictures(), scenes=1, seed=0)
    >>> made.clips.shape, made.labels.tolist()
    ((8, 16, 32, 32, 3), [0, 1, 2, 3, 4, 5, 6, 7])
    """
    classes, draw = TASKS[task]
    rng = np.random.default_rng(seed)
    clips = [
        film(pictures[scene % len(pictures)], lambda: draw(name, rng), rng, FRAMES, SIDE)  # noqa: B023
        for scene in range(scenes)
        for name in classes
    ]
    return Clips(np.stack(clips), np.tile(np.arange(len(classes)), scenes))
