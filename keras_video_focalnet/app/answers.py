"""What the page answers about a video: its classes, when they are seen, and what a block of the network looks at."""

import dataclasses
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.app.messages import Refused
from keras_video_focalnet.app.networks import Loaded
from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.data.timed_frames import timed_frames
from keras_video_focalnet.data.video_reader import VideoReader
from keras_video_focalnet.evaluation.timeline import timeline
from keras_video_focalnet.evaluation.timeline_picture import draw_timeline
from keras_video_focalnet.evaluation.views import class_scores
from keras_video_focalnet.labels.predictions import name_scores
from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.utils.texts import printable
from keras_video_focalnet.visualization.result import GRAD_CAM
from keras_video_focalnet.visualization.visualize import visualize

TOP = 5
"""Classes whose scores are shown."""
COMPUTED, WHY = "computed", "why"
"""Which maps are shown: what the block computes, or what speaks for the answer."""
SIDE = 160
"""Short side in pixels of the frames that maps are drawn on."""
# Frames a second of the fastest cameras of phones.
_FASTEST = 240
# So many windows slide over a video at most.
_MOST_WINDOWS = 480


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        megabytes: Size of a file in 2^20 bytes.
        seconds: Length of a video.
    """

    megabytes: float = 200
    seconds: float = 120

    @property
    def size(self) -> int:
        """Size of a file in bytes."""
        return int(self.megabytes * 2**20)


class Video:
    """An uploaded video that is within the limits, for use in a `with` statement; what is wrong is told by its name.

    Args:
        path: The file.
        limits: `Limits`.

    Raises:
        Refused: It is larger or longer than the limits allow, or has more frames than any camera takes in that time.
        ValueError: It is no video.
        OSError: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike, limits: Limits):
        self.path, self.name = path, printable(Path(path).name)
        size = os.path.getsize(path)
        if not size:
            raise Refused(f"{self.name} is empty, no video; choose another file.")
        if size > limits.size:
            raise Refused(
                f"{self.name} has {size / 2**20:.0f} MB, more than the {limits.megabytes:g} MB that this page takes; "
                "choose a smaller file."
            )
        self.reader = VideoReader(path)
        try:
            self._check_length(limits)
        except BaseException:
            self.reader.close()
            raise

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def _check_length(self, limits):
        """Believe what a file says of its length where it says too much, and look where it does not."""
        stated = self.reader.stated_duration
        longer = stated is not None and stated > limits.seconds + 1 / self.reader.fps
        # What is after the limit is decoded from the last key frame before it.
        if not longer:
            try:
                longer = next(self.reader.timed(limits.seconds + 1 / self.reader.fps), None) is not None
            except ValueError:
                longer = False
        if longer:
            raise Refused(
                f"{self.name} is longer than the {limits.seconds:g} seconds that this page takes; cut it, or choose "
                "another one."
            )
        most = max(int(limits.seconds * _FASTEST), 1)
        if len(self.reader) > most:
            raise Refused(f"{self.name} has more than {most} frames, the most that this page takes; choose another.")


class Answers:
    """Asks networks about videos, one question at a time.

    Args:
        limits: `Limits`.

    Attributes:
        limits: As given.
        stopped: Event that ends what is going on soon, once it is set.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.stopped = threading.Event()
        # A visitor who goes leaves what is being computed for them to its end.
        self._turn = threading.Lock()

    def open(self, path: str | os.PathLike) -> Video:
        """Open a video that is within the limits, see `Video`."""
        if self.stopped.is_set():
            raise Refused("The page is being closed; start it again.")
        return Video(path, self.limits)

    def scores(self, loaded: Loaded, video: Video) -> dict[str, float]:
        """The best classes with their scores, the best first."""
        clip = read_clip(video.reader, like=loaded.network)
        with self._turn:
            scores = class_scores(loaded.network, clip[None])
        return {printable(label): score for label, score in name_scores(scores, TOP, loaded.labels)[0]}

    def blocks(self, loaded: Loaded) -> list[str]:
        """The names of the network's blocks, from the first to the last."""
        return list(find_network(loaded.network).maps())

    def maps(self, loaded: Loaded, video: Video, block: str | None, shown: str) -> np.ndarray:
        """Maps of a block over frames as one picture, uint8 `(height, width, 3)`.

        Args:
            loaded: The network.
            video: The video.
            block: Name of a block; None for one that tells much.
            shown: `COMPUTED` for what the block computes, `WHY` for Grad-CAM of the answer.
        """
        what = GRAD_CAM if shown == WHY else None
        with self._turn:
            seen = visualize(loaded.network, video.reader, block, what, size=SIDE, labels=loaded.labels)
        return _picture(seen.save)

    def timeline(self, loaded: Loaded, video: Video) -> np.ndarray:
        """What happens when, as a picture, uint8 `(height, width, 3)`."""
        seconds = video.reader.duration
        with timed_frames(video.reader) as frames, self._turn:
            frames = dataclasses.replace(frames, frames=self._until_stopped(frames.frames), name=video.name)
            found = timeline(loaded.network, frames, stride=self._stride(loaded, seconds), labels=loaded.labels)
        return _picture(lambda path: draw_timeline(found, path))

    def _stride(self, loaded: Loaded, seconds: float) -> float | None:
        """None for half a window, as by default, or what keeps the windows few enough."""
        from keras_video_focalnet.data.clip_rule import clip_rule
        from keras_video_focalnet.evaluation.timeline import FRAMES_A_SECOND

        usual = clip_rule(loaded.network).num_frames / FRAMES_A_SECOND / 2
        return None if seconds <= usual * _MOST_WINDOWS else seconds / _MOST_WINDOWS

    def _until_stopped(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            if self.stopped.is_set():
                raise Refused("The page is being closed; start it again.")
            yield frame


def _picture(write) -> np.ndarray:
    """The picture that a function writes to a PNG file."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write(path)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
