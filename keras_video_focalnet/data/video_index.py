"""Where the frames of a video lie, learnt without decoding, so that a few of them can be decoded alone.

Reading all packets without decoding them takes a few hundredths of the time of decoding them. What they tell is used
only where the frames that come of it are those that decoding everything gives; anything unusual means that everything
is decoded.
"""

import bisect
import dataclasses

from keras_video_focalnet.data.video import TIME_TOLERANCE, is_indexed, read_packets

# Codecs of which every packet holds one frame to be shown, and whose decoders depend on nothing before a key frame.
CODECS = {"h264", "hevc", "mpeg4", "vp9", "av1"}
# Containers that hold the times at which frames are shown. AVI does not; for MPEG-4 they follow from its packets.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv"}
# Of the codecs, those whose decoder knows which frames no other frame is predicted from, and can leave them out.
CODECS_WITH_SKIPPING = {"h264", "mpeg4"}
# Of those, the ones whose packets come in the order of display.
CODECS_IN_ORDER = {"vp9", "av1"}
# How many frames a decoder of the others holds back at most for the sake of order.
FURTHEST_REORDERED = 16
# MPEG-4 encoders name themselves in their first packet alone, and decoders imitate the errors of each.
CODECS_WITH_PREAMBLE = {"mpeg4"}
# An MPEG-4 packet may hold two frames, or none but a note that a frame was dropped, in fewer bytes than any frame.
MPEG4_FRAME = b"\0\0\1\xb6"
MPEG4_SMALLEST = 16


class InexactError(Exception):
    """What was decoded from a key frame on may differ from what decoding everything gives."""


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """The packets of a video stream, by their position in the order of decoding.

    Attributes:
        times: Dict from the presentation time of each packet, in units of the stream's time base, to its position, in
            the order of positions.
        sizes: Bytes of each packet.
        shown: Positions of the packets whose frames are shown, in the order of display.
        restarts: Ascending positions at which decoding can begin.
        seek_times: For each of `restarts`, a time that a container finds it by.
    """

    times: dict
    sizes: list
    shown: list
    restarts: list
    seek_times: list

    def runs(self, positions):
        """What must be decoded for some packets.

        Args:
            positions: Positions of wanted packets.

        Returns:
            List of `(restart, last, wanted)`, ascending and apart: decoding begins at the restart of that number and
            ends with the packet at `last`; `wanted` is the set of those of `positions` between.
        """
        times, runs = list(self.times), []
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


def index_video(container, stream):
    """Read every packet of a stream.

    Args:
        container: Container of PyAV, at its beginning.
        stream: Its video stream.

    Returns:
        `VideoIndex`, or None where frames cannot be told apart or counted without decoding: packets without times or
        with equal ones, damaged packets, packets that do not hold one frame, frames shown before the first key frame,
        codecs and containers other than those above.
    """
    context = stream.codec_context
    codec = context.codec.canonical_name
    timed = container.format.name in TIMED_CONTAINERS or (container.format.name, codec) == ("avi", "mpeg4")
    if codec not in CODECS or not timed:
        return None
    times, sizes, discarded, restarts, seek_times = {}, [], set(), [], []
    for position, packet in enumerate(read_packets(container, stream)):
        if packet is None:
            return None
        time = packet.pts
        if time is None and packet.size == 0:
            break
        if time is None or time in times or packet.size == 0 or packet.is_corrupt:
            return None
        if codec == "mpeg4" and not _holds_one_frame(packet):
            return None
        # From here on the decoder is set up otherwise, which a container says but once.
        if packet.is_keyframe and packet.has_sidedata("new_extradata"):
            return None
        times[time] = position
        sizes.append(packet.size)
        if packet.is_discard:
            discarded.add(position)
        if packet.is_keyframe and (codec != "h264" or _is_random_access(packet, context.extradata)):
            restarts.append(position)
            # Containers seek by either time; the earlier never leads too far.
            seek_times.append(time if packet.dts is None else min(time, packet.dts))
    order = sorted(times)
    if not restarts or restarts[0] != 0 or times[order[0]] != 0:
        return None
    # Decoders give frames in their own order, whatever the times say; a wrong time lies farther off than that.
    furthest = 0 if codec in CODECS_IN_ORDER else FURTHEST_REORDERED
    if any(abs(rank - times[time]) > furthest for rank, time in enumerate(order)):
        return None
    shown = [times[time] for time in order if times[time] not in discarded]
    return VideoIndex(times, sizes, shown, restarts, seek_times)


def shown_between(container, stream, index, start, end):
    """The packets whose frames are shown with `start <= time < end`, as `iterate_frames` measures time.

    Args:
        container: Container of PyAV.
        stream: Its video stream.
        index: `VideoIndex` of it.
        start: Seconds from the beginning of the video, or None.
        end: Seconds from the beginning of the video, or None.

    Returns:
        List of positions in the order of display.
    """
    times, base = list(index.times), stream.time_base

    def seconds(position):
        return float(times[position]) * base.numerator / base.denominator

    if is_indexed(container, stream):
        origin = float(stream.start_time * base)
    else:
        origin = seconds(index.shown[0]) if index.shown else 0.0
    first, last = (
        default
        if bound is None
        else bisect.bisect_left(index.shown, bound - TIME_TOLERANCE, key=lambda position: seconds(position) - origin)
        for bound, default in ((start, 0), (end, None))
    )
    return index.shown[first:last]


def decode_packets(container, stream, index, positions):
    """The frames of some packets, each decoded from a key frame before it.

    Frames that no other is predicted from, and that are not wanted, are left out where the codec says which those are.

    Args:
        container: Container of PyAV.
        stream: Its video stream.
        index: `VideoIndex` of it.
        positions: Positions of packets.

    Yields:
        `(position, av.VideoFrame)`, in no particular order.

    Raises:
        InexactError: A frame does not come, or is not certain to be the one that decoding everything gives.
    """
    import av

    runs = index.runs(positions)
    if stream.codec_context.codec.canonical_name in CODECS_WITH_PREAMBLE and runs[0][0] != 0:
        runs = [(0, 0, set()), *runs]
    try:
        for run in runs:
            yield from _decode_run(container, stream, index, *run)
    except av.error.FFmpegError as error:
        raise InexactError from error


def _decode_run(container, stream, index, restart, last, wanted):
    """The wanted frames of one run; whatever is decoded on the way is checked."""
    context = stream.codec_context
    skipping = context.codec.canonical_name in CODECS_WITH_SKIPPING
    first = index.restarts[restart]
    awaited, first_time, previous = set(wanted), None, None
    for position, packet in _packets(container, stream, index, restart):
        first_time = packet.pts if first_time is None else first_time
        needed = not skipping or position == first or position in wanted
        # What is shown before the key frame may need what lies before it, and is not wanted.
        if needed and not packet.is_discard and packet.pts >= first_time:
            awaited.add(position)
        context.skip_frame = "DEFAULT" if needed else "NONREF"
        frames = context.decode(packet)
        if position == last:
            # What the decoder holds back for the sake of order.
            frames += context.decode(None)
        for frame in frames:
            shown = index.times.get(frame.pts)
            # The two fields of an interlaced frame may be packets of their own.
            if shown is None or frame.is_corrupt or frame.interlaced_frame or shown == first and not frame.key_frame:
                raise InexactError
            if previous is not None and frame.pts <= previous:
                raise InexactError
            previous = frame.pts
            awaited.discard(shown)
            if shown in wanted:
                yield shown, frame
        if position == last:
            break
    if awaited:
        raise InexactError


def _packets(container, stream, index, restart):
    """`(position, packet)` from a restart on, each where the index has it."""
    first, position = index.restarts[restart], None
    container.seek(index.seek_times[restart], stream=stream)
    for packet in read_packets(container, stream):
        found = None if packet is None else index.times.get(packet.pts)
        if found is None or packet.size != index.sizes[found]:
            raise InexactError
        if found > first if position is None else found != position + 1:
            raise InexactError
        position = found
        if position >= first:
            yield position, packet


def _holds_one_frame(packet):
    """Whether an MPEG-4 packet holds neither two frames nor none."""
    return packet.size >= MPEG4_SMALLEST and bytes(packet).count(MPEG4_FRAME) == 1


def _is_random_access(packet, extradata):
    """Whether an H.264 packet begins with what no earlier packet is needed for.

    That is an IDR picture, or a recovery point (ITU-T H.264, D.2.8) from which the very first picture is right. Others
    are called key frames too: with intra refresh the picture builds up over many frames.
    """
    for unit in _nal_units(bytes(packet), extradata):
        kind = unit[0] & 31
        if kind == 5:
            return True
        if kind == 1:
            return False
        if kind == 6 and _recovers_at_once(unit.replace(b"\0\0\3", b"\0\0")):
            return True
    return False


def _nal_units(data, extradata):
    """The units of a packet, which begin with their length (MP4, Matroska) or follow a start code."""
    if not extradata or extradata[0] != 1:
        yield from filter(None, data.split(b"\0\0\1")[1:])
        return
    width, place = (extradata[4] & 3) + 1, 0
    while place + width < len(data):
        length = int.from_bytes(data[place : place + width], "big")
        place += width + length
        if length:
            yield data[place - length : place]


def _recovers_at_once(unit):
    """Whether supplemental information holds a recovery point with a recovery_frame_cnt of 0."""
    place = 1
    try:
        while True:
            kind, place = _summed(unit, place)
            size, place = _summed(unit, place)
            if kind == 6:
                # As an Exp-Golomb code 0 is a single set bit.
                return unit[place] >= 128
            place += size
    except IndexError:
        return False


def _summed(unit, place):
    """A number written as bytes of 255 and a last one that is less, and the place behind it."""
    end = place
    while unit[end] == 255:
        end += 1
    return 255 * (end - place) + unit[end], end + 1
