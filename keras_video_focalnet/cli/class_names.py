"""The options `--classes` and `--labels`: what models compare clips with, and what classes are called."""

import os
import re
import warnings

import click

from keras_video_focalnet.labels import DATA_SETS, find_data_set, load_labels, plain_name, what_holds_no_names
from keras_video_focalnet.utils.checks import did_you_mean

_SOURCES = "a data set (k400, ...) or a text file with one name a line"
_SEPARATORS = {"/", os.sep}
# A value without commas that ends so is the name of a file.
_ENDING = re.compile(r"\S\.[A-Za-z]\w{0,10}$")
# Names of files among names.
_FILES = (".txt", ".csv", ".tsv", ".json", ".lst", ".names", ".labels", ".keras", ".safetensors", ".onnx", ".tflite")


def _read_names(context, parameter, values):
    """The names that `--classes` gives: separated by commas, or of data sets and files of names."""
    try:
        names = [name for value in values for name in _names_of(value)]
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error
    if _warn_of_one("--classes", names):
        # Keras tells the same of its softmax.
        context.with_resource(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="You are using a softmax over axis")
    return names or None


def _names_of(value):
    """The names of one value of `--classes`."""
    parts = [part.strip() for part in value.split(",")]
    path = os.path.expanduser(value)
    if os.path.isfile(path) or _names_in_package(value):
        return _read(value)
    if len(parts) == 1 and value.strip():
        refuse_no_names(path, value)
        if any(sign in value for sign in _SEPARATORS) or _ENDING.search(value):
            raise ValueError(
                f"{value!r} is no known data set and no file; pass {_SOURCES}, or names separated by commas. A name "
                "that looks like a file's goes into a text file."
            )
    among = "; pass --classes {} besides for its names. A class that is called so goes into a text file."
    _refuse_sources(parts, among, f"pass {_SOURCES}.")
    return parts


def names_in_text(text):
    """The class names that somebody wrote who may name no file: separated by commas or line ends, or a data set.

    Raises:
        ValueError: One is the name of a file, or of a data set among names or without names in the package.
    """
    text = text.strip()
    if _names_in_package(text):
        return load_labels(text)
    lines = (line.strip().removesuffix(",") for line in text.splitlines())
    names = [part.strip() for line in lines if line for part in line.split(",")]
    _refuse_sources(names, "; write the names that are meant.", "write the names that are meant.")
    _warn_of_one("class names", names)
    return names


def _warn_of_one(origin, names):
    """Warn of a name that stands alone; gives whether one does."""
    if len(names) != 1 or not names[0]:
        return False
    meant = did_you_mean(names[0], [short for short, data_set in DATA_SETS.items() if data_set.file])
    warnings.warn(
        f"{origin} has {names[0]!r} alone, and the score of a single name is always 1, whatever a video shows; "
        f"name what else it may show{meant or '.'}",
        stacklevel=3,
    )
    return True


def _refuse_sources(parts, among, instead):
    """Refuse names of files and of data sets among class names; `among` and `instead` tell what to do."""
    for part in parts:
        short = find_data_set(part)
        if short is not None and DATA_SETS[short].classes is not None and not DATA_SETS[short].file:
            raise ValueError(f"{part!r} is a data set whose class names are not in the package; {instead}")
        if part.lower().endswith(_FILES) or _names_in_package(part):
            kind = "file" if short is None else "data set"
            raise ValueError(f"{part!r} is a {kind} among names{among.format(part)}")


def _names_in_package(value):
    short = find_data_set(value)
    return short is not None and DATA_SETS[short].file is not None


def read_labels(source):
    """Read the names of a data set or of a file that `--labels` names."""
    try:
        return _read(source)
    except ValueError as error:
        raise ValueError(f"--labels {error}") from error


def _read(source):
    """The names of a data set or of a file; a message of what is wrong begins with the source."""
    path = os.path.expanduser(source)
    refuse_no_names(path, source)
    if not os.path.isfile(path) and not _names_in_package(source):
        raise ValueError(f"{source!r} is no known data set and no file; pass {_SOURCES}.")
    try:
        return load_labels(path)
    except (OSError, ValueError) as error:
        raise ValueError(str(error).removeprefix("labels=")) from error


def refuse_no_names(path, source):
    """Refuse the path of a folder or of a model, which are no files of names; `source` is how the user wrote it."""
    kind = what_holds_no_names(path)
    if kind is not None:
        raise ValueError(
            f"{source!r} is a {kind} and no text file with one name a line; pass such a file, as the labels.txt of a "
            "training run is."
        )


named_classes = click.option(
    "--classes",
    "class_names",
    multiple=True,
    callback=_read_names,
    metavar="NAMES|PATH",
    help="What to look for, as names separated by commas, a data set (k400, ...), or a text file with one name a line; "
    "may be repeated. For models that compare clips with any names.",
)
"""The option `--classes` of the commands that take a model."""


def refuse_other_labels(network, labels):
    """Refuse `--labels` that are not the names which a model compares clips with: its scores would be told of others.

    Raises:
        ValueError: They differ by more than case, spaces and underscores.
    """
    from keras_video_focalnet.models.class_names import ToldByNames

    if labels is None or not (isinstance(network, ToldByNames) and network.takes_class_names() and network.labels):
        return
    names = read_labels(labels)
    if list(map(plain_name, names)) != list(map(plain_name, network.labels)):
        raise ValueError(
            f"--labels {labels} would call the scores otherwise, and the model {network.name!r} compares clips with "
            "its class names; pass --classes for scores of these names."
        )
