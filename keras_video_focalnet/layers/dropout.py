"""Dropout that can be told what to keep."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class Dropout(keras.layers.Dropout):
    """Keras's dropout; what it keeps can be drawn before, so that a rematerialized block does not draw it twice.

    Args:
        rate: float in [0, 1), the probability to drop.
        **kwargs: of `keras.layers.Dropout`, but for `noise_shape`.

    Input and output shape: any, floating.

    Example:
    >>> Dropout(0.2)(np.ones((1, 8, 49, 4), "float32"), training=True).shape
    (1, 8, 49, 4)
    """

    def __init__(self, rate, **kwargs):
        super().__init__(rate, **kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), received {rate!r}.")
        if self.noise_shape is not None:
            raise ValueError(
                f"noise_shape must be None, received {self.noise_shape!r}; to drop alike along an axis take "
                "keras.layers.Dropout."
            )

    def call(self, inputs, training=False, kept=None):
        if not training or self.rate == 0:
            return inputs
        kept = self.draw(ops.shape(inputs)) if kept is None else kept
        return inputs * (ops.cast(kept, inputs.dtype) * (1 / (1 - self.rate)))

    def draw(self, shape):
        """What of `shape` is kept, bool; None where nothing is dropped."""
        if self.rate == 0:
            return None
        return keras.random.uniform(tuple(shape), dtype="float32", seed=self.seed_generator) >= self.rate
