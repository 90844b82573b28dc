"""A few frames read by seeking are those that decoding everything gives, frame for frame, in every kind of file."""

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet.data import indexed_frames, video_index
from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.indexed_frames import IndexedDecoder, InexactError
from keras_video_focalnet.data.video import open_video, upright_rgb
from keras_video_focalnet.data.video_index import VideoIndex, index_video
from tests.clips import decode_everything, encode, numbered_frames
from tests.data.kinds import FRAMES, KINDS, UNEVEN

pytestmark = pytest.mark.backend_free


def by_seeking(path, numbers):
    """The frames of some numbers as `{number: picture}`, or None where all must be decoded."""
    with contextlib.closing(open_video(path)) as file:
        index = index_video(file)
        if index is None:
            return None
        wanted = {index.shown[number]: number for number in numbers}
        try:
            frames = list(IndexedDecoder(file, index).decode(wanted))
        except InexactError:
            return None
        return {wanted[time]: upright_rgb(frame) for time, frame in frames if time in wanted}


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_reads_equal_decoding_everything(video_of_kind, kind):
    path, whole = video_of_kind(kind)
    assert len(whole) == FRAMES
    several = [[0, 35, 71], [3, 40, 41, 42], range(4, FRAMES, 9)]
    for numbers in [[number] for number in range(0, FRAMES, 5)] + several:
        found = by_seeking(path, numbers)
        assert (found is not None) == KINDS[kind][-1]
        if found is not None:
            assert sorted(found) == list(numbers)
            for number, picture in found.items():
                np.testing.assert_array_equal(picture, whole[number], err_msg=f"frame {number}")
    for numbers in several:
        np.testing.assert_array_equal(read_frames(path, numbers), whole[list(numbers)])


HARD = [
    "H.264, open GOP, mp4",
    "H.264, pyramid of B frames",
    "MPEG-4, mp4, B frames",
    "VP9, hidden frames",
    "AV1",
    "HEVC, open GOP",
]


@pytest.mark.parametrize("kind", HARD)
@settings(max_examples=15)
@given(numbers=st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=10), threads=st.sampled_from([1, None]))
def test_any_frames_in_any_order(video_of_kind, kind, numbers, threads):
    path, whole = video_of_kind(kind)
    np.testing.assert_array_equal(read_frames(path, numbers, threads=threads), whole[numbers])


@pytest.mark.parametrize(
    "kind", ["H.264, open GOP, mkv", "H.264, variable rate", "H.264, transport stream", "MPEG-4, avi"]
)
def test_a_part_of_a_video(video_of_kind, kind):
    path, whole = video_of_kind(kind)
    times = np.array([seconds for seconds, _ in decode_everything(path)])
    for start, end in [(0.45, None), (None, 3.01), (2.0, 4.0), (times[20], times[40]), (times[-1], None)]:
        window = whole[(times >= (start or 0)) & (times < (end or np.inf))]
        np.testing.assert_array_equal(read_frames(path, lambda total: range(0, total, 3), start, end), window[::3])


def remux(source, target, change, **options):
    """Write the packets of a file anew after `change(packet, its number)`."""
    import av

    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None:
                change(packet, number)
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("first", [10, 30])
def test_a_video_cut_without_encoding_begins_with_frames_that_are_not_shown(video_of_kind, tmp_path, first):
    def shift(packet, _):
        packet.pts -= first * 1024
        packet.dts -= first * 1024

    source, frames = video_of_kind("H.264, variable rate")
    path = remux(source, tmp_path / "cut.mp4", shift, avoid_negative_ts="disabled")
    whole = np.stack([picture for _, picture in decode_everything(path)])
    np.testing.assert_array_equal(whole, frames[UNEVEN.index(next(time for time in UNEVEN if time >= first)) :])
    found = by_seeking(path, range(0, len(whole), 5))
    assert sorted(found) == list(range(0, len(whole), 5))
    for number, picture in found.items():
        np.testing.assert_array_equal(picture, whole[number])


@pytest.mark.parametrize("kind", ["H.264, one key frame", "MPEG-4, mp4, B frames", "HEVC, one key frame"])
def test_what_only_calls_itself_a_key_frame_is_not_trusted(video_of_kind, tmp_path, kind):
    def boast(packet, number):
        packet.is_keyframe = packet.is_keyframe or number % 10 == 4

    source, whole = video_of_kind(kind)
    path = remux(source, tmp_path / "boasting.mkv", boast)
    for numbers in ([3], [17, 18, 44], [71, 5]):
        np.testing.assert_array_equal(read_frames(path, numbers), whole[numbers])


def test_equal_times_are_not_told_apart(video_of_kind, tmp_path):
    def crowd(packet, number):
        packet.dts = packet.pts = number // 2 * 100

    source, whole = video_of_kind("H.264, keys every 7, no B frames")
    path = remux(source, tmp_path / "crowded.mkv", crowd)
    assert by_seeking(path, [40]) is None
    np.testing.assert_array_equal(read_frames(path, [40, 11]), whole[[40, 11]])


def index_of(times, restarts):
    """An index of packets that all are shown."""
    return VideoIndex({time: at for at, time in enumerate(times)}, [1] * len(times), sorted(times), restarts, restarts)


def test_no_more_is_decoded_than_needed():
    closed = index_of(range(40), [0, 10, 20, 30])
    assert closed.runs([25]) == [(2, 25, {25})]
    assert closed.runs([25, 3]) == [(0, 3, {3}), (2, 25, {25})]
    # Where the next key frame follows at once, decoding just goes on.
    assert closed.runs([9, 12]) == [(0, 12, {9, 12})]
    assert closed.runs([12, 12, 13, 20]) == [(1, 13, {12, 13}), (2, 20, {20})]
    # 7 and 8 are shown before the key frame 9 that they follow in the file: they are predicted from what lies before.
    leading = index_of([0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11], [0, 7])
    assert leading.runs([9]) == [(0, 9, {9})]
    assert leading.runs([10]) == [(1, 10, {10})]
    assert leading.runs([8, 10]) == [(0, 10, {8, 10})]


class CountingDict(dict):
    """Counts what is looked up."""

    lookups = 0

    def get(self, key):
        self.lookups += 1
        return super().get(key)


def test_frames_that_no_other_needs_are_left_out(video_of_kind, monkeypatch):
    path, whole = video_of_kind("H.264, pyramid of B frames")
    lookups = {}
    for codecs in (set(), {"h264"}):
        monkeypatch.setattr(indexed_frames, "CODECS_WITH_SKIPPING", codecs)
        with contextlib.closing(open_video(path, threads=1)) as file:
            index = index_video(file)
            index = dataclasses.replace(index, times=CountingDict(index.times))
            frame = dict(IndexedDecoder(file, index).decode([index.shown[22]]))[index.shown[22]]
        np.testing.assert_array_equal(upright_rgb(frame), whole[22])
        # Each packet that is read and each frame that comes is looked up once.
        lookups[len(codecs)] = index.times.lookups
    assert lookups[1] + 5 < lookups[0]


@pytest.mark.parametrize("kind", ["H.264, open GOP, mp4", "VP9, hidden frames"])
def test_a_frame_that_does_not_come_means_that_everything_is_decoded(video_of_kind, monkeypatch, kind):
    path, whole = video_of_kind(kind)
    monkeypatch.setattr(video_index.VideoIndex, "runs", lambda index, positions: [(1, max(positions), set(positions))])
    with contextlib.closing(open_video(path)) as file:
        index = index_video(file)
        with pytest.raises(InexactError):
            list(IndexedDecoder(file, index).decode([index.shown[2]]))
    np.testing.assert_array_equal(read_frames(path, [2]), whole[[2]])


def test_a_clip_is_made_of_the_same_frames(video_of_kind):
    path, whole = video_of_kind("HEVC, closed")
    clip = read_clip(path, num_frames=5, size=64, threads=1)
    whole_clip = read_clip(encode(path.with_suffix(".avi"), whole, "rawvideo", pix_fmt="bgr24"), num_frames=5, size=64)
    np.testing.assert_array_equal(clip, whole_clip)


def test_a_wrong_time_in_a_sound_stream(tmp_path):
    import av

    frames = numbered_frames(40, 48, 64)
    encode(tmp_path / "right.mkv", frames, options={"bf": "0", "g": "10", "crf": "5"})
    with av.open(str(tmp_path / "right.mkv")) as right, av.open(str(tmp_path / "wrong.mkv"), "w") as wrong:
        stream = right.streams.video[0]
        copy = wrong.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in right.demux(stream) if packet.size):
            if number == 12:
                packet.pts += int(2.05 / stream.time_base)
            packet.stream = copy
            wrong.mux(packet)
    everything = read_frames(tmp_path / "wrong.mkv")
    for index in range(0, len(everything), 3):
        np.testing.assert_array_equal(read_frames(tmp_path / "wrong.mkv", [index])[0], everything[index])
