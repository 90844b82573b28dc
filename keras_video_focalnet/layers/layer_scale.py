"""Layer scale."""

import keras


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class LayerScale(keras.layers.Layer):
    """Multiply each channel by a learned factor that starts small (Touvron et al. 2021, Eq. 4).

    Args:
        initial_value: float, every factor at the start.
        **kwargs: of `keras.layers.Layer`.

    Input and output shape: `(..., channels)`, floating.

    Example:
    >>> LayerScale(0.5)(np.ones((1, 8, 49, 4), "float32")).shape
    (1, 8, 49, 4)
    """

    def __init__(self, initial_value=1e-4, **kwargs):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial_value)
        )
        self.built = True

    def call(self, inputs):
        return inputs * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial_value": self.initial_value}
