"""Which frames of a video make a clip."""

import functools
import operator
import os
from collections.abc import Callable, Iterable

import numpy as np

from keras_video_focalnet.utils.checks import check_integer

# Which frames: integers, or a function that receives the number of frames and returns them.
Indices = Iterable[int] | Callable[[int], Iterable[int]]


def sample_frame_indices(
    total_frames: int, num_frames: int = 8, frame_interval: int = 1, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Frames of a clip that covers all of the video, as the reference picks them: one from each of equal segments.

    In test mode (no `rng`) the frame in the middle of each segment is taken and nothing is random: it is the sampling
    that the accuracies of the Video-FocalNet paper's section 4 were measured with. In training mode each segment gives
    a frame drawn by `rng`; of a video with less than one frame a segment, the clip is `num_frames` draws in ascending
    order, or, where the video is no longer than the clip, an even spread that draws nothing. A video shorter than the
    clip repeats frames.

    Args:
        total_frames: Integer >= 1, frames in the video.
        num_frames: Integer >= 1, frames in the clip.
        frame_interval: Integer >= 1. The reference keeps the last `frame_interval - 1` frames out of the segments; the
            published models were tested with 1.
        rng: A `numpy.random.Generator` for training mode, None for test mode.

    Returns:
        int64 array of shape `(num_frames,)`, each value in `[0, total_frames)`; ascending, but for training on a video
        shorter than the clip, where the last frames can loop to the first as they do in the reference.

    Raises:
        ValueError: An argument is no integer of at least 1.

    Example:
        >>> sample_frame_indices(100)
        array([ 6, 18, 31, 43, 56, 68, 81, 93])
        >>> sample_frame_indices(3)
        array([0, 0, 0, 1, 1, 2, 2, 2])
        >>> sample_frame_indices(100, rng=np.random.default_rng(0))
        array([10, 19, 30, 39, 51, 60, 72, 84])
    """
    total_frames = check_integer("total_frames", total_frames, minimum=1, remedy="check the file")
    num_frames = check_integer("num_frames", num_frames, minimum=1)
    frame_interval = check_integer("frame_interval", frame_interval, minimum=1, remedy="pass 1 to use every frame")
    span = max(total_frames - frame_interval + 1, 0)
    segments = np.arange(num_frames, dtype=np.int64)
    if rng is None:
        # Integers throughout: a rounded quotient could fall on the other side of a frame.
        return (2 * segments + 1) * span // (2 * num_frames)
    length = span // num_frames
    if length > 0:
        indices = segments * length + rng.integers(length, size=num_frames)
    elif total_frames > max(num_frames, frame_interval):
        indices = np.sort(rng.integers(span, size=num_frames))
    else:
        indices = np.round(segments * (span / num_frames)).astype(np.int64)
    return indices % total_frames


def sample_dense_indices(
    total_frames: int, num_frames: int = 8, stride: int = 8, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Frames of a clip that covers a stretch of the video: `num_frames`, `stride` apart (the T x stride of the field).

    Args:
        total_frames: Integer >= 1, frames in the video.
        num_frames: Integer >= 1, frames in the clip.
        stride: Integer >= 1, from one frame of the clip to the next, in frames of the video.
        rng: A `numpy.random.Generator` that draws where the stretch begins; without one it is the middle of the video.

    Returns:
        int64 array of shape `(num_frames,)`, each value in `[0, total_frames)`. A video shorter than the stretch starts
        again at its first frame where it ends.

    Raises:
        ValueError: An argument is no integer of at least 1.

    Example:
        >>> sample_dense_indices(100)
        array([21, 29, 37, 45, 53, 61, 69, 77])
        >>> sample_dense_indices(10, num_frames=4, stride=4)
        array([0, 4, 8, 2])
    """
    total_frames = check_integer("total_frames", total_frames, minimum=1, remedy="check the file")
    num_frames = check_integer("num_frames", num_frames, minimum=1)
    stride = check_integer("stride", stride, minimum=1, remedy="pass 1 for frames that follow one another")
    latest = max(total_frames - ((num_frames - 1) * stride + 1), 0)
    start = latest // 2 if rng is None else rng.integers(latest + 1)
    return (start + stride * np.arange(num_frames, dtype=np.int64)) % total_frames


def check_indices(indices: Indices | None) -> list[int] | Callable[[int], list[int]] | None:
    """Indices as a list of integers, or a function that returns one; None as it is."""
    if indices is None:
        return None
    if callable(indices):
        # A random choice is made once for each number of frames.
        return functools.cache(lambda total: check_indices(indices(total)))
    indices = [operator.index(index) for index in indices]
    if not indices or min(indices) < 0:
        raise ValueError(f"indices must be integers of 0 or more, at least one, received {indices}.")
    return indices


def choose_indices(indices: Indices | None, total: int, path: str | os.PathLike) -> Iterable[int]:
    """The indices, as `check_indices` returns them, for a video of `total` frames."""
    if indices is None:
        return range(total)
    indices = indices(total) if callable(indices) else indices
    if max(indices) >= total:
        raise ValueError(f"indices asks for frame {max(indices)} but {path} has {total}; pass indices below {total}.")
    return indices
