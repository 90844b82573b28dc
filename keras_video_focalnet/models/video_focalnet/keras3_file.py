"""A Video-FocalNet's Keras 3 `.weights.h5` and `.keras` files as a state in the reference's names, without a model."""

from __future__ import annotations

import os
import re

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.hdf5 import Group, TensorFile, read
from keras_video_focalnet.weights.keras3_file import check_labels, open_keras3

_COUNTER = re.compile(r"_(\d+)$")


def read_keras3(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Read a `.weights.h5` or `.keras` file of a `VideoFocalNet` as a float32 state, with its class names or None.

    A `WeightsFileError` names the file and the first tensor that is wrong; so it does for a quantized model.
    """
    with open_keras3(path) as (file, labels):
        state = state_of_layers(file, file.group(file.root, "layers"))
        check_labels(labels, len(state["head.bias"]) if "head.bias" in state else None)
        return state, labels


def state_of_layers(file: TensorFile, layers: Group) -> dict[str, np.ndarray]:
    """Read the state out of the group that holds a model's layers, named by their classes."""
    return _Reader(file).state(layers)


class _Reader:
    """Collects the state of one open file."""

    def __init__(self, file: TensorFile):
        self._file = file
        self._state = {}

    def state(self, layers):
        names = _by_class(layers)
        for index, name in enumerate(names.get("patch_embedding", ())):
            self._embedding("patch_embed" if index == 0 else f"layers.{index - 1}.downsample", layers, name)
        stage, block, width, temporal_block = -1, 0, None, 0
        for name in names.get("focal_block", ()):
            group = self._file.group(layers, name)
            norm1 = self._vars(group, "norm1", (1, 1))
            if not self._file.has(self._file.group(group, "modulation"), "f"):
                self._block(f"layers_temporal.blocks.{temporal_block}", group, norm1)
                temporal_block += 1
                continue
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
        if len(group.members) > len(ranks):
            raise WeightsFileError(
                f"layer {parent.name}/{layer} has {len(group.members)} variables, not {len(ranks)}: is the model "
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
                f"tensor '{parent.name}/{layer}/vars/0' of shape {kernel.shape} is no kernel of patches: "
                "its height must be a multiple of its width"
            )
        kernel = kernel.reshape(rows // k, k, k, inputs, outputs).transpose(4, 3, 0, 1, 2)
        self._pair(f"{name}.proj", kernel[:, :, 0] if rows == k else kernel, bias)
        self._norm(f"{name}.norm", self._file.group(parent, layer), "norm")

    def _block(self, name, group, norm1):
        for gamma in ("gamma_1", "gamma_2", "gamma_1_temporal"):
            if self._file.has(group, gamma):
                (self._state[f"{name}.{gamma}"],) = self._vars(group, gamma, (1,))
        self._pair(f"{name}.norm1", *norm1)
        self._norm(f"{name}.norm2", group, "norm2")
        self._modulation(f"{name}.modulation", group, "modulation")
        if self._file.has(group, "modulation_temporal"):
            self._norm(f"{name}.norm1_temporal", group, "norm1_temporal")
            self._modulation(f"{name}.modulation_temporal", group, "modulation_temporal")
        for linear in ("fc1", "fc2"):
            self._linear(f"{name}.mlp.{linear}", group, linear)

    def _modulation(self, name, block, layer):
        modulation = self._file.group(block, layer)
        has_f, has_f_temporal = (self._file.has(modulation, linear) for linear in ("f", "f_temporal"))
        linears = {"f": 0, "h": 2} if has_f else {}
        if has_f_temporal or not has_f:
            h = "h_mean_temporal" if self._file.has(modulation, "h_mean_temporal") else "h_temporal"
            linears |= {"f_temporal": 0, h: 1}
        if self._file.has(modulation, "proj_spatio_temporal"):
            linears["proj_spatio_temporal"] = 0
        for linear, trailing in (linears | {"proj": 0}).items():
            self._linear(f"{name}.{linear}", modulation, linear, trailing)
        if self._file.has(modulation, "ln"):
            self._norm(f"{name}.ln", modulation, "ln")

        count = len(self._file.group(modulation, "vars").members) if self._file.has(modulation, "vars") else 0
        spatial = temporal = count // 2
        if not has_f:
            spatial, temporal = 0, count
        elif not has_f_temporal:
            # A gate for each level, and one more, lies beside query and context: so many kernels has one branch.
            rows, channels = self._state[f"{name}.f.weight"].shape
            spatial, temporal = (count, 0) if count == rows - 2 * channels - 1 else (spatial, temporal)
        kernels = self._vars(block, layer, (4,) * (spatial + temporal)) if count else []
        for level, kernel in enumerate(kernels[:spatial]):
            self._state[f"{name}.focal_layers.{level}.0.weight"] = kernel.transpose(2, 3, 0, 1)
        for level, kernel in enumerate(kernels[spatial:]):
            if kernel.shape[1] != 1:
                raise WeightsFileError(
                    f"tensor '{modulation.name}/vars/{spatial + level}' has shape {kernel.shape}, which is no temporal "
                    "kernel: its second axis must be 1"
                )
            # A kernel of one filter is depth-wise.
            axes = (1, 2, 0) if kernel.shape[3] == 1 else (2, 1, 0)
            self._state[f"{name}.focal_layers_temporal.{level}.0.weight"] = kernel[:, 0].transpose(axes)


def _by_class(group):
    """Names of layers by class, each in the order of the network: Keras calls them `dense`, `dense_1`, ..."""
    found = {}
    for name in group.members:
        counter = _COUNTER.search(name)
        kind, index = (name[: counter.start()], int(counter[1])) if counter else (name, 0)
        found.setdefault(kind, []).append((index, name))
    return {kind: [name for _, name in sorted(names)] for kind, names in found.items()}
