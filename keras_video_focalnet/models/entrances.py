"""Where clips enter a model and scores leave it: clips are read, and their shape and range checked, and whatever fails
leaves the model whole.

A model around ours, or one of some of its layers, is Keras's own, and Keras's methods do with it what they do with
ours. So this module replaces those methods in `keras.Model` itself. Where a model holds no layer of ours, they do what
they did, and one that Keras no longer has is passed over.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import re
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.data.clip import Video, read_clip
from keras_video_focalnet.labels.predictions import name_scores
from keras_video_focalnet.models import jax_state
from keras_video_focalnet.models.given_clips import FirstBatch, check_shapes, clip_shapes, pairs, warn_of_scaled
from keras_video_focalnet.models.jax_state import exclusive, kept_whole, whole
from keras_video_focalnet.models.kept import refresh_kept
from keras_video_focalnet.models.preprocessing import preprocess_input
from keras_video_focalnet.ops.autodiff.compilation import compiler_options
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.utils.clip_checks import check_clip_shape, check_not_apart

_BACKEND = keras.backend.backend()
_PACKAGE = __name__.partition(".")[0]
# What TensorFlow says where a batch in a graph turns out to have another shape than the model takes.
_TENSORFLOW_SHAPE = re.compile(r"[Ss]hape of tensor.* \[([\d,]*)\] is not compatible with expected shape")
# The name that the user knows the clips by, and what looks at the first batch.
_argument = contextvars.ContextVar("argument", default="inputs")
_first_batch: contextvars.ContextVar[FirstBatch | None] = contextvars.ContextVar("first_batch", default=None)
# Whether Keras is inside one of its methods that take data, with a model that is ours or holds one.
_inside = contextvars.ContextVar("inside", default=False)
# The layers of our models, of whatever class.
_ours: weakref.WeakSet[Any] = weakref.WeakSet()

_TAKE_DATA = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")
_TRAIN = ("fit", "train_on_batch")
_TOUCH_VARIABLES = ("get_weights", "set_weights", "save", "save_weights", "load_weights", "export")
_WRITE_FILES = ("save", "save_weights", "export")


class ClipEntrances(keras.Model):
    """A functional model of clips, `(batch, frames, height, width, 3)`, that refuses any other shape, every time."""

    def __call__(self, *args, **kwargs):
        clips = args[0] if args else kwargs.get("inputs")
        self._check(_argument.get(), clips)
        warn_of_scaled(self, _argument.get(), clips, often=True)
        return super().__call__(*args, **kwargs)

    if _BACKEND == "tensorflow":
        import tensorflow as _tf

        # Python's code runs once, when a graph is traced, and is not translated into it.
        __call__ = _tf.autograph.experimental.do_not_convert(__call__)

    def call(self, inputs, training=None, mask=None, **kwargs):
        # Keras calls this alone on JAX, and TensorFlow's graphs learn a batch's shape when they run.
        self._check(_argument.get(), inputs)
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

    def _check(self, argument: str, inputs: Any) -> None:
        if len(self.inputs) == 1 and clip_shapes(self):
            check_not_apart(argument, inputs)
        check_shapes(self, argument, inputs)

    def _with_static_shapes(self, inputs: Any) -> Any:
        """The inputs with a check in the graph, where their sides are not known before it runs."""
        import tensorflow as tf

        for leaf, expected in pairs(self, inputs):
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


def know_layers(model: keras.Model) -> None:
    """Notes the layers of a model of ours: other models that hold one of them are kept whole too."""
    _ours.update(model._flatten_layers())


def _holds_ours(model: Any) -> bool:
    """Whether a model is ours, or has one of ours or a layer of one inside."""
    if isinstance(model, ClipEntrances):
        return True
    # A model whose constructor has not run has no layers; Keras tells of it.
    layers = model._flatten_layers() if hasattr(model, "_layers") else ()
    return any(layer in _ours or type(layer).__module__.partition(".")[0] == _PACKAGE for layer in layers)


@contextlib.contextmanager
def _entered(model: keras.Model, argument: str, first_batch: FirstBatch | None) -> Iterator[None]:
    """Names the argument in errors, and keeps the model whole."""
    tokens = _argument.set(argument), _first_batch.set(first_batch)
    try:
        with exclusive(model), kept_whole(model):
            yield
    except Exception as error:
        if first_batch is not None and first_batch.raised is not None and error is not first_batch.raised:
            raise first_batch.raised from error
        found = _TENSORFLOW_SHAPE.search(str(error)) if _BACKEND == "tensorflow" else None
        if found and not isinstance(error, ValueError):
            shape = tuple(int(side) for side in found[1].split(",") if side)
            for expected in clip_shapes(model):
                with _from(error):
                    check_clip_shape(argument, shape, expected)
        raise
    finally:
        _argument.reset(tokens[0])
        _first_batch.reset(tokens[1])


@contextlib.contextmanager
def _from(cause: BaseException) -> Iterator[None]:
    """Errors inside get a cause."""
    try:
        yield
    except ValueError as error:
        raise error from cause


@contextlib.contextmanager
def _whose(ours: bool) -> Iterator[None]:
    """Tells what is compiled inside whether the model is ours."""
    token = _inside.set(ours)
    try:
        yield
    finally:
        _inside.reset(token)


def _entrance(inherited):
    """A method of Keras that takes data, with checks before it and a whole model after it."""
    signature = inspect.signature(inherited)
    # Entrances that a loop calls for every batch.
    often = inherited.__name__.endswith("_on_batch")

    @functools.wraps(inherited)
    def entrance(self, *args, **kwargs):
        if not _holds_ours(self):
            # A callback may have another model compute while one of ours fits.
            with _whose(ours=False):
                return inherited(self, *args, **kwargs)
        given = {}
        with contextlib.suppress(TypeError):  # Keras tells of arguments that it does not know.
            given = signature.bind(self, *args, **kwargs).arguments
        argument = "validation_data" if "_use_cached_eval_dataset" in kwargs else "x"
        iterates = not often and not pairs(self, given.get("x"))
        with _entered(self, argument, FirstBatch(self, argument) if iterates else None):
            _check_arguments(self, given, often)
            refresh_kept(self, training=inherited.__name__ in _TRAIN)
            with _whose(ours=True), force(kept_features="stored"):
                return inherited(self, *args, **kwargs)

    return entrance


def _check_arguments(model, given, often):
    """Checks arrays and tensors before Keras takes the first batch of them."""
    clips = {"x": given.get("x")}
    validation = given.get("validation_data")
    if isinstance(validation, (tuple, list)) and validation:
        clips["validation_data[0]"] = validation[0]
    for argument, data in clips.items():
        # Keras takes a list of one array for the one input of its own models.
        (model._check if isinstance(model, ClipEntrances) else functools.partial(check_shapes, model))(argument, data)
        warn_of_scaled(model, argument, data, given.get("batch_size"), often)


def _swapped(inherited):
    """A method of a callback that puts moving averages in the place of weights before the model is judged by them."""

    @functools.wraps(inherited)
    def swapped(self, *args, **kwargs):
        result = inherited(self, *args, **kwargs)
        if _holds_ours(self.model):
            refresh_kept(self.model)
        return result

    return swapped


def _locked(inherited):
    """A method of Keras that reads or writes the variables; no other thread takes them away meanwhile."""

    @functools.wraps(inherited)
    def locked(self, *args, **kwargs):
        if not _holds_ours(self):
            return inherited(self, *args, **kwargs)
        with whole(self):
            if inherited.__name__ not in _WRITE_FILES:
                return inherited(self, *args, **kwargs)
            refresh_kept(self)
            token = _inside.set(True)
            try:
                with force(kept_features="stored"):
                    return inherited(self, *args, **kwargs)
            finally:
                _inside.reset(token)

    return locked


def _called(inherited):
    """Keras's way to call a model, which computes with the variables; it may do so inside a step, so none are moved."""

    @functools.wraps(inherited)
    def called(self, *args, **kwargs):
        with exclusive(self) if _holds_ours(self) else contextlib.nullcontext():
            return inherited(self, *args, **kwargs)

    return called


def _watched(inherited):
    """Keras's way from whatever gives data to an iterator of batches, with a look at the first."""

    @functools.wraps(inherited)
    def watched(self):
        batches, first_batch = inherited(self), _first_batch.get()
        return batches if first_batch is None else first_batch.watch(batches)

    return watched


def _compiled_for_ours(jit):
    """The function by which Keras's trainer on JAX compiles a step, with our options where the model is ours."""

    @functools.wraps(jit)
    def compiled(step, **options):
        if _inside.get() and jit is sys.modules["jax"].jit and "compiler_options" not in options:
            options["compiler_options"] = dict(compiler_options(getattr(step, "__name__", "") == "train_step"))
        return jit(step, **options)

    return compiled


def _mend_keras():
    """Puts the above in the place of Keras's own methods, where Keras has them."""

    def replace(owner, names, make):
        for name in names:
            if callable(inherited := getattr(owner, name, None)):
                setattr(owner, name, make(inherited))

    replace(keras.Model, _TAKE_DATA, _entrance)
    replace(keras.Model, _TOUCH_VARIABLES, _locked)
    replace(keras.callbacks.SwapEMAWeights, ["on_test_begin", "on_predict_begin"], _swapped)
    trainer = next((base for base in keras.Model.__mro__ if ".backend." in base.__module__), None)
    if trainer is None:
        return
    if _BACKEND == "jax":
        replace(sys.modules[trainer.__module__], ["jit"], _compiled_for_ours)
        if jax_state.mend(trainer):
            replace(keras.Model, ["__call__"], _called)
    for name, value in list(vars(sys.modules[trainer.__module__]).items()):
        if name.endswith("EpochIterator") and value.__module__ == trainer.__module__:
            replace(value, ["_get_iterator"], _watched)


_mend_keras()
