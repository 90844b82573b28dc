"""`decoder="tensorflow-io"`: told what it needs where it does not load; a stand-in plays the package itself."""

import io
import sys
import types

import numpy as np
import pytest

from keras_video_focalnet.data.clip import read_clip, read_frames
from tests.clips import encode, numbered_frames

pytestmark = pytest.mark.backend_free

NEEDS = (
    r"needs tensorflow-io 0.37.1, TensorFlow 2.16 and the libraries of FFmpeg 4; here it fails \(.*use decoder=\"pyav\""
)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "video.mp4", numbered_frames(20))


@pytest.fixture
def stand_in(monkeypatch):
    """Function that puts another `decode_video` in tensorflow-io's place."""

    class OpError(Exception):
        message = "unable to open"

    def install(decode_video):
        tensorflow = types.ModuleType("tensorflow")
        tensorflow.constant = io.BytesIO
        tensorflow.errors = types.SimpleNamespace(OpError=OpError)
        package = types.ModuleType("tensorflow_io")
        ffmpeg = types.SimpleNamespace(decode_video=lambda data: decode_video(data, OpError))
        package.experimental = types.SimpleNamespace(ffmpeg=ffmpeg)
        monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
        monkeypatch.setitem(sys.modules, "tensorflow_io", package)

    return install


@pytest.mark.parametrize("read", [read_clip, read_frames])
def test_wrong_arguments(video, read):
    with pytest.raises(ValueError, match='decoder must be one of "pyav", "tensorflow-io"; received \'decord\''):
        read(video, decoder="decord")
    with pytest.raises(ValueError, match='"tensorflow-io" gives no times, received start=1, end=None; use "pyav"'):
        read(video, start=1, decoder="tensorflow-io")
    with pytest.raises(FileNotFoundError, match="no_such_file.mp4 does not exist"):
        read("no_such_file.mp4", decoder="tensorflow-io")


@pytest.mark.parametrize("read", [read_clip, read_frames])
def test_what_it_needs_is_told_where_it_is_not_installed(video, monkeypatch, read):
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(ImportError, match=NEEDS):
        read(video, decoder="tensorflow-io")


def test_what_it_needs_is_told_where_its_libraries_do_not_load(video, stand_in):
    def decode_video(data, _):
        raise NotImplementedError("could not find ffmpeg")

    stand_in(decode_video)
    with pytest.raises(ImportError, match=NEEDS):
        read_frames(video, decoder="tensorflow-io")


def test_a_file_that_it_cannot_decode_is_named(video, stand_in):
    def decode_video(data, error):
        raise error

    stand_in(decode_video)
    with pytest.raises(ValueError, match=r"video\.mp4 is not a video that tensorflow-io can read \(unable to open\)"):
        read_frames(video, decoder="tensorflow-io")


def test_its_frames_are_taken_as_those_of_pyav(video, stand_in):
    stand_in(lambda data, _: types.SimpleNamespace(numpy=lambda: read_frames(data)))
    np.testing.assert_array_equal(
        read_frames(video, lambda total: [total - 1, 5], short_side=24, decoder="tensorflow-io"),
        read_frames(video, [19, 5], short_side=24),
    )
    np.testing.assert_array_equal(read_clip(video, size=32, decoder="tensorflow-io"), read_clip(video, size=32))
    with pytest.raises(ValueError, match=r"indices asks for frame 20 but .*video\.mp4 has 20"):
        read_frames(video, [20], decoder="tensorflow-io")
