"""Stochastic depth."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class StochasticDepth(keras.layers.Layer):
    """In training, zero a residual branch at random and scale up what is kept (paper Table 1; Huang et al. 2016).

    Args:
        rate: float in [0, 1), the probability to drop.
        per: `"frame"` draws for every frame of a clip, as the reference does; `"clip"` draws once for all its frames.
        seed: integer or None.
        **kwargs: of `keras.layers.Layer`.

    Input and output shape: `(batch, frames, ...)`, floating.

    Raises:
        ValueError: if `rate` is outside [0, 1) or `per` is unknown.

    Example:
    >>> StochasticDepth(0.2)(np.ones((2, 8, 49, 4), "float32"), training=True).shape
    (2, 8, 49, 4)
    """

    def __init__(self, rate, per="frame", seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), received {rate!r}.")
        if per not in ("frame", "clip"):
            raise ValueError(f'per must be "frame" or "clip", received {per!r}.')
        self.rate = rate
        self.per = per
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False, kept=None):
        if not training or self.rate == 0:
            return inputs
        kept = self.draw(ops.shape(inputs)) if kept is None else kept
        return inputs * (ops.cast(kept, inputs.dtype) * (1 / (1 - self.rate)))

    def draw(self, shape):
        """What a branch of `shape` keeps, `(batch, frames or 1, 1, ...)`, bool; None where nothing is dropped."""
        if self.rate == 0:
            return None
        rows = (shape[0], shape[1] if self.per == "frame" else 1) + (1,) * (len(shape) - 2)
        return keras.random.uniform(rows, dtype="float32", seed=self.seed_generator) >= self.rate

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "per": self.per, "seed": self.seed}
