"""Dropout whose random draw can be made before, and used again."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_number


@saved_as("Dropout")
@widening
class ReplayableDropout(keras.layers.Dropout):
    """Keras's dropout, which can be given what to keep, so that a rematerialized block does not draw it twice.

    In files and in `model.summary()` it is called `Dropout`, see `saved_as`. `rate` lies in [0, 1); another value, or a
    `noise_shape`, raises ValueError.

    Example:
    >>> ReplayableDropout(0.5)(keras.ops.ones((2, 4)), training=False).shape
    (2, 4)
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(check_number("rate", rate, minimum=0, below=1), **kwargs)
        if self.noise_shape is not None:
            raise ValueError(
                f"noise_shape must be None, received {self.noise_shape!r}; to drop alike along an axis take "
                "keras.layers.Dropout."
            )

    def call(self, inputs: Any, training: bool = False, keep_mask: Any = None) -> Any:
        if not training or self.rate == 0:
            return inputs
        keep_mask = self.draw_mask(ops.shape(inputs)) if keep_mask is None else keep_mask
        return inputs * (ops.cast(keep_mask, inputs.dtype) * (1 / (1 - self.rate)))

    def draw_mask(self, shape: Sequence[Any]) -> Any:
        """Draws a bool tensor of a shape, True where `call` keeps a value; None where nothing is dropped."""
        if self.rate == 0:
            return None
        return keras.random.uniform(tuple(shape), dtype="float32", seed=self.seed_generator) >= self.rate
