"""Decode a video file with PyAV: upright RGB frames, between two times, in order."""

import contextlib
import pathlib

import numpy as np

# Times of frames are fractions and those of callers are floats: 0.28 s must not miss the frame at 7/25 s.
TIME_TOLERANCE = 1e-6
# After a seek the first frames may lack the frames that they were predicted from; one second is more than any encoder
# reorders, so all that is kept was predicted from frames that were decoded.
SEEK_MARGIN = 1.0
# Containers with an index of times. Others are sought by guessing a byte, and their times after it are guesses too.
INDEXED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# FFmpeg draws text files as pictures of a terminal.
TEXT_CODECS = {"ansi", "bintext", "idf", "xbin"}


def check_window(start, end):
    """Raise unless `start` and `end` are None or seconds with `0 <= start < end`."""
    for name, value in (("start", start), ("end", end)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be None or seconds from the beginning, 0 or more, received {value!r}.")
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end must lie after start, received start={start} and end={end}. Swap or widen them.")


def check_file(path):
    """Raise unless `path` is a file that holds something."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass the path of one video file.")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; pass the path of a video file on this machine.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is an empty file (0 bytes); copy or download the video again.")


@contextlib.contextmanager
def open_video(path, threads=None):
    """Open the first video stream of a file.

    Args:
        path: Video file, a string or `pathlib.Path`.
        threads: Integer >= 1, threads that decode; None for one a core.

    Yields:
        `(container, stream)` of PyAV.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The system does not let us read it.
        ValueError: The file is a folder, empty, not a video, or has no video stream. The message names it.
    """
    import av

    check_file(path)
    try:
        # Titles and the like are of no use here; whatever their bytes are, they must not stop anything.
        container = av.open(str(path), metadata_errors="replace")
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(
            f"{path} is not a video that FFmpeg can read ({error.strerror}); check that it is complete and is no web "
            "page or text saved under a video's name."
        ) from error
    with container:
        # The cover picture of a song is a video stream too.
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise ValueError(f"{path} has no video stream (it holds: {kinds}); pass a file with pictures in it.")
        stream = streams[0]
        if stream.codec_context is None:
            raise ValueError(f"{path} holds video that this build of FFmpeg has no decoder for; convert it to H.264.")
        if stream.codec_context.name in TEXT_CODECS:
            raise ValueError(f"{path} is text, not a video; pass a video file.")
        stream.thread_type = "AUTO"
        stream.thread_count = threads or 0
        yield container, stream


def expected_frames(path, start=None, end=None):
    """How many frames the container says lie between `start` and `end` seconds: a guess, 0 where it says nothing."""
    check_window(start, end)
    with open_video(path) as (container, stream):
        rate = float(stream.average_rate or 0)
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (container.duration or 0) / 1e6
        frames = stream.frames or round(seconds * rate)
    if start is None and end is None:
        return frames
    last = frames if end is None else min(frames, int(np.ceil((end - TIME_TOLERANCE) * rate)))
    first = 0 if start is None else int(np.ceil((start - TIME_TOLERANCE) * rate))
    return max(last - first, 0)


def iterate_frames(path, start=None, end=None, threads=None):
    """Every decodable frame with `start <= time < end`, in the order of display.

    Damaged packets are passed over, as players do. Frames before `start` are skipped by seeking where the container
    allows it; what comes out is the same.

    Args:
        path: Video file.
        start: Seconds from the beginning of the video, or None.
        end: Seconds from the beginning of the video, or None.
        threads: Integer >= 1, threads that decode; None for one a core.

    Yields:
        `(seconds, frame)`: the frame's time and the `av.VideoFrame`.
    """
    check_window(start, end)
    if start and start > SEEK_MARGIN:
        frames = _decode(path, threads, seek_to=start - SEEK_MARGIN)
        first = next(frames, None)
        if first is not None and first[0] <= start - SEEK_MARGIN:
            yield from _between(first, frames, start, end)
            return
        frames.close()
    frames = _decode(path, threads)
    yield from _between(next(frames, None), frames, start, end)


def is_indexed(container, stream):
    """Whether a container has an index of times, so that times count from what it says the stream's beginning is."""
    return container.format.name in INDEXED_CONTAINERS and stream.start_time is not None


def upright_rgb(frame):
    """The picture as it is meant to be seen.

    Args:
        frame: `av.VideoFrame`.

    Returns:
        uint8 array `(height, width, 3)`, red, green, blue, converted by the frame's own colour matrix and range, turned
        and mirrored by its display matrix (to the nearest quarter turn).
    """
    from av.sidedata.sidedata import Type

    picture = frame.to_ndarray(format="rgb24")
    side_data = frame.side_data.get(Type.DISPLAYMATRIX)
    if side_data is None:
        return picture
    # The matrix sends (x, y) to (a x + c y, b x + d y), with y down, and is stored as a b u c d v x y w.
    a, b, _, c, d = np.frombuffer(side_data, np.int32)[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        mirror_x, mirror_y = a < 0, d < 0
    else:
        picture = picture.transpose(1, 0, 2)
        mirror_x, mirror_y = c < 0, b < 0
    return np.ascontiguousarray(picture[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _between(first, rest, start, end):
    """Those of `first` and `rest` that lie in the window; stops reading behind it."""
    with contextlib.closing(rest):
        item = first
        while item is not None:
            seconds = item[0]
            if end is not None and seconds >= end - TIME_TOLERANCE:
                return
            if start is None or seconds >= start - TIME_TOLERANCE:
                yield item
            item = next(rest, None)


def _decode(path, threads, seek_to=None):
    """`(seconds, frame)` for every decodable frame, from the key frame before `seek_to` on."""
    import av

    with open_video(path, threads) as (container, stream):
        indexed = is_indexed(container, stream)
        if seek_to is not None:
            if not indexed:
                return
            try:
                container.seek(stream.start_time + int(seek_to / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                return
        origin = float(stream.start_time * stream.time_base) if indexed else None
        rate = float(stream.average_rate or 25)
        seconds = None
        for frame in _decodable(container, stream):
            if frame.time is None:
                if seek_to is not None:
                    return
                # Raw streams carry no times.
                seconds = 0.0 if seconds is None else seconds + 1 / rate
            else:
                origin = frame.time if origin is None else origin
                seconds = frame.time - origin
            yield seconds, frame


def read_packets(container, stream):
    """The packets of a stream, and None where the file breaks off: the last is empty where it does not."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        # PyAV gives an IndexError where damage looks like a further stream.
        except (av.error.FFmpegError, IndexError):
            yield None
            return
        yield packet


def _decodable(container, stream):
    """The frames of a stream, without those whose packets are damaged."""
    import av

    for packet in read_packets(container, stream):
        frames = []
        # An empty packet, or None, makes the decoder give what it still holds.
        with contextlib.suppress(av.error.FFmpegError):
            frames = stream.codec_context.decode(packet)
        yield from frames
