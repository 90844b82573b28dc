"""`video_list` on the lists that people's tools write: each form gives its clips, or an error with line and remedy."""

import json

import pytest

from keras_video_focalnet.data.datasets import video_list
from keras_video_focalnet.labels import load_labels

pytestmark = pytest.mark.backend_free

FILES = ("a.mp4", "b c.mp4", "b, c.mp4", "run/d.avi", "7.webm", "train/x_000010_000020.mp4", "long.mkv")
FRAMES = ("frames/one/img_00001.jpg", "frames/one/img_00002.jpg", "frames/two/img_00001.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed")
    for name in (*FILES, *FRAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def read(folder):
    def read(text, name="list.csv", **options):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return video_list(folder / name, **options)

    return read


def rows(videos, folder):
    """Path relative to the folder, name of the class or classes, start and end."""

    def name(label):
        several = isinstance(label, tuple)
        return tuple(videos.class_names[index] for index in label) if several else videos.class_names[label]

    return [(record.path.removeprefix(f"{folder}/"), name(record.label), record.start, record.end) for record in videos]


TWO = [("a.mp4", "run", None, None), ("b c.mp4", "jump", None, None)]
PARTS = [("a.mp4", "run", 1.5, 4.0), ("b c.mp4", "jump", None, 2.0)]
NUMBERS = [("a.mp4", "1", None, None), ("b c.mp4", "0", None, None)]
DIRECTORIES = [("frames/one", "1", None, None), ("frames/two", "0", None, None)]

FORMS = {
    "comma": ("path,label\na.mp4,run\nb c.mp4,jump\n", TWO),
    "semicolon": ("path;label\na.mp4;run\nb c.mp4;jump\n", TWO),
    "tab": ("path\tlabel\na.mp4\trun\nb c.mp4\tjump\n", TWO),
    "spaces": ('path label\na.mp4   run\n"b c.mp4" jump\n', TWO),
    "spaces, unquoted": ("path label\na.mp4 run\nb c.mp4 jump\n", TWO),
    "utf-16 of a table program": ("path\tlabel\r\na.mp4\trun\r\nb c.mp4\tjump\r\n".encode("utf-16"), TWO),
    "bom and crlf": (b"\xef\xbb\xbfpath,label\r\na.mp4,run\r\nb c.mp4,jump\r\n", TWO),
    "old mac": ("path,label\ra.mp4,run\rb c.mp4,jump\r", TWO),
    "quoted header": ('"Video Path","Class Name"\n"a.mp4","run"\n"b c.mp4","jump"\n', TWO),
    "columns in another order": ("label,fold,path,fps\nrun,1,a.mp4,25\njump,2,b c.mp4,30\n", TWO),
    "an index without a name": (",path,label\n0,a.mp4,run\n1,b c.mp4,jump\n", TWO),
    "class and its number": ("file,class,class_id\na.mp4,run,1\nb c.mp4,jump,0\n", TWO),
    "path and identifier": ("id,path,label\n3,a.mp4,run\n7,b c.mp4,jump\n", TWO),
    "identifier with an ending": ("video_id,label\na.mp4,run\nb c.mp4,jump\n", TWO),
    "times": ("path,label,start,end\na.mp4,run,1.5,4\nb c.mp4,jump,,2\n", PARTS),
    "times before": ("end;start;video;tag\n4;1.5;a.mp4;run\n2;;b c.mp4;jump\n", PARTS),
    "times without a header": ("a.mp4,run,1.5,4\nb c.mp4,jump,,2\n", PARTS),
    "times between spaces": ("a.mp4 run 1.5 4\nb c.mp4 jump 0 2\n", [PARTS[0], ("b c.mp4", "jump", 0.0, 2.0)]),
    "rows of nothing": ("path,label,fold\n,,\na.mp4,run,1\n\n,,\nb c.mp4,jump,2\n", TWO),
    "short rows": ("path,label,start,end\na.mp4,run,1.5,4\na.mp4,jump\n", [PARTS[0], ("a.mp4", "jump", None, None)]),
    "mmaction": ("a.mp4 1\nb c.mp4 0\n", NUMBERS),
    "mmaction, frames": ("frames/one 2 1\nframes/two 1 0\n", DIRECTORIES),
    "frames with commas": ("frames/one,2,1\nframes/two,1,0\n", DIRECTORIES),
    "frames with a header": ("frame_dir total_frames label\nframes/one 2 1\nframes/two 1 0\n", DIRECTORIES),
    "frames, path and label": ("frames/one 1\nframes/two 0\n", DIRECTORIES),
    "slowfast": ("a.mp4,1\nb c.mp4,0\n", NUMBERS),
    "json": ('[{"path": "a.mp4", "label": "run"},\n {"label": "jump", "path": "b c.mp4", "fps": 25}]', TWO),
    "json, times": (
        '[{"video": "a.mp4", "class": "run", "start": 1.5, "end": 4},'
        '{"video": "b c.mp4", "class": "jump", "start": null, "end": "2"}]',
        PARTS,
    ),
    "json lines": ('{"path": "a.mp4", "label": 1}\n\n{"path": "b c.mp4", "label": 0}\n', NUMBERS),
    "a path with commas": ('path,label\n"b, c.mp4",run\n', [("b, c.mp4", "run", None, None)]),
    "semicolons, a path with commas": ("b, c.mp4;run\n", [("b, c.mp4", "run", None, None)]),
    "tabs, a label of words": ("a.mp4\tplaying guitar\n", [("a.mp4", "playing guitar", None, None)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_list(read, folder, form):
    text, expected = FORMS[form]
    assert rows(read(text), folder) == expected


def test_kinetics(read, folder):
    header = "label,youtube_id,time_start,time_end,split\n"
    # One clip lies in the folder of its split and is a part already, one is a whole video, and one is not there.
    videos = read(header + '"playing guitar",x,10,20,train\nrun,long,3,13,train\nrun,gone,0,10,train\n')
    assert rows(videos, folder) == [
        ("train/x_000010_000020.mp4", "playing guitar", None, None),
        ("long.mkv", "run", 3.0, 13.0),
        ("gone_000000_000010.mp4", "run", None, None),
    ]


def test_something_something(read, folder):
    entry = {
        "id": "7",
        "label": "holding a cup in front of a wall",
        "template": "Holding [something] in front of [something]",
        "placeholders": ["a cup", "a wall"],
    }
    names = load_labels("ssv2")
    videos = read(json.dumps([entry], indent=1), "train.json", class_names=names)
    assert rows(videos, folder) == [("7.webm", "Holding something in front of something", None, None)]


def test_identifiers_that_fit_several_files(read, folder):
    (folder / "twice.mp4").touch()
    (folder / "twice.mkv").touch()
    with pytest.raises(ValueError, match=r"list\.csv:2: 'twice' may be any of .*twice\.mkv, .*remove all but one"):
        read("video_id,label\ntwice,run\n")


def test_splits_are_not_mixed(read, folder):
    text = "path,label,split\na.mp4,run,train\nb c.mp4,jump,val\nrun/d.avi,run,train\n"
    with pytest.raises(ValueError, match=r"list\.csv:3: the list holds several splits \('train', 'val'\).*pass split="):
        read(text)
    assert [record.path for record in read(text, split="val")] == [str(folder / "b c.mp4")]
    assert len(read(text, split="train")) == 2
    with pytest.raises(ValueError, match="split='test' is none of the list's splits; pass one of 'train', 'val'"):
        read(text, split="test")
    with pytest.raises(ValueError, match="split='test' is asked for, but the list has no column split"):
        read("path,label\na.mp4,run\n", split="test")


SEVERAL = [("a.mp4", ("jump", "run"), None, None), ("b c.mp4", ("jump",), None, None)]
MULTI_LABEL_FORMS = {
    "bars": "path,label\na.mp4,run | jump\nb c.mp4,jump\n",
    "bars without a header": "a.mp4,run|jump\nb c.mp4,jump\n",
    "columns": "path,label_1,label_2\na.mp4,run,jump\nb c.mp4,jump,\n",
    "columns of one name": "label,path,label\nrun,a.mp4,jump\n,b c.mp4,jump\n",
    "columns without a header": "a.mp4 run jump\nb c.mp4 jump\n",
    "json": '[{"path": "a.mp4", "labels": ["run", "jump", "run"]}, {"path": "b c.mp4", "labels": "jump"}]',
}


@pytest.mark.parametrize("form", MULTI_LABEL_FORMS)
def test_several_labels(read, folder, form):
    videos = read(MULTI_LABEL_FORMS[form], multi_label=True)
    assert videos.multi_label
    assert rows(videos, folder) == SEVERAL


def test_several_labels_as_numbers_and_none(read, folder):
    videos = read("a.mp4 1 3\nb c.mp4 0\n", multi_label=True)
    assert [record.label for record in videos] == [(1, 3), (0,)]
    assert videos.class_names == ("0", "1", "2", "3")
    videos = read('{"path": "a.mp4", "label": []}\n{"path": "b c.mp4", "label": ["run"]}', multi_label=True)
    assert [record.label for record in videos] == [(), (0,)]


def test_a_name_with_a_bar_is_one_label_where_it_is_a_class(read, folder):
    names = ("run|jump", "walk")
    assert rows(read("a.mp4,run|jump\n", class_names=names), folder) == [("a.mp4", "run|jump", None, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,run|jump\n", r":1: the label 'run\|jump' looks like several; pass multi_label=True"),
        ('a.mp4 "0,15"\n', r":1: the label '0,15' looks like several; pass multi_label=True"),
        ("path,label,label\na.mp4,run,jump\n", r":1: several columns hold labels .*pass multi_label=True"),
        ('[{"path": "a.mp4",\n "label": ["run"]}]', r":1: the label \['run'\] is no single one; pass multi_label"),
    ],
)
def test_several_labels_that_were_not_asked_for(read, text, message):
    with pytest.raises(ValueError, match=r"list\.csv" + message):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a.mp4 "0,15"\n', r":1: the label '0,15' looks like several; separate them by \|"),
        ("path,label\na.mp4,run\na.mp4,jump\n", r":3: .*a\.mp4 is listed at .*:2 already; write all its labels"),
        ("path,label\na.mp4,\n", r":2: the label is missing"),
        ("path,label\na.mp4,run||jump\n", r":2: the label is missing"),
        ("path,label1,label2\na.mp4,,\n", r":2: the label is missing"),
    ],
)
def test_several_labels_that_are_not_understood(read, text, message):
    with pytest.raises(ValueError, match=r"list\.csv" + message):
        read(text, multi_label=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Headers.
        (
            "title,genre\na.mp4,run\n",
            r":1: 'title, genre' is taken for a header, but no column names the video .*label",
        ),
        (
            "url,label\na.mp4,run\n",
            r":1: 'url, label' is taken for a header, .* the video \(such as path\)",
        ),
        ("path\na.mp4\n", r":1: 'path' is not path,label"),
        ("path,genre\na.mp4,run\n", r":1: .* no column names its class \(such as label\); name the columns path"),
        ("path,file,label\na.mp4,a.mp4,run\n", r":1: the columns 'path' and 'file' both name the video; rename"),
        ("path,class,action\na.mp4,x,run\n", r":1: the columns 'class' and 'action' both name the class; rename"),
        ("path,label,start,begin\na.mp4,x,1,2\n", r":1: the columns 'start' and 'begin' both name the start"),
        (
            "path,label,start_frame\na.mp4,x,1\n",
            r":1: the column 'start_frame' may bound a part .* name it start",
        ),
        ("\n# x\nfoo;bar\na.mp4;run\n", r":3: 'foo, bar' is taken for a header"),
        # Columns without a header.
        ("a.mp4,run,1\n", r":1: 'a\.mp4,run,1' has 3 values, and it is not said what they are; write a first line"),
        ("run,a.mp4\n", r":1: 'run,a\.mp4' has the name of a video in a column behind the first; write a first line"),
        ("a.mp4,b.mp4\n", r":1: 'a\.mp4,b\.mp4' has the name of a video in a column behind the first"),
        ("a.mp4 playing guitar\n", r":1: 'a\.mp4,playing,guitar' has 3 values, and it is not said"),
        ("a.mp4,run\nno_such_folder,run\n", r":2: 'no_such_folder' has no ending of a video and does not exist"),
        ("frames/one,0,1,3\n", r":1: 'frames/one,0,1,3' has 4 values"),
        ("run a.mp4 1\n", r":1: 'run,a\.mp4,1' has the name of a video in a column behind the first"),
        ("b  c.mp4 run\n", r":1: 'b,c\.mp4,run' has the name of a video .* double quotes"),
        ("a.mp4\t\t1\n", r":1: 'a\.mp4,,1' is not path,label"),
        ("run,run\na.mp4,run\n", r":1: .*run is a folder, but not of one video's frames"),
        # Values.
        ("path,label\na.mp4,run,3\n", r":2: 'a\.mp4,run,3' has 3 values for 2 columns; put what holds the delimiter"),
        ("path,label\nb, c.mp4,run\n", r":2: 'b,c\.mp4,run' has 3 values for 2 columns"),
        ("path,label\n\na.mp4,\n", r":3: the label is missing; fill it in or remove the line"),
        ("label,path\nrun\n", r":2: the path is missing"),
        (
            "path,label,start\na.mp4,run,1_0\n",
            r":2: start and end are no seconds: start must .* received '1_0'",
        ),
        ("path,label,end\na.mp4,run,inf\n", r":2: start and end are no seconds: end must be a number, received 'inf'"),
        (
            "path;label;start\na.mp4;run;1,5\n",
            r":2: start and end are no seconds: .* received '1,5'; write",
        ),
        ("path,label,start,end\na.mp4,run,4,1.5\n", r":2: .*end must lie after start"),
        ("path,label,start\na.mp4,run,-1\n", r":2: .*start must be None or seconds"),
        ("path,label\na.mp4,1.0\n", r":2: the label '1\.0' is a number but no integer; write integers or names"),
        ("path,label\na.mp4,99999999999999\n", r":2: the label 99999999999999 would be one of so many classes"),
        ("#a.mp4,run\na.mp4,run\n", r":1: #a\.mp4 is there, but lines that begin with # are comments"),
        # JSON.
        ('[{"path": "a.mp4", "label": "run"},\n{"path": "a.mp4"}]', r":2: the label is missing"),
        ('{"path": "a.mp4", "label": "run"}\n\n{"path": ', r":3 is not JSON"),
        ('[{"path": "a.mp4", "label": "run"}', r":1 is not JSON \(a comma or \] is missing\)"),
        ('[{"path": "a.mp4", "label": "run"}] x', r":1 is not JSON \(the list ends too early or too late\)"),
        ('[{"path": "a.mp4", "path": "b.mp4", "label": "run"}]', r":1 has the key 'path' twice"),
        ('[["a.mp4", "run"]]', r':1 is not a JSON object; write {"path"'),
        ('[{"path": "a.mp4", "label": true}]', r":1: the label must be text or an integer, received True"),
        ('[{"path": "a.mp4", "label": {"name": "run"}}]', r":1: the label .* is no single one"),
        ('[{"path": "a.mp4", "label": "x", "start": true}]', r":1: start and end are no seconds"),
        ("[" * 100_000, r":1 is not JSON \(RecursionError"),
        ('{"path": "a.mp4", "label": ' + "9" * 5000 + "}", r":1 is not JSON"),
    ],
)
def test_what_is_not_understood_is_an_error_with_line_and_remedy(read, folder, text, message):
    (folder / "#a.mp4").touch()
    with pytest.raises(ValueError, match=r"list\.csv" + message):
        read(text)


def test_labels_counted_from_one_are_told(read):
    with pytest.warns(UserWarning, match="labels run from 1 to 2, but they are indices from 0: class 0 has no video"):
        assert read("a.mp4,1\nb c.mp4,2\n").class_names == ("0", "1", "2")
