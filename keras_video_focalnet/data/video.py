"""Open a video file with PyAV, decode its packets, and make upright RGB pictures of frames."""

import contextlib
import dataclasses
import itertools
import os
import typing
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_video_focalnet.data.file_claims import check_claims
from keras_video_focalnet.data.nal_units import WIDTHS, has_more_units, sequence_units, sets_of_header
from keras_video_focalnet.data.parameter_sets import check_held, sequence_sets
from keras_video_focalnet.data.video_file import (
    PIXELS_OF_ANY,
    PIXELS_OF_MOST,
    PIXELS_PER_BYTE,
    VideoBytes,
    VideoPath,
    check_path,
    check_pixels,
    pixel_limit,
    warn_once,
)

if typing.TYPE_CHECKING:
    import av

# Times of frames are fractions and those of callers are floats: 0.28 s must not miss the frame at 7/25 s.
TIME_TOLERANCE = 1e-6
# After a seek the first frames may lack the frames that they were predicted from; one second is more than any encoder
# reorders, so all that is kept was predicted from frames that were decoded.
SEEK_MARGIN = 1.0
# Where a file does not say how many frames a second it has.
DEFAULT_RATE = 25.0
# Containers with an index of times. Others are sought by guessing a byte, and their times after it are guesses too.
INDEXED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# The formats that are taken, by FFmpeg's names: containers of video, raw streams of it, pictures. None of them reads
# another file or an address, as playlists, lists of files, session descriptions and patterns of names do.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,nut,ivf,dv,rm,wtv"
STREAMS = "h264,hevc,vvc,av1,obu,m4v,mpegvideo,h261,h263,vc1,mjpeg,dirac,yuv4mpegpipe"
PICTURES = "gif,apng,png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,webp,tiff_pipe"
TAKEN = (
    "MP4, MOV, 3GP, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV, ASF/WMV, OGG, MXF, GXF, NUT, IVF, DV, RM, WTV, raw video "
    "streams, Y4M, and the pictures GIF, PNG, JPEG, BMP, WebP and TIFF"
)
# What FFmpeg may do with a file: nothing but read its bytes. "none" is the name of no protocol.
RULES = {
    "format_whitelist": f"{CONTAINERS},{STREAMS},{PICTURES}",
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    "max_streams": "128",
}
# Codecs whose packets come in the order of display, each with one frame to be shown.
CODECS_IN_ORDER = {"vp9", "av1"}
# Codecs whose decoders tell of damage late or not at all, and make of it what depends on how fast frames side by side
# are decoded.
CODECS_BY_SLICES = {"ffv1", "mpeg4"}
# Codecs whose decoders lose what their threads meet of damage.
CODECS_OF_ONE_THREAD = {"mpeg1video", "mpeg2video"}
# Different parameter sets that a video may have, and units of a packet: slices, for the most part.
MOST_SETS = 1000
MOST_UNITS = 20_000
# FFmpeg's name of headers that replace those of a stream.
NEW_HEADER = "new_extradata"
# Bytes that FFmpeg asks of a file at a time.
BUFFER_SIZE = 1 << 17
# Curves of brightness of HDR video, by their numbers in ITU-T H.273.
HDR_CURVES = {16: "PQ", 18: "HLG"}
# The colour matrices that FFmpeg converts to RGB, by their numbers there; what a damaged file says may be any number.
MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}
UNSPECIFIED = 2
# The formats of the pictures that a PNG decodes to.
PNG_FORMATS = {"gray", "ya8", "gray16be", "ya16be", "pal8", "monob", "rgb24", "rgba", "rgb48be", "rgba64be"}
# A scaler that rounds to whole pixels makes them oblong by as much.
NEARLY_SQUARE = 0.01


def check_window(start: float | None, end: float | None) -> None:
    """Raise unless `start` and `end` are None or seconds with `0 <= start < end`."""
    for name, value in (("start", start), ("end", end)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be None or seconds from the beginning, 0 or more, received {value!r}.")
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end must lie after start, received start={start} and end={end}. Swap or widen them.")


def no_frames_error(
    path: VideoPath, times: Sequence[float], start: float | None = None, end: float | None = None
) -> ValueError:
    """The error that tells why no frame lies between `start` and `end`, given the seconds of all frames."""
    if not times:
        return ValueError(
            f"{path} has no decodable frame; it is damaged or incomplete: copy or download it again. Pictures of more "
            f"than {PIXELS_OF_ANY} pixels are decoded if there is a byte for every {PIXELS_PER_BYTE}, and up to "
            f"{PIXELS_OF_MOST}, or more of large files."
        )
    window = f"at or after start={start or 0}" + ("" if end is None else f" and before end={end}")
    return ValueError(
        f"No frame of {path} lies {window}: they run from 0 to {times[-1]:.3f} seconds; choose times there."
    )


@dataclasses.dataclass(frozen=True)
class VideoHeader:
    """What a file says of its video stream, which need not be true: frames a second and their number, each 0 where it
    does not say, whether the container has an index of times, by which it can be sought, and the width of a pixel as it
    is shown over its height.
    """

    rate: float
    frames: int
    indexed: bool
    pixel_aspect: float = 1.0

    def frames_between(self, start: float | None, end: float | None) -> int:
        """How many frames lie between `start` and `end` seconds if the header is right; 0 where it does not say."""
        if start is None and end is None:
            return self.frames
        last = self.frames if end is None else min(self.frames, int(np.ceil((end - TIME_TOLERANCE) * self.rate)))
        first = 0 if start is None else int(np.ceil((start - TIME_TOLERANCE) * self.rate))
        return max(last - first, 0)


@dataclasses.dataclass(frozen=True)
class OpenVideo:
    """An open file and its first video stream, both as PyAV has them; its path and its bytes, and the parameter sets
    that were seen.
    """

    container: "av.container.InputContainer"
    stream: "av.VideoStream"
    path: VideoPath
    data: VideoBytes
    seen: set[bytes] = dataclasses.field(default_factory=set)

    @property
    def header(self) -> VideoHeader:
        """What the file says of the stream."""
        stream = self.stream
        rate = float(stream.average_rate or 0)
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (self.container.duration or 0) / 1e6
        frames = stream.frames or round(seconds * rate)
        return VideoHeader(rate, frames, self.origin is not None, self.pixel_aspect)

    @property
    def pixel_aspect(self) -> float:
        """The width of a pixel as it is shown over its height; 1.0 where that is as good as square."""
        aspect = float(self.stream.sample_aspect_ratio or 1)
        return aspect if aspect > 0 and abs(np.log(aspect)) > NEARLY_SQUARE else 1.0

    @property
    def in_order(self) -> bool:
        """Whether the packets come in the order of display, each with one frame."""
        return self.stream.codec_context.codec.canonical_name in CODECS_IN_ORDER

    @property
    def origin(self) -> float | None:
        """The time in seconds that an indexed container counts from; elsewhere None, which is the first frame's."""
        if self.container.format.name in INDEXED_CONTAINERS and self.stream.start_time is not None:
            return float(self.stream.start_time * self.stream.time_base)
        return None

    def packets(self) -> Iterator["av.Packet | None"]:
        """The packets of the stream, and None where the file breaks off; the last is empty where it does not."""
        import av

        packets, context = self.container.demux(self.stream), self.stream.codec_context
        # PyAV copies these bytes each time.
        codec, extradata = context.codec.canonical_name, context.extradata
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            # PyAV gives an IndexError where damage looks like a further stream.
            except (av.error.FFmpegError, IndexError):
                yield None
                return
            if codec in WIDTHS:
                data = bytes(packet)
                if has_more_units(data, codec, extradata, MOST_UNITS):
                    raise ValueError(
                        f"{self.path} has a packet of more than {MOST_UNITS} units; it is damaged or made to do harm: "
                        "copy or download it again."
                    )
                if units := sequence_units(data, codec, extradata):
                    self._check_references(units)
                if packet.has_sidedata(NEW_HEADER):
                    self._check_references(sets_of_header(codec, bytes(packet.get_sidedata(NEW_HEADER))))
            yield packet

    def check_header(self) -> None:
        """Raise where the pictures, or those that a decoder of H.264 or HEVC holds, take more than the file may."""
        context, size, aspect = self.stream.codec_context, self.data.size, self.pixel_aspect
        for sides in ((context.width, context.height), _shown_size(context.height, context.width, aspect)[::-1]):
            check_pixels(self.path, size, *sides, pixel_limit(size))
        codec = context.codec.canonical_name
        if codec in WIDTHS:
            self._check_references(sets_of_header(codec, context.extradata))

    def _check_references(self, units):
        """Raise where a parameter set among some units makes a decoder hold too much, or where there is no end of them:
        encoders repeat theirs.
        """
        codec = self.stream.codec_context.codec.canonical_name
        for unit in units:
            if unit in self.seen:
                continue
            self.seen.add(unit)
            if len(self.seen) > MOST_SETS:
                raise ValueError(
                    f"{self.path} has more than {MOST_SETS} different parameter sets; it is damaged or made to do "
                    "harm: copy or download it again."
                )
            for told in sequence_sets(codec, [unit]):
                check_held(self.path, self.data.size, told)

    def decode(self, packet: "av.Packet | None") -> list["av.VideoFrame"]:
        """The frames that come of a packet; an empty packet, or None, makes the decoder give what it still holds."""
        context = self.stream.codec_context
        if not context.is_open:
            try:
                context.open()
            except BlockingIOError:
                # A busy machine may give no further thread, which is no damage of the file.
                context.thread_count = 1
                context.open()
        frames = context.decode(packet)
        for frame in frames:
            if frame.colorspace not in MATRICES:
                warn_once(
                    str(self.path),
                    f"has the colour matrix {int(frame.colorspace)} (ITU-T H.273), which FFmpeg does not convert: it "
                    "is taken as not specified, and colours may be wrong.",
                )
                frame.colorspace = UNSPECIFIED
        return frames

    def pass_over_damage(self) -> None:
        """From now on, before anything is decoded, take what a decoder makes of damage, always the same."""
        context = self.stream.codec_context
        context.options = {name: value for name, value in context.options.items() if name != "err_detect"}
        self.stream.thread_count = 1

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.data.close()


def open_video(path: VideoPath, threads: int | None = None) -> OpenVideo:
    """Open the first video stream of a file, which the caller closes; `threads` decode, None for one a core. Every
    video that the package reads is opened here.
    """
    with contextlib.ExitStack() as opened:
        data = VideoBytes(check_path(path))
        opened.callback(data.close)
        check_claims(path, data)
        container = _open_container(path, data)
        opened.callback(container.close)
        video = OpenVideo(container, _video_stream(path, container), path, data)
        _set_up_decoder(video, threads)
        opened.pop_all()
    return video


def _open_container(path, data):
    """PyAV's container of some bytes, which cannot look beyond them."""
    import av

    limits = {"max_pixels": str(pixel_limit(data.size))}
    try:
        # Titles and the like are of no use here; whatever their bytes are, they must not stop anything.
        return av.open(
            data, options=limits, container_options=RULES, metadata_errors="replace", buffer_size=BUFFER_SIZE
        )
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} is not a video that FFmpeg can read ({error.strerror}); check that it is complete and is no web "
            f"page, playlist or text saved under a video's name. Taken are {TAKEN}."
        ) from error


def _set_up_decoder(video, threads):
    """Bound what the decoder takes, say how many threads it has, and tell what of the colours is not as shown."""
    stream, context = video.stream, video.stream.codec_context
    video.check_header()
    context.options = {"max_pixels": str(pixel_limit(video.data.size)), "err_detect": "bitstream+buffer+explode"}
    # Threads that decode frames side by side hold one each; those of the largest pictures share a frame, as do those of
    # smaller ones where a decoder holds many.
    side_by_side = PIXELS_OF_MOST // max(context.width * context.height, 1)
    codec = context.codec.canonical_name
    if codec in WIDTHS:
        sets = sequence_sets(codec, itertools.islice(sets_of_header(codec, context.extradata), MOST_SETS))
        side_by_side = min([side_by_side, *(told.threads(video.data.size) for told in sets)])
    stream.thread_type = "SLICE" if side_by_side < 2 or codec in CODECS_BY_SLICES else "AUTO"
    stream.thread_count = 1 if codec in CODECS_OF_ONE_THREAD else threads or 0
    if stream.thread_count != 1 and 2 <= side_by_side < (threads or os.cpu_count() or 1):
        stream.thread_count = side_by_side
    curve = HDR_CURVES.get(getattr(context, "color_trc", None))
    if curve:
        warn_once(
            str(video.path),
            f"is HDR video ({curve}): its colours are taken as they are, flatter than a screen shows them. For those "
            "of a model's training make it SDR first, with FFmpeg's filters zscale and tonemap.",
        )


def _video_stream(path, container):
    """The first video stream of an open file, or an error that tells why there is none that can be decoded."""
    import av

    # The cover picture of a song is a video stream too.
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ValueError(f"{path} has no video stream (it holds: {kinds}); pass a file with pictures in it.")
    if streams[0].codec_context is None:
        raise ValueError(f"{path} holds video that this build of FFmpeg has no decoder for; convert it to H.264.")
    return streams[0]


@dataclasses.dataclass(frozen=True)
class DetachedFrame:
    """A picture as it was decoded, in memory of its own, with the display matrix of its frame."""

    frame: "av.VideoFrame"
    matrix: tuple[float, float, float, float]

    @property
    def planes(self) -> tuple:
        """Those of the picture."""
        return self.frame.planes


def upright_rgb(frame: "av.VideoFrame | DetachedFrame", pixel_aspect: float = 1.0) -> np.ndarray:
    """The picture as it is meant to be seen, uint8 `(height, width, 3)`: converted by the frame's own colour matrix and
    range, made wider or taller by Pillow's bilinear filter where pixels are not square, turned and mirrored by its
    display matrix (to the nearest quarter turn).
    """
    kept = frame if isinstance(frame, DetachedFrame) else DetachedFrame(frame, _display_matrix(frame))
    # With threads of its own the conversion is no faster, and a machine may refuse them.
    picture = kept.frame.to_ndarray(format="rgb24", threads=1)
    if pixel_aspect != 1:
        picture = resize(picture, *_shown_size(*picture.shape[:2], pixel_aspect))
    a, b, c, d = kept.matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        mirror_x, mirror_y = a < 0, d < 0
    else:
        picture = picture.transpose(1, 0, 2)
        mirror_x, mirror_y = c < 0, b < 0
    return np.ascontiguousarray(picture[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _display_matrix(frame):
    """The matrix that sends `(x, y)` of a frame, with y down, to `(a x + c y, b x + d y)` of what is to be seen."""
    from av.sidedata.sidedata import SideDataContainer, Type

    matrix = None
    # PyAV frees the name of a PNG's colour profile twice, and refuses kinds of side data that it does not know.
    if frame.format.name not in PNG_FORMATS:
        with contextlib.suppress(ValueError):
            # `frame.side_data` would be kept by the frame and refer to it: the garbage collector alone would free both.
            matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)
    if matrix is not None:
        # It is stored as a b u c d v x y w.
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.int64)
        return a, b, c, d
    turn = np.deg2rad(frame.rotation)
    return np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)


def detached(frame: "av.VideoFrame") -> DetachedFrame:
    """The same picture in memory of its own.

    A decoder leaves what it cannot decode as it finds it in memory that it uses again. Where all its frames are given
    back in turn, what is found there is the same each time.
    """
    copy = frame.reformat(format="bgr24" if frame.format.name == "rgb24" else "rgb24", threads=1)
    return DetachedFrame(copy, _display_matrix(frame))


def picture_of(
    frame: "av.VideoFrame | DetachedFrame",
    transform: Callable[[np.ndarray], np.ndarray] | None,
    pixel_aspect: float = 1.0,
) -> np.ndarray:
    """The upright picture in a frame, or what `transform` makes of it."""
    picture = upright_rgb(frame, pixel_aspect)
    return picture if transform is None else transform(picture)


def resize(picture: np.ndarray, rows: int, columns: int, interpolation: str = "bilinear") -> np.ndarray:
    """A picture, uint8 `(height, width, 3)`, at another size."""
    from PIL import Image

    # Pillow rather than libswscale: it computes the same pixels on every processor, and it averages all the pixels that
    # it shrinks, so that large videos do not flicker.
    return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling[interpolation.upper()]))


def _shown_size(rows, columns, pixel_aspect):
    """`(rows, columns)` of a picture with square pixels: one side is longer, none is shorter."""
    return round(rows * max(1 / pixel_aspect, 1)), round(columns * max(pixel_aspect, 1))
