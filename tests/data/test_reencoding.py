"""Videos are made small as `VideoReader` reads them, folders of frames too."""

import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.data.clip import read_frames
from keras_video_focalnet.data.reencoding import UnreadableVideoError, reencode
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, number_of, numbered_frames

pytestmark = pytest.mark.backend_free


def test_a_video_keeps_its_frames_and_times(tmp_path):
    source = encode(tmp_path / "a.mkv", numbered_frames(12, 96, 128), times=[0, 1, 4, *range(6, 15)])
    told = reencode(source, tmp_path / "b.mp4", short_side=48)
    assert told == {"frames": 12, "height": 48, "width": 64}
    with VideoReader(source) as before, VideoReader(tmp_path / "b.mp4") as after:
        np.testing.assert_allclose(after.times, before.times, atol=1e-3)
        assert [number_of(picture) for picture in after] == list(range(12))


def test_a_folder_of_frames_becomes_a_video(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(numbered_frames(5, 96, 128)):
        Image.fromarray(picture).save(folder / f"img_{number:05}.png")
    assert reencode(folder, tmp_path / "b.mp4", short_side=48, fps=10)["frames"] == 5
    assert [number_of(picture) for picture in read_frames(tmp_path / "b.mp4")] == list(range(5))


def test_what_cannot_be_read_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "page.mp4").write_text("<html>")
    with pytest.raises(UnreadableVideoError, match=r"page\.mp4 is not a video"):
        reencode(tmp_path / "page.mp4", tmp_path / "b.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["page.mp4"]
