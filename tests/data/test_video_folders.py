"""`video_list` on folders: links, helper folders, frame folders, sets instead of classes, and what is passed over."""

import warnings

import pytest

from keras_video_focalnet.data.datasets import video_list
from keras_video_focalnet.data.frame_folder import is_frame_folder

pytestmark = pytest.mark.backend_free


def make(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def paths(root, **options):
    """The paths relative to the folder; nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [record.path.removeprefix(f"{root}/") for record in video_list(root, **options)]


@pytest.fixture
def classes(tmp_path):
    return make(tmp_path / "data", "run/1.mp4", "jump/1.mp4")


def test_linked_folders_and_files_are_followed(classes, tmp_path):
    make(tmp_path / "disk", "2.mp4", "deep/3.mp4")
    (classes / "run" / "session").symlink_to(tmp_path / "disk")
    (classes / "jump" / "2.mp4").symlink_to(tmp_path / "disk" / "2.mp4")
    (classes / "walk").symlink_to(make(tmp_path / "elsewhere", "4.mp4"))
    expected = ["jump/1.mp4", "jump/2.mp4", "run/1.mp4", "run/session/2.mp4", "run/session/deep/3.mp4", "walk/4.mp4"]
    assert paths(classes) == expected


def test_links_in_a_circle_end(classes):
    (classes / "run" / "deep").mkdir()
    for name, target in (("self", "."), ("root", ".."), ("deep/up", ".."), ("twice", "deep")):
        (classes / "run" / name).symlink_to(target)
    make(classes, "run/deep/2.mp4")
    assert paths(classes) == ["jump/1.mp4", "run/1.mp4", "run/deep/2.mp4"]


def test_a_folder_in_two_classes_is_refused(classes):
    (classes / "run" / "others").symlink_to(classes / "jump")
    with pytest.raises(ValueError, match=r"run/others belongs to the class 'jump' too, by a link; remove the link"):
        video_list(classes)


def test_a_link_to_nothing_is_a_video_that_cannot_be_read(classes):
    (classes / "run" / "gone.mp4").symlink_to("nowhere.mp4")
    assert "run/gone.mp4" in paths(classes)


@pytest.mark.parametrize(
    "name", ["__MACOSX", "__pycache__", "@eaDir", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN", "lost+found"]
)
def test_what_systems_make_is_no_class(classes, name):
    make(classes, f"{name}/1.mp4", f"run/{name}/2.mp4", ".DS_Store", "run/.DS_Store", "run/._1.mp4", "run/Thumbs.db")
    assert paths(classes) == ["jump/1.mp4", "run/1.mp4"]


@pytest.mark.parametrize("ending", [".MP4", ".gif", ".3g2", ".qt", ".ogg", ".Mov", ".m2v", ".mxf"])
def test_endings_in_any_case(classes, ending):
    make(classes, f"run/2{ending}")
    assert paths(classes) == ["jump/1.mp4", "run/1.mp4", f"run/2{ending}"]


def test_what_is_passed_over_is_told_once_with_its_count(classes):
    make(classes, "readme.txt", "run/1.txt", "run/2.txt", "jump/poster.jpg", "jump/deep/noending")
    with pytest.warns(UserWarning) as caught:
        assert len(video_list(classes)) == 2
    (warning,) = caught
    message = str(warning.message)
    assert "5 files that are no videos are passed over (3 with .txt, 1 with .jpg, 1 with no ending)" in message
    assert str(classes) in message
    assert warning.filename == __file__


@pytest.mark.parametrize(
    "files",
    [
        ("train/run/1.mp4", "train/jump/1.mp4", "val/run/2.mp4"),
        ("train/1.mp4", "Test/2.mp4"),
        ("training/run/1.mp4", "validation/run/1.mp4", "annotations/notes.txt"),
        ("train/run/1.mp4", "val/run/2.mp4", "test/run/3.mp4", "extra/1.mp4"),
    ],
)
def test_sets_are_no_classes(tmp_path, files):
    root = make(tmp_path, *files)
    with pytest.raises(ValueError, match="which are sets and no classes; pass .*/train(ing)? to train .* to validate"):
        video_list(root)
    with pytest.raises(ValueError, match="which are sets and no classes"):
        video_list(root, class_names=["run", "jump"])


def test_sets_may_be_classes_by_name(tmp_path):
    root = make(tmp_path, "train/1.mp4", "test/2.mp4")
    assert video_list(root, class_names=["test", "train"]).class_names == ("test", "train")
    other = make(tmp_path / "vehicles", "train/1.mp4", "bus/2.mp4")
    assert video_list(other).class_names == ("bus", "train")


def test_one_folder_around_the_classes_is_refused(tmp_path):
    root = make(tmp_path, "UCF/run/1.mp4", "UCF/jump/2.mp4")
    with pytest.raises(ValueError, match=r"one sub-folder alone, and there in deeper folders; pass .*UCF if these are"):
        video_list(root)
    assert video_list(root, class_names=["UCF"]).class_names == ("UCF",)
    assert video_list(root / "UCF").class_names == ("jump", "run")


def test_frames_of_a_video_are_one_video(classes):
    make(classes, "run/clip/img_00001.jpg", "run/clip/img_00002.JPG", "run/deep/b/000.png", "run/clip/.DS_Store")
    assert paths(classes) == ["jump/1.mp4", "run/1.mp4", "run/clip", "run/deep/b"]


def test_frames_without_a_folder_of_their_own_are_refused(tmp_path):
    root = make(tmp_path, "run/img_00001.jpg", "run/img_00002.jpg", "jump/1.mp4")
    with pytest.raises(ValueError, match="run holds numbered pictures .*; put the pictures of each"):
        video_list(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["img_00001.jpg", "img_00002.jpeg", "3.PNG"], True),
        (["img_00001.jpg", "notes.txt", ".hidden"], True),
        (["img_00001.jpg", "cover.jpg"], False),
        (["img_00001.jpg", "1.mp4"], False),
        (["img_00001.jpg", "deep/img_00001.jpg"], False),
        (["notes.txt"], False),
        ([], False),
    ],
)
def test_what_a_frame_folder_is(tmp_path, files, expected):
    folder = tmp_path / "frames"
    folder.mkdir()
    assert is_frame_folder(make(folder, *files)) is expected


def test_a_file_is_no_frame_folder(tmp_path):
    make(tmp_path, "1.jpg")
    assert not is_frame_folder(tmp_path / "1.jpg")
    assert not is_frame_folder(tmp_path / "nothing")


def test_a_folder_has_neither_several_labels_nor_splits(classes):
    for options in ({"multi_label": True}, {"split": "train"}):
        with pytest.raises(ValueError, match="one label a video and no splits; pass a list file"):
            video_list(classes, **options)
