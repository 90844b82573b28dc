"""The indices of the files that this process read last, for the next readers of the same files.

A pass over the packets of a long video takes longer than the decoding of one clip of it, and many clips of a video are
often read one after another, each by a reader of its own.
"""

import collections
import os
import threading

from keras_video_focalnet.data.video import OpenVideo
from keras_video_focalnet.data.video_index import VideoIndex, index_video

# Packets of which indices are kept in all, which take about 60 MB. An index of fewer than ten counts as ten.
MOST_PACKETS = 200_000
PACKETS_OF_ANY = 10


class KeptIndices:
    """Indices by the identity of the files that they are of; those that were used last are kept.

    Args:
        most_packets: How many packets they may have in all.
    """

    def __init__(self, most_packets: int):
        self._most_packets = most_packets
        self.forget()

    def forget(self) -> None:
        """Keep none of those that are kept."""
        self._lock = threading.RLock()
        self._indices = collections.OrderedDict()
        self._packets = 0

    def __len__(self):
        return len(self._indices)

    def find(self, identity: tuple[int, ...]) -> VideoIndex | None:
        """The index of a file, None if it is not kept."""
        with self._lock:
            if identity in self._indices:
                self._indices.move_to_end(identity)
            return self._indices.get(identity)

    def keep(self, identity: tuple[int, ...], index: VideoIndex) -> None:
        """Keep the index of a file, unless it alone has more packets than may be kept."""
        if _packets(index) > self._most_packets:
            return
        with self._lock:
            if identity not in self._indices:
                self._indices[identity] = index
                self._packets += _packets(index)
            while self._packets > self._most_packets:
                self._packets -= _packets(self._indices.popitem(last=False)[1])


def _packets(index):
    return max(len(index.sizes), PACKETS_OF_ANY)


KEPT = KeptIndices(MOST_PACKETS)
# A thread that does not exist in a child process may have held the lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=KEPT.forget)


def index_of(video: OpenVideo) -> VideoIndex | None:
    """The index of an open file as `index_video` makes it, or as it was made of the same content for a reader before.

    A file is known again by its device, number, size, times and a sample of its bytes, as they were when it was opened.
    Of a stream, of a file that was changed since it was opened, or so lately that its times might not tell of another
    change, the index is made anew. A change of a few bytes that leaves the times as they are, as one through a map of
    memory may, can go unnoticed.
    """
    identity = video.data.identity
    if identity is None or video.data.has_changed():
        return index_video(video)
    index = KEPT.find(identity)
    if index is None:
        index = index_video(video)
        if index is not None and not video.data.has_changed():
            KEPT.keep(identity, index)
    return index
