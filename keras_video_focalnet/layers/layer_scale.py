"""Layer scale."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening


@saved_as("LayerScale")
@widening
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned factor that starts small (Touvron et al. 2021, Eq. 4).

    Args:
        initial_value: Every factor at the start, a float; 1e-4 by default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(..., channels)`, floating.

    Example:
    >>> LayerScale(0.5)(np.ones((1, 8, 49, 4), "float32")).shape
    (1, 8, 49, 4)
    """

    def __init__(self, initial_value: float = 1e-4, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_value = initial_value
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial_value)
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs * self.gamma

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_value": self.initial_value}
