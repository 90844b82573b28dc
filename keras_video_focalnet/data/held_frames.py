"""The frames of a video that were decoded last, a bounded number of them."""

from collections.abc import Collection

# Decoded frames of one video take no more memory than this, but for a single one.
HELD_BYTES = 256 << 20


class HeldFrames:
    """The frames that were decoded last, at most `limit`; large frames are fewer, so that they take at most
    `HELD_BYTES`.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._frames = {}

    def __len__(self):
        return len(self._frames)

    def __contains__(self, key):
        return key in self._frames

    def __getitem__(self, key):
        return self._frames[key]

    def clear(self) -> None:
        """Let go of all frames."""
        self._frames.clear()

    def add(self, key: int, frame, wanted: Collection[int], last: int) -> None:
        """Hold an `av.VideoFrame`, or one detached from its decoder, by a key that grows in the order of display.

        Where there are too many, the one that was decoded longest ago goes first of those that neither the present
        read, which wants the keys `wanted` up to `last`, nor a read that goes on from it will want.
        """
        if not self.limit:
            return
        self._frames.pop(key, None)
        self._frames[key] = frame
        limit = self.limit
        if len(self._frames) * _bytes(frame) > HELD_BYTES:
            limit = max(min(limit, HELD_BYTES // _bytes(frame)), 1)
        while len(self._frames) > limit:
            oldest = next(iter(self._frames))
            del self._frames[next((key for key in self._frames if key not in wanted and key < last), oldest)]


def _bytes(frame):
    """Bytes of a decoded frame."""
    return sum(plane.buffer_size for plane in frame.planes)
