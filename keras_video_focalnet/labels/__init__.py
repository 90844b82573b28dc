"""Class names of the data sets that weights are published for: a file for each, in the order of the classes."""

import os
import pathlib
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A data set that weights are published for, with its name in words and further names that it is known by.

    `classes` is None where it has none, but texts. `file` is the file of its class names in this folder, without the
    ending; None where there is no such file.
    """

    long_name: str
    aliases: tuple[str, ...]
    classes: int | None
    file: str | None


# The data sets by their short names. `weights=` and `labels=` take any name of a data set.
DATA_SETS: dict[str, DataSet] = {
    "k400": DataSet("Kinetics-400", ("kinetics400",), 400, "kinetics400"),
    "k600": DataSet("Kinetics-600", ("kinetics600",), 600, "kinetics600"),
    "ssv2": DataSet("Something-Something-v2", ("sthv2",), 174, "something_something_v2"),
    "diving48": DataSet("Diving-48", ("d48", "diving48_v2"), 48, "diving48"),
    "activitynet": DataSet("ActivityNet-1.3", ("anet", "activitynet1.3", "anet1.3"), 200, "activitynet"),
    "imagenet": DataSet("ImageNet-1K", ("imagenet1k", "in1k"), 1000, None),
    "camera_motion": DataSet("Camera motion", ("cameramotion",), 9, "camera_motion"),
    # The images and texts of the web that OpenAI's CLIP was trained on.
    "clip": DataSet("Images with texts", ("openai", "wit400m"), None, None),
}


# Endings of files that hold a model, which has its own names.
_MODELS = (".keras", ".safetensors", ".tflite", ".onnx")


def find_data_set(name: str) -> str | None:
    """A key of `DATA_SETS` by any name of the data set, however spaced and spelled; None where the name is unknown."""
    for short, data_set in DATA_SETS.items():
        if _plain(name) in map(_plain, (short, data_set.long_name, *data_set.aliases)):
            return short
    return None


def load_labels(source: str | os.PathLike | Iterable[str]) -> list[str]:
    """Load the class names of a data set or of a text file; a list of names is checked and returned.

    Args:
        source: A data set by any of its names (`"k400"`, `"Kinetics-400"`, `"ssv2"`, `"something_something_v2"`,
            and so on, see `find_data_set`), the path of a UTF-8 text file with one name in each line in the order of
            the classes, or a list of names.

    Returns:
        The names, one a class.

    Raises:
        ValueError: `source` is neither a known name nor a file, or it is not text in UTF-8, has no names, a blank line
            between names, or a name that is not a string; or it is a set, which has no order.
        FileNotFoundError: There is no file at a path that is given as a `pathlib.Path`.

    Example:
        >>> load_labels("camera_motion")[:3]
        ['static', 'pan left', 'pan right']
    """
    if isinstance(source, str):
        short = find_data_set(source)
        if short is not None and DATA_SETS[short].file:
            return _read(pathlib.Path(__file__).parent / f"{DATA_SETS[short].file}.txt")
        if os.path.isdir(source):
            return _read(pathlib.Path(source))
        if not os.path.isfile(source):
            known = ", ".join(f'"{short}"' for short, data_set in DATA_SETS.items() if data_set.file)
            raise ValueError(f"labels={source!r} is no known data set and no file; pass {known}, a path or a list.")
        return _read(pathlib.Path(source))
    if isinstance(source, os.PathLike):
        return _read(pathlib.Path(source))
    if isinstance(source, Set):
        raise ValueError(
            "labels is a set, whose order may be another in the next process; pass a list in the order of the classes."
        )
    names = list(source)
    if not names:
        raise ValueError("labels is an empty list; pass one name a class.")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"labels must hold strings, received {name!r} in it; pass one name a class.")
    return names


def configured_labels(labels: Iterable[str] | str | None) -> list[str] | None:
    """The class names in a model's configuration: a list of names, the name of a data set, or None; never a file."""
    if isinstance(labels, (str, os.PathLike)):
        short = find_data_set(str(labels))
        if short is None or not DATA_SETS[short].file:
            raise ValueError(
                f"labels={str(labels)!r} in a configuration is the name of no known data set, and no file is read for "
                "a configuration; put the list of names there, or pass labels to the constructor."
            )
        labels = short
    return None if labels is None else load_labels(labels)


def data_set_with(classes: int) -> str | None:
    """The key of the data set that has so many classes and whose class names are known, or None."""
    return next((short for short, data_set in DATA_SETS.items() if data_set.file and data_set.classes == classes), None)


def what_holds_no_names(path: str | os.PathLike) -> str | None:
    """Tell that a path is a `"folder"` or a `"model"` (by its ending), which no names are read from; else None."""
    if os.path.isdir(path):
        return "folder"
    return "model" if os.fspath(path).lower().endswith(_MODELS) else None


def plain_name(name: str) -> str:
    """A class name without what says the same in all spellings: case, underscores, and how many spaces there are.

    Example:
        >>> plain_name("Opening_a  door")
        'opening a door'
    """
    return " ".join(name.replace("_", " ").split()).lower()


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).lower()


def _read(path: pathlib.Path) -> list[str]:
    """Read the names of a text file, line by line."""
    kind = what_holds_no_names(path)
    if kind is not None:
        raise ValueError(
            f"labels={str(path)!r} is a {kind} and no text file with one name a line; of a training run pass its "
            f"labels.txt, or open_model({str(path)!r}).labels."
        )
    if not path.is_file():
        raise FileNotFoundError(f"labels={str(path)!r}: there is no such file; pass a text file with one name a line.")
    # Windows editors write a byte order mark, which is not part of the first name.
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"labels={str(path)!r} is not text in UTF-8 ({error.reason} at byte {error.start}); pass a text file with "
            "one name a line, and save it as UTF-8."
        ) from error
    names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise ValueError(f"labels={str(path)!r} holds no class names; write one name a line.")
    if "" in names:
        line = names.index("") + 1
        raise ValueError(
            f"labels={str(path)!r} has a blank line {line}, which would shift the classes after it; remove or name it."
        )
    return names
