"""Fixtures of the tests of reading videos."""

import dataclasses
import functools

import numpy as np
import pytest

from keras_video_focalnet.data import kept_indices, video_reader
from keras_video_focalnet.data.video import OpenVideo
from tests.clips import decode_everything, encode, numbered_frames
from tests.data.kinds import KINDS, footage


@pytest.fixture(scope="session")
def video_of_kind(tmp_path_factory):
    """Function from a kind to its file and all frames of it, `(path, frames)`; each is encoded once."""
    folder = tmp_path_factory.mktemp("kinds")

    @functools.cache
    def make(kind):
        import av

        ending, codec, options, more, _ = KINDS[kind]
        try:
            av.codec.Codec(codec, "w")
        except av.codec.codec.UnknownCodecError:
            pytest.skip(f"this build of FFmpeg has no encoder {codec}")
        pictures = footage()[:, :95, :151] if "odd" in kind else footage()
        path = encode(folder / f"{len(list(folder.iterdir()))}.{ending}", pictures, codec, options=options, **more)
        return path, np.stack([picture for _, picture in decode_everything(path)])

    return make


@pytest.fixture(autouse=True)
def no_index_is_kept():
    """What a test finds does not depend on how long ago its files were made and read by another."""
    kept_indices.KEPT.forget()


@dataclasses.dataclass
class Work:
    """What was done since it was last reset, when no index was kept."""

    opened: int = 0
    indexed: int = 0
    packets: int = 0
    decoded: list = dataclasses.field(default_factory=list)

    def reset(self):
        self.opened = self.indexed = self.packets = 0
        self.decoded.clear()
        kept_indices.KEPT.forget()


@pytest.fixture
def work(monkeypatch):
    """Counts openings, passes over packets, packets that are read and frames that come of decoders."""
    work = Work()
    open_video, index_video = video_reader.open_video, kept_indices.index_video
    packets, decode = OpenVideo.packets, OpenVideo.decode

    def count_opening(*arguments):
        work.opened += 1
        return open_video(*arguments)

    def count_indexing(video):
        work.indexed += 1
        return index_video(video)

    def count_packets(video):
        for packet in packets(video):
            work.packets += 1
            yield packet

    def count_frames(video, packet):
        frames = decode(video, packet)
        work.decoded += [frame.pts for frame in frames]
        return frames

    monkeypatch.setattr(video_reader, "open_video", count_opening)
    monkeypatch.setattr(kept_indices, "index_video", count_indexing)
    monkeypatch.setattr(OpenVideo, "packets", count_packets)
    monkeypatch.setattr(OpenVideo, "decode", count_frames)
    work.reset()
    return work


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """100 frames, 10 a second, each carrying its number; B frames, a key frame every 24."""
    path = tmp_path_factory.mktemp("numbered") / "numbered.mp4"
    return encode(path, numbered_frames(100), options={"crf": "5", "bf": "3", "g": "24"})
