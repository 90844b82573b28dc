"""A whole Video-FocalNet that Keras 3 saved as `.h5`, the older format of Keras, as a state in the reference's names.

Such a file names layers and variables as the model does (`stage0_block0/norm1/gamma`), where a `.keras` file counts
them by class (`focal_block/norm1/vars/0`). It is put in the order of the latter and read as such.
"""

from __future__ import annotations

import re

import numpy as np

from keras_video_focalnet.models.video_focalnet.keras3_file import state_of_layers
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.hdf5 import Group, TensorFile, names_in
from keras_video_focalnet.weights.keras3_file import check_labels, parse_config

_CLASSES = {
    r"patch_embed|stage\d+_downsample": "patch_embedding",
    r"(stage\d+|temporal)_block\d+": "focal_block",
    "norm": "layer_normalization",
    "head": "dense",
}
_REMEDY = "load it with keras.saving.load_model and save it with model.save('model.keras')"


def is_whole_h5(file: TensorFile) -> bool:
    """Tells whether Keras 3 wrote a file of this kind; Keras 2 tells its version at the same place."""
    version = file.root.attributes.get("keras_version", "")
    return file.has(file.root, "model_weights") and version.split(".")[0] not in ("", "1", "2")


def read_whole_h5(file: TensorFile) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Read such a file as a float32 state, with its class names or None."""
    root = file.group(file.root, "model_weights")
    layers, count = Group(("model_weights",), {}), 0
    for name in names_in(root, "layer_names") or ():
        group = file.group(root, name)
        weights = names_in(group, "weight_names")
        if not weights:
            continue
        kind = next((kind for pattern, kind in _CLASSES.items() if re.fullmatch(pattern, name)), None)
        if kind is None:
            raise WeightsFileError(f"its layer {name!r} with weights is none of a Video-FocalNet; {_REMEDY}")
        layer = layers.members[f"{kind}_{(count := count + 1)}"] = Group((*root.path, name), {})
        for path in weights:
            _put(file, group, layer, path)
    state = state_of_layers(file, layers)
    config = file.root.attributes.get("model_config")
    labels = None if config is None else parse_config(config.encode()).get("labels")
    check_labels(labels, len(state["head.bias"]) if "head.bias" in state else None)
    return state, labels


def _put(file: TensorFile, group: Group, layer: Group, path: str) -> None:
    """Put a variable where a `.keras` file has it: `vars/N` of the layer that owns it, N in the order of the list."""
    *owners, leaf = path.split("/")
    found = file.group(group, "/".join(owners)).members
    if leaf not in found:
        raise WeightsFileError(f"tensor {path!r} is missing from the group {group.name!r}; {_REMEDY}")
    for owner in owners[1:]:
        layer = layer.members.setdefault(owner, Group((*layer.path, owner), {}))
    variables = layer.members.setdefault("vars", Group((*layer.path, "vars"), {}))
    variables.members[str(len(variables.members))] = found[leaf]
