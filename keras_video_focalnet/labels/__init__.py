"""Class names of the data sets that weights are published for, one file a data set, in the order of the classes."""

import os
import pathlib
import re

# Short name -> file.
DATA_SETS = {
    "k400": "kinetics400",
    "k600": "kinetics600",
    "ssv2": "something_something_v2",
    "diving48": "diving48",
    "activitynet": "activitynet",
    "camera_motion": "camera_motion",
}
# Their sizes, so that the set that fits a model is found without reading files.
CLASSES = {"k400": 400, "k600": 600, "ssv2": 174, "diving48": 48, "activitynet": 200, "camera_motion": 9}


def load_labels(source):
    """Class names of a data set, of a file or as given.

    Args:
        source: A data set by its short or long name (`"k400"`, `"kinetics400"`, `"ssv2"`, `"something_something_v2"`,
            ...; case, spaces, hyphens and underscores do not matter), the path of a UTF-8 text file with one name a
            line in the order of the classes, or a list of names.

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
        for short, long in DATA_SETS.items():
            if _plain(source) in (_plain(short), _plain(long)):
                return _read(pathlib.Path(__file__).parent / f"{long}.txt")
        if not os.path.isfile(source):
            known = ", ".join(f'"{short}"' for short in DATA_SETS)
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
    """Short name of the known data set with that many classes, or None: `data_set_of(400)` is `"k400"`."""
    return next((name for name, count in CLASSES.items() if count == classes), None)


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
