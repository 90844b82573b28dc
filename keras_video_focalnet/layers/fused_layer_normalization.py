"""Layer normalization on this package's kernel."""

from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.layer_norm import layer_norm

_FIXED = ("axis", "center", "scale", "rms_scaling")


@saved_as("LayerNormalization")
@widening
class FusedLayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer normalization over the last axis with scale and shift, in fewer passes over memory.

    In files and in `model.summary()` it is called `LayerNormalization`, see `saved_as`. `epsilon`, 1e-5 by default, is
    added to the variance. `axis`, `center`, `scale` and `rms_scaling` cannot be set and raise ValueError.

    Example:
    >>> FusedLayerNormalization()(keras.ops.ones((2, 4))).shape
    (2, 4)
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        fixed = [name for name in _FIXED if name in kwargs]
        if fixed:
            raise ValueError(
                f"{fixed[0]}={kwargs[fixed[0]]!r} cannot be set: the last axis is normalized, scaled and shifted; for "
                "anything else take keras.layers.LayerNormalization."
            )
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs: Any) -> Any:
        return ops.cast(layer_norm(inputs, self.gamma, self.beta, self.epsilon), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in _FIXED}
