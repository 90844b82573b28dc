"""Video that comes while it is watched: standard input, a pipe, a camera, an address that somebody typed.

`VideoReader` takes files alone, since the name of a video may come out of a list or another file. What is opened here
was named by the user: nothing that a file says is ever passed on to it.
"""

import contextlib
import os
import re
import stat
import sys
import typing
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from keras_video_focalnet.data.damage import naming
from keras_video_focalnet.data.timed_frames import TimedFrames
from keras_video_focalnet.data.video import BUFFER_SIZE, DEFAULT_RATE, RULES, upright_rgb
from keras_video_focalnet.data.video_file import PIXELS_OF_ANY, is_stream

if typing.TYPE_CHECKING:
    import av

# Formats that can be read while they come, and claim nothing of what is still to come. None of them reads another file
# or an address.
GROWING = "matroska,mpegts,mpeg,flv,asf,ogg,nut,ivf,dv,h264,hevc,vvc,av1,obu,m4v,mpegvideo,h263,vc1,mjpeg,yuv4mpegpipe"
# What each kind of address may use. No format among those that are taken is a playlist or a description of a session,
# which would name further addresses or files.
PROTOCOLS = {
    "http": "http,tcp,httpproxy",
    "https": "https,http,tls,tcp,httpproxy",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tcp,tls",
    "srt": "srt,udp",
    "tcp": "tcp",
    "udp": "udp",
}
# FFmpeg's drivers of cameras and screens: Linux, macOS, Windows.
DEVICES = ("v4l2", "avfoundation", "dshow")
# Seconds after which an address that brings nothing is given up.
WAIT = 30.0
# Packets in a row of which no frame comes before a source is given up.
MOST_WITHOUT_FRAME = 5_000
# Seconds from a frame to the next; where there are more, or less than nothing, the sender's clock was set.
MOST_LEAP = 60.0
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@contextlib.contextmanager
def open_live(source: str | BinaryIO, device: str | None = None, fps: float | None = None) -> Iterator[TimedFrames]:
    """Open a source whose end is not known, to go through its frames as they come.

    Pass only what a person typed: an address is connected to, and a device is switched on.

    Args:
        source: `"-"` for standard input; the path of a pipe or of a file; an address that begins with `http://`,
            `https://`, `rtmp://`, `rtmps://`, `rtsp://`, `rtsps://`, `srt://`, `tcp://` or `udp://`; with `device` the
            name of a camera; or a binary stream, which need not be seekable. Pipes and addresses bring a format that
            can be read while it comes: MKV, WebM, MPEG-TS, FLV, ASF, OGG, raw H.264, Y4M and the like; no playlist.
        device: The driver of a camera: `"v4l2"` (Linux), `"avfoundation"` (macOS) or `"dshow"` (Windows). None for
            what is no camera.
        fps: Number > 0, frames a second to ask a camera for; None for its own choice.

    Yields:
        `TimedFrames`; their seconds begin at 0. Damaged packets are passed over.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no video of a format that is taken, or cannot be opened.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> with open_live("rtsp://camera.example/1") as camera:  # doctest: +SKIP
        ...     for segment in stream_timeline(model, camera):
        ...         print(segment)
    """
    with contextlib.ExitStack() as opened:
        container, growing = _open(source, device, fps, opened)
        opened.enter_context(container)
        streams = container.streams.video
        if not streams or streams[0].codec_context is None:
            raise ValueError(f"{_named(source)} brings no video that can be decoded; check what sends it.")
        stream = streams[0]
        stream.codec_context.options = {"max_pixels": str(PIXELS_OF_ANY)}
        stream.thread_type = "SLICE"  # Threads that decode frames side by side show each of them later.
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        rate = rate if 0 < rate <= 1000 else DEFAULT_RATE
        frames = _frames(container, stream, rate, _named(source), growing)
        yield TimedFrames(opened.enter_context(contextlib.closing(frames)), rate, None, _named(source))


def _named(source):
    return "standard input" if source == "-" else "the stream" if is_stream(source) else str(source)


def _open(source, device, fps, opened) -> tuple["av.container.InputContainer", "_Growing | None"]:
    """PyAV's container of a source, which can look nowhere else, and the bytes that it reads, if we read them."""
    import av

    growing = None
    options, more = {"max_pixels": str(PIXELS_OF_ANY)}, {"metadata_errors": "replace"}
    if device is not None:
        if device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}; received {device!r}.")
        rules = {} if fps is None else {"framerate": str(fps)}
        target, more["format"] = source, device
    elif not is_stream(source) and (scheme := _SCHEME.match(source)):
        protocols = PROTOCOLS.get(scheme[1].lower())
        if protocols is None:
            raise ValueError(f"{source}: addresses of {scheme[1]} are not taken; pass one of {', '.join(PROTOCOLS)}.")
        formats = GROWING + (",rtsp" if scheme[1].lower().startswith("rtsp") else "")
        rules = RULES | {"format_whitelist": formats, "protocol_whitelist": protocols}
        target, more["timeout"] = source, WAIT
    else:
        rules = RULES | {"format_whitelist": GROWING}
        target = growing = _Growing(_stream(source, opened))
        more["buffer_size"] = BUFFER_SIZE
    try:
        return av.open(target, options=options, container_options=rules, **more), growing
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{_named(source)} cannot be opened ({reason}). Taken are MKV, WebM, MPEG-TS, FLV, ASF, OGG, raw streams "
            "and Y4M, which can be read while they come; an MP4 or MOV file has to be complete, without --live."
        ) from error


def _stream(source, opened):
    """The bytes of a source, as they come."""
    if is_stream(source):
        return source
    if source == "-":
        return sys.stdin.buffer
    path = os.path.expanduser(source)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise FileNotFoundError(
            f"{source} does not exist; pass a pipe, a file, an address (rtsp://...), or - for standard input."
        ) from None
    if stat.S_ISDIR(status.st_mode) or stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        raise ValueError(f"{source} is a folder or a device; of a camera say the driver too: {', '.join(DEVICES)}.")
    return opened.enter_context(open(path, "rb", buffering=0))


class _Growing:
    """Bytes as they come, for FFmpeg: it has no name, and cannot be sought."""

    def __init__(self, stream: Any):
        # `read1` gives what is there already, where `read` waits until all is there.
        self._read = getattr(stream, "read1", stream.read)
        # FFmpeg would print an interrupt and go on as at the end, so that is kept for `check`.
        self._interrupted = False

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._read(count) or b"")[:count]
        except KeyboardInterrupt:
            self._interrupted = True
            return b""

    def check(self) -> None:
        """Raise the interrupt that came while bytes were read."""
        if self._interrupted:
            raise KeyboardInterrupt


def _frames(container, stream, rate, name, growing) -> Iterator[tuple[float, np.ndarray]]:
    """`(seconds, picture)` of all frames that come, from 0 on; damaged packets are passed over."""
    import av

    origin, seconds, without = None, None, 0
    packets = container.demux(stream)
    while True:
        with naming(name):
            try:
                packet = next(packets, None)
                frames = stream.codec_context.decode(packet) if packet is not None else []
            except (av.error.InvalidDataError, IndexError):
                packet, frames = False, []
            except (av.error.EOFError, av.error.ExitError):
                packet = None
        if growing is not None:
            growing.check()
        if packet is None:
            return
        without = 0 if frames else without + 1
        if without > MOST_WITHOUT_FRAME:
            raise ValueError(f"{name} brings no picture in {without} packets; it is damaged, or encrypted.")
        for frame in frames:
            expected = 0.0 if seconds is None else seconds + 1 / rate
            if frame.time is None:
                seconds = expected
            else:
                if origin is None or abs(frame.time - origin - expected) > MOST_LEAP:
                    # The clocks of senders begin anew.
                    origin = frame.time - expected
                seconds = max(frame.time - origin, seconds or 0.0)
            yield seconds, upright_rgb(frame)
