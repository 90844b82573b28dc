"""Any video as its frames in order, each with its time: a file, a folder of pictures, a reader, frames in memory."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.data.clip import Video
from keras_video_focalnet.data.memory_frames import as_picture, in_memory
from keras_video_focalnet.data.video import DEFAULT_RATE, TIME_TOLERANCE, check_window
from keras_video_focalnet.data.video_reader import VideoReader
from keras_video_focalnet.utils.checks import check_number


@dataclass(frozen=True)
class TimedFrames:
    """The frames of a video, to be gone through once.

    Attributes:
        frames: Iterator of `(seconds, picture)`: seconds from the beginning of the video, which never go back, and
            uint8 `(height, width, 3)`.
        rate: Frames a second on average.
        expected: Seconds that the frames are expected to span, which need not be true; None where nobody knows.
        name: What messages call the video.
    """

    frames: Iterator[tuple[float, np.ndarray]]
    rate: float
    expected: float | None
    name: str


@contextlib.contextmanager
def timed_frames(
    video: Video,
    start: float | None = None,
    end: float | None = None,
    threads: int | None = None,
    fps: float | None = None,
) -> Iterator[TimedFrames]:
    """Open a video to go through its frames, each decoded once; it is closed at the end of the block.

    Args:
        video: As for `read_clip`; or `TimedFrames` that are open already, which are given as they are.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        threads: As for `VideoReader`.
        fps: Number > 0, frames a second of a folder of frames or of frames in memory; None for 25.

    Yields:
        `TimedFrames`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for `VideoReader`, or a frame in memory is no picture.

    Example:
        >>> with timed_frames("bikes.mp4", end=0.1) as video:
        ...     [round(seconds, 2) for seconds, picture in video.frames]
        [0.0, 0.04, 0.08]
    """
    check_window(start, end)
    if isinstance(video, TimedFrames):
        yield video
    elif in_memory(video):
        rate = DEFAULT_RATE if fps is None else check_number("fps", fps, above=0, remedy="pass None for 25")
        whole = len(video) / rate if hasattr(video, "__len__") else None
        yield TimedFrames(_of_memory(video, rate, start, end), rate, _expected(whole, start, end), "the frames")
    else:
        with contextlib.ExitStack() as opened:
            reader = video
            if not isinstance(video, VideoReader):
                # Frames are gone through once, so that none is held.
                reader = opened.enter_context(VideoReader(video, threads, cache_frames=0, fps=fps))
            frames = opened.enter_context(contextlib.closing(reader.timed(start, end)))
            expected = _expected(reader.stated_duration, start, end)
            yield TimedFrames(frames, reader.fps, expected, str(reader.path))


def _of_memory(frames, rate, start, end):
    first, last = (None if time is None else max(math.ceil((time - TIME_TOLERANCE) * rate), 0) for time in (start, end))
    for number, frame in enumerate(itertools.islice(iter(frames), last)):
        if number >= (first or 0):
            yield number / rate, as_picture(frame, number)


def _expected(whole, start, end):
    """How many of so many seconds lie between two times."""
    stop = end if whole is None else min(whole, math.inf if end is None else end)
    return None if stop is None else max(stop - (start or 0), 0)
