"""Where clips enter a model and scores leave it: clips are read, and their shape and range checked, and whatever fails
leaves the model whole.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import re
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.data.clip import Video, read_clip
from keras_video_focalnet.labels.predictions import name_scores
from keras_video_focalnet.models.jax_state import JaxState, exclusive, whole
from keras_video_focalnet.models.preprocessing import preprocess_input
from keras_video_focalnet.ops.concrete import in_host_memory, is_concrete
from keras_video_focalnet.utils.clip_checks import check_clip_shape, check_no_path, check_not_apart, looks_scaled

_BACKEND = keras.backend.backend()
_BASE = JaxState if _BACKEND == "jax" else keras.Model
# What TensorFlow says where a batch in a graph turns out to have another shape than the model takes.
_TENSORFLOW_SHAPE = re.compile(r"[Ss]hape of tensor.* \[([\d,]*)\] is not compatible with expected shape")
# The name that the user knows the clips by.
_argument = contextvars.ContextVar("argument", default="inputs")
# Models that were told of once; not in the model, which is copied and saved.
_warned: weakref.WeakSet[Any] = weakref.WeakSet()
# Models of which one step's clips on an accelerator were looked at.
_looked: weakref.WeakSet[Any] = weakref.WeakSet()
# Entrances that a loop calls for every batch.
_OF_A_BATCH = ("train_on_batch", "test_on_batch", "predict_on_batch")


def _entrance(name: str, argument: str = "x"):
    """A method of Keras that takes data, with checks before it and a whole model after it."""
    inherited = getattr(keras.Model, name)
    signature = inspect.signature(inherited)

    @functools.wraps(inherited)
    def entrance(self, *args, **kwargs):
        with (
            exclusive(self),
            self._entered(argument if "_use_cached_eval_dataset" not in kwargs else "validation_data"),
        ):
            given = {}
            with contextlib.suppress(TypeError):  # Keras tells of arguments that it does not know.
                given = signature.bind(self, *args, **kwargs).arguments
            self._check_arguments(given, often=name in _OF_A_BATCH)
            return getattr(super(ClipEntrances, self), name)(*args, **kwargs)

    return entrance


def _locked(name: str):
    """A method of Keras that reads or writes the variables; no other thread takes them away meanwhile."""
    inherited = getattr(keras.Model, name)

    @functools.wraps(inherited)
    def locked(self, *args, **kwargs):
        with whole(self):
            return getattr(super(ClipEntrances, self), name)(*args, **kwargs)

    return locked


class ClipEntrances(_BASE):
    """A functional model of clips, `(batch, frames, height, width, 3)`, that refuses any other shape, every time."""

    fit = _entrance("fit")
    evaluate = _entrance("evaluate")
    predict = _entrance("predict")
    train_on_batch = _entrance("train_on_batch")
    test_on_batch = _entrance("test_on_batch")
    predict_on_batch = _entrance("predict_on_batch")
    if _BACKEND == "jax":
        get_weights = _locked("get_weights")
        set_weights = _locked("set_weights")
        save = _locked("save")
        save_weights = _locked("save_weights")
        load_weights = _locked("load_weights")
        export = _locked("export")

    def __call__(self, *args, **kwargs):
        clips = args[0] if args else kwargs.get("inputs")
        self._check_shapes(_argument.get(), clips)
        self._warn_of_scaled(_argument.get(), clips, often=True)
        with exclusive(self):
            return super().__call__(*args, **kwargs)

    if _BACKEND == "tensorflow":
        import tensorflow as _tf

        # Python's code runs once, when a graph is traced, and is not translated into it.
        __call__ = _tf.autograph.experimental.do_not_convert(__call__)

    def call(self, inputs, training=None, mask=None, **kwargs):
        # Keras calls this alone on JAX, and TensorFlow's graphs learn a batch's shape when they run.
        self._check_shapes(_argument.get(), inputs)
        if _BACKEND == "tensorflow":
            inputs = self._with_static_shapes(inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def read(self, path: Video, **options: Any) -> np.ndarray:
        """Read a video, or frames that are in memory, as the clip that this model takes.

        Args:
            path: A path, a stream, a `VideoReader`, an array `(frames, height, width, 3)`, a list or an iterator of
                frames; see `read_clip`.
            **options: Further arguments of `read_clip`, such as `start` and `end`.

        Returns:
            One clip, `(frames, height, width, 3)`: uint8 pixels of 0 to 255, or float32 as `preprocess_input` gives
            them where the model was built with `include_preprocessing=False`. `clip[None]` makes it a batch.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: As for `read_clip`.

        Example:
            >>> model = VideoFocalNetNano(weights="camera_motion")
            >>> clip = model.read("bikes.mp4")
            >>> model.decode_predictions(model.predict(clip[None], verbose=0), top=1)[0][0][0]
            'tilt down'
        """
        return read_clip(path, like=self, **options)

    def preprocess_input(self, x: Any) -> Any:
        """Pixels of 0 to 255 as this model takes them: as they are, or normalized where it does not do that itself.

        Args:
            x: As for `keras_video_focalnet.preprocess_input`.

        Returns:
            `x` itself where the model prepares its input; else float32 of its shape.

        Example:
            >>> pixels = np.zeros((1, 8, 64, 64, 3), "uint8")
            >>> VideoFocalNetNano(weights=None).preprocess_input(pixels) is pixels
            True
            >>> VideoFocalNetNano(weights=None, include_preprocessing=False).preprocess_input(pixels).dtype
            dtype('float32')
        """
        return x if self.normalizes else preprocess_input(x, preprocessing=self.preprocessing)

    def decode_predictions(self, scores: Any, top: int = 5) -> list[list[tuple[str, float]]]:
        """Name the highest scores of each clip by this model's labels, see `keras_video_focalnet.decode_predictions`.

        Example:
            >>> model = VideoFocalNetNano(weights=None, classes=2, labels=["cat", "dog"])
            >>> model.decode_predictions([[0.25, 0.75]], top=1)
            [[('dog', 0.75)]]
        """
        return name_scores(scores, top, labels=self)

    @contextlib.contextmanager
    def _entered(self, argument: str) -> Iterator[None]:
        """Names the argument in errors, and keeps the model whole."""
        token = _argument.set(argument)
        try:
            with self.kept_whole() if _BACKEND == "jax" else contextlib.nullcontext():
                yield
        except Exception as error:
            found = _TENSORFLOW_SHAPE.search(str(error)) if _BACKEND == "tensorflow" else None
            if found and not isinstance(error, ValueError):
                shape = tuple(int(side) for side in found[1].split(",") if side)
                for expected in self._clip_shapes():
                    with _from(error):
                        check_clip_shape(argument, shape, expected)
            raise
        finally:
            _argument.reset(token)

    def _check_arguments(self, given, often: bool) -> None:
        """Checks arrays and tensors before Keras takes the first batch of them."""
        clips = {"x": given.get("x")}
        validation = given.get("validation_data")
        if isinstance(validation, (tuple, list)) and validation:
            clips["validation_data[0]"] = validation[0]
        for argument, data in clips.items():
            self._check_shapes(argument, data)
            self._warn_of_scaled(argument, data, given.get("batch_size"), often)

    def _clip_shapes(self) -> list[tuple[int | None, ...]]:
        """The shape of one clip for every input that takes clips."""
        shapes = [tuple(tensor.shape[1:]) for tensor in self.inputs]
        return [shape for shape in shapes if len(shape) == 4 and shape[-1] == 3]

    def _pairs(self, inputs: Any) -> list[tuple[Any, tuple[int | None, ...]]]:
        """The tensors and arrays that are given with the shapes of the clips that the model takes in their places."""
        leaves = keras.tree.flatten(inputs)
        shapes = self._clip_shapes()
        if len(shapes) != len(self.inputs) or len(leaves) != len(shapes):
            return []
        return [(leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True) if hasattr(leaf, "shape")]

    def _check_shapes(self, argument: str, inputs: Any) -> None:
        check_no_path(argument, inputs)
        if len(self.inputs) == 1 and self._clip_shapes():
            check_not_apart(argument, inputs)
        for leaf, expected in self._pairs(inputs):
            shape = leaf.shape
            if getattr(shape, "rank", 0) is not None:  # The rank of a tensor in a TensorFlow graph may be unknown.
                check_clip_shape(argument, tuple(shape), expected)

    def _with_static_shapes(self, inputs: Any) -> Any:
        """The inputs with a check in the graph, where their sides are not known before it runs."""
        import tensorflow as tf

        for leaf, expected in self._pairs(inputs):
            if not isinstance(leaf, tf.Tensor) or isinstance(leaf, keras.KerasTensor):
                continue
            if leaf.shape.rank is None or any(
                side is None and want is not None for side, want in zip(leaf.shape[1:], expected, strict=True)
            ):
                checked = tf.ensure_shape(leaf, (None, *expected))
                inputs = keras.tree.map_structure(
                    lambda x, leaf=leaf, checked=checked: checked if x is leaf else x, inputs
                )
        return inputs

    def _warn_of_scaled(self, argument: str, inputs: Any, batch_size: int | None = None, often: bool = False) -> None:
        """Warns once of floats that look scaled, where the model takes pixels of 0 to 255.

        To look at a tensor on an accelerator is to wait for it, so where this is called `often`, that is done once.
        """
        for leaf, _ in self._pairs(inputs) if self not in _warned else ():
            if not is_concrete(leaf) or "float" not in str(leaf.dtype):
                continue
            if often and not in_host_memory(leaf):
                if self in _looked:
                    continue
                _looked.add(self)
            batch, to_numpy = leaf[: batch_size or 32], keras.ops.convert_to_numpy
            if looks_scaled(batch, to_numpy) and self.takes_clips_directly and self.normalizes:
                _warned.add(self)
                batch = to_numpy(batch)
                warnings.warn(
                    f"{argument} holds values of {batch.min():.3g} to {batch.max():.3g}, but {self.name} takes pixels "
                    "of 0 to 255 and prepares them itself: pass them as they are read, neither divided nor normalized. "
                    "A model that takes prepared clips is built with include_preprocessing=False.",
                    stacklevel=4,
                )


@contextlib.contextmanager
def _from(cause: BaseException) -> Iterator[None]:
    """Errors inside get a cause."""
    try:
        yield
    except ValueError as error:
        raise error from cause
