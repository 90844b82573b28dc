"""List files as tables, whichever way they are written: with a delimiter, with spaces, or in JSON."""

import codecs
import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_video_focalnet.data.list_columns import Columns, find_columns, is_label, is_path, unknown_header
from keras_video_focalnet.data.video_names import is_video_name

DELIMITERS = (",", "\t", ";")
# Stands for any spaces.
SPACES = None
JSON_BEGINS = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{\]"])')
WORD = re.compile(r'"(?:[^"]|"")*"(?!\S)|\S+')
HEADER_REMEDY = "write a first line that names the columns, such as path,label,start,end"


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a list, and for each of its rows its place, `FILE:LINE`, and its values.

    Values are text, or what JSON has; what is missing is `""` or None.
    """

    columns: Columns
    rows: list[tuple[str, list[Any]]]


def read_table(file: str | os.PathLike, exists: Callable[[str], bool], multi_label: bool) -> Table:
    """Read a list file. `exists` says whether a path of the list is there; a ValueError names the line and a remedy."""
    text = _text(file)
    if JSON_BEGINS.match(text):
        return _json_table(file, text, multi_label)
    lines = _without_comments(file, text, exists)
    first = next((line for line in lines if line.strip(' ,;"\t\r\n')), None)
    if first is None:
        raise _empty(file)
    delimiters = [mark for mark in DELIMITERS if mark in first]
    # Two tabs are a missing value rather than much space.
    if "\t" not in first and re.search(r"\S\s+\S", first):
        delimiters.append(SPACES)
    if not delimiters:
        place = f"{file}:{lines.index(first) + 1}"
        raise _not_understood(place, [first.strip()])
    return _delimited_table(file, lines, delimiters, exists, multi_label)


def _empty(file):
    return ValueError(f"{file} lists no video; write one line, path,label, for each.")


def _text(file):
    """The text of a file in UTF-8, or in UTF-16 where its first bytes say so."""
    with open(file, "rb") as opened:
        data = opened.read()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not text in {encoding[:6].upper().rstrip('-')} ({error.reason}); pass a list file, path,label."
        ) from error


def _without_comments(file, text, exists):
    """The lines, with empty ones in place of those that begin with `#`."""
    lines = []
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if line.lstrip().startswith("#"):
            name = re.split(r"[,;\t]", line.strip())[0].strip()
            if is_video_name(name) and exists(name):
                raise ValueError(
                    f"{file}:{number}: {name} is there, but lines that begin with # are comments; write it as "
                    f"./{name}, or a space behind the # of a comment."
                )
            line = "\n"
        lines.append(line)
    return lines


# ---- Delimiters


def _delimited_table(file, lines, delimiters, exists, multi_label):
    """Read the lines by the delimiter that the header, or every line, agrees with."""
    tables, errors, first = [], [], None
    for delimiter in delimiters:
        try:
            rows = list(_split(file, lines, delimiter, exists))
        except _LineError as error:
            errors.append(error)
            continue
        names = rows[0][1]
        if _is_header(names):
            return _with_header(file, rows, multi_label)
        first = first or rows[0]
        try:
            tables.append(_without_header(file, rows, exists, multi_label))
        except _LineError as error:
            errors.append(error)
    if any(table.rows != tables[0].rows for table in tables):
        raise ValueError(
            f"{tables[0].rows[0][0]} can be read with several delimiters, and they give different videos; "
            f"{HEADER_REMEDY}."
        )
    if tables:
        return tables[0]
    if first and not any(is_video_name(cell) or (cell and exists(cell)) for cell in first[1]):
        # The line itself may be damaged, which is what is to be told then.
        damaged = next((error for error in errors if error.is_damage), None)
        raise damaged or unknown_header(first[1], _place(file, first[0]))
    # The delimiter that the most lines agree with is the one that was meant.
    raise max(errors, key=lambda error: error.number)


def _is_header(names):
    """Whether a first line names the columns that are needed; a name holds no other delimiter."""
    if any(is_video_name(name) or re.search(r"[,;\t]", name) for name in names):
        return False
    return any(map(is_path, names)) and any(map(is_label, names))


class _LineError(ValueError):
    """What is wrong with a line, by its number; `is_damage` where it cannot be divided into cells at all."""

    def __init__(self, file, number, message, is_damage=False):
        super().__init__(f"{_place(file, number)}{message}")
        self.number = number
        self.is_damage = is_damage


def _place(file, number):
    return f"{file}:{number}"


def _split(file, lines, delimiter, exists) -> Iterator[tuple[int, list[str]]]:
    """`(number, cells)` of every line that is not empty."""
    if delimiter is SPACES:
        for number, line in enumerate(lines, 1):
            if cells := _words(line, exists):
                yield number, cells
        return
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            message = f" is not CSV ({error}); check its quotes."
            raise _LineError(file, number, message, is_damage=True) from error
        if any(cells):
            yield number, cells


def _words(line, exists):
    """The words of a line. The first ones are a path that holds spaces where there is such a video."""
    words = list(WORD.finditer(line))
    ends = [word.end() for word in words if is_video_name(word[0])]
    if ends and not is_video_name(words[0][0]) and exists(path := line[words[0].start() : ends[0]]):
        return [path, *(_unquoted(word[0]) for word in words if word.start() >= ends[0])]
    return [_unquoted(word[0]) for word in words]


def _unquoted(word):
    return word[1:-1].replace('""', '"').strip() if len(word) > 1 and word[0] == word[-1] == '"' else word


def _with_header(file, rows, multi_label):
    (number, names), *rows = rows
    columns = find_columns(names, _place(file, number), multi_label)
    if not rows:
        raise _empty(file)
    table = []
    for number, cells in rows:
        if len(cells) > len(names) and any(cells[len(names) :]):
            raise ValueError(
                f"{_place(file, number)}: {','.join(cells)!r} has {len(cells)} values for {len(names)} columns; put "
                "what holds the delimiter in double quotes."
            )
        table.append((_place(file, number), (cells + [""] * len(names))[: len(names)]))
    return Table(columns, table)


def _without_header(file, rows, exists, multi_label):
    columns = find_columns(["path", "label", "start", "end"], str(file), multi_label)
    table = []
    for number, cells in rows:
        values = _documented(file, number, cells, exists, multi_label)
        table.append((_place(file, number), values))
    return Table(columns, table)


def _documented(file, number, cells, exists, multi_label):
    """`[path, label, start, end]` of a line that no header explains, if it has one of the documented forms."""

    def wrong(why, remedy=HEADER_REMEDY):
        return _LineError(file, number, f": {why}; {remedy}.")

    line = ",".join(cells)
    if len(cells) < 2 or not cells[0] or not cells[1]:
        raise _LineError(file, number, _not_understood("", cells))
    is_file = is_video_name(cells[0])
    if any(map(is_video_name, cells[1:])):
        remedy = f"{HEADER_REMEDY}, in the order that the list has, and put a path that holds a comma in double quotes"
        raise wrong(f"{line!r} has the name of a video in a column behind the first", remedy)
    if not is_file and not exists(cells[0]):
        raise wrong(f"{cells[0]!r} has no ending of a video and does not exist", "pass root=, or " + HEADER_REMEDY)
    if multi_label and (is_file or len(cells) == 2):
        return [cells[0], [part.strip() for cell in cells[1:] for part in cell.split("|")], "", ""]
    if len(cells) == 2:
        return [*cells, "", ""]
    if is_file and len(cells) == 4 and not multi_label:
        return cells
    if not is_file and len(cells) == 3 and not multi_label and all(map(str.isdecimal, cells[1:])):
        # A folder of frames, the number of its frames, and a label.
        return [cells[0], cells[2], "", ""]
    raise wrong(f"{line!r} has {len(cells)} values, and it is not said what they are")


def _not_understood(place, cells):
    message = (
        f"{place}: {','.join(cells)!r} is not path,label or path,label,start,end; put a path that holds a comma in "
        "double quotes."
    )
    return ValueError(message) if place else message


# ---- JSON


def _json_table(file, text, multi_label):
    """Objects in a list, or one after another, as in JSON lines."""
    objects = list(_json_objects(file, text))
    if not objects:
        raise _empty(file)
    names = list(dict.fromkeys(name for _, pairs in objects for name, _ in pairs))
    columns = find_columns(names, objects[0][0], multi_label)
    return Table(columns, [(place, [dict(pairs).get(name) for name in names]) for place, pairs in objects])


def _json_objects(file, text):
    """`(place, pairs)` of every object."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    at, line = 0, 1
    in_list = text.lstrip().startswith("[")
    if in_list:
        at = text.index("[") + 1
        line += text.count("\n", 0, at)

    def skip(marks):
        """Go on behind spaces and at most one of the marks, which is returned."""
        nonlocal at, line
        found = re.compile(rf"\s*([{marks}]?)\s*" if marks else r"\s*()").match(text, at)
        line += text.count("\n", at, found.end())
        at = found.end()
        return found[1]

    ended = skip("\\]" if in_list else "")
    while at < len(text) and not ended:
        place = _place(file, line)
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", type(error).__name__)
            line = line + text.count("\n", at, getattr(error, "pos", at))
            raise ValueError(f"{_place(file, line)} is not JSON ({reason}); repair or remove it.") from error
        yield place, _checked_pairs(place, value)
        line += text.count("\n", at, end)
        at = end
        mark = skip(",\\]" if in_list else "")
        ended = mark == "]"
        if in_list and not mark:
            raise ValueError(f"{_place(file, line)} is not JSON (a comma or ] is missing); the file may be incomplete.")
    if in_list and not ended or ended and at < len(text):
        raise ValueError(f"{_place(file, line)} is not JSON (the list ends too early or too late); repair the file.")


class _Pairs(list):
    """An object of JSON, as pairs of name and value."""


def _checked_pairs(place, value):
    if not isinstance(value, _Pairs):
        raise ValueError(f'{place} is not a JSON object; write {{"path": "a.mp4", "label": "run"}} for each video.')
    names = [name for name, _ in value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{place} has the key {twice!r} twice; leave one of them.")
    return value
