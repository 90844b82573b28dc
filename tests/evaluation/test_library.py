"""Which videos a folder or a list holds."""

import os

import pytest

from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.library import LibraryVideo, library_videos

pytestmark = pytest.mark.backend_free


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(*arguments, **options):
    return [(os.path.basename(video.path), video.label) for video in library_videos(*arguments, **options)]


def test_a_folder_of_any_depth(tmp_path):
    touch(tmp_path, "b.mp4", "a.MKV", "run/c.mp4", "run/deep/d.avi", "notes.txt", ".hidden.mp4", "__MACOSX/e.mp4")
    touch(tmp_path, "walk/f/img_00001.jpg", "walk/f/img_00002.jpg", "g/00001.png")
    os.symlink(tmp_path / "run", tmp_path / "run" / "round")
    expected = [("a.MKV", None), ("b.mp4", None), ("g", None), ("c.mp4", "run"), ("d.avi", "run"), ("f", "walk")]
    assert found(tmp_path) == expected
    assert found(tmp_path / "g") == [("g", None)]
    assert found(tmp_path / "b.mp4") == [("b.mp4", None)]


def test_lists(tmp_path):
    touch(tmp_path, "a.mp4", "b c.mp4")
    paths, labelled = tmp_path / "paths.txt", tmp_path / "labelled.csv"
    for text in ("a.mp4\nb c.mp4\n", "# mine\npath\n\na.mp4\nb c.mp4"):
        paths.write_text(text)
        assert found(paths) == [("a.mp4", None), ("b c.mp4", None)]
    labelled.write_text("path,label,start,end\na.mp4,run,1,2\na.mp4,run,2,3\nb c.mp4,walk,,\n")
    assert found(labelled) == [("a.mp4", "run"), ("a.mp4", "run"), ("b c.mp4", "walk")]
    assert library_videos(labelled)[1] == LibraryVideo(str(tmp_path / "a.mp4"), "run", 2.0, 3.0)
    labelled.write_text("path,label\na.mp4,run|jump\n")
    assert found(labelled, multi_label=True) == [("a.mp4", "jump|run")]
    assert found(VideoList([VideoRecord("x.mp4", 1)], ["u", "v"])) == [("x.mp4", "v")]
    assert found([tmp_path / "a.mp4", LibraryVideo("y.mp4", "z")]) == [("a.mp4", None), ("y.mp4", "z")]


def test_a_video_that_is_listed_twice_is_taken_once_and_told():
    with pytest.warns(UserWarning, match=r"1 entry is of videos that are listed before .* a\.mp4"):
        assert found(["a.mp4", "b.mp4", "a.mp4"]) == [("a.mp4", None), ("b.mp4", None)]
    videos = [LibraryVideo("a.mp4", "run"), LibraryVideo("a.mp4", "walk")]
    with pytest.raises(ValueError, match="with the label 'run' and with 'walk'"):
        library_videos(videos)


def test_bad_arguments(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n# nothing\n")
    for arguments, message in (
        ([tmp_path], "holds no video"),
        ([empty], "lists no video"),
        ([[]], "videos is empty"),
        ([tmp_path, tmp_path], "has no root"),
    ):
        with pytest.raises(ValueError, match=message):
            library_videos(*arguments)
    with pytest.raises(FileNotFoundError, match="pass a folder of videos or a list file"):
        library_videos(tmp_path / "nothing")
