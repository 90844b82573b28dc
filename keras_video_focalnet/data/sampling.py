"""Which frames of a video make a clip."""

import operator

import numpy as np


def sample_frame_indices(total_frames, num_frames=8, frame_interval=1, rng=None):
    """Frames of a clip that covers the whole video, as the reference picks them: one from each of equal segments.

    In test mode (no `rng`) the frame in the middle of each segment is taken and nothing is random: it is the sampling
    that the accuracies of the paper's section 4 were measured with. In training mode each segment gives a frame drawn
    by `rng`; of a video too short for a whole frame a segment, the clip is `num_frames` draws in ascending order, or,
    where the video is no longer than the clip, an even spread that draws nothing. A video shorter than the clip repeats
    frames.

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
        ValueError: An argument is below 1.
        TypeError: An argument is not an integer.

    Example:
        >>> sample_frame_indices(100)
        array([ 6, 18, 31, 43, 56, 68, 81, 93])
        >>> sample_frame_indices(3)
        array([0, 0, 0, 1, 1, 2, 2, 2])
        >>> sample_frame_indices(100, rng=np.random.default_rng(0))
        array([10, 19, 30, 39, 51, 60, 72, 84])
    """
    total_frames = _positive("total_frames", total_frames, "A video without frames gives no clip; check the file")
    num_frames = _positive("num_frames", num_frames, "Pass the number of frames that the model takes, such as 8")
    frame_interval = _positive("frame_interval", frame_interval, "Pass 1 to use every frame")
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


def sample_dense_indices(total_frames, num_frames=8, stride=8, rng=None):
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
        ValueError: An argument is below 1.
        TypeError: An argument is not an integer.

    Example:
        >>> sample_dense_indices(100)
        array([21, 29, 37, 45, 53, 61, 69, 77])
        >>> sample_dense_indices(10, num_frames=4, stride=4)
        array([0, 4, 8, 2])
    """
    total_frames = _positive("total_frames", total_frames, "A video without frames gives no clip; check the file")
    num_frames = _positive("num_frames", num_frames, "Pass the number of frames that the model takes, such as 8")
    stride = _positive("stride", stride, "Pass 1 for frames that follow one another")
    latest = max(total_frames - ((num_frames - 1) * stride + 1), 0)
    start = latest // 2 if rng is None else rng.integers(latest + 1)
    return (start + stride * np.arange(num_frames, dtype=np.int64)) % total_frames


def _positive(name, value, remedy):
    """`value` as an int, or an error that tells the remedy."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, received {value!r}. {remedy}.") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, received {number}. {remedy}.")
    return number
