"""A video made small: its frames resized to a short side and encoded as H.264, so that it is read faster."""

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from keras_video_focalnet.data.clip import shrink
from keras_video_focalnet.data.video import resize
from keras_video_focalnet.data.video_reader import VideoReader
from keras_video_focalnet.utils.files import atomic_write

# Units of a second that times are written in; most rates of frames divide it.
_UNITS = 90_000
# Marks of BT.601 in the range of television, which the conversion from red, green and blue gives.
_BT601, _TELEVISION = 6, 1


class UnreadableVideoError(ValueError):
    """What is to be encoded cannot be read; its cause tells why."""


def reencode(
    source: str | os.PathLike,
    target: str | os.PathLike,
    short_side: int = 256,
    crf: int = 23,
    preset: str = "medium",
    fps: float | None = None,
) -> dict[str, int]:
    """Write a video with a short side of no more than so many pixels, as H.264 in an MP4 file.

    The frames are those that `VideoReader` gives, upright and with square pixels, at their own times; smaller ones are
    not enlarged. There is no sound. Each side is made even, as the colours of H.264 want it. The file takes its name
    once all of it is written.

    Args:
        source: Video file or folder of frames.
        target: File to write; its folder must exist.
        short_side: Even integer >= 2, pixels; 256 by default.
        crf: Quality, 0 (lossless) to 51; 23 by default, x264's own default.
        preset: How much x264 takes pains, "ultrafast" to "veryslow".
        fps: Frames a second of a folder of frames; None for 25.

    Returns:
        Dict with the number of `frames`, and their `height` and `width`.

    Raises:
        UnreadableVideoError: `source` cannot be read, or has no frame.
        OSError: `target` cannot be written.

    Example:
        >>> reencode("bikes.mp4", "small.mp4", short_side=64)
        {'frames': 250, 'height': 64, 'width': 152}
    """
    import av

    frames = _frames(source, short_side, fps)
    first = next(frames, None)
    if first is None:
        raise UnreadableVideoError(f"{source} has no frame.")
    _, picture = first
    height, width = picture.shape[:2]
    count, last = 0, -1
    with atomic_write(target) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_UNITS, options={"crf": str(crf), "preset": preset})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        coder = stream.codec_context
        coder.time_base = stream.time_base = Fraction(1, _UNITS)
        coder.colorspace, coder.color_range = _BT601, _TELEVISION
        # Workers side by side use the cores already.
        coder.thread_count = 1
        for seconds, picture in itertools.chain([first], frames):
            if picture.shape[:2] != (height, width):
                # The size changes within the video.
                picture = resize(picture, height, width)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1)
            # Two frames of one time would not be two.
            last = frame.pts = max(round(seconds * _UNITS), last + 1)
            frame.time_base = Fraction(1, _UNITS)
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    return {"frames": count, "height": height, "width": width}


def _frames(source, short_side, fps) -> Iterator[tuple[float, np.ndarray]]:
    """`(seconds, picture)` of each frame, made small and of even sides."""
    pictures = _pictures(source, fps)
    while True:
        try:
            item = next(pictures, None)
        except Exception as error:
            # Whatever comes of reading is the video's fault, and of writing it is not.
            raise UnreadableVideoError(str(error) or type(error).__name__) from error
        if item is None:
            return
        seconds, picture = item
        yield seconds, _even(shrink(picture, short_side))


def _pictures(source, fps):
    with VideoReader(source, threads=1, cache_frames=0, fps=fps) as reader:
        yield from reader.timed()


def _even(picture):
    rows, columns = picture.shape[:2]
    even = max(2, rows + rows % 2), max(2, columns + columns % 2)
    return picture if even == (rows, columns) else resize(picture, *even)
