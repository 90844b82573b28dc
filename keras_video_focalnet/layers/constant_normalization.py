"""Normalization by numbers that are known beforehand."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_video_focalnet.layers.serialization import saved_as


@saved_as("Normalization")
class ConstantNormalization(keras.layers.Normalization):
    """Keras's normalization by a given mean and variance, which are constants of every graph that is made of it.

    Keras's own layer holds both as tensors of the running backend. A graph captures those like variables, and some
    converters make them inputs of their file, which nobody can feed. In files and in `model.summary()` it is called
    `Normalization`, see `saved_as`.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        if self.input_mean is not None:
            self.mean, self.variance = (
                np.broadcast_to(np.asarray(values, self.compute_dtype), self._broadcast_shape)
                for values in (self.input_mean, self.input_variance)
            )
