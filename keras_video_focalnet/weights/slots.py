"""Names of a reference checkpoint <-> variables of a built model, both ways, for any architecture.

A *state* is a dict from the reference checkpoint's names to NumPy arrays in PyTorch layouts. Every file of weights is
first read into one. A *slot* says which variable holds one tensor of it and how the axes move. A model hands in its
slots; here a state is moved into them, and back.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.wrappers import beginnings

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Slot:
    """The place of one tensor of a reference checkpoint.

    Attributes:
        variable: The variable that holds it.
        reference_shape: Its shape in the checkpoint.
        axes: The order of its axes in the variable: `variable = tensor.transpose(axes).reshape(variable.shape)`.

    Example:
        >>> layer = keras.layers.Dense(2)
        >>> layer.build((None, 3))
        >>> Slot(layer.kernel, reference_shape=(2, 3), axes=(1, 0)).to_reference().shape
        (2, 3)
    """

    variable: keras.Variable
    reference_shape: tuple[int, ...]
    axes: tuple[int, ...]

    def to_variable(self, array: np.ndarray) -> np.ndarray:
        """Move a tensor of the checkpoint into the variable's layout."""
        return np.asarray(array.transpose(self.axes), order="C").reshape(self.variable.shape)

    def to_reference(self, array: np.ndarray | None = None) -> np.ndarray:
        """Move the variable's value, or an array in its layout, into the checkpoint's layout.

        An array with as many axes as the checkpoint's tensor may be of other sizes, such as a classifier of other
        classes.
        """
        array = keras.ops.convert_to_numpy(self.variable) if array is None else array
        if array.shape == tuple(self.variable.shape):
            array = array.reshape([self.reference_shape[axis] for axis in self.axes])
        return np.asarray(array.transpose(np.argsort(self.axes)), order="C")


def vector_slot(variable: keras.Variable) -> Slot:
    """The slot of a variable that has the same layout in the checkpoint, such as a bias.

    Example:
        >>> vector_slot(keras.Variable(np.zeros(4))).reference_shape
        (4,)
    """
    return Slot(variable, tuple(variable.shape), tuple(range(len(variable.shape))))


def norm_slots(name: str, layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of a normalization: `name.weight`, `name.bias` and, of a batch normalization, running statistics.

    Example:
        >>> layer = keras.layers.BatchNormalization()
        >>> layer.build((None, 4))
        >>> list(norm_slots("bn", layer))
        ['bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var']
    """
    slots = {f"{name}.weight": vector_slot(layer.gamma), f"{name}.bias": vector_slot(layer.beta)}
    if isinstance(layer, keras.layers.BatchNormalization):
        slots[f"{name}.running_mean"] = vector_slot(layer.moving_mean)
        slots[f"{name}.running_var"] = vector_slot(layer.moving_variance)
    return slots


def dense_slots(name: str, layer: keras.layers.Layer, window_axes: int = 0) -> dict[str, Slot]:
    """The slots of a dense layer, `name.weight` and `name.bias`.

    Args:
        name: What the layer is called in the reference's checkpoint.
        layer: A built `keras.layers.Dense`, its kernel `(inputs, outputs)`.
        window_axes: How many axes of length 1 the reference's weight has behind its two, as a convolution with a window
            of 1 has; 0 by default.

    Example:
        >>> layer = keras.layers.Dense(2)
        >>> layer.build((None, 3))
        >>> dense_slots("h", layer, window_axes=2)["h.weight"].reference_shape
        (2, 3, 1, 1)
    """
    inputs, outputs = layer.kernel.shape
    axes = (1, 0, *range(2, 2 + window_axes))
    kernel = Slot(layer.kernel, (outputs, inputs, *(1,) * window_axes), axes)
    return {f"{name}.weight": kernel, f"{name}.bias": vector_slot(layer.bias)}


def conv_slots(name: str, layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of a Keras convolution, `name.weight` and, where it has one, `name.bias`.

    Raises:
        ValueError: The layer is no plain convolution.

    Example:
        >>> layer = keras.layers.Conv2D(8, 5, use_bias=False)
        >>> layer.build((None, 32, 32, 3))
        >>> {name: slot.reference_shape for name, slot in conv_slots("conv1", layer).items()}
        {'conv1.weight': (8, 3, 5, 5)}
    """
    if not isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D):
        raise ValueError(f"layer must be a plain convolution, received {type(layer).__name__}; make a Slot of its own.")
    rank = len(layer.kernel.shape)
    shape = tuple(layer.kernel.shape)
    slots = {f"{name}.weight": Slot(layer.kernel, (shape[-1], shape[-2], *shape[:-2]), (*range(2, rank), 1, 0))}
    return slots | ({f"{name}.bias": vector_slot(layer.bias)} if layer.use_bias else {})


def state_of_slots(slots: Mapping[str, Slot]) -> State:
    """Read the variables of slots as a state, bit for bit."""
    return {name: slot.to_reference() for name, slot in slots.items()}


def check_classifier(state: Mapping[str, np.ndarray], classifier: tuple[str, ...], origin: str = "state") -> None:
    """Check that the classifier in a state, where it has one, is a matrix and a vector of as many classes; of several
    heads, that each which is there is so, and that they are of as many; of one name alone, that it is a matrix.
    """
    heads = [classifier[place : place + 2] for place in range(0, len(classifier), 2)]
    present = [head for head in heads if any(name in state for name in head)]
    for head in present:
        for name, rank in zip(head, (2, 1), strict=False):
            if name not in state:
                raise WeightsFileError(
                    f"{origin}: the tensor {name!r} is missing, where the classifier's other is there."
                )
            if np.ndim(state[name]) != rank:
                raise WeightsFileError(
                    f"{origin}: the tensor {name!r} has shape {np.shape(state[name])} where a classifier has {rank} "
                    "axes."
                )
    names = [name for head in present for name in head]
    for name in names[1:]:
        classes, first = np.shape(state[name])[0], np.shape(state[names[0]])[0]
        if classes != first:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} is of {classes} classes and {names[0]!r} of {first}."
            )


def load_into_slots(
    slots: Mapping[str, Slot],
    state: Mapping[str, np.ndarray],
    origin: str = "state",
    *,
    model_name: str = "model",
    classifier: tuple[str, ...] = ("head.weight", "head.bias"),
    keep: Collection[str] = (),
) -> list[str]:
    """Move a state into variables. Everything is checked before the first variable changes.

    The classifier is left as it is, with a warning, where the numbers of classes differ, and is ignored where the model
    has none.
    """
    check_classifier(state, classifier, origin)
    skipped = list(keep)
    weight = classifier[0]
    if weight in slots and weight in state:
        needed, found = slots[weight].reference_shape[0], state[weight].shape[0]
        if needed != found:
            skipped += classifier
            warnings.warn(
                f"{origin} has {found} classes and the model {needed}: the classifier keeps its random weights. "
                f"Pass classes={found} (or None) to load it.",
                stacklevel=2,
            )
    elif weight in slots and not any(name in state for name in classifier):
        skipped += classifier
        warnings.warn(f"{origin} has no classifier: the model's keeps its random weights.", stacklevel=2)

    arrays = {}
    for name, slot in slots.items():
        if name in skipped:
            continue
        if name not in state:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} is missing, its names begin with {beginnings(state)}. Is it a "
                f"checkpoint of this architecture ({model_name})?"
            )
        if tuple(state[name].shape) != slot.reference_shape:
            raise WeightsFileError(
                f"{origin}: the tensor {name!r} has shape {tuple(state[name].shape)} where the model has "
                f"{slot.reference_shape}. Build the model with the options of the checkpoint."
            )
        arrays[name] = slot.to_variable(np.asarray(state[name], dtype="float32"))
    # PyTorch's batch normalization counts its batches beside its statistics; nothing is computed from the count.
    extra = [
        name
        for name in state
        if name not in slots and name not in classifier and not name.endswith(".num_batches_tracked")
    ]
    if extra:
        raise WeightsFileError(
            f"{origin}: the tensor {extra[0]!r} has no place in the model ({len(extra)} left over). Build the model "
            "with the options of the checkpoint."
        )
    not_finite = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if not_finite:
        warnings.warn(
            f"{origin}: {len(not_finite)} tensors have values that are not finite, first {not_finite[0]!r}; check the "
            "scores.",
            stacklevel=2,
        )
    for name, array in arrays.items():
        slots[name].variable.assign(array)
    return skipped
