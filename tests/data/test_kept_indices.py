"""The index of a file is made once a process, and never taken for that of another content."""

import contextlib
import io
import os
import signal
import time
import types

import av
import numpy as np
import pytest

from keras_video_focalnet.data import kept_indices, video_file, video_reader
from keras_video_focalnet.data.clip import read_frames
from keras_video_focalnet.data.kept_indices import KEPT, KeptIndices, index_of
from keras_video_focalnet.data.video import open_video
from keras_video_focalnet.data.video_index import VideoIndex
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, numbered_frames

pytestmark = pytest.mark.backend_free


@pytest.fixture
def settled(monkeypatch):
    """Files are as good as written long ago."""
    monkeypatch.setattr(video_file, "SETTLED_NS", -(10**18))


def kept_of(packets):
    return VideoIndex(dict(zip(range(packets), range(packets), strict=True)), [1] * packets, [0], [0], [0])


def test_the_next_reader_of_a_file_takes_its_index(tmp_path, work, settled):
    path = encode(tmp_path / "video.mp4", numbered_frames(30))
    first = read_frames(path, [3, 20])
    for _ in range(2):
        np.testing.assert_array_equal(read_frames(path, [20]), first[1:])
    assert work.indexed == 1


def test_of_a_file_that_is_written_anew_and_of_a_stream_it_is_made_anew(tmp_path, work, settled):
    path = encode(tmp_path / "video.mp4", numbered_frames(30))
    read_frames(path, [3])
    encode(path, numbered_frames(24))
    with VideoReader(path) as reader:
        assert len(reader) == 24
    assert work.indexed == 2
    for _ in range(2):
        read_frames(io.BytesIO(path.read_bytes()), [2])
    assert work.indexed == 4


def test_of_a_file_that_was_changed_lately_none_is_kept(tmp_path, work, monkeypatch):
    path = encode(tmp_path / "video.mp4", numbered_frames(30))
    monkeypatch.setattr(video_file, "SETTLED_NS", 10**18)
    for count in (1, 2):
        read_frames(path, [3])
        assert (work.indexed, len(KEPT)) == (count, 0)
    # A clock that was set back makes a file of the future.
    monkeypatch.setattr(video_file, "SETTLED_NS", 2 * 10**9)
    os.utime(path, (time.time() + 1e6,) * 2)
    read_frames(path, [3])
    assert (work.indexed, len(KEPT)) == (3, 0)


def test_a_file_that_grows_between_opening_and_indexing(tmp_path, work, settled):
    whole = encode(tmp_path / "whole.mp4", numbered_frames(60), options={"g": "10"})
    fragmented = tmp_path / "fragmented.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(fragmented), "w", options={"movflags": "frag_keyframe+empty_moov"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data, growing = fragmented.read_bytes(), tmp_path / "growing.mp4"
    growing.write_bytes(data[: len(data) * 2 // 3])
    with VideoReader(growing) as early:
        with open(growing, "ab") as file:
            file.write(data[len(data) * 2 // 3 :])
        assert 0 < len(early) <= 60
    for _ in range(2):
        with VideoReader(growing) as late:
            assert len(late) == 60


def test_a_change_that_the_times_do_not_tell_of(tmp_path, settled, monkeypatch):
    def timeless(descriptor, fstat=os.fstat):
        status = fstat(descriptor)
        return types.SimpleNamespace(
            st_dev=1, st_ino=status.st_ino, st_size=status.st_size, st_mtime_ns=0, st_ctime_ns=0
        )

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 96, 128, 3), dtype=np.uint8)
    whole, path = encode(tmp_path / "whole.mkv", noise, options={"g": "12", "bf": "0"}), tmp_path / "video.mkv"
    data = whole.read_bytes()
    assert len(data) > 4 * video_file.END_BYTES
    path.write_bytes(data)
    monkeypatch.setattr(os, "fstat", timeless)
    read_frames(path, [20])
    assert len(KEPT) == 1
    # The same without a packet, and with zeros for what is missing.
    shorter = tmp_path / "shorter.mkv"
    with av.open(str(whole)) as source, av.open(str(shorter), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and number != 11:
                packet.stream = stream
                target.mux(packet)
    data = shorter.read_bytes().ljust(len(data), b"\0")
    path.write_bytes(data)
    for indices in ([20, 40], lambda total: [total // 2]):
        np.testing.assert_array_equal(read_frames(path, indices), read_frames(io.BytesIO(data), indices))


def test_reading_leaves_the_place_of_a_file_to_whoever_shares_it(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    data = video_file.VideoBytes(path)
    before = os.lseek(data._file.fileno(), 0, os.SEEK_CUR)
    data.seek(7)
    assert data.read(2) + data.read(1) == bytes([7, 8, 9])
    if hasattr(os, "pread"):
        assert os.lseek(data._file.fileno(), 0, os.SEEK_CUR) == before
    data.close()


def test_packets_that_do_not_fit_the_index_are_found_out(tmp_path, monkeypatch):
    path = encode(tmp_path / "video.mp4", numbered_frames(30))
    with contextlib.closing(open_video(path)) as video:
        index = index_of(video)
    encode(path, numbered_frames(24), options={"g": "6"})
    expected = read_frames(path)
    # As if nothing told of the change.
    monkeypatch.setattr(video_reader, "index_of", lambda video: index)
    np.testing.assert_array_equal(read_frames(path, [3, 20]), expected[[3, 20]])


def test_those_used_last_are_kept_up_to_so_many_packets():
    kept = KeptIndices(most_packets=100)
    for number in range(3):
        kept.keep((number,), kept_of(40))
        assert kept.find((0,)) is not None
    assert [kept.find((number,)) is not None for number in range(3)] == [True, False, True]
    # One that is too long drives no other out, and one that is kept twice counts once.
    kept.keep((3,), kept_of(101))
    for _ in range(3):
        kept.keep((0,), kept_of(40))
    assert [kept.find((number,)) is not None for number in range(4)] == [True, False, True, False]
    # Short ones count as ten packets each.
    for number in range(50):
        kept.keep((number,), kept_of(1))
    assert len(kept) == 10
    kept.forget()
    assert len(kept) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Processes do not fork here.")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_child_process_has_a_lock_of_its_own(tmp_path, settled):
    path = encode(tmp_path / "video.mp4", numbered_frames(30))
    read_frames(path, [3])
    with kept_indices.KEPT._lock:
        child = os.fork()
        if child == 0:
            # Should the lock be that of the parent, this ends the wait for it.
            signal.alarm(60)
            try:
                os._exit(0 if len(KEPT) == 0 and KEPT.find((1,)) is None else 1)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(KEPT) > 0
