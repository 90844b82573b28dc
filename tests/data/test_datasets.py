"""`video_list`: list files and folders, and errors that say where and what."""

import os

import pytest

from keras_video_focalnet.data.datasets import VideoList, VideoRecord, video_list

pytestmark = [pytest.mark.backend_free, pytest.mark.filterwarnings("ignore:.*passed over")]


@pytest.fixture
def listed(tmp_path):
    """Writes a list file beside `a.mp4` and `b c.mp4` and reads it."""
    for name in ("a.mp4", "b c.mp4", "b, c.mp4"):
        (tmp_path / name).touch()

    def read(text, **arguments):
        file = tmp_path / "list.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return video_list(file, **arguments)

    return read


def rows(videos, folder):
    """Path relative to the folder, label, start and end of each."""
    return [(record.path.removeprefix(f"{folder}/"), record.label, record.start, record.end) for record in videos]


# ---- List files


def test_integer_labels(listed, tmp_path):
    videos = listed("a.mp4,2\nb c.mp4,0\n")
    assert rows(videos, tmp_path) == [("a.mp4", 2, None, None), ("b c.mp4", 0, None, None)]
    assert videos.class_names == ("0", "1", "2")


def test_names_as_labels_are_sorted(listed):
    videos = listed("a.mp4,walk\nb c.mp4,ride\na.mp4,walk\n")
    assert videos.class_names == ("ride", "walk")
    assert [record.label for record in videos] == [1, 0, 1]


def test_start_and_end_in_seconds(listed, tmp_path):
    videos = listed("path,label,start,end\na.mp4,0,1.5,4\na.mp4,0,,2\na.mp4,0,3,\na.mp4,0\n")
    assert [(start, end) for *_, start, end in rows(videos, tmp_path)] == [(1.5, 4), (None, 2), (3, None), (None, None)]


@pytest.mark.parametrize(
    "text",
    [
        '# a comment, "with a quote\n\npath,label\na.mp4,1\n\n"b, c.mp4",0\n',
        'Video, Label\n"a.mp4", 1\n"b, c.mp4", 0\n',
        b'\xef\xbb\xbffilename,label\r\na.mp4,1\r\n"b, c.mp4",0\r\n',
        'a.mp4,1\n   # late\n"b, c.mp4",0',
    ],
    ids=["comments", "spaces", "windows", "no header"],
)
def test_headers_comments_quotes_and_line_ends(listed, tmp_path, text):
    videos = listed(text)
    assert rows(videos, tmp_path) == [("a.mp4", 1, None, None), ("b, c.mp4", 0, None, None)]


def test_space_separated_lists_of_kinetics(listed, tmp_path):
    videos = listed("path label\na.mp4 1\nb c.mp4\t0\n")
    assert rows(videos, tmp_path) == [("a.mp4", 1, None, None), ("b c.mp4", 0, None, None)]


def test_paths_are_relative_to_the_list_or_to_root(listed, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.mp4").touch()
    absolute = tmp_path / "a.mp4"
    videos = listed(f"z.mp4,0\n{absolute},0\n", root=other)
    assert [record.path for record in videos] == [str(other / "z.mp4"), str(absolute)]


def test_a_missing_video_is_found_out_when_it_is_read(listed):
    assert len(listed("missing.mp4,0\na.mp4,0\n")) == 2


def test_a_validation_list_takes_the_classes_of_the_training_list(listed):
    training = listed("a.mp4,walk\na.mp4,ride\na.mp4,run\n")
    validation = listed("a.mp4,walk\n", class_names=training.class_names)
    assert validation.class_names == training.class_names
    assert validation[0].label == 2
    by_index = listed("a.mp4,1\n", class_names=training.class_names)
    assert by_index[0].label == 1


def test_class_names_that_are_integers_are_names(listed):
    names = ("1", "10", "2")
    assert [record.label for record in listed("a.mp4,10\na.mp4,2\n", class_names=names)] == [1, 2]
    assert [record.label for record in listed("a.mp4,0\na.mp4,2\n", class_names=names)] == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,0\nb, c.mp4,1,2,3,4\n", r"list\.csv:2: .* double quotes"),
        ("a.mp4,0\n\n,1\n", r"list\.csv:3: ',1' is not path,label"),
        ("a.mp4\n", r"list\.csv:1: 'a\.mp4' is not path,label"),
        ("a.mp4,0\nb c.mp4 1\n", r"list\.csv:2: 'b c\.mp4 1' is not path,label"),
        ("a.mp4,0,one,2\n", r"list\.csv:1: start and end are no seconds: .*'one'"),
        ("a.mp4,0,5,2\n", r"list\.csv:1: .*end must lie after start, received start=5\.0 and end=2\.0"),
        ("a.mp4,0,nan,2\n", r"list\.csv:1: .*received 'nan'"),
        ("a.mp4,0\n#\na.mp4,walk\n", r"list\.csv:3: the label 'walk' is a name while"),
        ("label,path\na.mp4,0\n", r"list\.csv:2: the label 'a\.mp4' is the name of a video; correct the names"),
        ("a.mp4,-1\n", r"list\.csv:1: the label -1 is none of the 1 classes; write an integer from 0 to 0"),
        ('a.mp4,0\n"b.mp4,1\n', r"list\.csv:2 is not CSV .*quotes"),
        ("path,label\n", r"list\.csv lists no video"),
        ("", r"list\.csv lists no video"),
        (b"a.mp4,\xff\xfe\n", r"list\.csv is not text in UTF-8"),
        ("x.mp4,0\ny.mp4,1\n", r"list\.csv:1: .*x\.mp4 does not exist.*pass root="),
    ],
)
def test_errors_name_line_value_and_remedy(listed, text, message):
    with pytest.raises(ValueError, match=message):
        listed(text)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("run", r"list\.csv:1: the class 'run' is none of the 2 that there are \(ride, walk\)"),
        ("2", r"list\.csv:1: the label 2 is none of the 2 classes; write an integer from 0 to 1"),
        ("-1", r"list\.csv:1: the label -1 is none"),
    ],
)
def test_a_label_outside_of_class_names(listed, label, message):
    with pytest.raises(ValueError, match=message):
        listed(f"a.mp4,{label}\n", class_names=("ride", "walk"))


# ---- Folders


@pytest.fixture
def folder(tmp_path):
    for name in ("walk/2.mp4", "walk/1.MKV", "ride/deep/er/3.webm", "walk/.hidden.mp4", "walk/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.mp4").touch()
    (tmp_path / "readme.txt").touch()
    return tmp_path


def test_a_sub_folder_a_class(folder):
    videos = video_list(folder)
    assert videos.class_names == ("ride", "walk")
    assert rows(videos, folder) == [
        ("ride/deep/er/3.webm", 0, None, None),
        ("walk/1.MKV", 1, None, None),
        ("walk/2.mp4", 1, None, None),
    ]


def test_a_validation_folder_may_lack_a_class(folder):
    names = ("run", "walk", "ride")
    assert {record.label for record in video_list(folder, class_names=names)} == {1, 2}
    (folder / "run").mkdir()
    assert len(video_list(folder, class_names=names)) == 3


def test_folders_that_are_not_understood(folder):
    with pytest.raises(ValueError, match=r"walk: the class 'walk' is none of the 1 that there are \(ride\)"):
        video_list(folder, class_names=("ride",))
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no video \(.*\.mp4.*\); fill or remove the folder"):
        video_list(folder)
    with pytest.raises(ValueError, match="holds no video; give every class a sub-folder"):
        video_list(folder / "empty")
    (folder / "stray.mp4").touch()
    with pytest.raises(ValueError, match=r"stray\.mp4 lies in no class's folder; move it"):
        video_list(folder)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv does not exist; pass a list file"):
        video_list(tmp_path / "nothing.csv")


# ---- Lists made by hand


def test_a_video_list_is_a_sequence():
    videos = VideoList([VideoRecord("a", 0), VideoRecord("b", 1)], ["x", "y"])
    assert [record.path for record in videos] == ["a", "b"]
    assert videos[-1].label == 1
    assert VideoRecord("b", 1) in videos


@pytest.mark.parametrize(
    ("records", "names", "message"),
    [
        ([], ["x"], "records is empty"),
        ([VideoRecord("a", 1)], ["x"], "gives a the label 1 but class_names has 1 names; pass labels from 0 to 0"),
        ([VideoRecord("a", 0)], ["x", "y", "x"], "class_names holds 'x' more than once"),
        ([VideoRecord("a", 0)], "walk", "must be a list of names, received the string 'walk'"),
    ],
)
def test_a_video_list_checks_what_it_is_given(records, names, message):
    with pytest.raises(ValueError, match=message):
        VideoList(records, names)


def test_sources_are_paths_of_any_kind(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text("path,label\na.mp4,run\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (tmp_path / "list.csv", os.fsencode(tmp_path / "list.csv"), "~/list.csv"):
        assert [record.path for record in video_list(source)] == [str(tmp_path / "a.mp4")]
    assert len(video_list("~/list.csv", root="~")) == 1
