"""Stochastic depth."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_choice, check_number


@saved_as("StochasticDepth")
@widening
class StochasticDepth(keras.layers.Layer):
    """Sets a residual branch to zero at random in training, and scales up what is kept (Huang et al. 2016).

    Outside training the branch passes as it is.

    Args:
        rate: The probability to drop, a number in [0, 1).
        per: `"frame"`, the default, draws for every frame of a clip, as the published Video-FocalNet code does;
            `"clip"` draws once for all frames of a clip.
        seed: An integer, or None, the default, for one from Keras's global seed.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(batch, frames, ...)`, floating.

    Raises:
        ValueError: `rate` is outside [0, 1), or `per` is unknown.

    Example:
    >>> StochasticDepth(0.2)(np.ones((2, 8, 49, 4), "float32"), training=True).shape
    (2, 8, 49, 4)
    """

    def __init__(self, rate: float, per: str = "frame", seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = check_number("rate", rate, minimum=0, below=1)
        self.per = check_choice("per", per, ("frame", "clip"))
        self.seed = seed
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self._build_at_init()

    def call(self, inputs: Any, training: bool = False, keep_mask: Any = None) -> Any:
        if not training or self.rate == 0:
            return inputs
        keep_mask = self.draw_mask(ops.shape(inputs)) if keep_mask is None else keep_mask
        return inputs * (ops.cast(keep_mask, inputs.dtype) * (1 / (1 - self.rate)))

    def draw_mask(self, shape: Sequence[Any]) -> Any:
        """Draws a bool tensor for `call`, True where a branch `(batch, frames, ...)` is kept: `(batch, frames, 1,
        ...)`, or `(batch, 1, 1, ...)` where one draw holds for a clip; None where nothing is dropped.
        """
        if self.rate == 0:
            return None
        rows = (shape[0], shape[1] if self.per == "frame" else 1) + (1,) * (len(shape) - 2)
        return keras.random.uniform(rows, dtype="float32", seed=self.seed_generator) >= self.rate

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "per": self.per, "seed": self.seed}
