"""Class names of the data sets that weights are published for, one file a data set, in the order of the classes."""

import os
import pathlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A data set that weights are published for.

    Attributes:
        long_name: its name in words.
        aliases: further names that it is known by.
        classes: number of its classes.
        file: name of its file of class names in this folder, without the ending; None: no file.
    """

    long_name: str
    aliases: tuple[str, ...]
    classes: int
    file: str | None


# By short name; `weights=` and `labels=` take any name of a data set.
DATA_SETS = {
    "k400": DataSet("Kinetics-400", ("kinetics400",), 400, "kinetics400"),
    "k600": DataSet("Kinetics-600", ("kinetics600",), 600, "kinetics600"),
    "ssv2": DataSet(
        "Something-Something-v2",
        ("something_something_v2", "somethingsomethingv2", "ss_v2", "sthv2"),
        174,
        "something_something_v2",
    ),
    "diving48": DataSet("Diving-48", ("d48", "diving48_v2"), 48, "diving48"),
    "activitynet": DataSet("ActivityNet-1.3", ("anet", "activitynet1.3", "anet1.3"), 200, "activitynet"),
    "imagenet": DataSet("ImageNet-1K", ("imagenet1k", "in1k"), 1000, None),
    "camera_motion": DataSet("Camera motion", ("cameramotion",), 9, "camera_motion"),
}


def find_data_set(name):
    """Short name of a data set.

    Args:
        name: String; its short or long name or an alias; case, spaces, dots, hyphens and underscores do not matter.

    Returns:
        A key of `DATA_SETS`, or None.

    Example:
        >>> find_data_set("ActivityNet-1.3")
        'activitynet'
    """
    for short, data_set in DATA_SETS.items():
        if _plain(name) in map(_plain, (short, data_set.long_name, *data_set.aliases)):
            return short
    return None


def load_labels(source):
    """Class names of a data set, of a file or as given.

    Args:
        source: A data set by any of its names (`"k400"`, `"Kinetics-400"`, `"ssv2"`, `"something_something_v2"`,
            ..., see `find_data_set`), the path of a UTF-8 text file with one name a line in the order of the classes,
            or a list of names.

    Returns:
        List of strings, one a class.

    Raises:
        ValueError: Neither a known name nor a file, a blank line between names, no names, or a name that is no string.
        FileNotFoundError: A `pathlib.Path` without a file.

    Example:
        >>> load_labels("camera_motion")[:3]
        ['static', 'pan left', 'pan right']
    """
    if isinstance(source, str):
        short = find_data_set(source)
        if short is not None and DATA_SETS[short].file:
            return _read(pathlib.Path(__file__).parent / f"{DATA_SETS[short].file}.txt")
        if not os.path.isfile(source):
            known = ", ".join(f'"{short}"' for short, data_set in DATA_SETS.items() if data_set.file)
            raise ValueError(f"labels={source!r} is no known data set and no file; pass {known}, a path or a list.")
        return _read(pathlib.Path(source))
    if isinstance(source, os.PathLike):
        return _read(pathlib.Path(source))
    names = list(source)
    if not names:
        raise ValueError("labels is an empty list; pass one name a class.")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"labels must hold strings, received {name!r} in it; pass one name a class.")
    return names


def data_set_of(classes):
    """Short name of the data set with that many classes whose names are known, or None: of 400 it is `"k400"`."""
    return next((short for short, data_set in DATA_SETS.items() if data_set.file and data_set.classes == classes), None)


def labels_for(classes):
    """Class names of the known data set with that many classes.

    Args:
        classes: Integer.

    Returns:
        List of `classes` strings, or None where no known data set has that many.

    Example:
        >>> labels_for(174)[0]
        'Approaching something with your camera'
        >>> labels_for(12) is None
        True
    """
    name = data_set_of(classes)
    return None if name is None else load_labels(name)


def _plain(name):
    return re.sub(r"[\s_.-]", "", name).lower()


def _read(path):
    """Names of a text file, line by line."""
    if not path.is_file():
        raise FileNotFoundError(f"labels={str(path)!r}: there is no such file; pass a text file with one name a line.")
    # A byte order mark, as Windows editors write it, is no part of the first name.
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if not names:
        raise ValueError(f"{path} holds no class names; write one name a line.")
    if "" in names:
        line = names.index("") + 1
        raise ValueError(f"{path} has a blank line {line}, which would shift the classes after it; remove or name it.")
    return names
