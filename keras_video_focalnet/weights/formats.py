"""Tells the format of a file of weights by the ending of its name, else by its content."""

import os
import zipfile
from pathlib import Path

from keras_video_focalnet.labels import find_data_set
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import open_hdf5

# A longer ending stands before a shorter one that it ends in.
FORMATS = {
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".weights.h5": "keras3",
    ".weights.json": "keras3",
    ".keras": "keras3",
    ".h5": "keras2",
    ".hdf5": "keras2",
    ".safetensors": "safetensors",
}
SUFFIXES = tuple(FORMATS)
# What `export` writes runs as it is: its numbers are folded and rounded for the program that runs it.
EXPORTED = (".tflite", ".onnx", ".xml")


def is_path(weights: str | os.PathLike) -> bool:
    """Tells whether `weights=` names a file or folder of this machine, and not something published."""
    if isinstance(weights, os.PathLike):
        return True
    if "://" in weights:
        return False
    separators = filter(None, (os.sep, os.altsep, "/"))
    if any(separator in weights for separator in separators) or weights.lower().endswith(SUFFIXES):
        return True
    # A file that happens to be called as a data set must not take its place.
    return find_data_set(weights) is None and Path(weights).exists()


def is_exported(path: str | os.PathLike) -> bool:
    """Tells whether a path is that of a model that was exported to be run."""
    path = Path(path).expanduser()
    return path.suffix.lower() in EXPORTED or (path / "saved_model.pb").is_file()


def weights_format(path: str | os.PathLike) -> str:
    """Tells the format of a file of weights."""
    if is_exported(path):
        raise WeightsFileError(
            f"{path}: it is an exported model, which only runs: load_exported({os.fspath(path)!r}) runs it, as does "
            f"`video-focalnet predict --model {path}`; for weights pass the .keras file or the run that it came from"
        )
    name = Path(path).name.lower()
    for suffix, known in FORMATS.items():
        if name.endswith(suffix):
            return known
    kind = sniff(path)
    with named_errors(path):
        found = {"pickle": "torch", "safetensors": "safetensors"}.get(kind)
        if kind == "zip":
            found = _zip_format(path)
        elif kind == "hdf5":
            found = _hdf5_format(path)
        if found is None:
            raise WeightsFileError(
                f"unknown kind of file: it is {DESCRIPTIONS[kind]}, and its name does not end in {', '.join(SUFFIXES)}"
            )
        return found


def _zip_format(path: str | os.PathLike) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    return "keras3" if "config.json" in names else None


def _hdf5_format(path: str | os.PathLike) -> str | None:
    with open_hdf5(path) as file:
        root = file.root
        if any(name.startswith("layer_names") for name in root.attributes) or file.has(root, "model_weights"):
            return "keras2"
        return "keras3" if file.has(root, "layers") else None
