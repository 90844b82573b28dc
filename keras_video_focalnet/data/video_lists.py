"""List files: which videos, parts and labels they list, for the forms of list that people's tools write."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterable

from keras_video_focalnet.data.frame_folder import is_frame_folder
from keras_video_focalnet.data.list_tables import Table, read_table
from keras_video_focalnet.data.video import check_window
from keras_video_focalnet.data.video_names import is_video_name

# As many videos as are looked for before a list is taken to lie in another folder.
LOOKED_FOR = 20
SEVERAL = re.compile(r"\d+(\s*,\s*\d+)+")


@dataclasses.dataclass(frozen=True, slots=True)
class ListedVideo:
    """One entry of a list: its place, `FILE:LINE`, the video's path, its labels as text, and its part in seconds."""

    place: str
    path: str
    labels: tuple[str, ...]
    start: float | None
    end: float | None


def read_list(
    file: str | os.PathLike, root: str | os.PathLike, multi_label: bool, split: str | None, class_names: Iterable[str]
) -> list[ListedVideo]:
    """Read a list file, whose relative paths begin in `root`; of one that holds several splits, only the rows of one.

    A label that is among `class_names` is one, whatever characters it holds.
    """
    table = read_table(file, lambda path: os.path.exists(os.path.join(root, path)), multi_label)
    rows = _rows_of_split(table, split)
    locate = _Finder(root).find if table.columns.by_id else lambda place, name, *_: _joined(place, root, name)
    names = frozenset(class_names)
    listed = [_listed(place, values, table.columns, locate, multi_label, names) for place, values in rows]
    if not any(os.path.exists(video.path) for video in listed[:LOOKED_FOR]):
        raise ValueError(
            f"{listed[0].place}: {listed[0].path} does not exist, nor do those that follow it; pass root= (--root), "
            "the folder that the paths of the list begin in."
        )
    return listed


def _rows_of_split(table: Table, split):
    column = table.columns.split
    first = table.rows[0][0]
    if column is None:
        if split is not None:
            raise ValueError(f"{first}: split={split!r} is asked for, but the list has no column split; add one.")
        return table.rows
    splits = {_split_name(values[column]): place for place, values in reversed(table.rows)}
    known = ", ".join(map(repr, sorted(splits)))
    if split is None and len(splits) > 1:
        raise ValueError(
            f"{max(splits.values(), key=_line)}: the list holds several splits ({known}), which do not belong into one "
            "set; pass split= (--train-rows, --val-rows) to choose one."
        )
    if split is not None and split not in splits:
        raise ValueError(f"{first}: split={split!r} is none of the list's splits; pass one of {known}.")
    return [row for row in table.rows if split is None or _split_name(row[1][column]) == split]


def _split_name(value):
    return "" if value is None else str(value)


def _line(place):
    return int(place.rpartition(":")[2])


def _listed(place, values, columns, locate, multi_label, class_names):
    """One row as a `ListedVideo`."""
    name = _text(place, "path", values[columns.path])
    labels = _labels(place, [values[index] for index in columns.labels], columns, multi_label, class_names)
    if not is_video_name(name) and any(map(is_video_name, labels)):
        raise ValueError(f"{place}: the label {labels[0]!r} is the name of a video; correct the names of the columns.")
    start, end = (None if index is None else values[index] for index in (columns.start, columns.end))
    start, end = _seconds(place, "start", start), _seconds(place, "end", end)
    try:
        check_window(start, end)
    except ValueError as error:
        raise ValueError(f"{place}: start and end are no seconds: {error}") from error
    folder = values[columns.split] if columns.split is not None else None
    path, is_part = locate(place, name, start, end, [str(folder or ""), labels[0] if labels else ""])
    return ListedVideo(place, path, labels, *((start, end) if is_part else (None, None)))


def _text(place, column, value):
    if value is None or value == "":
        raise ValueError(f"{place}: the {column} is missing; fill it in or remove the line.")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or "\0" in str(value):
        raise ValueError(f"{place}: the {column} must be text or an integer, received {value!r}.")
    return str(value)


def _seconds(place, column, value):
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or "_" in str(value):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{place}: start and end are no seconds: {column} must be a number, received {value!r}; write it as 1.5, "
            "or leave it empty."
        )
    return number


def _labels(place, values, columns, multi_label, class_names):
    """The labels of a row, one unless `multi_label`."""
    if not multi_label:
        return (_one_label(place, values[0], columns, class_names),)
    labels, empty = [], 0
    for value in values:
        if type(value) is list:
            labels += [_text(place, "label", label) for label in value]
        elif (value is None or value == "") and len(values) > 1:
            # Tables have as many columns as the video with the most labels.
            empty += 1
        else:
            text = _text(place, "label", value)
            parts = [text] if text in class_names else text.split("|")
            labels += [_text(place, "label", part.strip()) for part in parts]
    if values and empty == len(values):
        raise ValueError(f"{place}: the label is missing; fill it in or remove the line.")
    if columns.by_template:
        labels = [_without_brackets(label) for label in labels]
    for label in labels:
        if _is_several(label) and label not in class_names:
            raise ValueError(
                f"{place}: the label {label!r} looks like several; separate them by | in a text, or list each in JSON."
            )
    return tuple(dict.fromkeys(labels))


def _one_label(place, value, columns, class_names):
    if isinstance(value, (list, tuple)):
        raise ValueError(f"{place}: the label {value!r} is no single one; pass multi_label=True (--multi-label).")
    label = _text(place, "label", value)
    if columns.by_template:
        return _without_brackets(label)
    if _is_several(label) and label not in class_names:
        raise ValueError(
            f"{place}: the label {label!r} looks like several; pass multi_label=True (--multi-label) for labels that "
            "are separated by |, or class_names= with this name."
        )
    return label


def _is_several(label):
    return "|" in label or SEVERAL.fullmatch(label) is not None


def _without_brackets(template):
    """A template of Something-Something as the name of its class: "Holding [something]" is "Holding something"."""
    return template.replace("[", "").replace("]", "")


def _joined(place, root, name):
    """The path of a video, and that `start` and `end` are a part of it."""
    path = str(pathlib.Path(root, name))
    if not is_video_name(name) and os.path.isdir(path) and not is_frame_folder(path):
        raise ValueError(
            f"{place}: {path} is a folder, but not of one video's frames (numbered .jpg or .png files and nothing "
            "else); list a video file or such a folder."
        )
    return path, True


class _Finder:
    """Finds the file of an identifier: in the root, or in a folder there that is named as the split or the class.

    The files of Kinetics are parts of videos already, and named `IDENTIFIER_START_END` with the seconds in six digits.
    """

    def __init__(self, root):
        self._root = root
        self._files = {}

    def find(self, place, name, start, end, folders):
        """The path of a video, and whether `start` and `end` are a part of it rather than all of it."""
        if is_video_name(name):
            return str(pathlib.Path(self._root, name)), True
        part = None
        if start is not None and end is not None and start == int(start) and end == int(end):
            part = f"{name}_{int(start):06d}_{int(end):06d}"
        split, label = folders
        for folder in dict.fromkeys(["", split, label, label.replace(" ", "_"), os.path.join(split, label)]):
            for stem in filter(None, (part, name)):
                found = self._in_folder(folder).get(stem, [])
                if len(found) > 1:
                    raise ValueError(
                        f"{place}: {stem!r} may be any of {', '.join(sorted(found))}; remove all but one, or list the "
                        "path instead of the identifier."
                    )
                if found:
                    return str(pathlib.Path(found[0])), stem != part
        return str(pathlib.Path(self._root, f"{part or name}.mp4")), part is None

    def _in_folder(self, folder):
        """The videos that lie in a folder of the root, by their names without the ending."""
        if folder not in self._files:
            self._files[folder] = files = {}
            place = os.path.join(self._root, folder)
            # A class may have the name of a path to anywhere.
            inside = not os.path.isabs(folder) and ".." not in folder.split(os.sep)
            if inside and os.path.isdir(place):
                for entry in os.listdir(place):
                    if is_video_name(entry):
                        files.setdefault(os.path.splitext(entry)[0], []).append(os.path.join(place, entry))
        return self._files[folder]
