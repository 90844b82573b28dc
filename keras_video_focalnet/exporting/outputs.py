"""Computes the named outputs of an exported model, on any backend."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_video_focalnet.models.around import (
    ACTIVATIONS,
    gives_logits,
    last_operation,
    preprocessing_inside,
    takes_pixels,
)
from keras_video_focalnet.models.classifier import VideoClassifier


def enters_by_tokens(model: keras.Model) -> bool:
    """Whether a model is one of ours with nothing in front, so that a file needs no tensor of a rank above 4."""
    return isinstance(model, VideoClassifier) and model.takes_clips_directly


def outputs_of(model: keras.Model) -> ClassifierOutputs | ModelOutputs:
    """What computes all outputs of an exported model: of one of ours, or of any other Keras model."""
    return ClassifierOutputs(model) if enters_by_tokens(model) else ModelOutputs(model)


class ClassifierOutputs:
    """Computes all outputs of a model of ours from pixels.

    Args:
        model: A `VideoClassifier` that takes clips directly.

    Attributes:
        names: Names of the outputs in their order, beginning with the model's own output.
    """

    has_features = True

    def __init__(self, model: VideoClassifier):
        self.model = model
        self.has_classifier = model.classifier is not None
        self.names: tuple[str, ...] = ("features",)
        if self.has_classifier:
            self.names = ("logits",) if model.gives_logits else ("scores", "logits")
        taps = {"end": model.pooled if self.has_classifier else model.output}
        if model.features is not None:
            taps["tokens"] = model.features
        # A rank of 5, as clips have it, would keep a file off mobile GPU delegates: the graph begins after it.
        self._from_tokens = keras.Model(model.entry, taps)

    def __call__(self, tokens: Any) -> dict[str, Any]:
        """Compute outputs by name from float pixels of shape `(batch, frames, height * width, 3)`."""
        end = self._from_tokens(self._prepared(tokens), training=False)["end"]
        if not self.has_classifier:
            return {"features": end}
        logits = self.model.logits(end)
        return {"scores": self.model.scores(logits), "logits": logits} if "scores" in self.names else {"logits": logits}

    def features(self, tokens: Any) -> dict[str, Any]:
        """The features of a clip."""
        taps = self._from_tokens(self._prepared(tokens), training=False)
        if "tokens" not in taps:
            return {"pooled": taps["end"]}
        frames, _, channels = taps["tokens"].shape[1:]
        grid = ops.reshape(taps["tokens"], (-1, frames, *self.model.grid, channels))
        pooled = taps["end"] if self.has_classifier else ops.mean(taps["tokens"], axis=(1, 2))
        return {"pooled": pooled, "grid": grid}

    def _prepared(self, tokens: Any) -> Any:
        return tokens if self.model.normalizes else self.model.preprocessing.normalize(tokens)


class ModelOutputs:
    """Computes scores, and logits where they can be told, of any Keras model from pixels.

    Args:
        model: A functional model from clips, `(batch, frames, height, width, 3)`, to scores, `(batch, classes)`.

    Attributes:
        names: Names of the outputs in their order, beginning with the model's own output.
    """

    has_features = False

    def __init__(self, model: keras.Model):
        end = last_operation(model)
        tensors = {"own": model.outputs[0]}
        self._classifier = None
        if gives_logits(end):
            self.names = ("logits",)
        elif isinstance(end, keras.layers.Dense):
            self.names, self._classifier = ("scores", "logits"), end
            tensors = {"own": end.input}
        elif type(end).__name__ in ACTIVATIONS:
            self.names = ("scores", "logits")
            tensors["logits"] = end.input
        else:
            self.names = ("scores",)
        self._model = keras.Model(model.inputs[0], tensors)
        self._normalize = None if takes_pixels(model) else preprocessing_inside(model).normalize
        preprocessing = preprocessing_inside(model)
        self._size = [side or open for side, open in zip(model.inputs[0].shape[2:4], preprocessing.size, strict=True)]

    def __call__(self, tokens: Any) -> dict[str, Any]:
        """Compute outputs by name from float pixels of shape `(batch, frames, height * width, 3)`."""
        if self._normalize is not None:
            tokens = self._normalize(tokens)
        given = self._model(ops.reshape(tokens, (-1, tokens.shape[1], *self._size, 3)), training=False)
        own = given["own"]
        if self._classifier is not None:
            head = self._classifier
            logits = ops.matmul(ops.cast(own, head.compute_dtype), head.kernel)
            logits = logits if head.bias is None else ops.add(logits, head.bias)
            return {"scores": head.activation(logits), "logits": logits}
        return dict(zip(self.names, (own, given.get("logits")), strict=False))
