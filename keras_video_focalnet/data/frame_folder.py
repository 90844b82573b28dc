"""A folder of pictures, `img_00001.jpg` and so on, as a video."""

import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_video_focalnet.data.sampling import choose_indices
from keras_video_focalnet.data.video import DEFAULT_RATE, TIME_TOLERANCE, VideoHeader, no_frames_error
from keras_video_focalnet.data.video_file import check_file, check_pixels, pixel_limit
from keras_video_focalnet.data.video_names import is_video_name

FRAME_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Endings, in lower case, of the files that are taken for frames."""

# The only formats that Pillow is to read, by its own names.
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
# Tools that make frames also write optical flow beside them, as flow_x_00001.jpg.
FLOW = "flow"


def is_frame_folder(path: str | os.PathLike) -> bool:
    """Whether a folder holds the frames of one video: pictures whose names end with a number, such as `img_00001.jpg`.

    A folder with a sub-folder, a video or a picture without a number is none. Hidden files, and files of other kinds
    beside the pictures, do not count.
    """
    found = False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir() or is_video_name(entry.name):
                    return False
                if os.path.splitext(entry.name)[1].lower() in FRAME_ENDINGS:
                    if not _is_frame(entry.name):
                        return False
                    found = True
    except (OSError, ValueError):
        return False
    return found


class FrameFolder:
    """The pictures of a folder in the order of their numbers: 2 comes before 10.

    Args:
        path: The folder. Other files in it, and pictures of optical flow (`flow_x_00001.jpg`), are passed over.
        fps: Frames a second; None for 25.

    Attributes:
        header: `VideoHeader` of it.

    Raises:
        ValueError: Pictures of several series lie in it, such as `a_1.jpg` and `b_1.jpg`.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None):
        self._path = pathlib.Path(path)
        self._files = [self._path / name for name in _in_order(path, os.listdir(path))]
        self.header = VideoHeader(fps or DEFAULT_RATE, len(self._files), indexed=True)

    def close(self) -> None:
        """Nothing is open between reads."""

    def times(self) -> list[float]:
        """Seconds of all frames."""
        return [number / self.header.rate for number in range(len(self._files))]

    def iterate(self, start: float | None, end: float | None) -> Iterator[tuple[float, np.ndarray]]:
        """The seconds of each frame between two times, and its picture."""
        return ((time, self._picture(file)) for time, file in self._timed(start, end))

    def pictures(self, indices, transform: Callable | None, start: float | None, end: float | None) -> list[Any]:
        """The pictures of some frames between two times, each transformed."""
        files = self._between(start, end)
        if not files:
            raise no_frames_error(self._path, self.times(), start, end)
        numbers = list(choose_indices(indices, len(files), self._path))
        pictures = {}
        for number in set(numbers):
            picture = self._picture(files[number])
            pictures[number] = picture if transform is None else transform(picture)
        return [pictures[number] for number in numbers]

    def _between(self, start, end):
        """The files of the frames between two times."""
        return [file for _, file in self._timed(start, end)]

    def _timed(self, start, end):
        """The seconds and the file of each frame between two times."""
        first, last = start or 0, float("inf") if end is None else end
        times = zip(self.times(), self._files, strict=True)
        return [item for item in times if first - TIME_TOLERANCE <= item[0] < last - TIME_TOLERANCE]

    def _picture(self, file):
        """The picture in a file, uint8 `(height, width, 3)`, turned as its EXIF data says."""
        from PIL import Image, ImageOps

        check_file(file)
        size = file.stat().st_size
        try:
            with open(file, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
                check_pixels(file, size, *image.size, pixel_limit(size))
                ImageOps.exif_transpose(image, in_place=True)
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        except (Image.UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
            raise ValueError(f"{file} is not a picture that Pillow can read ({error}); copy it again.") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"{file} is damaged or incomplete ({error}); copy it again.") from error


def _is_frame(name):
    """Whether a file's name is that of a numbered picture."""
    stem, ending = os.path.splitext(name)
    return ending.lower() in FRAME_ENDINGS and stem[-1:].isdecimal() and not stem.startswith(".")


def _in_order(path, names):
    """The names of one series of numbered pictures by their numbers."""
    series = {}
    for name in filter(_is_frame, names):
        stem, ending = os.path.splitext(name)
        digits = re.search(r"\d+$", stem)
        series.setdefault((stem[: digits.start()], ending.lower()), []).append((int(digits[0]), name))
    if len(series) > 1:
        series = {key: frames for key, frames in series.items() if not key[0].lower().startswith(FLOW)} or series
    if len(series) > 1:
        found = ", ".join(sorted(f"{prefix}*{ending}" for prefix, ending in series)[:5])
        raise ValueError(f"{path} holds pictures of several videos ({found}); put those of each into its own folder.")
    return [name for _, name in sorted(next(iter(series.values())))]
