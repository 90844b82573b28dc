"""Which frames of a video make a clip."""

import operator

import numpy as np


def sample_frame_indices(total_frames, num_frames=8, frame_interval=1):
    """Frames of a clip that covers the whole video, as the reference picks them in test mode.

    The video is cut into `num_frames` segments of equal length and the frame in the middle of each is taken. Nothing is
    random. A video shorter than the clip repeats frames. It is the sampling that the accuracies of the paper's
    section 4 were measured with.

    Args:
        total_frames: Integer >= 1, frames in the video.
        num_frames: Integer >= 1, frames in the clip.
        frame_interval: Integer >= 1. The reference keeps the last `frame_interval - 1` frames out of the segments; the
            published models were tested with 1.

    Returns:
        Ascending int64 array of shape `(num_frames,)`, each value in `[0, total_frames)`.

    Raises:
        ValueError: An argument is below 1.
        TypeError: An argument is not an integer.

    Example:
        >>> sample_frame_indices(100)
        array([ 6, 18, 31, 43, 56, 68, 81, 93])
        >>> sample_frame_indices(3)
        array([0, 0, 0, 1, 1, 2, 2, 2])
    """
    total_frames = _positive("total_frames", total_frames, "A video without frames gives no clip; check the file")
    num_frames = _positive("num_frames", num_frames, "Pass the number of frames that the model takes, such as 8")
    frame_interval = _positive("frame_interval", frame_interval, "Pass 1 to use every frame")
    span = max(total_frames - frame_interval + 1, 0)
    # Integers throughout: a rounded quotient could fall on the other side of a frame.
    return (2 * np.arange(num_frames, dtype=np.int64) + 1) * span // (2 * num_frames)


def _positive(name, value, remedy):
    """`value` as an int, or an error that tells the remedy."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, received {value!r}. {remedy}.") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, received {number}. {remedy}.")
    return number
