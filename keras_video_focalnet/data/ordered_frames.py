"""Frames of a video whose packets do not tell where they lie: it is decoded in order."""

import bisect
import math
import os
import sys
from collections.abc import Callable, Iterator

from keras_video_focalnet.data.held_frames import HeldFrames
from keras_video_focalnet.data.in_order import iterate_frames
from keras_video_focalnet.data.sampling import choose_indices
from keras_video_focalnet.data.video import (
    SEEK_MARGIN,
    TIME_TOLERANCE,
    OpenVideo,
    VideoHeader,
    detached,
    no_frames_error,
    picture_of,
)


class OrderedFrames:
    """Pictures of a video that is decoded in order, from the beginning or, where it can be sought, from a time.

    Args:
        path: Video file, for messages.
        open_file: Function that opens it; what it returns is closed in the end.
        header: `VideoHeader` of it.
        cache_frames: How many decoded frames are held for later reads.
        may_seek: Function that tells whether decoding may begin at a key frame, as `parts_follow` does.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        open_file: Callable[[], OpenVideo],
        header: VideoHeader,
        cache_frames: int,
        may_seek: Callable[[], bool],
    ):
        self.held = HeldFrames(cache_frames)
        self._path = path
        self._open_file = open_file
        self._header = header
        self._may_seek = may_seek
        self._decoder = None
        self._times = None

    def close(self) -> None:
        """Close the file."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        self.held.clear()

    def times(self) -> list[float]:
        """Seconds of all frames, from decoding everything once; empty where no frame can be decoded."""
        if self._times is None:
            self._decode((), None, None, None, to_end=True)
        return self._times

    def pictures(self, indices, transform, start: float | None, end: float | None) -> list:
        """The pictures of some frames between two times."""
        total = self._times and len(_between(self._times, start, end))
        if callable(indices):
            claimed = total or max(self._header.frames_between(start, end), 1)
            pictures, count = self._decode(indices(claimed), transform, start, end, to_end=not total)
            if not total and count not in (0, claimed):
                # What the container claimed was wrong; a second pass knows.
                pictures, total = self._decode(indices(count), transform, start, end, to_end=True)
                if total != count:
                    raise ValueError(f"{self._path} changed while it was read; read it again when it is complete.")
        else:
            pictures, count = self._decode(indices, transform, start, end, to_end=indices is None)
        if not count:
            raise no_frames_error(self._path, self.times(), start, end)
        return [pictures[number] for number in choose_indices(indices, total or count, self._path)]

    def _decode(self, wanted, transform, start, end, to_end):
        """Go on decoding in order, or begin anew where frames are wanted that are gone."""
        wanted = None if wanted is None else set(wanted)
        decoder = self._decoder_for(wanted, start, end)
        window = _between(decoder.times, start, end)
        pictures = {
            number: self._picture(self.held[window[number]], transform)
            for number in _numbers_below(len(window), wanted)
        }
        keys, last = (), 0
        while to_end or len(pictures) < len(wanted):
            if end is not None and decoder.times and decoder.times[-1] >= end - TIME_TOLERANCE:
                break
            key, frame = next(decoder, (None, None))
            if frame is None:
                break
            window = _between(decoder.times, start, end)
            number = key - window.start
            if key in window and (wanted is None or number in wanted):
                pictures[number] = self._picture(frame, transform)
            if window and not keys:
                keys = range(key, sys.maxsize) if wanted is None else {window.start + number for number in wanted}
                last = sys.maxsize if wanted is None else max(keys, default=0)
            if self.held.limit:
                self.held.add(key, detached(frame), keys, last)
        if decoder.finished and not decoder.start:
            self._times = decoder.times
        return pictures, len(window)

    def _picture(self, frame, transform):
        """The upright picture in a frame, or what `transform` makes of it."""
        return picture_of(frame, transform, self._header.pixel_aspect)

    def _decoder_for(self, wanted, start, end):
        """A decoder in order from which the wanted frames come that are not held."""
        sought = start and start > SEEK_MARGIN and self._header.indexed and self._may_seek()
        begin = start if sought else 0.0
        decoder = self._decoder
        if decoder is not None and decoder.start <= begin:
            window = _between(decoder.times, start, end)
            held = all(window[number] in self.held for number in _numbers_below(len(window), wanted))
            # Seeking decodes a second at least, so that going on for a second costs no more.
            if held and (not decoder.times or begin - decoder.times[-1] <= SEEK_MARGIN):
                return decoder
        if decoder is not None:
            decoder.close()
        self.held.clear()
        self._decoder = _Decoder(iterate_frames(self._open_file, begin or None, may_seek=self._may_seek), begin)
        return self._decoder


class _Decoder:
    """Decodes a video in order; the frames before its place are gone.

    Args:
        frames: Iterator of `(seconds, frame)`, such as `iterate_frames` gives.
        start: Seconds at which it begins.

    Attributes:
        start: As above.
        times: Seconds of every frame that has come.
        finished: Whether all frames have come.
    """

    def __init__(self, frames: Iterator, start: float):
        self.start = start
        self.times = []
        self.finished = False
        self._frames = frames

    def __next__(self):
        try:
            item = next(self._frames, None)
        except BaseException:
            # Nothing goes on from here.
            self.start = math.inf
            raise
        if item is None:
            self.finished = True
            raise StopIteration
        self.times.append(item[0])
        return len(self.times) - 1, item[1]

    def __iter__(self):
        return self

    def close(self) -> None:
        """Close the file."""
        self._frames.close()


def _between(times, start, end):
    """The numbers of the frames, of ascending times, with `start <= time < end`."""
    first = 0 if start is None else bisect.bisect_left(times, start - TIME_TOLERANCE)
    return range(first, len(times) if end is None else max(bisect.bisect_left(times, end - TIME_TOLERANCE), first))


def _numbers_below(total, wanted):
    """Those of the wanted numbers, None for all, that lie below `total`."""
    return range(total) if wanted is None else [number for number in wanted if number < total]
