"""Any list gives the clips and labels of a plain reading by pandas, or an error that names a line and a remedy."""

import csv
import io
import json
import re

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_video_focalnet.data.datasets import video_list

pytestmark = pytest.mark.backend_free

PATH_NAMES = ("path", "Video Path", "file_name", "video", "clip-name", "name")
LABEL_NAMES = ("label", "Class", "class_name", "category", "action", "tag")
START_NAMES, END_NAMES = ("start", "time_start", "Begin"), ("end", "time_end", "stop_time")
OTHERS = ("fold", "fps", "num_frames", "duration", "comment", "")
NAMES = tuple(f"{name}.mp4" for name in ("a", "b c", "b, c", 'q"q', "s;t", "t\tt", "ä", "x|y")) + ("sub/d.MKV",)
LABELS = ("run", "jump", "playing guitar", 'say "x"', "a, b", "a; b", "ü", "0a")
REMEDY = re.compile("; (write|put|fill|pass|name|use|list|correct|rename|remove|check|repair) |Swap or widen them")
SECONDS = st.one_of(st.just(""), st.integers(0, 40).map(str), st.floats(0, 40).map(lambda value: f"{value:.3f}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed")
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


@st.composite
def tables(draw):
    """Names of columns and rows of text, some of whose values are missing or wrong."""
    columns = [draw(st.sampled_from(PATH_NAMES)), draw(st.sampled_from(LABEL_NAMES))]
    labels = draw(st.sampled_from([st.sampled_from(LABELS), st.integers(0, 12).map(str)]))
    values = [st.sampled_from(NAMES), labels]
    for names in (START_NAMES, END_NAMES):
        if draw(st.booleans()):
            columns.append(draw(st.sampled_from(names)))
            values.append(SECONDS)
    for name in draw(st.lists(st.sampled_from(OTHERS), unique=True, max_size=3)):
        columns.append(name)
        values.append(st.one_of(st.integers(0, 300).map(str), st.sampled_from(["", "x", "1, 2", "a b"])))
    if draw(st.integers(0, 3)) == 0:
        values = [st.one_of(value, st.just("")) for value in values]
    order = draw(st.permutations(range(len(columns))))
    # A row of nothing is passed over like an empty line.
    rows = draw(st.lists(st.tuples(*values).filter(any), min_size=1, max_size=6))
    return [columns[place] for place in order], [[row[place] for place in order] for row in rows]


def plain_reading(text, delimiter):
    """`(path, label, start, end)` of every row as pandas reads them, and what is wrong with the first bad one."""
    frame = pandas.read_csv(io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False, skipinitialspace=True)

    def column(names):
        found = next((name for name in frame.columns if name in names), None)
        return [""] * len(frame) if found is None else list(frame[found])

    rows = list(zip(*map(column, (PATH_NAMES, LABEL_NAMES, START_NAMES, END_NAMES)), strict=True))
    clips = []
    for path, label, start, end in rows:
        start, end = (float(value) if value else None for value in (start, end))
        wrong = not path or not label or (start is not None and end is not None and end <= start)
        clips.append(None if wrong else (path, label, start, end))
    return clips


def clips_of(videos, folder):
    return [
        (record.path.removeprefix(f"{folder}/"), videos.class_names[record.label], record.start, record.end)
        for record in videos
    ]


def check(file, folder, expected, **options):
    """The clips that are expected, or where some are wrong an error that names the line and what to do."""
    if None in expected:
        with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}:\d+") as error:
            video_list(file, **options)
        assert REMEDY.search(str(error.value)), error.value
        return str(error.value)
    videos = video_list(file, **options)
    assert clips_of(videos, folder) == expected
    labels = {label for _, label, _, _ in expected}
    integers = all(map(str.isdecimal, labels))
    names = map(str, range(max(map(int, labels)) + 1)) if integers else sorted(labels)
    assert videos.class_names == tuple(names)
    return None


@pytest.mark.filterwarnings("ignore:.*labels run from 1")
@settings(max_examples=300)
@given(
    table=tables(),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
@example((["path", "start", "end", "label"], [["a.mp4", "0", "2", "5"]]), ",", csv.QUOTE_MINIMAL, "\n", False)
def test_a_list_with_a_header(folder, table, delimiter, quoting, line_end, bom):
    names, rows = table
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end).writerows([names, *rows])
    text = text.getvalue()
    file = folder / "list.csv"
    file.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    expected = plain_reading(text, delimiter)
    message = check(file, folder, expected)
    if message:
        # The line of the first bad row, below the header.
        assert message.startswith(f"{file}:{expected.index(None) + 2}:"), message


@pytest.mark.filterwarnings("ignore:.*labels run from 1")
@settings(max_examples=100)
@given(table=tables(), lines=st.booleans())
def test_json_with_the_same_columns(folder, table, lines):
    names, rows = table
    frame = pandas.DataFrame(rows, columns=names)
    text = frame.to_json(orient="records", lines=lines)
    file = folder / "list.json"
    file.write_text(text)
    delimited = io.StringIO()
    csv.writer(delimited).writerows([names, *rows])
    message = check(file, folder, plain_reading(delimited.getvalue(), ","))
    if message and lines:
        assert message.startswith(f"{file}:{plain_reading(delimited.getvalue(), ',').index(None) + 1}:"), message
    assert len(json.loads(text) if not lines else text.strip().split("\n")) == len(rows)


# Without a header: either the documented columns, or an error; never other clips.
CELLS = st.sampled_from(["a.mp4", "b c.mp4", "sub/d.MKV", "run", "jump", "1", "0", "2.5", "sub", "", "gone", "x y"])


@pytest.mark.filterwarnings("ignore:.*labels run from 1")
@settings(max_examples=400)
@example([["a.mp4", "run"], ["a.mp4", "run"], ["run", "a.mp4", "run"]], " ")
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=4), delimiter=st.sampled_from(" ,;\t")
)
def test_a_list_without_a_header(folder, rows, delimiter):
    width = max(map(len, rows))
    rows = [row + [""] * (width - len(row)) for row in rows] if delimiter != " " else rows
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    file = folder / "plain.txt"
    file.write_text(text.getvalue())
    try:
        videos = video_list(file)
    except ValueError as error:
        assert re.match(rf"{re.escape(str(file))}(:\d+| lists no video)", str(error)), error
        assert REMEDY.search(str(error)), error
        return
    separator = r"\s+" if delimiter == " " else delimiter
    frame = pandas.read_csv(
        file, sep=separator, header=None, names=["path", "label", "start", "end"], dtype=str, keep_default_na=False
    )
    frame = frame[(frame != "").any(axis=1)]
    expected = [
        (path, label, *(float(second) if second else None for second in seconds))
        for path, label, *seconds in frame.fillna("").itertuples(index=False)
    ]
    assert clips_of(videos, folder) == expected


@settings(max_examples=100)
@given(
    found=st.dictionaries(
        st.sampled_from(["run", "jump", "ü"]), st.sets(st.sampled_from(NAMES), min_size=1), min_size=1
    )
)
def test_a_folder_gives_what_a_table_of_its_files_gives(tmp_path_factory, found):
    root = tmp_path_factory.mktemp("classes")
    for name, files in found.items():
        for file in files:
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).touch()
        (root / name / "direct.mp4").touch()
    table = pandas.DataFrame(
        [(str(path), path.relative_to(root).parts[0]) for path in root.rglob("*") if path.is_file()],
        columns=["path", "label"],
    ).sort_values(["label", "path"])
    videos = video_list(root)
    assert [record.path for record in videos] == list(table["path"])
    assert [videos.class_names[record.label] for record in videos] == list(table["label"])
