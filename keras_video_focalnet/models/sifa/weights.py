"""Where the tensors of SIFA's checkpoints go."""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np

from keras_video_focalnet.layers.relative_position_bias import relative_position_index
from keras_video_focalnet.layers.window_attention import region_mask
from keras_video_focalnet.models.network import Network
from keras_video_focalnet.models.sifa.shapes import TUBELET
from keras_video_focalnet.weights.slots import Slot, State, dense_slots, norm_slots, vector_slot

# Frames of a clip where a model leaves them open.
_FRAMES = 16
# The frame of a tubelet that an image's kernel looks at.
IMAGE_FRAME = 2
# What is computed from sizes alone, or from nothing.
_WITHOUT_MEANING = (".def_cor.weight", ".attn.relative_position_index", ".attn_mask", ".num_batches_tracked")
# Every block of a checkpoint has both of its looks at other frames; one of them is used.
_LOOKS = re.compile(r"(layers\.\d+\.blocks\.\d+)\.(conv\.weight|tda_norm\.weight|tda_norm\.bias)")


def net_slots(layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of one layer of SIFA-Net, known by the name that the model gives it."""
    name = layer.name
    if name == "stem":
        side, _, inputs, outputs = layer.kernel.shape
        colors = inputs // layer.tubelet_size
        kernel = Slot(layer.kernel, (outputs, colors, layer.tubelet_size, side, side), (3, 4, 2, 1, 0))
        return {"conv1.weight": kernel, **norm_slots("bn1", layer.norm)}
    if name == "head":
        slots = {}
        for head, kernel, bias in zip(("fc", "fc_dual"), layer.kernels, layer.biases, strict=True):
            slots[f"{head}.weight"] = Slot(kernel, tuple(kernel.shape)[::-1], (1, 0))
            slots[f"{head}.bias"] = vector_slot(bias)
        return slots
    if name.startswith("stage"):
        stage, block = name[5:].split("_", 1)
        dual = "_dual" if block.startswith("dual_") else ""
        return _bottleneck(f"layer{int(stage) + 1}{dual}.{block.rpartition('block')[2]}", layer)
    return {}


def _bottleneck(name, layer):
    slots = {}
    for number in (1, 2, 3):
        slots[f"{name}.conv{number}.weight"] = _frame_conv_slot(getattr(layer, f"conv{number}"))
        slots |= norm_slots(f"{name}.bn{number}", getattr(layer, f"bn{number}"))
    if layer.projection is not None:
        slots[f"{name}.downsample.0.weight"] = _frame_conv_slot(layer.projection)
        slots |= norm_slots(f"{name}.downsample.1", layer.projection_bn)
    if layer.fc1 is not None:
        slots |= dense_slots(f"{name}.fc1", layer.fc1) | dense_slots(f"{name}.fc2", layer.fc2)
    if layer.conv_offset is not None:
        slots[f"{name}.conv_offset.weight"] = _frame_conv_slot(layer.conv_offset)
    return slots


def _frame_conv_slot(kernel):
    """The slot of a kernel that has one step in time."""
    rows, columns, inputs, outputs = kernel.shape
    return Slot(kernel, (outputs, inputs, 1, rows, columns), (2, 3, 4, 1, 0))


def transformer_slots(layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of one layer of SIFA-Transformer, known by the name that the model gives it."""
    name = layer.name
    if name == "patch_embed":
        rows, side, inputs, outputs = layer.kernel.shape
        kernel = Slot(layer.kernel, (outputs, inputs, rows // side, side, side), (2, 3, 4, 1, 0))
        return {"patch_embed.proj.weight": kernel, "patch_embed.proj.bias": vector_slot(layer.bias)}
    if name == "norm":
        return norm_slots("norm", layer)
    if name == "head":
        return dense_slots("fc", layer)
    if not name.startswith("stage"):
        return {}
    stage, part = name[5:].split("_", 1)
    if part == "downsample":
        kernel = Slot(layer.kernel, tuple(layer.kernel.shape)[::-1], (1, 0))
        prefix = f"layers.{stage}.downsample"
        return {**norm_slots(f"{prefix}.norm", layer.norm), f"{prefix}.reduction.weight": kernel}
    return _transformer_block(f"layers.{stage}.blocks.{part.removeprefix('block')}", layer)


def _transformer_block(name, layer):
    attention = layer.attention
    slots = {
        **norm_slots(f"{name}.norm1", layer.norm1),
        f"{name}.attn.relative_position_bias_table": vector_slot(attention.position_bias.table),
        **dense_slots(f"{name}.attn.qkv", attention.qkv),
        **dense_slots(f"{name}.attn.proj", attention.proj),
    }
    if layer.temporal_kernel is not None:
        window, _, inputs, outputs = layer.temporal_kernel.shape
        slots[f"{name}.conv.weight"] = Slot(layer.temporal_kernel, (outputs, inputs, 1, window), (3, 2, 1, 0))
    else:
        slots |= norm_slots(f"{name}.tda_norm", layer.inter_frame_norm)
    return {
        **slots,
        **norm_slots(f"{name}.norm2", layer.norm2),
        **dense_slots(f"{name}.mlp.fc1", layer.fc1),
        **dense_slots(f"{name}.mlp.fc2", layer.fc2),
    }


def complete_net(slots: Mapping[str, Slot], state: Mapping[str, np.ndarray]) -> tuple[State, list[str]]:
    """Make the state of a SIFA-Net, or of an image ResNet in the names of torchvision, fit the slots.

    An image's first kernel looks at one frame of every tubelet, and both branches of the last stage begin alike. What a
    ResNet does not have keeps its random weights: contexts, offsets and the classifiers.
    """
    state = _with_meaning(state)
    if np.ndim(state.get("conv1.weight")) != 4:
        return state, []
    state = {name: array for name, array in state.items() if not name.startswith("fc.")}
    for name, array in tuple(state.items()):
        if array.ndim == 4:
            state[name] = _inflated(array) if name == "conv1.weight" else array[:, :, None]
        if name.startswith("layer4."):
            state[name.replace("layer4.", "layer4_dual.")] = state[name]
    new = (".fc1.", ".fc2.", ".conv_offset.", "fc.", "fc_dual.")
    missing = [name for name in slots if name not in state and (name.startswith(new) or any(n in name for n in new))]
    return state, missing


def complete_transformer(slots: Mapping[str, Slot], state: Mapping[str, np.ndarray]) -> tuple[State, list[str]]:
    """Make the state of a SIFA-Transformer, or of an image Swin in the names of its authors or of timm, fit the slots.

    An image's first kernel looks at one frame of every tubelet. What looks at other frames begins at zero, so that at
    first the model gives what the image model gives for that frame, without the norm after its patches. The classifier
    keeps its random weights.
    """
    state = _with_meaning(state)
    # Of both looks of a block, what the model has a slot for is used.
    state = {
        name: array
        for name, array in state.items()
        if name in slots or not (look := _LOOKS.fullmatch(name)) or f"{look[1]}.norm1.weight" not in slots
    }
    if np.ndim(state.get("patch_embed.proj.weight")) != 4:
        return state, []
    dropped = ("patch_embed.norm.", "head.")
    state = {name: array for name, array in state.items() if not name.startswith(dropped)}
    stages = sorted({int(name.split(".")[1]) for name in state if re.match(r"layers\.\d+\.", name)})
    # timm counts a merging to the stage behind it.
    if stages and f"layers.{stages[-1]}.downsample.norm.weight" in state:
        state = {_of_stage_before(name): array for name, array in state.items()}
    state["patch_embed.proj.weight"] = _inflated(state["patch_embed.proj.weight"])
    missing = [name for name in slots if _LOOKS.fullmatch(name) and name not in state]
    for name in missing:
        state[name] = np.zeros(slots[name].reference_shape, "float32")
    return state, [*missing, *(name for name in ("fc.weight", "fc.bias") if name in slots and name not in state)]


def _with_meaning(state):
    return {name: array for name, array in state.items() if not name.endswith(_WITHOUT_MEANING)}


def _inflated(kernel):
    """An image's kernel as one of a tubelet."""
    inflated = np.zeros((*kernel.shape[:2], TUBELET, *kernel.shape[2:]), kernel.dtype)
    inflated[:, :, IMAGE_FRAME] = kernel
    return inflated


def _of_stage_before(name):
    place = re.match(r"layers\.(\d+)\.downsample\.", name)
    return name if place is None else name.replace(place[0], f"layers.{int(place[1]) - 1}.downsample.")


def unused_of_net(network: Network) -> State:
    """What a checkpoint of SIFA-Net holds beside the slots: counts of batches, and the divisor of every similarity."""
    state = {
        name.replace("running_var", "num_batches_tracked"): np.zeros((), "int64")
        for name in network.slots()
        if name.endswith(".running_var")
    }
    for layer in network.layers_of("block"):
        if layer.attention is not None:
            (name,) = (name for name in net_slots(layer) if name.endswith("conv_offset.weight"))
            name = name.replace("conv_offset", "def_cor")
            state[name] = _divisor(layer.width, layer.output[0], layer.kernel_size)
    return state


def unused_of_transformer(network: Network) -> State:
    """What a checkpoint of SIFA-Transformer holds beside the slots: the look at other frames that a block does not use,
    as zeros; indices and masks of windows; and the divisor of every similarity.
    """
    state = {}
    for layer in network.layers_of("block"):
        slots, attention = transformer_slots(layer), layer.attention
        name = next(iter(slots)).removesuffix(".norm1.weight")
        output = layer.output if layer.shift_size else layer.output[0]
        channels, window = output.shape[-1], attention.position_bias.window_size
        state[f"{name}.attn.relative_position_index"] = relative_position_index(window)
        state[f"{name}.def_cor.weight"] = _divisor(channels, output, layer.kernel_size)
        if layer.shift_size:
            mask = region_mask(attention.grid_size, attention.window_size, attention.shift_size)
            state[f"{name}.attn_mask"] = mask.astype("float32")
            state |= {f"{name}.tda_norm.{part}": np.zeros(channels, "float32") for part in ("weight", "bias")}
        else:
            state[f"{name}.conv.weight"] = np.zeros((channels, channels, 1, 3), "float32")
    return state


def _divisor(channels, output, kernel_size):
    """One part in `channels`, for every frame of a clip and tap of a window; where frames are open, for 16 of them."""
    frames = output.shape[1] or _FRAMES // TUBELET
    return np.full((channels, frames, kernel_size, kernel_size), 1 / channels, "float32")
