"""Frames of a video whose packets tell where they lie: only what is asked for is decoded."""

import dataclasses
import os
from collections.abc import Collection, Iterator

from keras_video_focalnet.data.damage import Damage
from keras_video_focalnet.data.held_frames import HeldFrames
from keras_video_focalnet.data.in_order import in_parts
from keras_video_focalnet.data.sampling import choose_indices
from keras_video_focalnet.data.video import OpenVideo, no_frames_error, picture_of
from keras_video_focalnet.data.video_index import VideoIndex

# Codecs whose decoder knows which frames no other frame is predicted from, and can leave them out.
CODECS_WITH_SKIPPING = {"h264", "mpeg4"}
# MPEG-4 encoders name themselves in their first packet alone, and decoders imitate the errors of each.
CODECS_WITH_PREAMBLE = {"mpeg4"}
# FFmpeg's flag AV_CODEC_FLAG_LOW_DELAY.
LOW_DELAY = 1 << 19


class InexactError(Exception):
    """What was decoded from a key frame on may differ from what decoding everything gives."""


@dataclasses.dataclass
class _Place:
    """How far an `IndexedDecoder` has come.

    Attributes:
        packets: Iterator of the packets that follow.
        first: Position of the packet that decoding began with.
        first_time: Its presentation time.
        next: Position of the first packet that has not been decoded.
        awaited: Dict from the positions of packets whose frames are yet to come to their times.
        latest: Time of the frame that came last.
        last: That frame, of codecs whose packets come in the order of display.
    """

    packets: Iterator
    first: int
    first_time: int
    next: int
    awaited: dict[int, int] = dataclasses.field(default_factory=dict)
    latest: int | None = None
    last: object = None


class IndexedDecoder:
    """Decodes the frames that are asked for, each from a key frame before it or from where it stopped.

    Args:
        video: An open file, of which nothing has been decoded; `close` closes it.
        index: `VideoIndex` of it.
    """

    def __init__(self, video: OpenVideo, index: VideoIndex):
        # Threads do not decode frames side by side: with so few to decode they gain little, and FFmpeg's VP9 decoder
        # crashes if a damaged frame is among them.
        video.stream.thread_type = "SLICE"
        if video.in_order:
            # The decoder of AV1 knows no such type: so it gives each frame, or the error, with its packet.
            video.stream.codec_context.flags |= LOW_DELAY
        codec = video.stream.codec_context.codec.canonical_name
        if codec == "h264":
            # Threads that decode the slices of a frame side by side do not tell of damage.
            video.stream.thread_count = 1
        self.index = index
        self.pixel_aspect = video.pixel_aspect
        self._video = video
        self._can_skip = codec in CODECS_WITH_SKIPPING
        self._needs_preamble = codec in CODECS_WITH_PREAMBLE
        self._damage = Damage()
        self._place = None
        # The stretch of positions that the last call decoded, None if it was too long to be held.
        self._recent = None

    def close(self) -> None:
        """Close the file."""
        # The packets still to come refer to this decoder: without this only the garbage collector ends its threads.
        self._place = None
        self._video.close()

    def decode(self, times: Collection[int], window: int = 0) -> Iterator[tuple[int, object]]:
        """Decode some frames.

        Frames that no other is predicted from, and that are not wanted, are left out where the codec says which those
        are. Where calls slide over the video none is left out, for the next call may want it.
        """
        import av

        positions = {self.index.times[time] for time in times}
        first, last, recent, self._recent = min(positions), max(positions), self._recent, None
        runs = self.index.runs(positions)
        small = last - first < window
        sliding = small and recent is not None and recent[0] <= last and self.index.restarts[runs[0][0]] <= recent[1]
        if sliding:
            runs = [(runs[0][0], last, positions)]
        # The run that goes on from the last one comes first, lest another one seek away from it.
        runs.sort(key=lambda run: not self._reaches(run[0], run[2]))
        if self._needs_preamble and runs[0][0] != 0:
            runs.insert(0, (0, 0, set()))
        try:
            for run in runs:
                yield from self._decode_run(*run, self._can_skip and not sliding, bool(window) and run is runs[-1])
        except av.error.FFmpegError as error:
            raise InexactError from error
        self._damage.tell(self._video.path)
        self._needs_preamble = False
        if small:
            self._recent = first, self._place.next if self._place else last

    def _reaches(self, restart, wanted):
        """Whether all wanted frames of a run come if decoding goes on, and no sooner if it begins at the restart."""
        place = self._place
        return (
            place is not None
            and place.first <= self.index.restarts[restart] <= place.next
            and all(position >= place.next or position in place.awaited for position in wanted)
        )

    def _decode_run(self, restart, last, wanted, skipping, resumable):
        """The frames of one run; whatever is decoded on the way is checked."""
        context, order, place = self._video.stream.codec_context, self.index.decoding_order, self._place
        missing = set(wanted)
        latest = max((order[position] for position in wanted), default=0)
        if not self._reaches(restart, wanted):
            begin = self.index.restarts[restart]
            place = _Place(self._packets(restart), begin, order[begin], begin)
        # Should this stop halfway, the next call begins anew.
        self._place, emptied = None, False
        while not emptied and (missing or place.next <= last):
            position, packet = next(place.packets, (None, None))
            if packet is None:
                frames, emptied = self._video.decode(None), True
            else:
                place.next = position + 1
                needed = not skipping or position in wanted or position == place.first
                # A call that goes on from here wants what is shown next.
                needed = needed or resumable and (position > last or packet.pts > latest)
                # What is shown before the key frame may need what lies before it, and is not wanted.
                if needed and not packet.is_discard and packet.pts >= place.first_time:
                    place.awaited[position] = packet.pts
                context.skip_frame = "DEFAULT" if needed else "NONREF"
                frames = self._frames_from(packet, place)
                if not frames and self._video.in_order and not packet.is_discard:
                    yield packet.pts, self._stand_in(position, place)
                    missing.discard(position)
                if position == last and not resumable:
                    frames, emptied = frames + self._video.decode(None), True
            for frame in frames:
                position = self._checked(frame, place)
                missing.discard(position)
                if frame.pts >= place.first_time:
                    yield frame.pts, frame
        if missing or emptied and place.awaited:
            raise InexactError
        if not emptied:
            self._place = place

    def _frames_from(self, packet, place):
        """The frames that come with a packet; none where it fails and the frame before may stand for it, or where it is
        shown before the key frame and lacks what lies before that.
        """
        import av

        self._damage.packets += 1
        try:
            return self._video.decode(packet)
        except av.error.FFmpegError:
            if not self._video.in_order and packet.pts >= place.first_time:
                raise
            return []

    def _stand_in(self, position, place):
        """The frame that is shown in place of one that did not come with its packet, as `InOrder` has it."""
        if place.last is None:
            raise InexactError
        self._damage.lost += 1
        place.latest = place.awaited.pop(position)
        return place.last

    def _checked(self, frame, place):
        """The position of the packet that a frame came of, if it is the frame that must come next."""
        position = self.index.times.get(frame.pts)
        # The two fields of an interlaced frame may be packets of their own.
        if position is None or frame.is_corrupt or frame.interlaced_frame:
            raise InexactError
        if position == place.first and not frame.key_frame:
            raise InexactError
        place.awaited.pop(position, None)
        if place.latest is not None and frame.pts <= place.latest:
            raise InexactError
        if any(time < frame.pts for time in place.awaited.values()):
            raise InexactError
        place.latest = frame.pts
        place.last = frame if self._video.in_order else None
        return position

    def _packets(self, restart):
        """`(position, packet)` from a restart on, each where the index has it."""
        index = self.index
        first, position = index.restarts[restart], None
        self._video.container.seek(index.seek_times[restart], stream=self._video.stream)
        for packet in self._video.packets():
            if position == len(index.sizes) - 1:
                return
            found = None if packet is None else index.times.get(packet.pts)
            if found is None or packet.size != index.sizes[found]:
                raise InexactError
            if found > first if position is None else found != position + 1:
                raise InexactError
            position = found
            if position >= first:
                yield position, packet


class IndexedFrames:
    """Pictures of a video that is decoded by its index.

    Args:
        path: Video file, for messages.
        decoder: `IndexedDecoder` of it; `close` closes it.
        cache_frames: How many decoded frames are held for later reads.
    """

    def __init__(self, path: str | os.PathLike, decoder: IndexedDecoder, cache_frames: int):
        self.held = HeldFrames(cache_frames)
        self._path = path
        self._decoder = decoder

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()
        self.held.clear()

    def times(self) -> list[float]:
        """Seconds of all frames."""
        return self._decoder.index.shown_seconds

    def in_parts(self) -> bool:
        """As `parts_follow` has it, known without reading packets again."""
        return in_parts(self._decoder.index.decoding_order, self._decoder.index.restarts)

    def pictures(self, indices, transform, start: float | None, end: float | None) -> list:
        """The pictures of some frames between two times."""
        shown = self._decoder.index.shown_between(start, end)
        if not shown:
            raise no_frames_error(self._path, self.times(), start, end)
        times = [shown[number] for number in choose_indices(indices, len(shown), self._path)]
        wanted, last = set(times), max(times)
        pictures = {
            time: picture_of(self.held[time], transform, self._decoder.pixel_aspect)
            for time in wanted
            if time in self.held
        }
        missing = wanted - pictures.keys()
        for time, frame in self._decoder.decode(missing, self.held.limit) if missing else ():
            if time in missing:
                pictures[time] = picture_of(frame, transform, self._decoder.pixel_aspect)
            self.held.add(time, frame, wanted, last)
        return [pictures[time] for time in times]
