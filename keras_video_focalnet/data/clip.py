"""`read_clip` and `read_frames`: from a video file to the frames that a model takes."""

import functools
import operator

import numpy as np

from keras_video_focalnet.data.sampling import _positive, sample_frame_indices
from keras_video_focalnet.data.tensorflow_io_decoder import decode_with_tensorflow_io
from keras_video_focalnet.data.video import check_window, expected_frames, iterate_frames, open_video, upright_rgb
from keras_video_focalnet.data.video_index import InexactError, decode_packets, index_video, shown_between


def read_clip(path, num_frames=8, size=224, start=None, end=None, threads=None, decoder="pyav"):
    """Read a video file as one clip, prepared as the reference prepares a video in test mode.

    `num_frames` frames are taken from the middles of equal segments of the video (`sample_frame_indices`), each is
    resized so that its short side is `256 / 224 * size`, and the centre is cropped. Rotation and mirroring that a phone
    wrote into the file are applied. No more than `num_frames` small frames are held at a time, however long the video;
    see `read_frames` for how they are found.

    Args:
        path: Video file, a string or `pathlib.Path`.
        num_frames: Integer >= 1, frames in the clip.
        size: Height and width of the clip in pixels, an integer or `(height, width)`.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        threads: As for `read_frames`.
        decoder: As for `read_frames`.

    Returns:
        uint8 array of shape `(num_frames, height, width, 3)`, red, green, blue, 0 to 255.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no video, has no video stream, or has no decodable frame (between `start` and `end`), or
            another argument is out of its range.
        ImportError: As for `read_frames`.

    Example:
        >>> clip = read_clip("bikes.mp4")
        >>> clip.shape, clip.dtype
        ((8, 224, 224, 3), dtype('uint8'))
    """
    height, width = height_width(size)
    indices = functools.partial(sample_frame_indices, num_frames=num_frames)
    convert = functools.partial(resize_and_crop, height=height, width=width)
    return np.stack(_pictures(path, indices, convert, start, end, threads, decoder))


def read_frames(path, indices=None, start=None, end=None, short_side=None, threads=None, decoder="pyav"):
    """Read frames of a video file.

    Only what the frames asked for need is decoded, from the nearest key frame before each. Where that is not certain to
    give the frames that decoding everything gives, everything is decoded. (One thing cannot be known: in a file that is
    damaged, a frame that does not decode still counts if it lies where nothing was decoded.)

    All the frames asked for are held in memory: 10 seconds of 1080p are 1.5 GB. `short_side` makes each small as it is
    decoded.

    Args:
        path: Video file, a string or `pathlib.Path`.
        indices: Which frames, integers >= 0 in any order, repeats allowed, counted from `start`; or a function that
            receives the number of frames and returns such integers. None takes all. Where a file is wrong about its
            number of frames the function is called again with another, never twice with one.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        short_side: Integer >= 1: frames whose short side is longer are resized to this one by Pillow's bilinear filter,
            which averages all the pixels that it shrinks. Smaller frames are not enlarged. None keeps the size.
        threads: Integer >= 1, threads that decode; None for one a core. Worker processes side by side want 1.
        decoder: `"pyav"`, or `"tensorflow-io"` where that package loads: it decodes the whole file, gives no times
            (so no `start` and `end`) and does not turn frames upright.

    Returns:
        uint8 array of shape `(frames, height, width, 3)`, red, green, blue, 0 to 255, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for `read_clip`; an index is negative or beyond the last frame; the frames differ in size.
        ImportError: `decoder="tensorflow-io"` and that package does not load.

    Example:
        >>> read_frames("bikes.mp4", [0, 100]).shape
        (2, 272, 640, 3)
        >>> read_frames("bikes.mp4", lambda total: [0, total - 1], short_side=128).shape
        (2, 128, 301, 3)
    """
    if short_side is not None:
        short_side = _positive("short_side", short_side, "Pass pixels, or None to keep the size")
    if indices is not None and not callable(indices):
        indices = _checked(indices)
    convert = functools.partial(_shrink, short_side=short_side)
    pictures = _pictures(path, indices, convert, start, end, threads, decoder)
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"The frames of {path} differ in size; pass indices (or start and end) of one size alone.")
    return np.stack(pictures)


def resize_and_crop(picture, height, width):
    """Resize a picture to 256/224 of the wanted size by its tighter side, and crop its centre.

    Args:
        picture: uint8 array `(H, W, 3)`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    rows, columns = picture.shape[:2]
    scale = max(round(256 / 224 * height) / rows, round(256 / 224 * width) / columns)
    new_rows, new_columns = int(rows * scale + 0.5), int(columns * scale + 0.5)
    top, left = (new_rows - height) // 2, (new_columns - width) // 2
    if columns >= rows:
        # Pillow resizes rows, then columns (tall pictures the other way round): what is cut off needs no second pass.
        picture = _resize(picture, rows, new_columns)[:, left : left + width]
        return _resize(picture, new_rows, width)[top : top + height]
    return _resize(picture, new_rows, new_columns)[top : top + height, left : left + width]


def _shrink(picture, short_side):
    """The picture with a short side of no more than `short_side`, None for any."""
    rows, columns = picture.shape[:2]
    if short_side is None or min(rows, columns) <= short_side:
        return picture
    scale = short_side / min(rows, columns)
    return _resize(picture, int(rows * scale + 0.5), int(columns * scale + 0.5))


def _resize(picture, rows, columns):
    """The picture at another size."""
    from PIL import Image

    # Pillow rather than libswscale: it computes the same pixels on every processor, and it averages all the pixels that
    # it shrinks, so that large videos do not flicker.
    return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))


def height_width(size):
    """`(height, width)` from an integer or a pair."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    try:
        sides = tuple(operator.index(side) for side in sides)
    except TypeError:
        sides = ()
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"size must be a positive integer or (height, width) in pixels, received {size!r}.")
    return sides


def _checked(indices):
    """Indices as a list of integers."""
    indices = [operator.index(index) for index in indices]
    if not indices or min(indices) < 0:
        raise ValueError(f"indices must be integers of 0 or more, at least one, received {indices}.")
    return indices


def _pictures(path, indices, convert, start, end, threads, decoder):
    """What `convert` makes of the frames that `indices` names (a list, a function of their number, or None for all)."""
    check_window(start, end)
    if threads is not None:
        threads = _positive("threads", threads, "Pass None for one a core")
    if callable(indices):
        choose = indices
        # A random choice is made once for each number of frames.
        indices = functools.cache(lambda total: _checked(choose(total)))
    if decoder == "tensorflow-io":
        frames = decode_with_tensorflow_io(path, start, end)
        return [convert(frames[index]) for index in _below(indices, len(frames), path)]
    if decoder != "pyav":
        raise ValueError(f'decoder must be "pyav" or "tensorflow-io", received "{decoder}".')
    if indices is not None:
        pictures = _by_seeking(path, indices, convert, start, end, threads)
        if pictures is not None:
            return pictures
    return _by_decoding(path, indices, convert, start, end, threads)


def _by_seeking(path, indices, convert, start, end, threads):
    """The pictures, or None where they may not be those that decoding everything gives."""
    with open_video(path, threads) as (container, stream):
        # Not whole frames: with so few to decode threads gain little there, and FFmpeg's VP9 decoder crashes if a
        # damaged frame is among them.
        stream.thread_type = "SLICE"
        index = index_video(container, stream)
        shown = shown_between(container, stream, index, start, end) if index else []
        if callable(indices) and shown:
            indices = indices(len(shown))
        if not shown or max(indices) >= len(shown):
            return None
        try:
            pictures = {
                position: convert(upright_rgb(frame))
                for position, frame in decode_packets(container, stream, index, {shown[number] for number in indices})
            }
        except InexactError:
            return None
    return [pictures[shown[number]] for number in indices]


def _by_decoding(path, indices, convert, start, end, threads):
    """The pictures, from decoding everything."""
    keep = functools.partial(_keep, path, convert, start, end, threads)
    if callable(indices):
        claimed = max(expected_frames(path, start, end), 1)
        kept, total = keep(indices(claimed))
        if total not in (0, claimed):
            # What the container claimed was wrong; a second pass knows.
            claimed = total
            kept, total = keep(indices(total))
            if total != claimed:
                raise ValueError(f"{path} changed while it was being read; read it again when it is complete.")
    else:
        kept, total = keep(indices, stop=True)
    if total == 0:
        raise _no_frames(path, start, end)
    return [kept[index] for index in _below(indices, total, path)]


def _keep(path, convert, start, end, threads, indices, stop=False):
    """The pictures of `indices` (None for all) by index, and how many frames there were before the end or a stop."""
    wanted = None if indices is None else set(indices)
    kept, total = {}, 0
    for _, frame in iterate_frames(path, start, end, threads):
        if wanted is None or total in wanted:
            kept[total] = convert(upright_rgb(frame))
        total += 1
        if stop and wanted is not None and len(kept) == len(wanted):
            break
    return kept, total


def _below(indices, total, path):
    """The indices for a video of `total` frames."""
    if indices is None:
        return range(total)
    indices = indices(total) if callable(indices) else indices
    if max(indices) >= total:
        raise ValueError(f"indices asks for frame {max(indices)} but {path} has {total}; pass indices below {total}.")
    return indices


def _no_frames(path, start, end):
    """The error that tells why there is nothing between `start` and `end`."""
    last = None
    for seconds, _ in iterate_frames(path):
        last = seconds
    if last is None:
        return ValueError(f"{path} has no decodable frame; it is damaged or incomplete: copy or download it again.")
    window = f"at or after start={start or 0}" + ("" if end is None else f" and before end={end}")
    return ValueError(f"No frame of {path} lies {window}: they run from 0 to {last:.3f} seconds; choose times there.")
