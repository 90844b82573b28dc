"""Reader of our own `.weights.h5` and `.keras` files: their numbers alone, no object of theirs is made."""

import io
import json
import re
import zipfile

import h5py
import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff

MAX_BYTES = 8 << 30
_COUNTER = re.compile(r"_(\d+)$")


def read_keras3(path):
    """Read a `.weights.h5` or `.keras` file of a `VideoFocalNet` as a state.

    Args:
        path: str or path.

    Returns:
        The state (see `mapping`), and the class names that a `.keras` file carries, or None.

    Raises:
        WeightsFileError: if the file is no such file, is damaged, or holds another model.
    """
    kind = sniff(path)
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                config = json.loads(_member(archive, "config.json", path))
                weights = io.BytesIO(_member(archive, "model.weights.h5", path))
            with h5py.File(weights, "r") as file:
                return _state(file, path), config.get("config", {}).get("labels")
        if kind == "hdf5":
            with h5py.File(path, "r") as file:
                return _state(file, path), None
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsFileError(f"{path}: damaged or cut short ({error}). Fetch or save it again.") from error
    raise WeightsFileError(f"{path}: this is {DESCRIPTIONS[kind]}, not a Keras 3 .weights.h5 or .keras file.")


def _member(archive, name, path):
    if name not in archive.namelist():
        raise WeightsFileError(f"{path}: the archive has no {name}; it is not a .keras file.")
    info = archive.getinfo(name)
    # Keras stores members uncompressed: a large ratio is a bomb.
    if info.file_size > MAX_BYTES or info.file_size > 100 * max(info.compress_size, 1):
        raise WeightsFileError(f"{path}: {name} unpacks to {info.file_size} bytes, which no model of ours has.")
    return archive.read(info)


def _state(file, path):
    if "layers" not in file:
        raise WeightsFileError(f"{path}: no group 'layers'; it is not a Keras 3 weights file of a functional model.")
    layers, state = _by_class(file["layers"]), {}
    stage, block, width = -1, 0, None
    for index, group in enumerate(layers.get("patch_embedding", ())):
        _embedding(state, "patch_embed" if index == 0 else f"layers.{index - 1}.downsample", group)
    for group in layers.get("focal_block", ()):
        channels = group["norm1/vars/0"].shape[0]
        # Stages have no mark of their own in the file: each doubles the channels.
        stage, block = (stage, block + 1) if channels == width else (stage + 1, 0)
        width = channels
        _block(state, f"layers.{stage}.blocks.{block}", group)
    for group in layers.get("layer_normalization", ())[-1:]:
        _pair(state, "norm", group)
    for group in layers.get("dense", ())[-1:]:
        _linear(state, "head", group)
    if not state:
        raise WeightsFileError(f"{path}: no layer of a Video-FocalNet in it; there are {', '.join(layers) or 'none'}.")
    return state


def _by_class(group):
    """Groups by class of layer, each in the order of the network: Keras names them `dense`, `dense_1`, ..."""
    found = {}
    for name in group:
        counter = _COUNTER.search(name)
        kind, index = (name[: counter.start()], int(counter[1])) if counter else (name, 0)
        found.setdefault(kind, []).append((index, name))
    return {kind: [group[name] for _, name in sorted(names)] for kind, names in found.items()}


def _array(group, index):
    return np.asarray(group["vars"][str(index)][()], dtype="float32")


def _pair(state, name, group):
    state[f"{name}.weight"], state[f"{name}.bias"] = _array(group, 0), _array(group, 1)


def _linear(state, name, group, trailing=0):
    kernel = _array(group, 0).T
    state[f"{name}.weight"] = kernel.reshape(kernel.shape + (1,) * trailing)
    state[f"{name}.bias"] = _array(group, 1)


def _embedding(state, name, group):
    kernel = _array(group, 0)
    rows, k, inputs, outputs = kernel.shape
    kernel = kernel.reshape(rows // k, k, k, inputs, outputs).transpose(4, 3, 0, 1, 2)
    state[f"{name}.proj.weight"] = kernel[:, :, 0] if rows == k else kernel
    state[f"{name}.proj.bias"] = _array(group, 1)
    _pair(state, f"{name}.norm", group["norm"])


def _block(state, name, group):
    modulation, inner = group["modulation"], f"{name}.modulation"
    for gamma in ("gamma_1", "gamma_2"):
        if gamma in group:
            state[f"{name}.{gamma}"] = _array(group[gamma], 0)
    for norm in ("norm1", "norm2"):
        _pair(state, f"{name}.{norm}", group[norm])
    levels = len(modulation["vars"]) // 2 if "vars" in modulation else 0
    for level in range(levels):
        state[f"{inner}.focal_layers.{level}.0.weight"] = _array(modulation, level).transpose(2, 3, 0, 1)
        temporal = _array(modulation, levels + level)[:, 0]
        state[f"{inner}.focal_layers_temporal.{level}.0.weight"] = temporal.transpose(2, 1, 0)
    for linear, trailing in (("f", 0), ("h", 2), ("f_temporal", 0), ("h_temporal", 1), ("proj", 0)):
        _linear(state, f"{inner}.{linear}", modulation[linear], trailing)
    if "ln" in modulation:
        _pair(state, f"{inner}.ln", modulation["ln"])
    for linear in ("fc1", "fc2"):
        _linear(state, f"{name}.mlp.{linear}", group[linear])
