"""What `VideoReader` costs: openings, passes over packets, decoded frames and held frames, by count."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from keras_video_focalnet.data import held_frames
from keras_video_focalnet.data.sampling import sample_dense_indices, sample_frame_indices
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, number_of, numbered_frames
from tests.data.kinds import FRAMES, KINDS

pytestmark = pytest.mark.backend_free


def numbers(frames):
    return [number_of(frame) for frame in frames]


@pytest.mark.parametrize("kind", ["H.264, keys every 7, no B frames", "H.264, open GOP, mp4", "VP9, hidden frames"])
def test_twelve_views_cost_one_opening_and_one_pass_over_the_packets(video_of_kind, work, kind):
    path, frames = video_of_kind(kind)
    work.reset()
    with VideoReader(path) as reader:
        reader.read(sample_frame_indices)
    one = dataclasses.replace(work)
    assert (one.opened, one.indexed) == (1, 1)
    work.reset()
    with VideoReader(path) as reader:
        assert work.packets == 0
        len(reader)
        pass_over_packets = work.packets
        rng = np.random.default_rng(0)
        for _ in range(12):
            indices = sample_dense_indices(len(reader), num_frames=8, stride=2, rng=rng)
            np.testing.assert_array_equal(reader.read(indices), frames[indices])
    assert (work.opened, work.indexed) == (1, 1)
    # The packet behind the last is empty.
    assert pass_over_packets == FRAMES + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("span", "hop", "stride"), [(16, 5, 1), (25, 4, 4), (12, 12, 1), (6, 9, 1)])
def test_sliding_windows_decode_every_frame_once(video_of_kind, work, kind, span, hop, stride):
    path, frames = video_of_kind(kind)
    work.reset()
    with VideoReader(path) as reader:
        if KINDS[kind][-1] is False:
            # Where the index is trusted at first, that it cannot be shows now.
            reader.read([0])
            work.reset()
        for first in range(0, FRAMES - span + 1, hop):
            window = slice(first, first + span, stride)
            np.testing.assert_array_equal(reader.read(range(FRAMES)[window]), frames[window])
    assert work.opened <= 1 and work.indexed <= 1
    assert len(work.decoded) <= FRAMES
    assert len(set(work.decoded)) == len(work.decoded) or kind == "H.264, raw"


@pytest.mark.parametrize("kind", ["H.264, pyramid of B frames", "H.264, one key frame", "MPEG-4, avi, B frames"])
def test_windows_of_another_phase_decode_no_more_than_the_first_window_twice(video_of_kind, work, kind):
    path, frames = video_of_kind(kind)
    work.reset()
    with VideoReader(path) as reader:
        for first in range(0, FRAMES - 29, 3):
            np.testing.assert_array_equal(reader.read(range(first, first + 29, 7)), frames[first : first + 29 : 7])
    assert len(work.decoded) <= FRAMES + 29


@pytest.mark.parametrize("kind", ["H.264, keys every 7, no B frames", "FFV1", "MPEG-2"])
def test_windows_in_seconds_decode_every_frame_once(video_of_kind, work, kind):
    path, frames = video_of_kind(kind)
    work.reset()
    with VideoReader(path) as reader:
        for first in range(0, FRAMES - 9, 5):
            window = reader.read_between(first / 10, first / 10 + 1)
            np.testing.assert_array_equal(window, frames[first : first + 10])
    # What cannot be indexed is opened once more, to see whether it can be sought.
    assert work.opened <= 3
    assert FRAMES - 5 <= len(work.decoded) <= FRAMES


def test_what_cannot_be_indexed_is_sought_where_that_is_shorter(video_of_kind, work):
    path, frames = video_of_kind("FFV1")
    work.reset()
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.read_between(6.0, 6.5), frames[60:65])
        assert len(work.decoded) < 25
        np.testing.assert_array_equal(reader.read_between(6.2, 7.0), frames[62:70])
        assert len(work.decoded) < 30
        # Numbers count from the beginning.
        np.testing.assert_array_equal(reader.read([61]), frames[[61]])
        assert len(work.decoded) > 80


def test_reads_far_apart_decode_little(video_of_kind, work):
    path, _ = video_of_kind("H.264, keys every 7, no B frames")
    work.reset()
    with VideoReader(path) as reader:
        for number in (70, 1, 36, 15):
            reader.read([number])
    assert len(work.decoded) <= 4 * 7


def test_the_same_frames_again_decode_nothing(video_of_kind, work):
    path, frames = video_of_kind("H.264, one key frame")
    work.reset()
    with VideoReader(path, cache_frames=10) as reader:
        for _ in range(3):
            np.testing.assert_array_equal(reader.read(range(0, FRAMES, 8)), frames[::8])
            assert len(work.decoded) <= FRAMES
        assert len(reader._frames.held) <= 10


def test_an_iteration_opens_and_decodes_once(video_of_kind, work):
    path, _ = video_of_kind("H.264, one key frame")
    work.reset()
    with VideoReader(path) as reader:
        for _ in reader.blocks(10):
            pass
    assert (work.opened, work.indexed, len(work.decoded)) == (1, 0, FRAMES)


@pytest.fixture(scope="module", params=[1, pytest.param(10, marks=pytest.mark.slow)], ids="{} minutes".format)
def long(request, tmp_path_factory):
    """Small frames, 10 a second, of which each carries its number modulo 256, and how many there are."""
    path, count = tmp_path_factory.mktemp("long") / "long.mp4", request.param * 600
    pictures = numbered_frames(256, 64, 64)[np.arange(count) % 256]
    return encode(path, pictures, options={"crf": "5", "preset": "ultrafast", "bf": "2", "g": "100"}), count


def test_sliding_windows_over_a_long_video(long, work):
    path, count = long
    with VideoReader(path, threads=1, cache_frames=40) as reader:
        for first in range(0, count - 31, 16):
            window = reader.read(range(first, first + 32))
            assert [number_of(window[0]), number_of(window[-1])] == [first % 256, (first + 31) % 256]
            assert len(reader._frames.held) <= 40
    assert (work.opened, work.indexed) == (1, 1)
    # Every frame came once.
    assert len(work.decoded) == len(set(work.decoded)) >= count - 16


def test_blocks_of_a_long_video(long, work):
    path, count = long
    with VideoReader(path, threads=1) as reader:
        tracemalloc.start()
        total = sum(len(block) for block in reader.blocks(32))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert total == len(set(work.decoded)) == len(work.decoded) == count
    # A minute is 7.4 MB, ten are 74 MB; a block is 0.4 MB and is there as single frames too.
    assert peak < 4e6


def test_large_frames_are_held_in_bounded_memory(numbered, work, monkeypatch):
    monkeypatch.setattr(held_frames, "HELD_BYTES", 30_000)
    with VideoReader(numbered) as reader:
        assert numbers(reader.read(range(20))) == list(range(20))
        # A frame takes about 5 kB.
        assert 1 <= len(reader._frames.held) <= 6
        assert numbers(reader.read(range(10, 30))) == list(range(10, 30))
        monkeypatch.setattr(held_frames, "HELD_BYTES", 10)
        assert numbers(reader.read(range(10, 30))) == list(range(10, 30))
        assert len(reader._frames.held) == 1
