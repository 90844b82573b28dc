"""Where the tensors of a Video-FocalNet checkpoint go, and how an image FocalNet becomes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.layers.focal_modulation import check_fusion
from keras_video_focalnet.models.registry import Entry
from keras_video_focalnet.utils.checks import check_choice
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.slots import Slot, State, dense_slots, norm_slots, vector_slot

TEMPORAL_INITS = ("identity", "random")
# The first is the design of the published weights.
DESIGNS = ("parallel", "spatial", "factorized_3d", "factorized_encoder", "divided")


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
    if name.startswith("temporal_block"):
        return _block(f"layers_temporal.blocks.{name[len('temporal_block') :]}", layer)
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
    slots = {}
    if layer.gamma_1 is not None:
        slots[f"{name}.gamma_1"] = vector_slot(layer.gamma_1.gamma)
        slots[f"{name}.gamma_2"] = vector_slot(layer.gamma_2.gamma)
    slots |= norm_slots(f"{name}.norm1", layer.norm1) | _modulation(f"{name}.modulation", layer.modulation)
    if layer.modulation_temporal is not None:
        if layer.gamma_1_temporal is not None:
            slots[f"{name}.gamma_1_temporal"] = vector_slot(layer.gamma_1_temporal.gamma)
        slots |= norm_slots(f"{name}.norm1_temporal", layer.norm1_temporal)
        slots |= _modulation(f"{name}.modulation_temporal", layer.modulation_temporal)
    slots |= norm_slots(f"{name}.norm2", layer.norm2)
    slots |= dense_slots(f"{name}.mlp.fc1", layer.fc1)
    return slots | dense_slots(f"{name}.mlp.fc2", layer.fc2)


def _modulation(name: str, layer: keras.layers.Layer) -> dict[str, Slot]:
    slots = {}
    for dense, window_axes in (("f", 0), ("h", 2)):
        if getattr(layer, dense) is not None:
            slots |= dense_slots(f"{name}.{dense}", getattr(layer, dense), window_axes)
    for level, kernel in enumerate(layer.spatial_kernels):
        k, _, channels, _ = kernel.shape
        slots[f"{name}.focal_layers.{level}.0.weight"] = Slot(kernel, (channels, 1, k, k), (2, 3, 0, 1))
    for dense, window_axes in (
        ("f_temporal", 0),
        ("h_temporal", 1),
        ("h_mean_temporal", 1),
        ("proj_spatio_temporal", 0),
    ):
        if getattr(layer, dense) is not None:
            slots |= dense_slots(f"{name}.{dense}", getattr(layer, dense), window_axes)
    for level, kernel in enumerate(layer.temporal_kernels):
        k, _, inputs, outputs = kernel.shape
        shape = (inputs, 1, k) if layer.temporal_depthwise else (outputs, inputs, k)
        slots[f"{name}.focal_layers_temporal.{level}.0.weight"] = Slot(kernel, shape, (2, 1, 0))
    slots |= dense_slots(f"{name}.proj", layer.proj)
    return slots if layer.ln is None else slots | norm_slots(f"{name}.ln", layer.ln)


def is_temporal(name: str) -> bool:
    """Whether a tensor looks at other frames or goes with what does, which image checkpoints do not have."""
    return "_temporal." in name or name.endswith("_temporal")


def _built_with(names: Iterable[str]) -> tuple[str, str]:
    """The design and fusion of a network, told by the names of its tensors; an image model's design is "spatial"."""
    marks = {
        "\nlayers_temporal.": "factorized_encoder",
        ".modulation_temporal.": "divided",
        ".f_temporal.": "parallel",
        ".focal_layers_temporal.": "factorized_3d",
    }
    fusions = {".h_mean_temporal.": "average", ".proj_spatio_temporal.": "projection"}
    text = "".join(f"\n{name}" for name in names)
    design = next((design for mark, design in marks.items() if mark in text), "spatial")
    return design, next((fusion for mark, fusion in fusions.items() if mark in text), "multiply")


def check_published(arguments: Mapping[str, Any], entry: Entry) -> None:
    """Check that a model has the design and fusion of published weights, where they are not an image model's."""
    design, fusion = check_choice("design", arguments["design"], DESIGNS), arguments["fusion"]
    check_fusion(fusion, design)
    if entry.input_shape[0] == 1:
        _check_temporal_init(arguments["temporal_init"], fusion)
    elif (design, fusion) != (DESIGNS[0], "multiply"):
        name = "design" if design != DESIGNS[0] else "fusion"
        raise ValueError(
            f'{name}="{arguments[name]}" is not that of the published weights {entry.name!r}, which have '
            f'design="{DESIGNS[0]}" and fusion="multiply"; pass weights=None, or leave {name} out.'
        )


def _check_temporal_init(temporal_init: str, fusion: str) -> None:
    if (check_choice("temporal_init", temporal_init, TEMPORAL_INITS), fusion) == ("identity", "average"):
        raise WeightsFileError(
            'temporal_init="identity" does not exist with fusion="average": the mean with any temporal modulator is '
            'not what the image model has; pass temporal_init="random", or another fusion.'
        )


def inflate(
    slots: Mapping[str, Slot], state: Mapping[str, np.ndarray], temporal_init: str = "identity"
) -> tuple[State, list[str]]:
    """Complete the state of an image FocalNet, which has no temporal branch; one of the network's own design stays as
    it is, and a `WeightsFileError` tells of one of another design or fusion.

    `"identity"` makes all that looks at other frames change nothing at first, so that a still clip gives the image
    model's answer: temporal modulators are 1, a learned fusion passes the spatial one, convolutions over time pass each
    frame, and what has a shortcut of its own adds 0. `"random"` keeps the layers' own initialization, as the reference
    does. The names of the tensors that the image model does not have are returned beside the state.
    """
    check_choice("temporal_init", temporal_init, TEMPORAL_INITS)
    (design, fusion), (given, given_fusion) = _built_with(slots), _built_with(state)
    if (given, given_fusion) == (design, fusion):
        return dict(state), []
    if given != "spatial":
        raise WeightsFileError(
            f'the weights are of design="{given}" and fusion="{given_fusion}", and the model has design="{design}" and '
            f'fusion="{fusion}"; build it with design="{given}", fusion="{given_fusion}", or pass weights=None.'
        )
    _check_temporal_init(temporal_init, fusion)
    missing = [name for name in slots if is_temporal(name)]
    if temporal_init == "random":
        return dict(state), missing
    added = {name: _identity(name, slots[name].reference_shape, design, fusion) for name in missing}
    return {**state, **{name: array for name, array in added.items() if array is not None}}, missing


def _identity(name: str, shape: tuple[int, ...], design: str, fusion: str) -> np.ndarray | None:
    """What a tensor must be for its part of the network to change nothing, or None where any value would do."""
    zeros = np.zeros(shape, "float32")
    if design == "parallel" and fusion == "multiply":
        return zeros + name.endswith(".bias") if ".h_temporal." in name else None
    if ".proj_spatio_temporal." in name:
        return zeros if name.endswith(".bias") else np.eye(*shape, dtype="float32")
    if design == "factorized_3d":
        zeros[:, :, shape[2] // 2] = np.eye(shape[0])
        return zeros
    last = (".modulation_temporal.proj.",) if design == "divided" else (".modulation.proj.", ".mlp.fc2.")
    return zeros if any(part in name for part in last) else None
