"""Reader of our own `.weights.h5` and `.keras` files: their numbers alone, no object of theirs is made."""

import io
import json
import os
import re
import zipfile

import h5py

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import TensorFile, named_errors, read

MAX_WEIGHTS_BYTES = 8 << 30
MAX_CONFIG_BYTES = 64 << 20
_COUNTER = re.compile(r"_(\d+)$")


def read_keras3(path):
    """Read a `.weights.h5` or `.keras` file of a `VideoFocalNet` as a state.

    Args:
        path: str or path.

    Returns:
        The state (see `mapping`) as float32, and the class names that a `.keras` file carries, or None.

    Raises:
        WeightsFileError: if the file is no such file, is damaged, or holds another or a quantized model; the message
            names the file and the first tensor that is wrong.
    """
    kind = sniff(path)
    with named_errors(path, "file"):
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                labels = _config(_member(archive, "config.json", MAX_CONFIG_BYTES)).get("labels")
                weights = _member(archive, "model.weights.h5", MAX_WEIGHTS_BYTES)
            with h5py.File(io.BytesIO(weights), "r") as file:
                state = _Reader(file, len(weights)).state()
            check_labels(labels, state)
            return state, labels
        if kind == "hdf5":
            with h5py.File(path, "r") as file:
                return _Reader(file, os.path.getsize(path)).state(), None
        raise WeightsFileError(f"this is {DESCRIPTIONS[kind]}, not a Keras 3 .weights.h5 or .keras file")


def _member(archive, name, limit):
    if name not in archive.namelist():
        raise WeightsFileError(f"the archive has no {name}; it is not a .keras file")
    info = archive.getinfo(name)
    # Keras stores members uncompressed: a large ratio is a bomb.
    if info.file_size > limit or info.file_size > 100 * max(info.compress_size, 1):
        raise WeightsFileError(f"{name} unpacks to {info.file_size} bytes, which no model of ours has")
    return archive.read(info)


def check_labels(labels, state):
    """Check that class names out of a file are one text a class, or None.

    Raises:
        WeightsFileError: They are not; the message does not name the file.
    """
    if labels is None:
        return
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WeightsFileError(f"its labels are {str(labels)[:80]!r}, not a list of names; save it with labels or None")
    if "head.bias" in state and len(labels) != len(state["head.bias"]):
        raise WeightsFileError(
            f"its labels are {len(labels)} names, but the classifier has {len(state['head.bias'])} classes; save it "
            "with one name a class, or None"
        )


def _config(content):
    config = json.loads(content)
    config = config.get("config") if isinstance(config, dict) else None
    if not isinstance(config, dict):
        raise WeightsFileError("its config.json describes no model; save it again with model.save")
    return config


class _Reader:
    """Collects the state of one open file."""

    def __init__(self, file, file_bytes):
        self._file = TensorFile(file, file_bytes)
        self._state = {}

    def state(self):
        root = self._file.root
        if not self._file.has(root, "layers"):
            raise WeightsFileError("no group 'layers'; it is not a Keras 3 weights file of a functional model")
        layers = self._file.group(root, "layers")
        names = _by_class(layers)
        for index, name in enumerate(names.get("patch_embedding", ())):
            self._embedding("patch_embed" if index == 0 else f"layers.{index - 1}.downsample", layers, name)
        stage, block, width = -1, 0, None
        for name in names.get("focal_block", ()):
            group = self._file.group(layers, name)
            norm1 = self._vars(group, "norm1", (1, 1))
            # Stages have no mark of their own in the file: each doubles the channels.
            stage, block = (stage, block + 1) if len(norm1[0]) == width else (stage + 1, 0)
            width = len(norm1[0])
            self._block(f"layers.{stage}.blocks.{block}", group, norm1)
        for name in names.get("layer_normalization", ())[-1:]:
            self._norm("norm", layers, name)
        for name in names.get("dense", ())[-1:]:
            self._linear("head", layers, name)
        if not self._state:
            raise WeightsFileError(f"no layer of a Video-FocalNet in it; there are {', '.join(names) or 'none'}")
        return self._state

    def _vars(self, parent, layer, ranks):
        """The variables of a layer as float32, which must be so many, each of its rank."""
        group = self._file.group(parent, f"{layer}/vars")
        if len(group) > len(ranks):
            raise WeightsFileError(
                f"layer {parent.name.strip('/')}/{layer} has {len(group)} variables, not {len(ranks)}: is the model "
                "quantized? Load it with keras.saving.load_model, or save it before it is quantized"
            )
        tensors = [self._file.tensor(group, str(index), rank) for index, rank in enumerate(ranks)]
        return [read(tensor).astype("float32", copy=False) for tensor in tensors]

    def _pair(self, name, weight, bias):
        self._state[f"{name}.weight"], self._state[f"{name}.bias"] = weight, bias

    def _norm(self, name, parent, layer):
        self._pair(name, *self._vars(parent, layer, (1, 1)))

    def _linear(self, name, parent, layer, trailing=0):
        kernel, bias = self._vars(parent, layer, (2, 1))
        self._pair(name, kernel.T.reshape(kernel.shape[::-1] + (1,) * trailing), bias)

    def _embedding(self, name, parent, layer):
        kernel, bias = self._vars(parent, layer, (4, 1))
        rows, k, inputs, outputs = kernel.shape
        if not k or rows % k:
            raise WeightsFileError(
                f"tensor '{parent.name.strip('/')}/{layer}/vars/0' of shape {kernel.shape} is no kernel of patches: "
                "its height must be a multiple of its width"
            )
        kernel = kernel.reshape(rows // k, k, k, inputs, outputs).transpose(4, 3, 0, 1, 2)
        self._pair(f"{name}.proj", kernel[:, :, 0] if rows == k else kernel, bias)
        self._norm(f"{name}.norm", self._file.group(parent, layer), "norm")

    def _block(self, name, group, norm1):
        modulation, inner = self._file.group(group, "modulation"), f"{name}.modulation"
        for gamma in ("gamma_1", "gamma_2"):
            if self._file.has(group, gamma):
                (self._state[f"{name}.{gamma}"],) = self._vars(group, gamma, (1,))
        self._pair(f"{name}.norm1", *norm1)
        self._norm(f"{name}.norm2", group, "norm2")
        levels = len(self._file.group(modulation, "vars")) // 2 if self._file.has(modulation, "vars") else 0
        kernels = self._vars(group, "modulation", (4,) * 2 * levels) if levels else []
        for level, (spatial, temporal) in enumerate(zip(kernels[:levels], kernels[levels:], strict=True)):
            if temporal.shape[1] != 1:
                raise WeightsFileError(
                    f"tensor '{modulation.name.strip('/')}/vars/{levels + level}' has shape {temporal.shape}, which is "
                    "no temporal kernel: its second axis must be 1"
                )
            self._state[f"{inner}.focal_layers.{level}.0.weight"] = spatial.transpose(2, 3, 0, 1)
            self._state[f"{inner}.focal_layers_temporal.{level}.0.weight"] = temporal[:, 0].transpose(2, 1, 0)
        for linear, trailing in (("f", 0), ("h", 2), ("f_temporal", 0), ("h_temporal", 1), ("proj", 0)):
            self._linear(f"{inner}.{linear}", modulation, linear, trailing)
        if self._file.has(modulation, "ln"):
            self._norm(f"{inner}.ln", modulation, "ln")
        for linear in ("fc1", "fc2"):
            self._linear(f"{name}.mlp.{linear}", group, linear)


def _by_class(group):
    """Names of layers by class, each in the order of the network: Keras calls them `dense`, `dense_1`, ..."""
    found = {}
    for name in group:
        counter = _COUNTER.search(name)
        kind, index = (name[: counter.start()], int(counter[1])) if counter else (name, 0)
        found.setdefault(kind, []).append((index, name))
    return {kind: [name for _, name in sorted(names)] for kind, names in found.items()}
