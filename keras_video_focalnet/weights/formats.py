"""Tells the format of a file of weights: by the ending of its name, else by what is in it."""

import zipfile
from pathlib import Path

import h5py

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import named_errors

# A longer ending stands before a shorter one that it ends in.
FORMATS = {
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".weights.h5": "keras3",
    ".keras": "keras3",
    ".h5": "keras2",
    ".hdf5": "keras2",
    ".safetensors": "safetensors",
}
SUFFIXES = tuple(FORMATS)


def weights_format(path):
    """Tell the format of a file of weights.

    Args:
        path: str or path of a readable file. A download's name may have no ending (`.../uc?id=...`).

    Returns:
        `"torch"`, `"keras3"`, `"keras2"` or `"safetensors"`.

    Raises:
        WeightsFileError: if neither name nor content tell; the message names the file and says what it is.

    Example:
    >>> weights_format("tests/data/micro/checkpoint.pth")
    'torch'
    """
    name = Path(path).name.lower()
    for suffix, known in FORMATS.items():
        if name.endswith(suffix):
            return known
    kind = sniff(path)
    with named_errors(path, "file"):
        found = {"pickle": "torch", "safetensors": "safetensors"}.get(kind)
        if kind == "zip":
            found = _of_zip(path)
        elif kind == "hdf5":
            found = _of_hdf5(path)
        if found is None:
            raise WeightsFileError(
                f"unknown kind of file: it is {DESCRIPTIONS[kind]}, and its name does not end in {', '.join(SUFFIXES)}"
            )
        return found


def _of_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    return "keras3" if "config.json" in names else None


def _of_hdf5(path):
    with h5py.File(path, "r") as file:
        if any(name.startswith("layer_names") for name in file.attrs) or file.id.links.exists(b"model_weights"):
            return "keras2"
        return "keras3" if file.id.links.exists(b"layers") else None
