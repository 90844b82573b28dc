"""Layer normalization on this package's kernel."""

import keras
from keras import ops

from keras_video_focalnet.ops.layer_norm import layer_norm

_FIXED = ("axis", "center", "scale", "rms_scaling")


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer normalization over the last axis with scale and shift, in fewer passes over memory.

    Args:
        epsilon: float, added to the variance.
        **kwargs: of `keras.layers.LayerNormalization`, but for `axis`, `center`, `scale` and `rms_scaling`.

    Input and output shape: `(..., channels)`, floating.

    Example:
    >>> LayerNormalization()(np.ones((1, 8, 49, 4), "float32")).shape
    (1, 8, 49, 4)
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        fixed = [name for name in _FIXED if name in kwargs]
        if fixed:
            raise ValueError(
                f"{fixed[0]}={kwargs[fixed[0]]!r} cannot be set: the last axis is normalized, scaled and shifted; for "
                "anything else take keras.layers.LayerNormalization."
            )
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs):
        return ops.cast(layer_norm(inputs, self.gamma, self.beta, self.epsilon), self.compute_dtype)

    def get_config(self):
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in _FIXED}
