"""Looks at the clips that a model is given: their shape, and whether they can be the pixels that it takes."""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
import weakref
from collections.abc import Iterable
from typing import Any

import keras

from keras_video_focalnet.models.around import takes_only_pixels
from keras_video_focalnet.ops.concrete import in_host_memory, is_concrete
from keras_video_focalnet.utils.clip_checks import check_clip_shape, check_no_path, looks_scaled

# Models of which all is told; not in the model, which is copied and saved.
_warned: weakref.WeakSet[Any] = weakref.WeakSet()
# Models of which one step's clips on an accelerator were looked at.
_looked: weakref.WeakSet[Any] = weakref.WeakSet()
# How many clips of an array are looked at, where nobody says how large a batch is.
_CLIPS = 32
# Whose lines a warning does not blame.
_NOT_THE_USERS = ("keras", "tensorflow", "torch", "jax", "contextlib", "threading", __name__.partition(".")[0])


def clip_shapes(model: keras.Model) -> list[tuple[int | None, ...]]:
    """The shape of one clip for every input that takes clips."""
    shapes = [tuple(tensor.shape[1:]) for tensor in _inputs(model)]
    return [shape for shape in shapes if len(shape) == 4 and shape[-1] == 3]


def _inputs(model):
    """The inputs of a functional model; a subclassed one has none that could be known."""
    return getattr(model, "inputs", None) or []


def pairs(model: keras.Model, inputs: Any) -> list[tuple[Any, tuple[int | None, ...]]]:
    """The tensors and arrays that are given with the shapes of the clips that the model takes in their places."""
    leaves = keras.tree.flatten(inputs)
    shapes = clip_shapes(model)
    if len(shapes) != len(_inputs(model)) or len(leaves) != len(shapes):
        return []
    return [(leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True) if hasattr(leaf, "shape")]


def check_shapes(model: keras.Model, argument: str, inputs: Any) -> None:
    """Raises a `ValueError` that names `argument` where clips do not have the shape that the model takes."""
    check_no_path(argument, inputs)
    for leaf, expected in pairs(model, inputs):
        shape = leaf.shape
        if getattr(shape, "rank", 0) is not None:  # The rank of a tensor in a TensorFlow graph may be unknown.
            check_clip_shape(argument, tuple(shape), expected)


def users_line() -> dict[str, Any]:
    """The line of the user's that called, as `warnings.warn_explicit` takes it."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame = frame.f_back
    return {
        "filename": frame.f_code.co_filename,
        "lineno": frame.f_lineno,
        "module": frame.f_globals.get("__name__", ""),
        "registry": frame.f_globals.setdefault("__warningregistry__", {}),
    }


def warn_of_scaled(
    model: keras.Model,
    argument: str,
    inputs: Any,
    batch_size: int | None = None,
    often: bool = False,
    line: dict[str, Any] | None = None,
) -> None:
    """Warns once of floats that cannot be pixels, where the model takes pixels of 0 to 255 and nothing else.

    To look at a tensor on an accelerator is to wait for it, so where this is called `often`, that is done once.
    """
    for leaf, _ in pairs(model, inputs) if model not in _warned else ():
        if not is_concrete(leaf) or "float" not in str(leaf.dtype):
            continue
        if often and not in_host_memory(leaf):
            if model in _looked:
                continue
            _looked.add(model)
        batch, to_numpy = leaf[: batch_size or _CLIPS], keras.ops.convert_to_numpy
        if looks_scaled(batch, to_numpy):
            batch = to_numpy(batch)
            _tell(model, argument, batch.min(), batch.max(), line)


def _tell(model, argument, low, high, line):
    # The model inside is given the same clips. Where other ranges are right, nothing is ever to be told.
    _warned.update(layer for layer in model._flatten_layers() if isinstance(layer, keras.Model))
    if takes_only_pixels(model):
        warnings.warn_explicit(
            f"{argument} holds values of {low:.3g} to {high:.3g}, but {model.name} takes pixels of 0 to 255 and "
            "prepares them itself: pass them as they are read, neither divided nor normalized. A model that takes "
            "prepared clips is built with include_preprocessing=False.",
            UserWarning,
            **(line or users_line()),
        )


class FirstBatch:
    """Looks at the first batch of whatever gives batches, as it passes: none is asked for twice, or before its time.

    Args:
        model: The model that is given the batches.
        argument: What the user knows them by.

    Attributes:
        raised: The warning, where the user's filters make it an error, which TensorFlow would replace by its own.
    """

    def __init__(self, model: keras.Model, argument: str):
        self.raised: Warning | None = None
        self._model, self._argument, self._line, self._waits = model, argument, users_line(), True

    def watch(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The same batches in the same order, the first of them looked at."""
        if not self._waits or self._model in _warned:
            return batches
        if keras.backend.backend() == "tensorflow":
            return self._watch_dataset(batches)
        batches = iter(batches)
        return itertools.chain(map(self._look_at, itertools.islice(batches, 1)), batches)

    def _look_at(self, batch):
        self._waits = False
        with contextlib.suppress(TypeError, ValueError):  # Keras tells of a batch that it cannot unpack.
            clips, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
            warn_of_scaled(self._model, self._argument, clips, often=True, line=self._line)
        return batch

    def _watch_dataset(self, dataset):
        """As `watch`, for what TensorFlow's graphs take their batches from, which Python never sees."""
        import tensorflow as tf

        def floats(batch):
            clips, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
            return [leaf for leaf, _ in pairs(self._model, clips) if leaf.dtype.is_floating]

        if not isinstance(dataset, tf.data.Dataset) or not floats(dataset.element_spec):
            return dataset

        def look_at(*clips):
            try:
                for leaf in clips:
                    if looks_scaled(leaf):
                        _tell(self._model, self._argument, leaf.min(), leaf.max(), self._line)
            except Warning as warning:
                self.raised = warning
                raise
            return True

        @tf.autograph.experimental.do_not_convert
        def watched(index, batch):
            clips = [tf.cast(leaf[:_CLIPS], "float32") for leaf in floats(batch)]
            seen = tf.cond(
                tf.equal(index, 0), lambda: tf.numpy_function(look_at, clips, tf.bool), lambda: tf.constant(True)
            )
            with tf.control_dependencies([seen]):
                return tf.nest.map_structure(tf.identity, batch)

        self._waits = False
        return dataset.enumerate().map(watched)
