"""Frames that are in memory already, as a video: an array, a list, or whatever gives one frame after the other."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_video_focalnet.data.sampling import check_indices, choose_indices
from keras_video_focalnet.data.video import DEFAULT_RATE, TIME_TOLERANCE, no_frames_error
from keras_video_focalnet.data.video_file import is_stream
from keras_video_focalnet.utils.checks import check_number

NAME = "the frames in memory"


def in_memory(video: Any) -> bool:
    """Whether frames themselves are passed, and not the path or the stream of a video."""
    if isinstance(video, (str, bytes, os.PathLike)) or is_stream(video):
        return False
    return np.ndim(video) > 0 if hasattr(video, "__array__") else hasattr(video, "__iter__")


def read_from_memory(frames, indices, transform: Callable, start, end, fps) -> np.ndarray:
    """The pictures of some frames between two times, each transformed, as one array.

    Of a list or an array only the frames asked for are looked at. What has no length is read to its end, or to `end`,
    and its frames are transformed as they come.
    """
    rate = DEFAULT_RATE if fps is None else check_number("fps", fps, above=0, remedy="pass None for 25")
    # As the first and last frame of a folder: a frame's time is its number by the rate.
    first, last = (None if time is None else max(int(np.ceil((time - TIME_TOLERANCE) * rate)), 0)
                   for time in (start, end))  # fmt: skip
    if not hasattr(frames, "__len__"):
        frames = [transform(as_picture(frame, number)) for number, frame in enumerate(itertools.islice(frames, last))]
        pictures = frames[first:]
    else:
        pictures = range(len(frames))[first:last]
    if not len(pictures):
        raise _no_frames(frames, rate, start, end)
    chosen = list(choose_indices(check_indices(indices), len(pictures), NAME))
    if isinstance(pictures, range):
        pictures = {number: transform(as_picture(frames[pictures[number]], pictures[number])) for number in set(chosen)}
    if len({pictures[number].shape for number in chosen}) > 1:
        raise ValueError("the frames differ in size; pass frames of one size.")
    return np.stack([pictures[number] for number in chosen])


def _no_frames(frames, rate, start, end):
    if not len(frames):
        return ValueError("path holds no frame: the list or iterator is empty; pass at least one frame.")
    return no_frames_error(NAME, [number / rate for number in range(len(frames))], start, end)


def as_picture(frame: Any, number: int) -> np.ndarray:
    """A frame as uint8 `(height, width, 3)`: an array, a Pillow image or a frame of PyAV."""
    if hasattr(frame, "to_ndarray"):
        frame = frame.to_ndarray(format="rgb24")
    elif hasattr(frame, "convert"):
        frame = frame.convert("RGB")
    picture = np.asarray(frame)
    if picture.dtype.kind not in "uifb" or picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise ValueError(
            f"frame {number} must have shape (height, width, 3), received {_told(frame, picture)}; pass one "
            "clip as (frames, height, width, 3), one picture as picture[None], and grey frames with their channel "
            "repeated three times."
        )
    with np.errstate(invalid="ignore"):
        pixels = picture.astype(np.uint8)
    if picture.dtype != np.uint8 and not (pixels == picture).all():
        raise ValueError(
            f"frame {number} must hold whole pixels of 0 to 255, received {picture.dtype} values of "
            f"{picture.min():.3g} to {picture.max():.3g}; pixels of 0 to 1 become these by "
            "(255 * frames).round().astype('uint8')."
        )
    return np.ascontiguousarray(pixels)


def _told(frame, picture):
    return picture.shape if picture.dtype.kind in "uifb" else repr(frame)
