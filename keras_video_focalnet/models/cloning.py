"""`keras.models.clone_model` of a `VideoClassifier` gives one, with its labels and all that it knows."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Iterable
from typing import Any

import keras

from keras_video_focalnet.models.entrances import ClipEntrances, know_layers

# The model that this thread clones, and the outputs of the copies of its layers.
_cloned: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar("cloned", default=None)


class _Constructor:
    """A class's `__init__`, which leaves what `__new__` built of a graph as it is."""

    def __init__(self, initialize):
        @functools.wraps(initialize)
        def unless_built(model, *args, **kwargs):
            if not ("_arguments" in vars(model) and _are_outputs(args)):
                initialize(model, *args, **kwargs)

        self._initialize, self._unless_built = initialize, unless_built

    def __get__(self, model, cls=None):
        if model is not None:
            return self._unless_built.__get__(model, cls)
        # Keras looks at the arguments of this function, not at those of the one that it wraps.
        return self._initialize if _cloned.get() is None else self._unless_built


class ClonedWhole(ClipEntrances):
    """A model that Keras clones as a model of its own class, and not as one of its layers alone.

    Keras copies the layers one by one and then, where a class's constructor takes any arguments, calls the class with
    the inputs and outputs of the copies. Ours seem to while they are cloned. The call gives the model that is cloned,
    built anew, with the weights of the copies.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _Constructor(vars(cls)["__init__"])

    def __new__(cls, *args, **kwargs):
        if not _are_outputs(args):
            # Of a clone that was begun and not made nothing is left.
            _cloned.set(None)
            return super().__new__(cls, *args, **kwargs)
        source, outputs = _cloned.get() or (None, None)
        _cloned.set(None)
        copied = keras.Model(*args, **kwargs)
        if source is None or outputs is not args[1] or not _is_plain_copy(source, copied):
            # Other layers than the architecture's: what Keras makes of such clones.
            know_layers(copied)
            return copied
        return _built_on(source, args[0], copied)

    def _run_through_graph(self, inputs, *args, **kwargs):
        outputs = super()._run_through_graph(inputs, *args, **kwargs)
        if "call_fn" in kwargs and all(map(keras.utils.is_keras_tensor, keras.tree.flatten(inputs))):
            _cloned.set((self, outputs))
        return outputs


def take_weights(model: keras.Model, layers: Iterable[keras.layers.Layer]) -> None:
    """Gives the layers of a model the weights of those of the same names."""
    for layer in layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())


def _are_outputs(args):
    """Whether a constructor is called with the inputs and outputs of a graph."""
    return len(args) == 2 and all(
        leaves and all(map(keras.utils.is_keras_tensor, leaves)) for leaves in map(keras.tree.flatten, args)
    )


def _is_plain_copy(source, copied):
    """Whether each layer of a clone is a layer of its own, of the class and configuration of the source's."""
    ours, theirs = (
        {layer.name: layer for layer in model.operations if not isinstance(layer, keras.layers.InputLayer)}
        for model in (source, copied)
    )
    return ours.keys() == theirs.keys() and all(
        layer is not (copy := theirs[name]) and type(layer) is type(copy) and layer.get_config() == copy.get_config()
        for name, layer in ours.items()
    )


def _built_on(source, inputs, copied):
    """The source built anew on Keras tensors, with the weights of the copies of its layers."""
    flat = keras.tree.flatten(inputs)
    fresh = [
        tensor
        if isinstance(tensor._keras_history.operation, keras.layers.InputLayer)
        else keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
        for tensor in flat
    ]
    clip = keras.tree.pack_sequence_as(inputs, fresh)
    before = source.before_clip()
    if before is not None:
        clip = keras.models.clone_model(before, input_tensors=clip).output
    model = source.rebuild(input_tensor=clip, input_shape=None, input_graph=None, name=copied.name)
    take_weights(model, copied.layers)
    return model
