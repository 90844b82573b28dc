"""Lists of labelled videos: from a list file, or from a folder with one sub-folder a class."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Sequence

from keras_video_focalnet.data.video import check_window

VIDEO_ENDINGS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""Endings, in lower case, of the files that are taken for videos in a folder."""

# What the first cell of a list's first line says where it names the columns.
HEADER_CELLS = frozenset({"path", "video", "video_path", "file", "filename"})
# Or the second.
LABEL_CELLS = frozenset({"label", "labels", "class", "class_name", "target"})
# As many videos as are looked for before a list is taken to lie in another folder.
LOOKED_FOR = 20


@dataclasses.dataclass(frozen=True, slots=True)
class VideoRecord:
    """One labelled video, or a part of one.

    Attributes:
        path: Path of the file.
        label: Index of its class.
        start: Seconds from the beginning at which the part begins; None for the beginning.
        end: Seconds from the beginning before which it stops; None for the end.
    """

    path: str
    label: int
    start: float | None = None
    end: float | None = None


class VideoList(Sequence):
    """Labelled videos in a fixed order, with the names of their classes.

    Args:
        records: `VideoRecord`s, at least one.
        class_names: Names of the classes; a label is an index into them.

    Raises:
        ValueError: There is no record, a name occurs twice, or a label is no index of `class_names`.

    Example:
        >>> videos = VideoList([VideoRecord("a.mp4", 1), VideoRecord("b.mp4", 0)], ["left", "right"])
        >>> len(videos), videos[0].path, videos.class_names
        (2, 'a.mp4', ('left', 'right'))
    """

    def __init__(self, records, class_names):
        self.records = tuple(records)
        self.class_names = _distinct(class_names)
        if not self.records:
            raise ValueError("records is empty; pass at least one VideoRecord.")
        for record in self.records:
            if not 0 <= record.label < len(self.class_names):
                raise ValueError(
                    f"records gives {record.path} the label {record.label} but class_names has "
                    f"{len(self.class_names)} names; pass labels from 0 to {len(self.class_names) - 1}."
                )

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def __repr__(self):
        return f"<VideoList: {len(self)} videos of {len(self.class_names)} classes>"


def video_list(source, root=None, class_names=None):
    """The labelled videos of a list file or of a folder.

    A **list file** has one video a line, `path,label` or `path,label,start,end`, as CSV: what holds a comma is put in
    double quotes. `start` and `end` are seconds and may be empty. A list without any comma, `path label`, is read too:
    its label is the last word of the line, and the path may hold spaces. A first line that names the columns, empty
    lines and lines that begin with `#` are passed over. Labels are either all integers, indices of the classes from 0,
    or all names.

    A **folder** has one sub-folder a class, whose name is the class's. Every file in it with the ending of a video
    (`VIDEO_ENDINGS`), also in deeper folders, is one video; files and folders whose name begins with a dot are passed
    over.

    Whether a file can be read is found out when it is read. Only where none of the first few is there, the list is
    taken to be relative to another folder.

    Args:
        source: Path of a list file or of a folder.
        root: Folder that the relative paths of a list file begin in; None for the folder that the list file is in.
        class_names: Names of the classes in the order of the model's outputs: for a validation list
            `training_list.class_names`. None takes the names that occur, sorted; for integer labels the integers from
            0 to the highest.

    Returns:
        A `VideoList`, in the order of the file, or by class and path.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: A line or a folder is not of that form, or a label is not among `class_names`. The message names the
            file and line, the value, and what to do.

    Example:
        >>> import pathlib
        >>> lines = ["path,label", "bikes.mp4,ride", "bikes.mp4,walk,1.5,4"]
        >>> _ = pathlib.Path("train.csv").write_text(chr(10).join(lines))
        >>> videos = video_list("train.csv")
        >>> videos.class_names
        ('ride', 'walk')
        >>> videos[1]
        VideoRecord(path='bikes.mp4', label=1, start=1.5, end=4.0)
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; pass a list file (path,label) or a folder of class folders.")
    if class_names is not None:
        class_names = _distinct(class_names)
    if source.is_dir():
        return _from_folder(source, class_names)
    return _from_file(source, source.parent if root is None else root, class_names)


def _distinct(class_names):
    """The names as a tuple, or an error that names the one that occurs twice."""
    if isinstance(class_names, str):
        raise ValueError(f"class_names must be a list of names, received the string {class_names!r}.")
    names = tuple(class_names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"class_names holds {twice!r} more than once; give every class a name of its own.")
    return names


def _from_folder(folder, class_names):
    """One class a sub-folder."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    stray = next((entry for entry in entries if _is_video(entry.name) and entry.is_file()), None)
    if stray is not None:
        raise ValueError(f"{stray} lies in no class's folder; move it into {folder}/NAME_OF_ITS_CLASS/.")
    found = {entry.name: _videos_below(entry) for entry in entries if entry.is_dir()}
    if class_names is None:
        bare = next((name for name, paths in found.items() if not paths), None)
        if bare is not None:
            raise ValueError(f"{folder / bare} holds no video ({_endings()}); fill or remove the folder.")
        class_names = tuple(found)
    labels = {name: index for index, name in enumerate(class_names)}
    for name in found:
        if name not in labels:
            raise ValueError(f"{folder / name}: {_unknown(name, class_names)}")
    records = [VideoRecord(path, labels[name]) for name, paths in found.items() for path in paths]
    if not records:
        raise ValueError(f"{folder} holds no video; give every class a sub-folder with its videos ({_endings()}).")
    return VideoList(records, class_names)


def _videos_below(folder):
    """Paths of all the videos in a folder and in those within it, sorted."""
    paths = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [os.path.join(place, name) for name in files if _is_video(name)]
    return sorted(paths)


def _is_video(name):
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_ENDINGS


def _endings():
    return ", ".join(sorted(VIDEO_ENDINGS))


def _from_file(file, root, class_names):
    """One video a line."""
    rows = list(_rows(file))
    if rows and _is_header(*(cell.strip().lower() for cell in rows[0][1][:2])):
        del rows[0]
    if not rows:
        raise ValueError(f"{file} lists no video; write one line, path,label, for each.")
    parsed = [_parse(place, cells) for place, cells in rows]
    class_names, labels = _labels([(place, label) for place, _, label, _, _ in parsed], class_names)
    records = [
        VideoRecord(str(pathlib.Path(root, path)), label, start, end)
        for (_, path, _, start, end), label in zip(parsed, labels, strict=True)
    ]
    if not any(os.path.exists(record.path) for record in records[:LOOKED_FOR]):
        raise ValueError(
            f"{rows[0][0]}: {records[0].path} does not exist, nor do those that follow it; pass root=, the folder that "
            "the paths of the list begin in."
        )
    return VideoList(records, class_names)


def _is_header(path, label=""):
    """Whether a first line names the columns."""
    return path in HEADER_CELLS or label in LABEL_CELLS and not _is_video(path)


def _rows(file):
    """`(place, cells)` of every line that is neither empty nor a comment."""
    reader = None
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            text = ["\n" if line.lstrip().startswith("#") else line for line in lines]
        if not any("," in line for line in text):
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield f"{file}:{number}", line.rsplit(None, 1)
            return
        reader = csv.reader(text, skipinitialspace=True, strict=True)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{file}:{reader.line_num}", cells
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 ({error.reason}); pass a list file, path,label.") from error
    except csv.Error as error:
        raise ValueError(f"{file}:{reader.line_num} is not CSV ({error}); check its quotes.") from error


def _parse(place, cells):
    """`(place, path, label, start, end)` of one line, the label still as text."""
    cells = [cell.strip() for cell in cells]
    if not 2 <= len(cells) <= 4 or not cells[0] or not cells[1]:
        raise ValueError(
            f"{place}: {','.join(cells)!r} is not path,label or path,label,start,end; put a path that holds a comma in "
            "double quotes."
        )
    try:
        start, end = [float(cell) if cell else None for cell in (cells[2:] + ["", ""])[:2]]
        check_window(start, end)
    except ValueError as error:
        raise ValueError(f"{place}: start and end are no seconds: {error}") from error
    return place, cells[0], cells[1], start, end


def _labels(labels, class_names):
    """The class names, and the index of each of the labels, `(place, text)`."""
    integers = [_is_integer(text) for _, text in labels]
    if class_names is None and any(integers):
        for (place, text), integer in zip(labels, integers, strict=True):
            if not integer:
                raise ValueError(
                    f"{place}: the label {text!r} is a name while other lines have integers; use one or the other, or "
                    "pass class_names= if the integers are names."
                )
        class_names = tuple(str(index) for index in range(max(0, *(int(text) for _, text in labels)) + 1))
    elif class_names is None:
        class_names = tuple(sorted({text for _, text in labels}))
    named = {name: index for index, name in enumerate(class_names)}
    # Names that are integers stand for themselves.
    by_index = all(integers) and not all(text in named for _, text in labels)
    return class_names, [_label(place, text, named, by_index) for place, text in labels]


def _label(place, text, named, by_index):
    """The index of one label."""
    if by_index:
        index = int(text)
        if not 0 <= index < len(named):
            raise ValueError(
                f"{place}: the label {index} is none of the {len(named)} classes; write an integer from 0 to "
                f"{len(named) - 1}."
            )
        return index
    if text not in named:
        raise ValueError(f"{place}: {_unknown(text, tuple(named))}")
    return named[text]


def _is_integer(text):
    return text.removeprefix("-").isdecimal()


def _unknown(name, class_names):
    """What is wrong with a name that is not among the classes."""
    some = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
    return f"the class {name!r} is none of the {len(class_names)} in class_names ({some}); correct or remove it."
