"""Batch normalization that keeps the unbiased variance."""

from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.batch_norm import batch_norm, batch_norm_in_training

_FIXED = ("axis", "center", "scale", "renorm", "synchronized")


@saved_as("BatchNormalization")
@widening
class UnbiasedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization over the last axis, whose moving variance is that which PyTorch keeps.

    A batch is normalized by its own, biased variance; what moves is the unbiased one, larger by `n / (n - 1)` for `n`
    values of a channel, as `torch.nn.BatchNorm2d` does. In files and in `model.summary()` it is called
    `BatchNormalization`, see `saved_as`. `epsilon` is 1e-5 and `momentum` 0.9 by default, PyTorch's 0.1 from the other
    end. `axis`, `center`, `scale`, `renorm` and `synchronized` cannot be set and raise ValueError.

    Input and output shape: `(..., channels)`, floating; half precision is normalized in float32.

    Example:
    >>> UnbiasedBatchNormalization()(np.ones((2, 7, 7, 4), "float32")).shape
    (2, 7, 7, 4)
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        fixed = [name for name in _FIXED if name in kwargs]
        if fixed:
            raise ValueError(
                f"{fixed[0]}={kwargs[fixed[0]]!r} cannot be set: the last axis is normalized, scaled and shifted; for "
                "anything else take keras.layers.BatchNormalization."
            )
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        exact = keras.backend.result_type(keras.backend.standardize_dtype(inputs.dtype), "float32")
        x = ops.cast(inputs, exact)
        gamma, beta, mean, variance = (
            ops.cast(variable, exact) for variable in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if training and self.trainable:
            if mask is not None:
                raise ValueError("mask must be None in training: every value counts; pass inputs without a mask.")
            kept = self.momentum
            x, batch_mean, unbiased = batch_norm_in_training(x, gamma, beta, self.epsilon)
            self.moving_mean.assign(mean * kept + batch_mean * (1 - kept))
            self.moving_variance.assign(variance * kept + unbiased * (1 - kept))
        else:
            x = batch_norm(x, mean, variance, gamma, beta, self.epsilon)
        return ops.cast(x, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in _FIXED and not name.startswith("renorm")}
