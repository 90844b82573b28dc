"""`read_clip`: from a video file to the frames that a model takes."""

import operator

import numpy as np

from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video import expected_frames, iterate_frames, upright_rgb


def read_clip(path, num_frames=8, size=224, start=None, end=None):
    """Read a video file as one clip, prepared as the reference prepares a video in test mode.

    `num_frames` frames are taken from the middles of equal segments of the video (`sample_frame_indices`), each is
    resized so that its short side is `256 / 224 * size`, and the centre is cropped. Rotation and mirroring that a phone
    wrote into the file are applied. The segments are those of the frames that really decode, not of the number that the
    file claims. No more than `num_frames` small frames are held at a time, however long the video.

    Args:
        path: Video file, a string or `pathlib.Path`.
        num_frames: Integer >= 1, frames in the clip.
        size: Height and width of the clip in pixels, an integer or `(height, width)`.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.

    Returns:
        uint8 array of shape `(num_frames, height, width, 3)`, red, green, blue, 0 to 255.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no video, has no video stream, or has no decodable frame (between `start` and `end`), or
            another argument is out of its range.

    Example:
        >>> clip = read_clip("bikes.mp4")
        >>> clip.shape, clip.dtype
        ((8, 224, 224, 3), dtype('uint8'))
    """
    height, width = _height_width(size)
    total = expected_frames(path, start, end)
    # What a container claims is checked by decoding; where it was wrong, the second pass knows.
    for _ in range(2):
        indices = sample_frame_indices(max(total, 1), num_frames)
        kept, total = _keep_frames(path, set(indices.tolist()), height, width, start, end)
        if total == 0:
            raise _no_frames(path, start, end)
        indices = sample_frame_indices(total, num_frames)
        if kept.keys() >= set(indices.tolist()):
            return np.stack([kept[index] for index in indices.tolist()])
    raise ValueError(f"{path} changed while it was being read; read it again when it is complete.")


def read_frames(path, indices=None, start=None, end=None):
    """Read frames of a video file at their own size.

    All the frames asked for are held in memory: 10 seconds of 1080p are 1.5 GB. For one clip of a long video use
    `read_clip`.

    Args:
        path: Video file, a string or `pathlib.Path`.
        indices: Which frames, integers >= 0 in any order, repeats allowed, counted from `start`. None takes all.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.

    Returns:
        uint8 array of shape `(frames, height, width, 3)`, red, green, blue, 0 to 255, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for `read_clip`; an index is negative or beyond the last frame; the frames differ in size.

    Example:
        >>> read_frames("bikes.mp4", [0, 100]).shape
        (2, 272, 640, 3)
    """
    if indices is not None:
        indices = [operator.index(index) for index in indices]
        if not indices or min(indices) < 0:
            raise ValueError(f"indices must be integers of 0 or more, at least one, received {indices}.")
    last = None if indices is None else max(indices)
    kept, total = {}, 0
    for _, frame in iterate_frames(path, start, end):
        if indices is None or total in indices:
            kept[total] = upright_rgb(frame)
        total += 1
        if last is not None and total > last:
            break
    if total == 0:
        raise _no_frames(path, start, end)
    wanted = range(total) if indices is None else indices
    if max(wanted) >= total:
        raise ValueError(f"indices asks for frame {max(wanted)} but {path} has {total}; pass indices below {total}.")
    frames = [kept[index] for index in wanted]
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"The frames of {path} differ in size; pass indices (or start and end) of one size alone.")
    return np.stack(frames)


def resize_and_crop(picture, height, width):
    """Resize a picture to 256/224 of the wanted size by its tighter side, and crop its centre.

    Args:
        picture: uint8 array `(H, W, 3)`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    from PIL import Image

    rows, columns = picture.shape[:2]
    scale = max(round(256 / 224 * height) / rows, round(256 / 224 * width) / columns)
    rows, columns = int(rows * scale + 0.5), int(columns * scale + 0.5)
    # Pillow rather than libswscale: it computes the same pixels on every processor, and it averages all the pixels that
    # it shrinks, so that large videos do not flicker.
    resized = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR)
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def _height_width(size):
    """`(height, width)` from an integer or a pair."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    try:
        sides = tuple(operator.index(side) for side in sides)
    except TypeError:
        sides = ()
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"size must be a positive integer or (height, width) in pixels, received {size!r}.")
    return sides


def _keep_frames(path, wanted, height, width, start, end):
    """The wanted frames at the clip's size by index, and how many frames there were."""
    kept, total = {}, 0
    for _, frame in iterate_frames(path, start, end):
        if total in wanted:
            kept[total] = resize_and_crop(upright_rgb(frame), height, width)
        total += 1
    return kept, total


def _no_frames(path, start, end):
    """The error that tells why there is nothing between `start` and `end`."""
    last = None
    for seconds, _ in iterate_frames(path):
        last = seconds
    if last is None:
        return ValueError(f"{path} has no decodable frame; it is damaged or incomplete: copy or download it again.")
    window = f"at or after start={start or 0}" + ("" if end is None else f" and before end={end}")
    return ValueError(f"No frame of {path} lies {window}: they run from 0 to {last:.3f} seconds; choose times there.")
