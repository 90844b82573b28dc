"""Where the frames of a video lie, learnt without decoding, so that a few of them can be decoded alone.

Reading all packets without decoding them takes a few hundredths of the time of decoding them. What they tell is used
only where the frames that come of it are those that decoding everything gives; anything unusual means that everything
is decoded.
"""

import bisect
import dataclasses
import functools
import heapq
import itertools
from collections.abc import Iterable
from fractions import Fraction

from keras_video_focalnet.data.mpeg4 import display_order, frame_kind
from keras_video_focalnet.data.nal_units import is_random_access
from keras_video_focalnet.data.parameter_sets import PictureOrder
from keras_video_focalnet.data.video import TIME_TOLERANCE, OpenVideo
from keras_video_focalnet.data.video_file import memory_limit

# Codecs of which every packet holds one frame to be shown, and whose decoders depend on nothing before a key frame.
CODECS = {"h264", "hevc", "mpeg4", "vp9", "av1"}
# Containers that hold the times at which frames are shown. AVI does not; for MPEG-4 they follow from its packets.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv"}
# Codecs whose decoders refuse a packet for its headers alone, with FFmpeg's filters that read those and fail where a
# decoder would. The decoders of the other codecs refuse packets for more than their headers.
HEADER_READERS = {"h264": "h264_metadata", "hevc": "hevc_metadata"}
# A filter that does the same in half the time, and logs what it reads.
FAST_HEADER_READER = "trace_headers"
# How many frames may lie between a packet's places in the order of decoding and in that of display.
FURTHEST_REORDERED = 16
# How many frames a decoder may hold back for the sake of order where it does not say.
MOST_REORDERED = 4
# And one of H.264 where it says that it is fewer: not all encoders tell.
H264_REORDERED = 2
# Bytes that the index holds for a packet.
BYTES_PER_ENTRY = 250


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """The packets of a video stream, by their position in the order of decoding.

    A presentation time, in units of the stream's time base, names a packet and the frame in it.
    """

    times: dict[int, int]  # From the presentation time of each packet to its position, in the order of positions.
    sizes: list[int]  # Bytes of each packet.
    shown: list[int]  # Presentation times of the frames that are shown, ascending.
    restarts: list[int]  # Ascending positions at which decoding can begin.
    seek_times: list[int]  # For each of `restarts`, a time that a container finds it by.
    time_base: Fraction = Fraction(1)  # Seconds in a unit of time.
    origin: float | None = None  # Seconds at which the video begins; None: with the first frame that is shown.

    @functools.cached_property
    def decoding_order(self) -> list[int]:
        """The presentation times of the packets by position."""
        return list(self.times)

    @functools.cached_property
    def shown_seconds(self) -> list[float]:
        """Seconds from the beginning of the video of every frame that is shown."""
        return [self.seconds(time) for time in self.shown]

    def seconds(self, time: int) -> float:
        """Seconds from the beginning of the video to a presentation time."""
        base = self.time_base
        origin = float(self.shown[0]) * base.numerator / base.denominator if self.origin is None else self.origin
        return float(time) * base.numerator / base.denominator - origin

    def shown_between(self, start: float | None, end: float | None) -> list[int]:
        """Presentation times of the frames that are shown with `start <= seconds < end`; None leaves a side open."""
        first, last = (
            default if bound is None else bisect.bisect_left(self.shown, bound - TIME_TOLERANCE, key=self.seconds)
            for bound, default in ((start, 0), (end, None))
        )
        return self.shown[first:last]

    def runs(self, positions: Iterable[int]) -> list[tuple[int, int, set[int]]]:
        """What must be decoded for the packets at some positions: `(restart, last, wanted)`, ascending and apart.

        Decoding begins at the restart of that number and ends with the packet at `last`; `wanted` are the positions
        between.
        """
        times, runs = self.decoding_order, []
        for position in sorted(positions):
            restart = bisect.bisect_right(self.restarts, position) - 1
            # A frame shown before the key frame that precedes it in the file is predicted from what lies before that.
            while times[self.restarts[restart]] > times[position]:
                restart -= 1
            wanted, last = {position}, position
            while runs and self.restarts[restart] <= runs[-1][1] + 1:
                earlier, _, others = runs.pop()
                restart, wanted = min(restart, earlier), wanted | others
            runs.append((restart, last, wanted))
        return runs


def index_video(video: OpenVideo) -> VideoIndex | None:
    """Read every packet of a stream of an open file, at its beginning.

    It gives None where frames cannot be told apart or counted without decoding: packets without times, with equal ones
    or with others than their headers tell, damaged packets, packets whose headers cannot be read or that do not hold
    one frame, frames shown before the first key frame, codecs and containers other than those above, more packets than
    the file's size gives memory for.
    """
    context = video.stream.codec_context
    codec, container = context.codec.canonical_name, video.container.format.name
    timed = container in TIMED_CONTAINERS or (container, codec) == ("avi", "mpeg4")
    if codec not in CODECS or not timed:
        return None
    headers_are_read, most = _header_reader(video), memory_limit(video.data.size) // BYTES_PER_ENTRY
    times, sizes, discarded, restarts, seek_times, places = {}, [], set(), [], [], []
    place_of = frame_kind if codec == "mpeg4" else lambda packet: len(places)
    if codec in HEADER_READERS:
        place_of = PictureOrder(codec, context.extradata).read
    for position, packet in enumerate(video.packets()):
        if packet is None or position > most:
            return None
        time = packet.pts
        if time is None and packet.size == 0:
            break
        if time is None or time in times or packet.size == 0 or packet.is_corrupt:
            return None
        # From here on the decoder is set up otherwise, which a container says but once.
        if packet.is_keyframe and packet.has_sidedata("new_extradata"):
            return None
        times[time] = position
        sizes.append(packet.size)
        if packet.is_discard:
            discarded.add(time)
        if packet.is_keyframe and (codec != "h264" or is_random_access(packet, context.extradata)):
            restarts.append(position)
            # Containers seek by either time; the earlier never leads too far.
            seek_times.append(time if packet.dts is None else min(time, packet.dts))
        places.append(place_of(packet))
        if places[-1] is None or not headers_are_read(packet):
            return None
    order = sorted(times)
    if not restarts or restarts[0] != 0 or times[order[0]] != 0:
        return None
    # Decoders give frames in their own order, whatever the times say: that of these codecs is in their headers.
    places = display_order(places) if codec == "mpeg4" else places
    shown_places = [places[times[time]] for time in order]
    if (codec == "mpeg4" or codec in HEADER_READERS) and any(
        later <= place for place, later in itertools.pairwise(shown_places)
    ):
        return None
    held_back = _held_back(video)
    furthest = FURTHEST_REORDERED if held_back else 0
    if any(abs(rank - times[time]) > furthest for rank, time in enumerate(order)) or _is_disordered(times, held_back):
        return None
    shown = [time for time in order if time not in discarded] if discarded else order
    if not shown:
        return None
    return VideoIndex(times, sizes, shown, restarts, seek_times, video.stream.time_base, video.origin)


def _held_back(video):
    """How many frames a decoder holds back at most for the sake of order."""
    context = video.stream.codec_context
    if video.in_order or not context.has_b_frames:
        told = 0
    else:
        told = getattr(context, "reorder_depth", MOST_REORDERED)
    return max(told, H264_REORDERED) if context.codec.canonical_name == "h264" else told


def _is_disordered(times, held_back):
    """Whether some packet follows more than `held_back` packets of later times."""
    latest = []
    for time in times:
        heapq.heappush(latest, time)
        if len(latest) > held_back + 1 and heapq.heappop(latest) == time:
            return True
    return False


def _header_reader(video):
    """A function that tells whether the headers of a packet can be read; it empties the packet."""
    import av

    name = HEADER_READERS.get(video.stream.codec_context.codec.canonical_name)
    if name is None:
        return lambda packet: True
    if (av.logging.get_level() or 0) < av.logging.INFO:
        name = FAST_HEADER_READER
    try:
        reader = av.bitstream.BitStreamFilterContext(name, video.stream)
    except av.error.FFmpegError:
        return lambda packet: False

    def read(packet):
        try:
            return len(reader.filter(packet)) == 1
        except av.error.FFmpegError:
            return False

    return read
