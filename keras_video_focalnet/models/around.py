"""What any Keras model that maps a clip to scores takes: one of ours, one built around ours, or another."""

from __future__ import annotations

from typing import Any

import keras

from keras_video_focalnet.models.inputs import FRAMES
from keras_video_focalnet.models.network import Network, find_networks
from keras_video_focalnet.models.preprocessing import IMAGENET, Preprocessing

# Operations that bring pixels into the range that the layers after them want.
_PREPARING_LAYERS = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.Lambda)
_PREPARING_OPERATIONS = frozenset({"Subtract", "Divide", "TrueDivide", "Multiply"})
# Operations behind which pixels are still pixels of 0 to 255.
_KEEPING_OPERATIONS = frozenset({"Reshape", "Permute", "Transpose", "Moveaxis", "GetItem", "Cast", "Identity"})
_KEEPING_OPERATIONS |= {"InputLayer", "Resizing", "CenterCrop", "RandomCrop", "RandomFlip", "Flip", "Cropping3D"}
# Operations that do nothing but turn logits into scores.
ACTIVATIONS = frozenset({"Activation", "Softmax", "Sigmoid"})


def preprocessing_inside(model: keras.Model) -> Preprocessing:
    """The preprocessing of the networks of ours in a model; what most models take where there is none.

    Raises:
        ValueError: The model holds networks that take frames differently.
    """
    rules = {network.preprocessing for network in find_networks(model)} or {IMAGENET}
    if len(rules) > 1:
        raise ValueError(f"the networks in the model {model.name!r} take frames that are prepared differently.")
    return rules.pop()


def takes_pixels(model: keras.Model) -> bool:
    """Whether a model takes pixels of 0 to 255 as they are read.

    A model without a network of ours is taken to know what to do with pixels. Around a network that does not normalize
    them itself, a layer in front of it may do so.
    """
    return all(network.normalizes or _prepared_before(model, network) for network in find_networks(model))


def takes_only_pixels(model: keras.Model) -> bool:
    """Whether what a model is given can be nothing but pixels of 0 to 255.

    The networks of ours in it prepare pixels themselves, and nothing in front of them could make pixels of what is
    given.
    """
    networks = find_networks(model)
    return bool(networks) and all(
        network.normalizes and all(map(_keeps, _before_network(model, network))) for network in networks
    )


def labels_inside(model: keras.Model) -> tuple[str, ...] | None:
    """The class names of a model, or of the model or classifier inside it whose scores it gives, also where a softmax
    or sigmoid of their own follows; None where it has none.
    """
    labels = getattr(model, "labels", None)
    if labels is not None:
        return tuple(labels)
    end = last_operation(model)
    while type(end).__name__ in ACTIVATIONS:
        end = end.input._keras_history.operation
    if isinstance(end, keras.Model):
        return labels_inside(end)
    labels = getattr(end, "class_names", None)
    return None if labels is None else tuple(labels)


def gives_logits(operation: Any) -> bool:
    """Whether nothing turns what an operation computes into scores; of a model, what it ends with is looked at."""
    if isinstance(operation, keras.Model) and last_operation(operation) is not None:
        return gives_logits(last_operation(operation))
    return getattr(operation, "activation", None) is keras.activations.linear


def last_operation(model: keras.Model) -> Any:
    """The layer, model or operation whose output is the model's; None where the model is no functional one."""
    outputs = getattr(model, "outputs", None)
    return outputs[0]._keras_history.operation if outputs else None


def _prepared_before(model: keras.Model, network: Network) -> bool:
    """Whether an operation between the model's input and the network brings pixels into another range."""
    return any(map(_prepares, _before_network(model, network)))


def _before_network(model: keras.Model, network: Network) -> list[Any]:
    """The operations between a model's input and the clip of a network at or inside it."""
    if network.model is model:
        entries = [layer.input for layer in model.layers if layer.name == FRAMES]
        return [operation for entry in entries for operation in _before(model, entry)]
    for layer in model.layers:
        if isinstance(layer, keras.Model) and any(found.model is network.model for found in find_networks(layer)):
            own = {id(operation) for operation in getattr(model, "operations", model.layers)}
            taken = [tensor for node in layer._inbound_nodes for tensor in node.input_tensors]
            # The layer may be part of other models too.
            taken = [tensor for tensor in taken if id(tensor._keras_history.operation) in own]
            before = [operation for tensor in taken for operation in _before(model, tensor)]
            return before + _before_network(layer, network)
    return []


def _before(model: keras.Model, tensor: Any) -> list[Any]:
    """The operations that a tensor inside a model comes from."""
    return keras.Model(model.inputs, tensor).operations


def _prepares(operation: Any) -> bool:
    return isinstance(operation, _PREPARING_LAYERS) or type(operation).__name__ in _PREPARING_OPERATIONS


def _keeps(operation: Any) -> bool:
    if isinstance(operation, keras.Model):
        return all(map(_keeps, operation.layers))
    return type(operation).__name__ in _KEEPING_OPERATIONS
