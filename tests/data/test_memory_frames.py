"""Frames that are in memory are read by the same calls as a video file, and give the same clips."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.clip_rule import ClipRule, clip_rule
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import number_of

pytestmark = pytest.mark.backend_free


class Indexed:
    """Frames that are made when they are asked for."""

    def __init__(self, frames):
        self.frames, self.asked = frames, []

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.frames[index]

    def __iter__(self):
        raise AssertionError("all frames are asked for")


def pyav_frames(frames):
    import av

    return [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]


KINDS = {
    "array": lambda frames: frames,
    "list": list,
    "tuple": tuple,
    "generator": lambda frames: (frame for frame in frames),
    "floats": lambda frames: frames.astype("float32"),
    "views": lambda frames: list(np.ascontiguousarray(frames[..., ::-1])[..., ::-1]),
    "nested lists": lambda frames: iter(frames.tolist()),
    "Pillow": lambda frames: [Image.fromarray(frame) for frame in frames],
    "PyAV": pyav_frames,
    "indexed": Indexed,
}


@pytest.fixture(scope="module")
def frames(numbered):
    return read_frames(numbered)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_memory_give_the_clip_of_the_file(numbered, frames, kind):
    for options in ({}, {"size": (42, 56), "num_frames": 3, "start": 2.8, "end": 7.6}):
        clip = read_clip(KINDS[kind](frames), **options, fps=10)
        np.testing.assert_array_equal(clip, read_clip(numbered, **options))
    np.testing.assert_array_equal(read_frames(KINDS[kind](frames), [5, 0, 5]), frames[[5, 0, 5]])
    np.testing.assert_array_equal(read_frames(KINDS[kind](frames), end=0.2), frames[:5])


def test_only_the_frames_asked_for_are_looked_at(frames):
    video = Indexed(frames)
    assert [number_of(frame) for frame in read_frames(video, [90, 3, 90])] == [90, 3, 90]
    assert sorted(video.asked) == [3, 90]


def test_an_endless_camera_is_read_to_the_end_that_is_asked_for(frames):
    seen = []
    camera = (seen.append(number) or frames[number % 100] for number in itertools.count())
    clip = read_clip(camera, size=(42, 56), end=2)
    assert [number_of(frame) for frame in clip] == sample_frame_indices(50).tolist()
    assert len(seen) == 50


def test_an_open_reader(numbered, frames):
    with VideoReader(numbered) as reader:
        np.testing.assert_array_equal(read_clip(reader), read_clip(numbered))
        np.testing.assert_array_equal(read_frames(reader, [4], start=1), frames[[14]])


def test_a_path_in_an_array_of_no_axes_is_a_path(numbered):
    np.testing.assert_array_equal(read_clip(np.array(os.fspath(numbered)), 2), read_clip(numbered, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((8, 32, 32), "uint8"),
            r"frame 0 must have shape .* received \(32, 32\).*repeated three",
        ),
        (np.zeros((8, 32, 32, 1), "uint8"), r"received \(32, 32, 1\)"),
        (np.zeros((1, 8, 32, 32, 3), "uint8"), r"received \(8, 32, 32, 3\); pass one clip as \(frames, height"),
        (np.zeros((32, 32, 3), "uint8"), r"received \(32, 3\).*one picture as picture\[None\]"),
        (["a.jpg", "b.jpg"], r"frame 0 must have shape \(height, width, 3\), received 'a.jpg'"),
        (np.full((8, 32, 32, 3), 0.5), r"whole pixels of 0 to 255, received float64 values of 0.5 to 0.5; pixels of 0"),
        (np.full((8, 32, 32, 3), -1), "whole pixels of 0 to 255, received int64 values of -1 to -1"),
        (np.full((8, 32, 32, 3), np.nan), "whole pixels of 0 to 255, received float64 values of nan"),
        ([], "path holds no frame: the list or iterator is empty"),
        (iter(()), "path holds no frame"),
    ],
)
def test_what_is_no_frame_is_told(given, message):
    with pytest.raises(ValueError, match=message):
        read_clip(given, size=32)


def test_windows_and_sizes_that_are_not_there(frames):
    with pytest.raises(ValueError, match="No frame of the frames in memory lies at or after start=30.*0 to 3.960 sec"):
        read_clip(frames, start=30)
    with pytest.raises(ValueError, match="indices asks for frame 100 but the frames in memory has 100"):
        read_frames(frames, [100])
    with pytest.raises(ValueError, match="fps must be a number above 0, received 0"):
        read_clip(frames, fps=0)
    with pytest.raises(ValueError, match="the frames differ in size"):
        read_frames([frames[0], frames[1][:20]])


class Like:
    """What is known of a model of another make."""

    input_shape = (None, 3, 32, None, 3)


def test_a_clip_like_that_of_a_model(numbered):
    assert clip_rule(Like()) == ClipRule(3, (32, 224))
    np.testing.assert_array_equal(read_clip(numbered, like=Like()), read_clip(numbered, 3, (32, 224)))
    assert read_clip(numbered, num_frames=5, size=16, like=Like()).shape == (5, 16, 16, 3)
    for like in (object(), {"input_shape": (8, 64, 64, 3)}):
        with pytest.raises(ValueError, match="like must be a model of clips"):
            read_clip(numbered, like=like)
    with pytest.raises(ValueError, match="like='nano' names a builder, and no file; pass the model"):
        read_clip(numbered, like="nano")
