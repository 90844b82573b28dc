"""`VideoReader`: what it reads equals decoding everything, whatever happens in between."""

import concurrent.futures
import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_video_focalnet as kvf
from keras_video_focalnet.data import indexed_frames, video_reader
from keras_video_focalnet.data.clip import read_clip, read_frames, resize_and_crop
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import decode_everything, encode, number_of, numbered_frames
from tests.data.kinds import FRAMES, KINDS

pytestmark = pytest.mark.backend_free

HARD = ["H.264, open GOP, mp4", "H.264, pyramid of B frames", "MPEG-4, mp4, B frames", "VP9, hidden frames", "AV1"]


def numbers(frames):
    return [number_of(frame) for frame in frames]


# ---- What is read


@pytest.mark.parametrize("kind", KINDS)
def test_everything_equals_full_decoding(video_of_kind, kind):
    path, frames = video_of_kind(kind)
    times = np.array([seconds for seconds, _ in decode_everything(path)])
    with VideoReader(path, threads=1) as reader:
        assert len(reader) == FRAMES and reader.size == frames.shape[1:3]
        np.testing.assert_allclose(reader.times, times, atol=1e-9)
        assert reader.duration == pytest.approx(times[-1] + 1 / reader.fps)
        for indices in ([40], [40], [41], [0], [71, 3, 3, 30], [70, 71], range(20, 44), range(24, 48), range(5, 72, 9)):
            np.testing.assert_array_equal(reader.read(indices), frames[list(indices)], err_msg=str(indices))
        for first in range(0, FRAMES - 12, 9):
            np.testing.assert_array_equal(reader.read(range(first, first + 12)), frames[first : first + 12])
        for first in range(0, FRAMES - 29, 6):
            np.testing.assert_array_equal(reader.read(range(first, first + 29, 7)), frames[first : first + 29 : 7])
        for start, end in [(0.5, 1.5), (1.0, 2.0), (None, 0.8), (times[20], times[50]), (times[-1], None)]:
            window = frames[(times >= (start or 0) - 1e-6) & (times < (end or np.inf) - 1e-6)]
            np.testing.assert_array_equal(reader.read_between(start, end), window, err_msg=f"{start} to {end}")
            np.testing.assert_array_equal(reader.read(None, None, start, end), window)
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(7, None, start, end))), window)
        blocks = list(reader.blocks(30))
        assert [len(block) for block in blocks] == [30, 30, 12]
        np.testing.assert_array_equal(np.concatenate(blocks), frames)
        for number, frame in enumerate(reader):
            np.testing.assert_array_equal(frame, frames[number])
        assert number == FRAMES - 1


@pytest.mark.parametrize("kind", [*HARD, "H.264, interlaced", "FFV1"])
@settings(max_examples=10)
@given(
    reads=st.lists(st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=8), min_size=2, max_size=6),
    cache_frames=st.sampled_from([0, 1, 10, 128]),
)
def test_any_reads_in_any_order(video_of_kind, kind, reads, cache_frames):
    path, frames = video_of_kind(kind)
    with VideoReader(path, threads=1, cache_frames=cache_frames) as reader:
        for indices in reads:
            np.testing.assert_array_equal(reader.read(indices), frames[indices])


def test_frames_that_are_held_stay_turned_where_all_are_decoded_in_order(video_of_kind, monkeypatch):
    monkeypatch.setattr(video_reader, "index_of", lambda *_: None)
    path, frames = video_of_kind("H.264, turned")
    with VideoReader(path) as reader:
        for indices in ([2], range(0, 9), range(4, 12)):
            np.testing.assert_array_equal(reader.read(indices), frames[list(indices)])
        assert frames.shape[1] > frames.shape[2]


def test_read_clip_and_read_frames_are_what_a_reader_reads(numbered):
    with VideoReader(numbered) as reader:
        clip = reader.read(
            lambda total: sample_frame_indices(total, 5), lambda picture: resize_and_crop(picture, 32, 40)
        )
        np.testing.assert_array_equal(clip, read_clip(numbered, num_frames=5, size=(32, 40)))
        np.testing.assert_array_equal(reader.read([3, 1], start=2.0), read_frames(numbered, [3, 1], start=2.0))
        np.testing.assert_array_equal(reader.read(), read_frames(numbered))


def test_what_a_file_says_of_itself(numbered):
    with VideoReader(numbered) as reader:
        assert (reader.fps, reader.size, len(reader), reader.path) == (10.0, (48, 64), 100, numbered)
        assert reader.duration == pytest.approx(10.0)
    assert kvf.VideoReader is VideoReader


def test_reads_between_the_steps_of_an_iteration_do_it_no_harm(numbered):
    with VideoReader(numbered) as reader:
        for number, (frame, block) in enumerate(zip(reader, reader.blocks(1), strict=True)):
            assert number_of(frame) == number_of(block[0]) == number
            assert numbers(reader.read([99 - number])) == [99 - number]


# ---- Whatever happens


def test_an_index_that_turns_out_to_be_wrong(video_of_kind, work, monkeypatch):
    path, frames = video_of_kind("H.264, open GOP, mp4")
    work.reset()
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.read([3]), frames[[3]])
        monkeypatch.setattr(indexed_frames.IndexedDecoder, "decode", _raise_inexact)
        np.testing.assert_array_equal(reader.read([30, 9]), frames[[30, 9]])
        np.testing.assert_array_equal(reader.read([31, 70]), frames[[31, 70]])
        assert len(reader) == FRAMES
    assert (work.opened, work.indexed) == (2, 1)


def _raise_inexact(*_, **__):
    raise indexed_frames.InexactError


@pytest.mark.parametrize("kind", ["H.264, open GOP, mp4", "FFV1"])
def test_a_read_that_is_broken_off_leaves_no_trace(video_of_kind, kind):
    path, frames = video_of_kind(kind)
    calls = []

    def fail(picture):
        calls.append(picture)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return picture

    with VideoReader(path) as reader:
        reader.read([1])
        with pytest.raises(KeyboardInterrupt):
            reader.read(range(2, 30), fail)
        np.testing.assert_array_equal(reader.read(range(2, 40)), frames[2:40])


@pytest.mark.parametrize("kind", ["H.264, open GOP, mp4", "FFV1"])
def test_threads_take_turns(video_of_kind, kind):
    path, frames = video_of_kind(kind)
    barrier = threading.Barrier(4)

    def read_much(seed):
        rng = np.random.default_rng(seed)
        barrier.wait(timeout=60)
        for _ in range(15):
            indices = rng.integers(0, FRAMES, 4)
            np.testing.assert_array_equal(reader.read(indices), frames[indices])
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(20))), frames)
        return len(reader)

    with VideoReader(path, threads=1) as reader, concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read_much, range(4))) == [FRAMES] * 4


def test_a_pickled_reader_opens_the_file_when_it_is_used(numbered, work):
    with VideoReader(numbered, threads=1, cache_frames=7) as reader:
        reader.read([5])
        data = pickle.dumps(reader)
    assert len(data) < 1000
    work.reset()
    copy = pickle.loads(data)
    assert work.opened == 0
    assert numbers(copy.read([5, 6])) == [5, 6]
    assert (copy.fps, copy.path, len(copy), work.opened) == (10.0, numbered, 100, 1)
    assert len(copy._frames.held) <= 7
    copy.close()


def test_another_process_reads_on(numbered):
    with VideoReader(numbered) as reader:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert numbers(pool.submit(reader.read, [7, 80]).result(timeout=120)) == [7, 80]


def test_a_closed_reader_says_so(numbered):
    with VideoReader(numbered) as reader:
        iterator = iter(reader)
        next(iterator)
    uses = [
        lambda: reader.read([0]),
        lambda: reader.read(),
        lambda: reader.read_between(0, 1),
        lambda: reader.blocks(),
        lambda: next(iter(reader)),
        lambda: next(iterator),
        lambda: len(reader),
        lambda: reader.times,
        lambda: reader.fps,
        lambda: reader.duration,
        lambda: reader.size,
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"The reader of .*numbered\.mp4 is closed; make a new VideoReader"):
            use()
    reader.close()
    assert "closed" in repr(reader)


def test_bad_arguments(numbered, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4 does not exist; pass the path of a video file"):
        VideoReader(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="threads must be an integer of at least 1, received 0; pass None for one"):
        VideoReader(numbered, threads=0)
    with pytest.raises(ValueError, match="cache_frames must be an integer of at least 0, received -1; pass 0 to hold"):
        VideoReader(numbered, cache_frames=-1)
    with VideoReader(numbered) as reader:
        with pytest.raises(ValueError, match="frames must be an integer of at least 1, received 0; pass the number"):
            reader.blocks(0)
        with pytest.raises(ValueError, match=r"indices asks for frame 100 but .*numbered\.mp4 has 100"):
            reader.read([100])
        with pytest.raises(ValueError, match=r"lies at or after start=30: they run from 0 to 9\.900 seconds"):
            reader.read_between(30)
        with pytest.raises(ValueError, match="end must lie after start, received start=5 and end=5"):
            reader.read_between(5, 5)
        with pytest.raises(ValueError, match="end must lie after start, received start=5 and end=4"):
            reader.blocks(start=5, end=4)
        for indices in ([], [-1]):
            with pytest.raises(ValueError, match="indices must be integers of 0 or more"):
                reader.read(indices)


def test_frames_of_two_sizes(tmp_path):
    import av

    path = tmp_path / "two sizes.mpg"
    first = encode(tmp_path / "1.mpg", numbered_frames(12), codec="mpeg2video", rate=25, options={"g": "6"})
    second = encode(tmp_path / "2.mpg", numbered_frames(12, 96, 128), codec="mpeg2video", rate=25, options={"g": "6"})
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert av.open(str(path)).streams.video
    with VideoReader(path) as reader:
        assert reader.size == (48, 64)
        assert reader.read(range(10)).shape == (10, 48, 64, 3)
        with pytest.raises(ValueError, match=r"frames of .*two sizes\.mpg differ in size; pass indices"):
            reader.read()
        small = reader.read(None, lambda picture: resize_and_crop(picture, 24, 32))
        assert small.shape == (len(reader), 24, 32, 3)


def read_some(path):
    read_frames(path, [2, 5])
    read_clip(path, 4)


def read_in_order(path):
    read_frames(path, start=0.1, end=0.4)
    with VideoReader(path) as reader:
        assert sum(len(block) for block in reader.blocks(30)) == 100


def read_on(path):
    with VideoReader(path) as reader:
        reader.read([3])
        reader.read([5, 90])


def stop_halfway(path):
    with VideoReader(path) as reader:
        next(iter(reader))
        with pytest.raises(ZeroDivisionError):
            reader.read([3, 4], transform=lambda picture: 1 // 0)


@pytest.mark.parametrize("use", [read_some, read_in_order, read_on, stop_halfway])
def test_what_is_read_is_freed_without_the_garbage_collector(numbered, use):
    # A cycle of references would hold decoders with their threads, and frames, until the collector comes by.
    def held():
        types = (str(type(thing)) for thing in gc.get_objects())
        return Counter(name for name in types if name.startswith("<class 'av."))

    use(numbered)
    gc.collect()
    gc.disable()
    try:
        before = held()
        use(numbered)
        assert held() == before
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change its user")
def test_a_machine_that_gives_no_threads_reads_the_same(numbered):
    code = """
import resource, os, sys
from keras_video_focalnet import read_frames
before = read_frames(sys.argv[1])
assert (read_frames(sys.argv[1], [7, 3]) == before[[7, 3]]).all()  # Everything is imported now.
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
os.setuid(65534)
assert (read_frames(sys.argv[1]) == before).all()
assert (read_frames(sys.argv[1], [7, 3]) == before[[7, 3]]).all()
"""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        subprocess.run([sys.executable, "-c", code, shutil.copy(numbered, folder)], check=True)
