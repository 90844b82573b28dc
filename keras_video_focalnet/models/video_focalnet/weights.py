"""Where the tensors of a Video-FocalNet checkpoint go, and how an image FocalNet becomes one."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from keras_video_focalnet.utils.checks import check_choice
from keras_video_focalnet.weights.slots import Slot, State, dense_slots, norm_slots, vector_slot

TEMPORAL_INITS = ("identity", "random")


def layer_slots(layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of one layer, known by the name that the model gives it; none for a layer without weights."""
    name = layer.name
    if name == "patch_embed":
        return _embedding("patch_embed", layer)
    if name.startswith("stage") and name.endswith("_downsample"):
        return _embedding(f"layers.{name[5 : -len('_downsample')]}.downsample", layer)
    if name.startswith("stage") and "_block" in name:
        stage, block = name[5:].split("_block")
        return _block(f"layers.{stage}.blocks.{block}", layer)
    if name == "norm":
        return norm_slots("norm", layer)
    if name == "head":
        return dense_slots("head", layer)
    return {}


def _embedding(name: str, layer: keras.layers.Layer) -> dict[str, Slot]:
    rows, k, inputs, outputs = layer.kernel.shape
    if layer.tubelet_size == 1:
        kernel = Slot(layer.kernel, (outputs, inputs, k, k), (2, 3, 1, 0))
    else:
        kernel = Slot(layer.kernel, (outputs, inputs, rows // k, k, k), (2, 3, 4, 1, 0))
    return {
        f"{name}.proj.weight": kernel,
        f"{name}.proj.bias": vector_slot(layer.bias),
        **norm_slots(f"{name}.norm", layer.norm),
    }


def _block(name: str, layer: keras.layers.Layer) -> dict[str, Slot]:
    modulation, prefix = layer.modulation, f"{name}.modulation"
    slots = {}
    if layer.gamma_1 is not None:
        slots[f"{name}.gamma_1"] = vector_slot(layer.gamma_1.gamma)
        slots[f"{name}.gamma_2"] = vector_slot(layer.gamma_2.gamma)
    slots |= norm_slots(f"{name}.norm1", layer.norm1)
    slots |= dense_slots(f"{prefix}.f", modulation.f)
    slots |= dense_slots(f"{prefix}.h", modulation.h, window_axes=2)
    for level, kernel in enumerate(modulation.spatial_kernels):
        k, _, channels, _ = kernel.shape
        slots[f"{prefix}.focal_layers.{level}.0.weight"] = Slot(kernel, (channels, 1, k, k), (2, 3, 0, 1))
    slots |= dense_slots(f"{prefix}.f_temporal", modulation.f_temporal)
    slots |= dense_slots(f"{prefix}.h_temporal", modulation.h_temporal, window_axes=1)
    for level, kernel in enumerate(modulation.temporal_kernels):
        k, _, inputs, outputs = kernel.shape
        slots[f"{prefix}.focal_layers_temporal.{level}.0.weight"] = Slot(kernel, (outputs, inputs, k), (2, 1, 0))
    slots |= dense_slots(f"{prefix}.proj", modulation.proj)
    if modulation.ln is not None:
        slots |= norm_slots(f"{prefix}.ln", modulation.ln)
    slots |= norm_slots(f"{name}.norm2", layer.norm2)
    slots |= dense_slots(f"{name}.mlp.fc1", layer.fc1)
    return slots | dense_slots(f"{name}.mlp.fc2", layer.fc2)


def is_temporal(name: str) -> bool:
    """Whether a tensor belongs to the temporal branch, which image checkpoints do not have."""
    return "_temporal." in name


def inflate(
    slots: Mapping[str, Slot], state: Mapping[str, np.ndarray], temporal_init: str = "identity"
) -> tuple[State, list[str]]:
    """Complete the state of an image FocalNet, which has no temporal branch; any other state stays as it is.

    `"identity"` makes every temporal modulator 1, so that at first a still clip gives the image model's answer;
    `"random"` keeps the layers' own initialization, as the reference does. The names of the tensors that the image
    model does not have are returned beside the state.
    """
    check_choice("temporal_init", temporal_init, TEMPORAL_INITS)
    state = dict(state)
    if any(map(is_temporal, state)):
        return state, []
    missing = [name for name in slots if is_temporal(name)]
    if temporal_init == "identity":
        for name in missing:
            if ".h_temporal." in name:
                state[name] = np.full(slots[name].reference_shape, float(name.endswith(".bias")), "float32")
    return state, missing
