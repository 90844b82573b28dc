"""Damage that a video is read in spite of: how much was lost, told once for each file."""

import bisect
import collections
import contextlib
import dataclasses
import functools
import typing
import warnings
from collections.abc import Iterator

from keras_video_focalnet.data.mpeg4 import BOTH_SIDES, frame_kind

if typing.TYPE_CHECKING:
    import av

    from keras_video_focalnet.data.video_file import VideoPath


class DamageMetError(Exception):
    """Damage was met by threads that decode frames side by side, which do not always make the same of it."""


@dataclasses.dataclass
class Damage:
    """What was met while a video was decoded.

    Attributes:
        packets: How many packets were decoded.
        lost: Packets that the decoder refused, so that their frames are missing or the frame before stands for them.
        marked: Frames that the decoder marks as damaged.
        broken_off: Whether the packets end in an error.
    """

    packets: int = 0
    lost: int = 0
    marked: int = 0
    broken_off: bool = False

    @property
    def count(self) -> int:
        """How many packets and frames were lost or marked."""
        return self.lost + self.marked

    def tell(self, path: "VideoPath") -> None:
        """Warn of what was met, if anything, once a process for each file."""
        told = _told(str(path))
        if not self.count and not self.broken_off or told:
            return
        parts = [f"{self.lost} give no frame"] * bool(self.lost)
        parts += [f"{self.marked} frames show errors"] * bool(self.marked)
        parts += ["the rest cannot be read"] * self.broken_off
        told.append(f"is damaged: of {self.packets} packets that were decoded {', '.join(parts)}.")
        warnings.warn(f"{path} {told[0]} Copy or download it again if you can.", stacklevel=3)


class InOrder:
    """What is shown of a codec whose packets come in the order of display, each with one frame: in place of one that
    the decoder does not give the frame before it stands, as players do, and at the beginning the first that comes.
    """

    def __init__(self):
        self._awaited = collections.deque()
        self._last = None

    def add(
        self, packet: "av.Packet | None", frames: list["av.VideoFrame"]
    ) -> list[tuple[int | None, "av.VideoFrame"]]:
        """The presentation times and frames that are shown after a packet, of which `frames` came; None is the end."""
        shown = []
        self._await(packet)
        for frame in frames:
            if not self._is_awaited(frame):
                shown += self._others(frame)
                continue
            while (time := self._awaited.popleft()) != frame.pts:
                shown.append((time, self._last or frame))
            shown.append((time, frame))
            self._last = frame
        if packet is None and self._last is not None:
            shown += [(time, self._last) for time in self._awaited]
            self._awaited.clear()
        return shown

    def _await(self, packet):
        """Await what is to be shown next, now that the decoder was given a packet."""
        if packet is not None and not packet.is_discard:
            self._awaited.append(packet.pts)

    def _is_awaited(self, frame):
        return frame.pts in self._awaited

    def _others(self, frame):
        """What is shown of a frame that was not awaited."""
        return []


class AnchorsLater(InOrder):
    """The same of MPEG-4, whose decoder leaves out damaged frames without a word.

    A frame that is predicted from both sides is shown at once, any other, an anchor, once the decoder has the next.
    Nothing is awaited of packets without times, or that hold no frame or two, nor before the second anchor.
    """

    def __init__(self):
        super().__init__()
        self._anchor = None
        self._anchors = 0

    def _await(self, packet):
        kind = None if packet is None or packet.pts is None else frame_kind(packet)
        if kind == BOTH_SIDES:
            if self._anchors > 1 and not packet.is_discard:
                self._awaited.append(packet.pts)
            return
        if kind is None and packet is not None:
            self._awaited.clear()
            self._anchor = None
            return
        if self._anchor is not None:
            self._awaited.append(self._anchor)
        self._anchors += packet is not None
        self._anchor = None if packet is None or packet.is_discard else packet.pts

    def _is_awaited(self, frame):
        if self._anchor is not None and frame.pts == self._anchor:
            # A decoder that knows that no frame is predicted from both sides holds none back.
            self._awaited.append(self._anchor)
            self._anchor = None
        return super()._is_awaited(frame)

    def _others(self, frame):
        self._last = frame
        return [(frame.pts, frame)]


class Withheld:
    """Presentation times of packets of which no frame comes, as no decoder was given them or as it refused them: the
    frame shown before each is shown in its place.
    """

    def __init__(self):
        self._times = []
        self._last = None

    def add(self, time: int) -> None:
        """Add a packet."""
        bisect.insort(self._times, time)

    def fill(self, items: list[tuple], end: bool) -> list[tuple]:
        """The presentation times and frames that are shown, of those that a decoder gave; `end` tells whether to show
        all that is left.
        """
        shown = []
        for time, frame in items:
            # Of some refused packets a frame comes after all.
            place = len(self._times) if time is None else bisect.bisect_left(self._times, time)
            if time is not None:
                shown += [(earlier, self._last or frame) for earlier in self._times[:place]]
                del self._times[: place + self._times[place : place + 1].count(time)]
            shown.append((time, frame))
            self._last = frame
        if end and self._last is not None:
            shown += [(time, self._last) for time in self._times]
            self._times.clear()
        return shown


def damage_told(path: "VideoPath") -> str | None:
    """What this process has warned of the damage of a file; None where it met none."""
    return next(iter(_told(str(path))), None)


@contextlib.contextmanager
def naming(path: "VideoPath") -> Iterator[None]:
    """Turn an error of FFmpeg into one that names the file and the remedy."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be decoded ({error.strerror or error}); it is damaged, or of a kind that this build of "
            "FFmpeg does not convert: copy or download it again, or convert it to H.264."
        ) from error


@functools.lru_cache(maxsize=4096)
def _told(path):
    """A list of what was told of a file: the same each time that it is asked for."""
    return []
