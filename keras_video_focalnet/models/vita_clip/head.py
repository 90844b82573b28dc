"""The classifier of Vita-CLIP: how like a clip's feature is to that of each class's text."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers.initializers import NumpyNormal
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.models.vita_clip.class_texts import ClassTexts, plain_texts, texts_with_context
from keras_video_focalnet.models.vita_clip.text_tower import TextTower
from keras_video_focalnet.ops.autodiff.formulation import choose
from keras_video_focalnet.ops.autodiff.recording import records_gradients
from keras_video_focalnet.ops.concrete import is_concrete

# What contexts there are: vectors for each class, the same for all, or none.
CONTEXTS = ("class", "shared", None)
# The logarithm of 1 / 0.07, from which CLIP's scale starts.
START_SCALE = math.log(1 / 0.07)
# Texts that pass the tower at a time where they are computed once, and numbers of a variable that tell of a change.
_CHUNK, _SAMPLES = 64, 64


@saved_as("KeptFeatures")
class KeptFeatures(keras.layers.Layer):
    """Text features that are computed once, `(classes, channels)`, which never train.

    Args:
        classes: Number of classes, an integer of at least 1.
        channels: Channels of a feature, an integer of at least 1.
        random: Whether features begin random, with standard deviation 1, for a head without a text tower, where they
            come with the weights; False by default: they begin at zero, which stands for features that nobody computed.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
    >>> kept = KeptFeatures(3, 4)
    >>> kept.build()
    >>> kept.features.shape
    (3, 4)
    """

    def __init__(self, classes: int, channels: int, random: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.classes, self.channels, self.random = classes, channels, random

    def build(self, input_shape: Any = None) -> None:
        draw = NumpyNormal(1.0) if self.random else "zeros"
        shape = (self.classes, self.channels)
        self.features = self.add_weight(name="features", shape=shape, initializer=draw, trainable=False)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        arguments = ("classes", "channels", "random")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}


@saved_as("VitaCLIPHead")
class VitaCLIPHead(keras.layers.Layer):
    """Projects a clip's feature and compares it with the text features of all classes (Wasim et al. 2023, section 3.1).

    A logit is `exp(logit_scale)` times the cosine of the two. While the text tower's input or weights train, it runs in
    every step of training. For everything else its features are kept, and are computed again where the weights that
    they come from have changed, which `refresh_kept` looks for.

    Args:
        classes: Number of classes.
        class_names: One name a class, or None: classes are called by their numbers then.
        projection_dim: Channels in which clips and texts are compared; 512 by default.
        text_dim: Channels of the text tower; 512 by default.
        text_heads: Its heads; 8 by default.
        text_depth: Its blocks; 12 by default. None: there is no text tower, and the features are given.
        context: `"class"` by default: learned vectors for each class; `"shared"`: the same for all; None: none.
        context_tokens: How many learned vectors there are, an integer from 1 to 74; 8 by default. `context_init` tells
            it itself.
        context_position: Where they stand, `"end"` by default, which is behind the start and before the name,
            `"middle"` or `"front"`, which is behind the name.
        context_init: Words that the vectors start from, or None, the default, for random vectors. The vectors are as
            many as the words, and the same for all classes.
        templates: Without a context: texts with `{}` for the name, of which the features are averaged.
        trains: Whether all weights train; False by default: the context and the scale alone.
        activation: Activation of the scores, `"softmax"` by default; None gives logits.
        text_dtype: Dtype policy of the text tower; by default that of the head.
        quantized: Which layers of the text tower are quantized, as `get_config` describes it after `quantize`, or None,
            the default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, channels)`, floating.

    Output shape: `(batch, classes)`.

    Raises:
        ValueError: `context_tokens` or `context_init` is out of its range, two names are the same to CLIP, or a name is
            too long with what stands around it.
        ImportError: A name needs ftfy, which is not installed.
    """

    def __init__(
        self,
        classes: int,
        class_names: Sequence[str] | None = None,
        projection_dim: int = 512,
        text_dim: int = 512,
        text_heads: int = 8,
        text_depth: int | None = 12,
        context: str | None = "class",
        context_tokens: int = 8,
        context_position: str = "end",
        context_init: str | None = None,
        templates: Sequence[str] = ("{}",),
        trains: bool = False,
        activation: Any = "softmax",
        text_dtype: Any = None,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.classes = classes
        self.class_names = None if class_names is None else tuple(class_names)
        self.projection_dim = projection_dim
        self.text_dim, self.text_heads, self.text_depth = text_dim, text_heads, text_depth
        self.context, self.context_tokens, self.context_position = context, context_tokens, context_position
        self.context_init = context_init
        self.templates = tuple(templates)
        self.trains = trains
        self.activation = keras.activations.get(activation)
        self.text_dtype = None if text_dtype is None else keras.dtype_policies.get(text_dtype)
        self.quantized = quantized
        self.textual, self.texts = None, ()
        if text_depth is not None:
            policy = self.dtype_policy if text_dtype is None else self.text_dtype
            sizes = (text_dim, text_heads, text_depth, projection_dim)
            self.textual = TextTower(*sizes, trains=trains, dtype=policy, name="textual")
            names = self.class_names or tuple(map(str, range(classes)))
            if context is None:
                self.texts = tuple(plain_texts(names, template) for template in self.templates)
            else:
                self.texts = (texts_with_context(names, context_tokens, context_position, context_init),)
        self.kept = KeptFeatures(
            classes, projection_dim, random=self.textual is None, dtype=self.dtype_policy, name="kept"
        )
        self._words = np.unique(np.concatenate([texts.ids.ravel() for texts in self.texts])) if self.texts else None
        self._seen, self._given = None, False

    def build(self, input_shape: Sequence[int | None]) -> None:
        channels = input_shape[-1]
        draw = NumpyNormal(channels**-0.5)
        shape = (channels, self.projection_dim)
        self.proj = self.add_weight(name="proj", shape=shape, initializer=draw, trainable=self.trains)
        start = keras.initializers.Constant(START_SCALE)
        self.logit_scale = self.add_weight(name="logit_scale", shape=(), initializer=start)
        self.ctx = None
        if self.textual is not None:
            self.textual.build()
            if self.context is not None:
                (texts,) = self.texts
                each = () if self.shares_context else (self.classes,)
                shape = (*each, texts.learned.shape[-1], self.text_dim)
                self.ctx = self.add_weight(name="ctx", shape=shape, initializer=NumpyNormal())
                if texts.words is not None:
                    self.ctx.assign(self.textual.embed(np.array(texts.words)))
        self.kept.build()
        quantize_layers(self, self.quantized)
        self.built = True

    @property
    def shares_context(self) -> bool:
        """Whether all classes have the same learned vectors; those that start from words always do."""
        return self.context == "shared" or self.context_init is not None

    def call(self, inputs: Any, training: bool = False) -> Any:
        return ops.cast(self.activation(self.logits(inputs, training)), self.compute_dtype)

    def logits(self, inputs: Any, training: bool = False) -> Any:
        """Computes logits, `(batch, classes)`, of what the head reads."""
        return self.compare(self.video_features(inputs), self._class_features(inputs, training))

    def video_features(self, inputs: Any) -> Any:
        """Projects what the head reads to where clips and texts are compared, `(batch, projection_dim)`."""
        return ops.matmul(ops.cast(inputs, self.compute_dtype), self._exact(self.proj))

    def compare(self, video_features: Any, text_features: Any) -> Any:
        """Computes logits of clips, `(batch, channels)`, and texts, `(classes, channels)`."""
        video, text = self._exact(video_features), _unit(self._exact(text_features))
        # The length divides the products: LiteRT's converter would make its own operation of a vector divided by its
        # length, which phones' GPUs do not have.
        return ops.matmul(video, ops.transpose(text)) * (ops.exp(self._exact(self.logit_scale)) / _length(video))

    def _exact(self, x):
        return ops.cast(ops.convert_to_tensor(x), self.compute_dtype)

    # === Text features ===

    def text_features(self, texts: Sequence[ClassTexts] | None = None, rows: Any = slice(None)) -> Any:
        """Computes the features of texts, by default those of the classes, `(classes, projection_dim)`.

        Those of one text are as the tower gives them; of several they are the mean of vectors of length 1.
        """
        features = [self._of_texts(each, rows) for each in (self.texts if texts is None else texts)]
        if len(features) == 1:
            return features[0]
        return ops.mean(ops.stack([_unit(each) for each in features]), axis=0)

    def _of_texts(self, texts, rows):
        vectors = self.textual.embed(texts.ids[rows])
        if texts.learned is not None:
            learned = ops.convert_to_tensor(texts.learned[rows])
            ctx = ops.convert_to_tensor(self.ctx)
            if not self.shares_context and learned.shape[0] < self.classes:
                ctx = ops.take(ctx, np.arange(self.classes)[rows], axis=0)
            # Exactly a vector or zeros: a row of the matrix has one 1 or none.
            placed = ops.matmul(ops.cast(learned, ctx.dtype), ctx)
            blank = ops.cast(1.0 - ops.sum(learned, axis=-1, keepdims=True), vectors.dtype)
            vectors = vectors * blank + ops.cast(placed, vectors.dtype)
        return self._exact(self.textual(vectors, ends=texts.ends[rows]))

    def _class_features(self, inputs, training):
        """The text features: as they are now where they train, else those that are kept."""
        trains = self.textual is not None and self._text_trains()
        if training and trains and self._given:
            raise ValueError(
                "class_names must be given where the context or the text tower trains: the text features came with the "
                "weights, and nothing says of which names they are. Build the model with class_names, or freeze its "
                "classifier."
            )
        stored = _kept_are_fresh()
        if trains and (training or (not stored and records_gradients())):
            return self.text_features()
        concrete = self._has_values(inputs)
        if concrete:
            self.refresh_kept()
        elif trains and not stored:
            return self.text_features()
        kept = ops.stop_gradient(ops.convert_to_tensor(self.kept.features))
        if concrete or stored or self.textual is None:
            return kept
        # Nobody looked after the features of a graph that a user traces: they are zeros where they were never needed.
        return ops.cond(ops.any(kept != 0), lambda: kept, lambda: ops.cast(self.text_features(), kept.dtype))

    def _has_values(self, inputs):
        """Whether a call computes with values, and not with tensors of a graph or of a transformation."""
        own = () if self.textual is None else (*self.weights,)
        return all(is_concrete(ops.convert_to_tensor(x)) for x in (inputs, *own))

    def _text_trains(self):
        own = any(variable is self.ctx for variable in self.trainable_variables)
        return own or bool(self.textual.trainable_variables)

    def refresh_kept(self, training: bool = False) -> None:
        """Computes the kept features again where the weights that they come from are others than before.

        In `training` they are left where the text side trains, as each step computes those that it needs.
        """
        if self.textual is None or (training and self.class_names is not None and self._text_trains()):
            return
        seen = self._samples()
        if seen == self._seen:
            return
        # Features that somebody put there, such as those of a file, stay if nobody knows the names that they are of.
        put = self._seen is None or seen[1] != self._seen[1]
        kept = keras.ops.convert_to_numpy(self.kept.features)
        stay = bool(put and kept.any() and self.class_names is None)
        self._given = stay and not self._are_right(kept)
        if not stay:
            chunks = [slice(start, start + _CHUNK) for start in range(0, self.classes, _CHUNK)]
            self.kept.features.assign(np.concatenate([self._numbers(rows) for rows in chunks]))
        self.trust_kept()

    def trust_kept(self) -> None:
        """Takes the kept features for those of the weights as they are now."""
        if self.textual is not None:
            self._seen = self._samples()

    def _numbers(self, rows):
        """The features of some of the classes' texts as an array."""
        return np.asarray(keras.ops.convert_to_numpy(ops.stop_gradient(self.text_features(rows=rows))))

    def _samples(self):
        """Two numbers, which change with the weights of the text side and with the kept features."""
        # A user may change the vectors of one class or of one word alone, so all of these are looked at.
        words = ops.take(ops.convert_to_tensor(self.textual.token_embedding), self._words, axis=0)
        whole = _sample([words] if self.ctx is None else [words, self.ctx], math.inf)
        return _sample(self.textual.weights, total=whole), _sample([self.kept.features], math.inf)

    def _are_right(self, kept):
        """Whether features, such as a file has, are those of classes that are called by their numbers, by some of them.

        Backends and precisions differ a little in them.
        """
        rows = np.unique(np.linspace(0, self.classes - 1, 4).astype(int))
        wanted = self._numbers(rows)
        return np.abs(kept[rows] - wanted).max() <= 1e-3 * np.abs(wanted).max()

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.classes)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call with kept features, given the static shape of its input."""
        return math.prod(input_shape[:-1]) * (input_shape[-1] + self.classes) * self.projection_dim

    def get_config(self) -> dict[str, Any]:
        arguments = ("classes", "class_names", "projection_dim", "text_dim", "text_heads", "text_depth", "context")
        arguments += ("context_tokens", "context_position", "context_init", "templates", "trains")
        config = {name: getattr(self, name) for name in arguments}
        config["activation"] = keras.activations.serialize(self.activation)
        config["text_dtype"] = None if self.text_dtype is None else keras.dtype_policies.serialize(self.text_dtype)
        return {**super().get_config(), **config, "quantized": quantized_layers(self)}


def _kept_are_fresh():
    """Whether somebody looked after the kept features before the graph is traced, or will before it runs."""
    return choose("kept_features", {"computed": False, "stored": True}, "computed")


def _unit(features):
    return features / _length(features)


def _length(features):
    return ops.sqrt(ops.sum(ops.square(features), axis=-1, keepdims=True))


def _sample(variables, most=_SAMPLES, total=0):
    """A number that changes with the values of variables, of each of which at most so many are looked at."""
    for variable in variables:
        flat = ops.reshape(ops.stop_gradient(ops.convert_to_tensor(variable)), (-1,))
        some = keras.ops.convert_to_numpy(flat[:: -(-flat.shape[0] // min(most, flat.shape[0]))])
        total = zlib.crc32(np.ascontiguousarray(some).tobytes(), total)
    return total
