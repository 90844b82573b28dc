"""A video as its bytes: from what a caller passes for a path to something that FFmpeg reads and cannot look beyond."""

import contextlib
import functools
import io
import os
import re
import stat
import threading
import time
import warnings
import weakref
import zlib
from typing import BinaryIO

import numpy as np

from keras_video_focalnet.utils.checks import fail

VideoPath = str | bytes | os.PathLike | BinaryIO
"""What a video is named by: a path, or a binary stream that can be sought."""

# The longest part of a name that could be a scheme, as in https: or s3:. Path("https://...") has one slash left.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# What a video may make a reader hold, whatever its size; a large file may take a multiple of its size.
MEMORY = 256 << 20
TIMES_ITS_SIZE = 10
# A picture is held about three times over: decoded, as RGB, and in another size.
BYTES_PER_PIXEL = 8
# Decoders hold up to sixteen more for those that are to come. Any file may have pictures of 4096 x 2160 pixels. Larger
# ones, up to 8K, need a byte for every eight pixels, which the shortest clip of a camera has.
PIXELS_OF_ANY = 9 << 20
PIXELS_PER_BYTE = 8
# As many as `MEMORY` holds.
PIXELS_OF_MOST = MEMORY // BYTES_PER_PIXEL
# Nanoseconds after which a change of a file gives it another time than it has, in the coarsest file systems.
SETTLED_NS = 2 * 10**9
# Bytes at both ends of a file, and of so many blocks between, that tell its content from another where times do not.
END_BYTES, BLOCK_BYTES, BLOCKS = 1 << 16, 1 << 12, 14
# What the class of a camera has, as those of OpenCV, and no stream of bytes.
_OF_CAMERAS = ("grab", "retrieve", "isOpened")
# One place of a stream serves several openings of it, which take turns.
_STREAM_LOCKS: weakref.WeakKeyDictionary[BinaryIO, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def is_stream(path: VideoPath) -> bool:
    """Whether a video is passed as a stream and not by a path."""
    return hasattr(path, "read") and not isinstance(path, (str, bytes, os.PathLike))


def check_path(path: VideoPath) -> str | os.PathLike | BinaryIO:
    """The path of a video with `~` expanded, bytes as the text that the system means by them; or its stream."""
    if is_stream(path):
        return _check_stream(path)
    if isinstance(path, np.ndarray) and path.ndim == 0:
        path = path.item()
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise fail("path", "the path of a video, or a binary stream of one", path) from None
    expanded = os.path.expanduser(text)
    if ADDRESS.match(text) and not os.path.exists(text):
        raise ValueError(f"{path} is an address, not a file on this machine; download it first and pass its path.")
    return path if expanded == text and isinstance(path, os.PathLike) else str(expanded)


def check_file(path: str | os.PathLike) -> None:
    """Raise unless `path` is a file that is not empty."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # A ValueError tells of a zero byte in the path.
        raise FileNotFoundError(f"{path} does not exist; pass the path of a video file on this machine.") from None
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{path} is a folder; pass the path of one video file, or a folder of img_00001.jpg and more.")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is a pipe, socket or device; copy what it gives to a file and pass that.")
    if status.st_size == 0:
        raise ValueError(f"{path} is an empty file (0 bytes); copy or download the video again.")


def memory_limit(size: int) -> int:
    """How many bytes a video of `size` bytes may take."""
    return max(MEMORY, TIMES_ITS_SIZE * size)


def pixel_limit(size: int) -> int:
    """How many pixels the pictures of a video of `size` bytes may have."""
    plausible = min(max(PIXELS_OF_ANY, PIXELS_PER_BYTE * size), PIXELS_OF_MOST)
    return max(plausible, TIMES_ITS_SIZE * size // BYTES_PER_PIXEL)


def check_pixels(path: VideoPath, size: int, width: int, height: int, limit: int) -> None:
    """Raise where the pictures of a file of `size` bytes have more pixels than `limit`."""
    if width * height > limit:
        raise ValueError(
            f"{path} says that its pictures have {width} x {height} pixels; a file of {size} bytes may have {limit}. "
            "If you trust it, scale it down with FFmpeg."
        )


@functools.lru_cache(maxsize=4096)
def warn_once(path: str, text: str) -> None:
    """Warn of something about a video, once a process."""
    warnings.warn(f"{path} {text}", stacklevel=2)


class VideoBytes:
    """The bytes of a video file or stream, for FFmpeg: it has no name, so that FFmpeg goes by what it holds alone.

    Args:
        path: As `check_path` returns it. A stream is left open by `close`, and read from its beginning.

    Attributes:
        size: Number of bytes.
        identity: What tells the content of the file from any other, as it was when the file was opened: its number,
            size, times and a sample of its bytes, all as integers; None of a stream, and of a file that was changed so
            lately that another change might leave its times as they are.
    """

    def __init__(self, path: str | os.PathLike | BinaryIO):
        self._path = path
        self._is_stream = is_stream(path)
        if not self._is_stream:
            check_file(path)
        self._file = path if self._is_stream else open(path, "rb", buffering=0)  # noqa: SIM115
        self._place = 0
        self._lock = _stream_lock(path) if self._is_stream else contextlib.nullcontext()
        try:
            # Before its size, so that a file that grows meanwhile is not taken for one that is whole.
            self.identity = self._identity()
            with self._lock:
                self._file.seek(0, os.SEEK_END)
                self.size = self._file.tell()
            if not self.size:
                raise ValueError(f"{path} is an empty stream (0 bytes); pass one that holds a video.")
        except BaseException:
            self.close()
            raise

    def _identity(self):
        if self._is_stream:
            return None
        status = os.fstat(self._file.fileno())
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_NS:
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        return status.st_dev, status.st_ino, status.st_size, *times, self._sampled(status.st_size)

    def _sampled(self, size):
        """A checksum of a sample of the bytes: a change through a map of memory leaves the times as they are."""
        step = max((size - END_BYTES) // (BLOCKS + 1), 1)
        samples = [(0, END_BYTES), *((place, BLOCK_BYTES) for place in range(step, size - END_BYTES, step))]
        checksum = 0
        for place, count in (*samples, (max(size - END_BYTES, 0), END_BYTES)):
            checksum = zlib.crc32(self._read_at(place, count), checksum)
        return checksum

    def has_changed(self) -> bool:
        """Whether the content of the file may be another than when it was opened."""
        return self.identity is None or self.identity != self._identity()

    def read(self, count: int = -1) -> bytes:
        """The next bytes, `count` at most; all that follow for -1."""
        if self._place > self.size:
            # What a damaged file points at may lie further than any file can reach.
            return b""
        count = self.size if count < 0 else count
        try:
            data = self._read_at(self._place, count)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror or error}, while reading", str(self._path)) from error
        # FFmpeg's buffer holds no more, whatever a stream gives.
        data = bytes(data or b"")[:count]
        self._place += len(data)
        return data

    def _read_at(self, place, count):
        if not self._is_stream and hasattr(os, "pread"):
            # A child process shares the place of a file that was opened before it.
            return os.pread(self._file.fileno(), count, place)
        with self._lock:
            self._file.seek(place)
            return self._file.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        self._place = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence], 0)
        return self._place

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def close(self) -> None:
        """Close the file; a stream is its owner's."""
        if not self._is_stream:
            self._file.close()


def _stream_lock(stream):
    """The lock of a stream, which its readers share."""
    with _LOCKS_LOCK, contextlib.suppress(TypeError):  # Not every object can be referred to weakly.
        return _STREAM_LOCKS.setdefault(stream, threading.RLock())
    return threading.RLock()


def _check_stream(stream):
    """The stream, if it can be read as bytes and sought."""
    if isinstance(stream, io.TextIOBase):
        raise ValueError(f"path must be a path or a binary stream, received {stream}; open it with mode 'rb'.")
    if any(hasattr(type(stream), name) for name in _OF_CAMERAS):
        raise ValueError(
            f"path must be a path or a binary stream, received {stream}, whose read() gives pictures; pass a generator "
            "of them, such as (camera.read()[1][..., ::-1] for _ in range(60)) where OpenCV gives blue first, with "
            "fps= for their frames a second."
        )
    seekable = getattr(stream, "seekable", None)
    if not hasattr(stream, "seek") or (seekable is not None and not seekable()):
        raise ValueError(f"path must be a stream that can be sought, received {stream}; pass io.BytesIO(it.read()).")
    return stream
