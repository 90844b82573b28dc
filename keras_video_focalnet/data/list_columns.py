"""Which column of a list of videos holds what, by the names that people's tools give to columns."""

import dataclasses
import re
from collections.abc import Sequence

# Names are compared in lower case, by their letters and digits alone. Where columns of several tiers are there, the
# first tier is taken: a path says more than a name, and a name more than an identifier.
_PATHS = """
    path paths filepath file files filename videopath videofile videofilename clippath relativepath relpath fullpath
    framedir framesdir framefolder framepath folder directory dir
"""
_LABELS = """
    label labels labelname labelnames class classes classname classnames category categories categoryname action actions
    actionname actionlabel activity activities activityname tag tags tagname target targets
"""
_LABEL_IDS = """
    labelid labelids labelindex labelidx labelnumber classid classids classindex classidx classnumber categoryid
    actionid activityid tagid targetid
"""
_STARTS = """
    start starttime timestart tstart startsec startsecs startsecond startseconds starttimestamp clipstart segmentstart
    begin begintime timebegin beginsec beginseconds
"""
_ENDS = """
    end endtime timeend tend endsec endsecs endsecond endseconds endtimestamp clipend segmentend stop stoptime timestop
    stopsec stopseconds stoptimestamp
"""


def _words(text):
    return frozenset(text.split())


PATH_TIERS = (
    _words(_PATHS),
    _words("video videos clip clips videoname clipname name"),
    _words("id videoid vid vidname clipid youtubeid ytid"),
)
# Something-Something has captions of single videos as `label`; its classes are the templates of the captions.
TEMPLATE = "template"
LABEL_TIERS = (_words(TEMPLATE), _words(_LABELS), _words(_LABEL_IDS))
START = _words(_STARTS)
END = _words(_ENDS)
SPLIT = _words("split splitname datasplit subset partition set")
# Words in the name of a column that may bound a part of the video, though it is not known in which unit.
BOUNDS = _words("start begin from onset end stop to offset")


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """The places of the columns that are needed; None where there is none.

    `by_id` says that the column of the path holds identifiers, `by_template` that the labels are templates.
    """

    path: int
    labels: tuple[int, ...]
    start: int | None
    end: int | None
    split: int | None
    by_id: bool
    by_template: bool


def plain(name: str) -> str:
    """A name as it is compared with others."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def is_path(name: str) -> bool:
    """Whether a column of that name holds videos."""
    return any(plain(name) in tier for tier in PATH_TIERS)


def is_label(name: str) -> bool:
    """Whether a column of that name holds labels; `label_2` is a further column of labels."""
    return any(_base(name) in tier for tier in LABEL_TIERS)


def _base(name):
    """The name of a column of labels without its number."""
    return plain(name).rstrip("0123456789")


def find_columns(names: Sequence[str], place: str, multi_label: bool) -> Columns:
    """Find the columns by their names, or raise a ValueError that begins with `place`."""
    path, by_id = _path(names, place)
    labels, by_template = _labels(names, place, multi_label)
    known = {path, *labels}
    start, end, split = (_single(names, role, place, known) for role in (START, END, SPLIT))
    for index, name in enumerate(names):
        if index in {*known, start, end, split} or is_path(name) or is_label(name):
            continue
        if BOUNDS & set(re.split(r"[^a-z0-9]+", str(name).lower())):
            raise ValueError(
                f"{place}: the column {name!r} may bound a part of the video, but not in seconds; name it start or end "
                "if it holds seconds, or take it out of the list."
            )
    return Columns(path, labels, start, end, split, by_id, by_template)


def _path(names, place):
    for number, tier in enumerate(PATH_TIERS):
        found = [index for index, name in enumerate(names) if plain(name) in tier]
        if len(found) > 1:
            raise _ambiguous(names, found, "the video", place)
        if found:
            return found[0], number == len(PATH_TIERS) - 1
    raise unknown_header(names, place)


def _labels(names, place, multi_label):
    for tier in LABEL_TIERS:
        found = [index for index, name in enumerate(names) if _base(name) in tier]
        if len(found) > 1 and len({_base(names[index]) for index in found}) > 1:
            raise _ambiguous(names, found, "the class", place)
        if len(found) > 1 and not multi_label:
            columns = ", ".join(repr(names[index]) for index in found)
            raise ValueError(
                f"{place}: several columns hold labels ({columns}); pass multi_label=True (--multi-label) if a video "
                "has several, or leave one of the columns."
            )
        if found:
            return tuple(found), TEMPLATE in tier
    raise unknown_header(names, place)


def _single(names, role, place, taken):
    found = [index for index, name in enumerate(names) if plain(name) in role and index not in taken]
    if len(found) > 1:
        raise _ambiguous(names, found, f"the {'split' if role is SPLIT else 'start or end'}", place)
    return found[0] if found else None


def _ambiguous(names, found, what, place):
    columns = " and ".join(repr(names[index]) for index in found)
    return ValueError(f"{place}: the columns {columns} both name {what}; rename or remove all but one.")


def unknown_header(names: Sequence[str], place: str) -> ValueError:
    """The error of a first line that is neither a video nor a header that is understood."""
    lacking = [
        f"{what} (such as {example})"
        for what, example, known in (("the video", "path", is_path), ("its class", "label", is_label))
        if not any(map(known, names))
    ]
    columns = ", ".join(map(str, names))
    return ValueError(
        f"{place}: {columns!r} is taken for a header, but no column names {' or '.join(lacking)}; name the columns "
        "path, label and, if need be, start, end and split. If it is a video, it does not exist: pass root=."
    )
