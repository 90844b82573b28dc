"""A classifier of several heads, each of which reads features of its own."""

import functools
import math
import operator
import threading
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.initializers import NumpyFanInUniform
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.utils.checks import check_integer, fail


@saved_as("DenseHeads")
class DenseHeads(keras.layers.Layer):
    """Classifies by several dense heads, each of a part of the channels, and averages the shares that they give.

    With a softmax or without an activation, the shares are those of a softmax, and the logits the logarithm of their
    mean: a softmax of it is that mean. With a sigmoid, the shares are those of a sigmoid, and the logits the logit of
    their mean. In training the heads' own scores are kept for the loss, see `VideoClassifier.compute_loss`.

    Args:
        classes: Number of classes, an integer of at least 1.
        heads: Number of heads, an integer of at least 1; 2 by default.
        activation: `"softmax"` by default, `"sigmoid"`, or None for logits.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, heads * channels)`, floating: what each head reads, one after the other.

    Output shape: `(batch, classes)`.

    Raises:
        ValueError: An argument is out of its range, or the channels are no multiple of `heads`.

    Example:
    >>> DenseHeads(5)(np.ones((2, 16), "float32")).shape
    (2, 5)
    """

    def __init__(self, classes: int, heads: int = 2, activation: Any = "softmax", **kwargs: Any):
        super().__init__(**kwargs)
        self.classes = check_integer("classes", classes, minimum=1)
        self.heads = check_integer("heads", heads, minimum=1)
        self.activation = keras.activations.get(activation)
        known = (keras.activations.softmax, keras.activations.sigmoid, keras.activations.linear)
        if self.activation not in known:
            raise fail("activation", '"softmax", "sigmoid" or None', activation)
        self._scores = _OfThreads()

    def build(self, input_shape: Sequence[int | None]) -> None:
        if input_shape[-1] % self.heads:
            raise ValueError(
                f"DenseHeads takes a multiple of heads={self.heads} channels, received {input_shape[-1]}; join "
                "features of the same number of channels for each head."
            )
        channels = input_shape[-1] // self.heads
        self.kernels, self.biases = [], []
        for head in range(self.heads):
            for variables, name, shape in (
                (self.kernels, "kernel", (channels, self.classes)),
                (self.biases, "bias", (self.classes,)),
            ):
                draw = NumpyFanInUniform(channels)
                variables.append(self.add_weight(name=f"{name}_{head}", shape=shape, initializer=draw))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        each = self.logits_of_heads(inputs)
        scores = self.activation(self.joined(each))
        if training:
            self._scores.keep((scores, [self.activation(logits) for logits in each]))
        else:
            self._scores.take()
        return scores

    def logits_of_heads(self, inputs: Any) -> list[Any]:
        """Computes the logits of each head."""
        parts = ops.split(ops.cast(inputs, self.compute_dtype), self.heads, axis=-1)
        weights = zip(parts, self.kernels, self.biases, strict=True)
        return [
            ops.matmul(part, ops.cast(kernel, self.compute_dtype)) + ops.cast(bias, self.compute_dtype)
            for part, kernel, bias in weights
        ]

    def joined(self, logits: Sequence[Any]) -> Any:
        """Computes logits whose shares are the mean of those of some logits."""
        if self.activation is keras.activations.sigmoid:
            with_label, without_label = zip(*map(_log_sigmoids, logits), strict=True)
            return _log_mean(with_label) - _log_mean(without_label)
        return _log_mean([_log_softmax(each) for each in logits])

    def take_scores(self, joined: Any) -> list[Any] | None:
        """Gives the scores of each head in this thread's last call, if it was one in training that returned `joined`;
        once, then None.
        """
        result, each = self._scores.take() or (None, None)
        return each if result is joined else None

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.classes)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        return math.prod(input_shape) * self.classes

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "classes": self.classes, "heads": self.heads, "activation": activation}


def _log_mean(logarithms):
    """The logarithm of a mean, of logarithms."""
    largest = ops.stop_gradient(functools.reduce(ops.maximum, logarithms))
    parts = [ops.exp(each - largest) for each in logarithms]
    return largest + ops.log(functools.reduce(operator.add, parts)) - math.log(len(logarithms))


def _log_sigmoids(logits):
    """The logarithms of a sigmoid of logits and of what it lacks to 1, in operations that phones' GPUs have."""
    below = ops.minimum(logits, 0)
    above = below - logits  # The negative of what is above zero.
    total = ops.log(1 + ops.exp(below + above))
    return below - total, above - total


def _log_softmax(logits):
    """The logarithm of a softmax, in operations that phones' GPUs have.

    LiteRT's converter would make its own operation of it, which they have not, if the largest were taken off first.
    """
    largest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    total = ops.log(ops.sum(ops.exp(logits - largest), axis=-1, keepdims=True))
    return logits - (largest + total)


class _OfThreads:
    """A value that each thread keeps for itself, as replicas of one model are traced in threads of their own."""

    def __init__(self):
        self._values = {}

    def keep(self, value):
        self._values[_thread()] = value

    def take(self):
        return self._values.pop(_thread(), None)


def _thread():
    # `torch.compile` cannot trace a thread's number, and PyTorch has no replicas in threads.
    return threading.get_ident() if keras.backend.backend() == "tensorflow" else 0
