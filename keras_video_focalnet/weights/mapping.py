"""Reference names <-> our variables, both ways.

A *state* is a dict from the reference checkpoint's names to NumPy arrays in PyTorch layouts. Every file of weights is
first read into one; here it is moved into a built model, and back.
"""

import warnings
from dataclasses import dataclass

import keras
import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError

HEAD = ("head.weight", "head.bias")
TEMPORAL_INITS = ("identity", "random")


@dataclass(frozen=True)
class Slot:
    """One tensor of the reference: the variable that holds it, and how its axes move."""

    variable: keras.Variable
    reference_shape: tuple
    axes: tuple  # our array = reference.transpose(axes).reshape(variable shape)

    def to_ours(self, array):
        return np.ascontiguousarray(array.transpose(self.axes)).reshape(self.variable.shape)

    def to_reference(self):
        moved = [self.reference_shape[axis] for axis in self.axes]
        array = keras.ops.convert_to_numpy(self.variable).reshape(moved)
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes)))


def reference_slots(model):
    """Map each name of the reference's checkpoint to the variable of a built model.

    Args:
        model: a built functional model of our layers (`VideoFocalNet`, or one inside another model).

    Returns:
        Dict of `Slot`, in the order of the network.

    Raises:
        ValueError: if the model has no layers of ours, two networks of ours, or quantized kernels.
    """
    slots = _slots(model)
    if not any(name.startswith(("patch_embed.", "layers.")) for name in slots):
        raise ValueError(
            f"the model {model.name!r} has no layers of a Video-FocalNet in it; pass a built VideoFocalNet."
        )
    for name, slot in slots.items():
        if "float" not in keras.backend.standardize_dtype(slot.variable.dtype):
            raise ValueError(
                f"the model {model.name!r} is quantized ({name!r} is {slot.variable.dtype}), so it has no weights of "
                "the reference's kind; convert or load before model.quantize, and save it whole with model.save."
            )
    return slots


def _slots(model):
    slots = {}
    for layer in model.layers:
        found = _slots(layer) if isinstance(layer, keras.Model) else _layer_slots(layer)
        twice = next((name for name in found if name in slots), None)
        if twice is not None:
            raise ValueError(f"the model {model.name!r} holds two tensors {twice!r}; pass the one network meant.")
        slots.update(found)
    return slots


def _layer_slots(layer):
    slots, name = {}, layer.name
    if name == "patch_embed":
        _embedding(slots, "patch_embed", layer)
    elif name.startswith("stage") and name.endswith("_downsample"):
        _embedding(slots, f"layers.{name[5 : -len('_downsample')]}.downsample", layer)
    elif name.startswith("stage") and "_block" in name:
        stage, block = name[5:].split("_block")
        _block(slots, f"layers.{stage}.blocks.{block}", layer)
    elif name == "norm":
        _norm(slots, "norm", layer)
    elif name == "head":
        _dense(slots, "head", layer)
    return slots


def _vector(slots, name, variable):
    slots[name] = Slot(variable, tuple(variable.shape), (0,))


def _norm(slots, name, layer):
    _vector(slots, f"{name}.weight", layer.gamma)
    _vector(slots, f"{name}.bias", layer.beta)


def _dense(slots, name, layer, trailing=0):
    """A linear layer, or a convolution of window 1 with `trailing` window axes."""
    inputs, outputs = layer.kernel.shape
    axes = (1, 0, *range(2, 2 + trailing))
    slots[f"{name}.weight"] = Slot(layer.kernel, (outputs, inputs, *(1,) * trailing), axes)
    _vector(slots, f"{name}.bias", layer.bias)


def _embedding(slots, name, layer):
    rows, k, inputs, outputs = layer.kernel.shape
    if layer.tubelet_size == 1:
        slots[f"{name}.proj.weight"] = Slot(layer.kernel, (outputs, inputs, k, k), (2, 3, 1, 0))
    else:
        slots[f"{name}.proj.weight"] = Slot(layer.kernel, (outputs, inputs, rows // k, k, k), (2, 3, 4, 1, 0))
    _vector(slots, f"{name}.proj.bias", layer.bias)
    _norm(slots, f"{name}.norm", layer.norm)


def _block(slots, name, layer):
    modulation, inner = layer.modulation, f"{name}.modulation"
    if layer.gamma_1 is not None:
        _vector(slots, f"{name}.gamma_1", layer.gamma_1.gamma)
        _vector(slots, f"{name}.gamma_2", layer.gamma_2.gamma)
    _norm(slots, f"{name}.norm1", layer.norm1)
    _dense(slots, f"{inner}.f", modulation.f)
    _dense(slots, f"{inner}.h", modulation.h, trailing=2)
    for level, kernel in enumerate(modulation.spatial_kernels):
        k, _, channels, _ = kernel.shape
        slots[f"{inner}.focal_layers.{level}.0.weight"] = Slot(kernel, (channels, 1, k, k), (2, 3, 0, 1))
    _dense(slots, f"{inner}.f_temporal", modulation.f_temporal)
    _dense(slots, f"{inner}.h_temporal", modulation.h_temporal, trailing=1)
    for level, kernel in enumerate(modulation.temporal_kernels):
        k, _, inputs, outputs = kernel.shape
        slots[f"{inner}.focal_layers_temporal.{level}.0.weight"] = Slot(kernel, (outputs, inputs, k), (2, 1, 0))
    _dense(slots, f"{inner}.proj", modulation.proj)
    if modulation.ln is not None:
        _norm(slots, f"{inner}.ln", modulation.ln)
    _norm(slots, f"{name}.norm2", layer.norm2)
    _dense(slots, f"{name}.mlp.fc1", layer.fc1)
    _dense(slots, f"{name}.mlp.fc2", layer.fc2)


def state_of(model):
    """Read the weights of a model as a state: the reference's names and layouts, bit for bit.

    Args:
        model: a built model, see `reference_slots`.

    Returns:
        Dict of NumPy arrays.

    Example:
    >>> state_of(VideoFocalNetNano(weights=None))["patch_embed.proj.weight"].shape
    (16, 3, 4, 4)
    """
    return {name: slot.to_reference() for name, slot in reference_slots(model).items()}


def is_temporal(name):
    """Whether a tensor belongs to the temporal branch, which image checkpoints do not have."""
    return "_temporal." in name


def check_temporal_init(value):
    """Check the argument `temporal_init`, early: before anything is downloaded or built.

    Raises:
        ValueError: if it is neither `"identity"` nor `"random"`.
    """
    if value not in TEMPORAL_INITS:
        raise ValueError(f'temporal_init must be "identity" or "random", received {value!r}.')


def check_head(state, origin="state"):
    """Check that the classifier in a state, where it has one, is a matrix and a vector of as many classes.

    Raises:
        WeightsFileError: if it is not; the message names the origin and the tensor.
    """
    for name, rank in zip(HEAD, (2, 1), strict=True):
        if not any(other in state for other in HEAD):
            return
        if name not in state:
            raise WeightsFileError(f"{origin}: the tensor {name!r} is missing, where the classifier's other is there.")
        if np.ndim(state[name]) != rank:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} has shape {np.shape(state[name])} where a classifier has {rank} axes."
            )
    classes = [np.shape(state[name])[0] for name in HEAD]
    if classes[0] != classes[1]:
        raise WeightsFileError(
            f"{origin}: the tensor 'head.bias' is of {classes[1]} classes and 'head.weight' of {classes[0]}."
        )


def load_state(model, state, origin="state", temporal_init="identity"):
    """Move a state into a model. Everything is checked before the first variable changes.

    A state without a temporal branch (image FocalNet) leaves it initialized by `temporal_init`. The classifier is left
    as it is, with a warning, where the numbers of classes differ, and is ignored where the model has none.

    Args:
        model: a built model, see `reference_slots`.
        state: dict of arrays with the reference's names and layouts.
        origin: str, what to call the state in messages: a file or a URL.
        temporal_init: `"identity"` makes every temporal modulator 1; `"random"` keeps the layers' own initialization.

    Returns:
        List of the names that were left as they were.

    Raises:
        WeightsFileError: if a tensor is missing, left over, or has a wrong shape; it names the first.
        ValueError: if `temporal_init` is unknown.
    """
    check_temporal_init(temporal_init)
    check_head(state, origin)
    slots = reference_slots(model)
    from_image = not any(is_temporal(name) for name in state)
    skipped = [name for name in slots if from_image and is_temporal(name)]
    if "head.weight" in slots and "head.weight" in state:
        needed, found = slots["head.weight"].reference_shape[0], state["head.weight"].shape[0]
        if needed != found:
            skipped += HEAD
            warnings.warn(
                f"{origin} has {found} classes and the model {needed}: the classifier keeps its random weights. "
                f"Pass classes={found} (or None) to load it.",
                stacklevel=2,
            )
    elif "head.weight" in slots and "head.bias" not in state:
        skipped += HEAD
        warnings.warn(f"{origin} has no classifier: the model's keeps its random weights.", stacklevel=2)

    arrays = {}
    for name, slot in slots.items():
        if name in skipped:
            continue
        if name not in state:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} is missing. Is it a checkpoint of this architecture ({model.name})?"
            )
        if tuple(state[name].shape) != slot.reference_shape:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} has shape {tuple(state[name].shape)} where the model has "
                f"{slot.reference_shape}. Build the model with the options of the checkpoint."
            )
        arrays[name] = slot.to_ours(np.asarray(state[name], dtype="float32"))
    extra = [name for name in state if name not in slots and name not in HEAD]
    if extra:
        raise WeightsFileError(
            f"{origin}: the tensor {extra[0]!r} has no place in the model ({len(extra)} left over). Build the model "
            "with the options of the checkpoint."
        )
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        warnings.warn(
            f"{origin}: {len(broken)} tensors have values that are not finite, first {broken[0]!r}; check the scores.",
            stacklevel=2,
        )

    for name, array in arrays.items():
        slots[name].variable.assign(array)
    if from_image and temporal_init == "identity":
        for name, slot in slots.items():
            if ".h_temporal." in name:
                slot.variable.assign(np.full(slot.variable.shape, float(name.endswith(".bias")), "float32"))
    return skipped
