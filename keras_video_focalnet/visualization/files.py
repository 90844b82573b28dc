"""Pictures and videos as files, which take their names once all of them is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_video_focalnet.utils.checks import fail
from keras_video_focalnet.utils.files import atomic_write

STILL, GIF, VIDEO = (".png", ".jpg", ".jpeg"), (".gif",), (".mp4",)
# Ticks of a second, in which the times of many rates are whole.
_TICKS = 90_000
_SEVERAL = 2
"""Threads that encode: what is written does not depend on the machine."""
LARGEST = 16_384
"""The largest width and height in pixels that H.264's encoder takes."""


def check_suffix(name: str, path: str | os.PathLike, suffixes: Sequence[str]) -> Path:
    """The path of a file to write, whose ending tells its format, with `~` expanded.

    Raises:
        ValueError: It ends otherwise, or there is no such folder.
    """
    checked = Path(path).expanduser()
    if checked.suffix.lower() not in suffixes:
        raise fail(name, f"a file that ends in {' or '.join(suffixes)}", str(path))
    if not checked.parent.is_dir():
        raise fail(name, "in a folder that is there", str(path), "make the folder first")
    return checked


def check_other_file(name: str, path: str | os.PathLike, video: Any) -> None:
    """Check that a file to write is not the video that is read, nor a picture in a folder of pictures that is read.

    Raises:
        ValueError: It is.
    """
    source = getattr(video, "path", video)
    if isinstance(source, (str, os.PathLike)) and os.path.exists(path):
        source = os.path.expanduser(source)
        written = os.path.dirname(os.path.abspath(path)) if os.path.isdir(source) else path
        if os.path.exists(source) and os.path.samefile(written, source):
            raise fail(name, "another file than the video itself", os.fspath(path))


def write_still(path: Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 `(height, width, 3)`, as PNG or JPEG by its ending."""
    from PIL import Image

    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    options = {"optimize": True} if kind == "PNG" else {"quality": 88}
    with atomic_write(path) as file:
        Image.fromarray(picture).save(file, kind, **options)


def write_gif(path: Path, pictures: Sequence[np.ndarray], fps: float) -> None:
    """Write pictures, uint8 `(height, width, 3)`, as a GIF that begins anew at its end, each for whole hundredths of a
    second, as the format has it.
    """
    from PIL import Image

    first, *others = map(Image.fromarray, pictures)
    with atomic_write(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=10 * max(round(100 / fps), 1), loop=0)


def write_video(path: Path, pictures: Sequence[np.ndarray], fps: float) -> None:
    """Write pictures, uint8 `(height, width, 3)`, as an MP4."""
    with video_writer(path, fps) as video:
        for number, picture in enumerate(pictures):
            video.add(number / fps, picture)


@contextlib.contextmanager
def video_writer(path: Path, fps: float) -> Iterator[VideoWriter]:
    """Open an MP4 to write frame by frame; nothing is left of it where the block raises."""
    with atomic_write(path) as file, VideoWriter(file, fps) as video:
        yield video


class VideoWriter:
    """Writes pictures to an MP4, in H.264 where PyAV has an encoder for it, otherwise in MPEG-4.

    Args:
        file: Binary file that can be sought.
        fps: Frames a second on average.
    """

    def __init__(self, file: BinaryIO, fps: float):
        import av

        self._container = av.open(file, "w", format="mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._size = None
        self._ticks = -1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        with _told_as_os_error():
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()

    def add(self, seconds: float, picture: np.ndarray) -> None:
        """Write the next frame, uint8 `(height, width, 3)`, at its time; all become as large as the first."""
        import av

        from keras_video_focalnet.data.video import resize

        if self._stream is None:
            self._begin(*picture.shape[:2])
        if picture.shape[:2] != self._size:
            picture = resize(picture, *self._size)
        frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24")
        self._ticks = max(round(seconds * _TICKS), self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, Fraction(1, _TICKS)
        with _told_as_os_error():
            self._container.mux(self._stream.encode(frame))

    def _begin(self, height, width):
        import av

        if max(height, width) > LARGEST:
            raise ValueError(
                f"a video of {height} x {width} pixels is larger than the {LARGEST} that its encoder takes; choose a "
                "smaller size, or show less at a time."
            )
        codec = next(name for name in ("libx264", "mpeg4") if name in av.codecs_available)
        options = {"crf": "20"} if codec == "libx264" else {"qscale": "3"}
        stream = self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = _SEVERAL
        self._size = (height, width)


@contextlib.contextmanager
def _told_as_os_error():
    """FFmpeg's errors, of which some are of no class of Python's, are raised as an `OSError`."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise OSError(f"FFmpeg cannot write the video: {error}") from error


def _even(picture):
    """The picture with an even height and width, as H.264 in its usual colours wants it: its edge is repeated."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
