"""`read_clip` and `read_frames`: from a video file to the frames that a model takes."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip_rule import CROP_FRACTION, ClipRule, clip_rule
from keras_video_focalnet.data.memory_frames import in_memory, read_from_memory
from keras_video_focalnet.data.sampling import Indices, check_indices, choose_indices, sample_frame_indices
from keras_video_focalnet.data.tensorflow_io_decoder import decode_with_tensorflow_io
from keras_video_focalnet.data.video import check_window, resize
from keras_video_focalnet.data.video_file import VideoPath
from keras_video_focalnet.data.video_reader import VideoReader
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_resize_rule, check_size

DECODERS = ("pyav", "tensorflow-io")


Video = VideoPath | VideoReader | np.ndarray | Iterable
"""What a clip is read from: a path, a stream, an open reader, or frames that are in memory."""


def read_clip(
    path: Video,
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    start: float | None = None,
    end: float | None = None,
    threads: int | None = None,
    decoder: str = "pyav",
    crop_fraction: float | None = None,
    interpolation: str | None = None,
    fps: float | None = None,
    like: Any = None,
) -> np.ndarray:
    """Read a video as one clip, prepared as the reference prepares a video in test mode.

    With `like=model` it is the clip that this model takes, and `model.predict(clip[None])` gives its scores.

    `num_frames` frames are taken from the middles of equal segments of the video (`sample_frame_indices`), each is
    resized so that its tighter side is `size / crop_fraction`, and the centre is cropped. Rotation and mirroring that a
    phone wrote into the file are applied, and pixels that are not square are made so. No more than `num_frames` small
    frames are held at a time, however long the video; see `read_frames` for how they are found.

    Args:
        path: Video file; see `VideoReader` for what else it may be. Or an open `VideoReader`. Or frames that are in
            memory, red, green and blue: an array `(frames, height, width, 3)`, a list of frames, or an iterator of
            them such as a generator over a camera, which is read to its end or to `end`. A frame is an array
            `(height, width, 3)` of pixels of 0 to 255, a Pillow image, or a frame of PyAV.
        num_frames: Integer >= 1, frames in the clip; None for those of `like`, or 8.
        size: Height and width of the clip in pixels, an integer or `(height, width)`; None for those of `like`, or 224.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        threads: As for `read_frames`.
        decoder: As for `read_frames`.
        crop_fraction: The part of the resized frame's tighter side that is shown, above 0 to 1; None for that of
            `like`, or 224/256.
        interpolation: How frames are resized, `"bilinear"` or `"bicubic"`; None for that of `like`, or `"bilinear"`.
        fps: As for `read_frames`.
        like: The model that the clip is for: any Keras model of clips, what `load_exported` gives, or what `open_model`
            takes, such as the folder of a training run, which is opened anew each time. None for none.

    Returns:
        uint8 array of shape `(num_frames, height, width, 3)`, red, green, blue, 0 to 255. With a `like` that was built
        with `include_preprocessing=False` it is float32, normalized as that model takes it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no video, has no video stream, or has no decodable frame (between `start` and `end`), or
            another argument is out of its range.
        ImportError: As for `read_frames`.

    Example:
        >>> clip = read_clip("bikes.mp4")
        >>> clip.shape, clip.dtype
        ((8, 224, 224, 3), dtype('uint8'))
        >>> read_clip("bikes.mp4", like=VideoFocalNetNano(weights=None)).shape
        (8, 64, 64, 3)
        >>> read_clip([np.zeros((48, 64, 3), "uint8")] * 20, size=32).shape
        (8, 32, 32, 3)
    """
    rule = ClipRule() if like is None else clip_rule(like)
    num_frames = rule.num_frames if num_frames is None else num_frames
    height, width = check_size("size", rule.size if size is None else size, "pixels")
    crop_fraction = rule.crop_fraction if crop_fraction is None else crop_fraction
    interpolation = rule.interpolation if interpolation is None else interpolation
    indices = functools.partial(sample_frame_indices, num_frames=num_frames)
    check_resize_rule(crop_fraction, interpolation)
    how = {"crop_fraction": crop_fraction, "interpolation": interpolation}
    transform = functools.partial(resize_and_crop, height=height, width=width, **how)
    clip = read_transformed(path, indices, transform, start, end, threads, decoder, fps)
    return clip if rule.prepare is None else rule.prepare(clip)


def read_frames(
    path: Video,
    indices: Indices | None = None,
    start: float | None = None,
    end: float | None = None,
    short_side: int | None = None,
    threads: int | None = None,
    decoder: str = "pyav",
    fps: float | None = None,
) -> np.ndarray:
    """Read frames of a video file.

    Only what the frames asked for need is decoded, from the nearest key frame before each. Where that is not certain to
    give the frames that decoding everything gives, everything is decoded; see `VideoReader` for damaged files.

    All the frames asked for are held in memory: 10 seconds of 1080p are 1.5 GB. `short_side` makes each small as it is
    decoded.

    Args:
        path: As for `read_clip`.
        indices: Which frames, integers >= 0 in any order, repeats allowed, counted from `start`; or a function that
            receives the number of frames and returns such integers. None takes all. Where a file is wrong about its
            number of frames the function is called again with another, never twice with one.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        short_side: Integer >= 1: frames whose short side is longer are resized to this one by Pillow's bilinear filter,
            which averages all the pixels that it shrinks. Smaller frames are not enlarged. None keeps the size.
        threads: Integer >= 1, threads that decode; None for one a core. Worker processes side by side want 1.
        decoder: `"pyav"`, or `"tensorflow-io"` where that package loads: it decodes everything, gives no times
            (so no `start` and `end`), takes a file alone and does not turn frames upright or make pixels square.
        fps: Number > 0, frames a second of a folder of frames or of frames in memory; None for 25. A file tells its
            own.

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
        short_side = check_integer("short_side", short_side, minimum=1, remedy="pass pixels, or None to keep the size")
    transform = functools.partial(shrink, short_side=short_side)
    return read_transformed(path, indices, transform, start, end, threads, decoder, fps)


def resize_and_crop(
    picture: np.ndarray, height: int, width: int, crop_fraction: float = CROP_FRACTION, interpolation: str = "bilinear"
) -> np.ndarray:
    """Resize a uint8 picture `(H, W, 3)` so that the wanted size is `crop_fraction` of it, and crop its centre."""
    rows, columns = picture.shape[:2]
    scale = max(round(height / crop_fraction) / rows, round(width / crop_fraction) / columns)
    new_rows, new_columns = int(rows * scale + 0.5), int(columns * scale + 0.5)
    top, left = (new_rows - height) // 2, (new_columns - width) // 2
    if columns >= rows:
        # Pillow resizes rows, then columns (tall pictures the other way round): what is cut off needs no second pass.
        picture = resize(picture, rows, new_columns, interpolation)[:, left : left + width]
        return resize(picture, new_rows, width, interpolation)[top : top + height]
    return resize(picture, new_rows, new_columns, interpolation)[top : top + height, left : left + width]


def shrink(picture, short_side):
    """The picture with a short side of no more than `short_side`, None for any."""
    rows, columns = picture.shape[:2]
    if short_side is None or min(rows, columns) <= short_side:
        return picture
    scale = short_side / min(rows, columns)
    return resize(picture, int(rows * scale + 0.5), int(columns * scale + 0.5))


def read_transformed(path, indices, transform, start, end, threads, decoder, fps=None):
    """The transformed frames that `indices` names, stacked."""
    check_window(start, end)
    if isinstance(path, VideoReader):
        return path.read(indices, transform, start, end)
    if in_memory(path):
        return read_from_memory(path, indices, transform, start, end, fps)
    if decoder == "tensorflow-io":
        indices = check_indices(indices)
        frames = decode_with_tensorflow_io(path, start, end)
        return np.stack([transform(frames[index]) for index in choose_indices(indices, len(frames), path)])
    check_choice("decoder", decoder, DECODERS)
    # No later read wants what is decoded.
    with VideoReader(path, threads, cache_frames=0, fps=fps) as reader:
        return reader.read(indices, transform, start, end)
