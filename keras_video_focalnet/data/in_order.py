"""Decode a video in order: the frames between two times."""

import contextlib
import itertools
import math
import typing
from collections.abc import Callable, Iterator, Sequence

from keras_video_focalnet.data.damage import AnchorsLater, Damage, DamageMetError, InOrder, Withheld
from keras_video_focalnet.data.nal_units import is_disposable, is_idr
from keras_video_focalnet.data.video import DEFAULT_RATE, SEEK_MARGIN, TIME_TOLERANCE, OpenVideo, check_window
from keras_video_focalnet.data.video_file import memory_limit, warn_once

if typing.TYPE_CHECKING:
    import av

# A video is given up after as many packets in a row of which no frame comes: minutes of it.
MOST_WITHOUT_FRAME = 20_000
# Bytes that are held for the time of a packet.
BYTES_PER_TIME = 100
# Codecs of which each packet that can be decoded gives a frame, though not in their order.
CODECS_OF_A_FRAME_EACH = {"h264", "hevc", "mpeg4"}
# Each picture of an animation is painted whole, however few bytes it has: that takes some seconds.
ANIMATIONS = {"gif", "apng", "webp"}
MOST_PAINTED = 20_000_000_000


def parts_follow(open_file: Callable[[], OpenVideo]) -> bool:
    """Whether each part of a file that begins with a key frame is shown after all that lies before it, so that decoding
    can begin there. All packets are read for it and none is decoded.
    """
    times, begins = [], []
    with contextlib.closing(open_file()) as video:
        most = memory_limit(video.data.size) // BYTES_PER_TIME
        for packet in video.packets():
            if packet is not None and packet.size == 0 and packet.pts is None:
                break
            if packet is None or packet.pts is None or len(times) > most:
                return False
            if packet.is_keyframe:
                begins.append(len(times))
            times.append(packet.pts)
    return in_parts(times, begins)


def in_parts(times: Sequence[int], begins: Sequence[int]) -> bool:
    """Whether, of packets with some times, each part that begins at one of `begins` has later ones than all before."""
    latest = list(itertools.accumulate(times, max))
    earliest = list(itertools.accumulate(reversed(times), min))[::-1]
    return all(latest[place - 1] < earliest[place] for place in begins if place)


def iterate_frames(
    open_file: Callable[[], OpenVideo],
    start: float | None = None,
    end: float | None = None,
    may_seek: Callable[[], bool] | None = None,
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """Every decodable frame between two times, in the order of display, with its seconds, which never go back.

    Damaged packets are passed over, as players do. Frames before `start` are skipped by seeking where the container
    allows it and `may_seek`, `parts_follow` where None, says that what comes out is the same. The file that `open_file`
    opens is closed at the end.

    Where damage is met, decoding begins anew at the beginning in one thread and goes on from where it was: what threads
    make of damage depends on which is faster, and what comes after it on where decoding began.
    """
    check_window(start, end)
    given = 0
    attempts = [(None, False), (None, True)]
    if start and start > SEEK_MARGIN and (parts_follow(open_file) if may_seek is None else may_seek()):
        attempts.insert(0, (start - SEEK_MARGIN, False))
    for seek_to, lenient in attempts:
        frames = _window(open_file, start, end, seek_to, lenient)
        with contextlib.closing(frames), contextlib.suppress(DamageMetError):
            for item in itertools.islice(frames, given, None):
                given += 1
                yield item
            return


def _window(open_file, start, end, seek_to, lenient):
    """`(seconds, frame)` between two times, decoded from the key frame before `seek_to` on, or from the beginning."""
    video, damage, reached = open_file(), Damage(), seek_to is None
    with contextlib.closing(video):
        if lenient:
            video.pass_over_damage()
        if seek_to is not None:
            _seek(video, seek_to)
        try:
            for seconds, frame in _timed(video, damage, open_file if lenient else None):
                if not reached and (seconds > seek_to or frame.time is None):
                    raise DamageMetError
                reached = True
                if end is not None and seconds >= end - TIME_TOLERANCE:
                    return
                if start is None or seconds >= start - TIME_TOLERANCE:
                    yield seconds, frame
            if not reached:
                raise DamageMetError
        finally:
            if lenient or not damage.count:
                damage.tell(video.path)


def _seek(video, seconds):
    """Go to the key frame before a time, or raise a `DamageMetError` where the file cannot be sought."""
    import av

    if video.origin is None:
        raise DamageMetError
    try:
        video.container.seek(video.stream.start_time + int(seconds / video.stream.time_base), stream=video.stream)
    except av.error.FFmpegError as error:
        raise DamageMetError from error


def _timed(video, damage, reopen):
    """`(seconds, frame)` of all that is shown from here on."""
    origin, base, seconds = video.origin, video.stream.time_base, None
    for time, frame in _shown(video, damage, reopen):
        if frame.interlaced_frame:
            warn_once(str(video.path), "is interlaced: a frame shows both of its fields, half a frame apart.")
        if time is None:
            # Raw streams carry no times.
            seconds = 0.0 if seconds is None else seconds + 1 / (video.header.rate or DEFAULT_RATE)
        else:
            time = float(time) * base.numerator / base.denominator
            origin = time if origin is None else origin
            seconds = time - origin if seconds is None else max(seconds, time - origin)
        yield seconds, frame


def _shown(video, damage, reopen):
    """The presentation time, or None, and the frame of all that a decoder shows from here on.

    Damage raises a `DamageMetError` unless `reopen` opens the file anew. A decoder that met damage may decode what is
    sound in another way. So each packet that nothing after it looks back beyond goes to a new one, and damaged packets
    that nothing is predicted from go to none: a second decoder tries them, and the frame before is shown instead.
    """
    codec, withheld = video.stream.codec_context, Withheld()
    name, latest, latest_shown = codec.codec.canonical_name, -math.inf, -math.inf
    shown = InOrder() if video.in_order else AnchorsLater() if name == "mpeg4" else None
    with contextlib.ExitStack() as opened:
        decoder, scout, met, without_frame = video, None, 0, 0
        without_time, shown_without_time, is_interlaced = 0, 0, False
        for packet in video.packets():
            frames, full = [], packet is not None and packet.size > 0
            damage.packets += full
            if without_frame > MOST_WITHOUT_FRAME:
                damage.broken_off = True
                break
            _check_painted(video, damage.packets)
            damage.broken_off |= packet is None
            if reopen and full and (scout is None or is_idr(packet, name, codec.extradata)):
                if scout is not None:
                    frames += _decoded(decoder, None, damage, reopen)[0]
                    decoder.stream.codec_context.flush_buffers()
                if scout is None or damage.count > met:
                    opened.close()
                    decoder, scout = (opened.enter_context(contextlib.closing(reopen())) for _ in range(2))
                    decoder.pass_over_damage()
                    scout.stream.thread_count = 1
                    met = damage.count
            if reopen and full and name == "h264" and _fails(scout, packet) and is_disposable(packet, codec.extradata):
                if _is_shown(packet):
                    withheld.add(packet.pts)
                    damage.lost += 1
            else:
                given, refused = _decoded(decoder, packet, damage, reopen)
                frames += given
                if refused and full and (shown is None or packet.pts is None):
                    damage.lost += 1
                    if name in CODECS_OF_A_FRAME_EACH and _is_shown(packet):
                        withheld.add(packet.pts)
            without_frame = 0 if frames else without_frame + 1
            if shown is None:
                items = withheld.fill([(frame.pts, frame) for frame in frames], not full)
            else:
                items = shown.add(packet if full else None, frames)
                damage.lost += sum(time != frame.pts for time, frame in items)
            if damage.count and not reopen:
                raise DamageMetError
            yield from items
            if full and _is_shown(packet):
                latest = max(latest, packet.pts)
            latest_shown = max([latest_shown, *(time for time, _ in items if time is not None)])
            # The two fields of an interlaced frame may be packets of their own.
            is_interlaced |= any(frame.interlaced_frame for frame in frames)
            without_time += full and packet.pts is None
            shown_without_time += sum(time is None for time, _ in items)
    # Threads say nothing of damage to the last packets, but that they give no frame.
    is_missing = name in CODECS_OF_A_FRAME_EACH and not is_interlaced and shown_without_time < without_time
    if (is_missing or latest_shown < latest) and not reopen and video.stream.thread_count != 1:
        raise DamageMetError


def _is_shown(packet):
    """Whether a packet says when its frame is shown, and that it is."""
    return packet.pts is not None and not packet.is_discard


def _check_painted(video, pictures):
    """Raise where an animation has more pictures than can be painted in reasonable time."""
    codec = video.stream.codec_context
    if codec.name in ANIMATIONS and pictures * codec.width * codec.height > MOST_PAINTED:
        raise ValueError(
            f"{video.path} is an animation of more than {pictures - 1} pictures of {codec.width} x {codec.height} "
            "pixels; convert it to a video, such as MP4, with FFmpeg."
        )


def _fails(video, packet):
    """Whether a decoder that stops at damage refuses a packet."""
    import av

    try:
        video.decode(packet)
    except av.error.FFmpegError:
        return True
    return False


def _decoded(video, packet, damage, lenient):
    """The frames that come of a packet, None for the end, and whether the decoder refuses it."""
    import av

    try:
        frames = video.decode(packet)
    except av.error.FFmpegError as error:
        if not lenient:
            raise DamageMetError from error
        return [], True
    damage.marked += sum(frame.is_corrupt for frame in frames)
    return frames, False
