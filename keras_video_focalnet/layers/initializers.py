"""The reference's random initialization.

Numbers are drawn by NumPy: one seed gives the same weights on every backend, and JAX compiles no generator for each
shape.
"""

import math
import random

import keras
import numpy as np


class _Drawn(keras.initializers.Initializer):
    """A random initializer that draws with NumPy; without a seed, `keras.utils.set_random_seed` decides."""

    def __init__(self, seed=None):
        self.seed = random.randrange(1 << 30) if seed is None else seed

    def __call__(self, shape, dtype=None):
        array = self.draw(np.random.default_rng(self.seed), shape).astype("float32")
        return keras.ops.convert_to_tensor(array, dtype=dtype or keras.config.floatx())

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class LinearKernel(_Drawn):
    """Weights of linear layers: normal, standard deviation 0.02."""

    def draw(self, rng, shape):
        return rng.normal(scale=0.02, size=shape)


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class Convolution(_Drawn):
    """Weights and biases of convolutions: uniform within one over the square root of the inputs to one output.

    Args:
        fan_in: int, inputs to one output.
        seed: int, or None for one drawn from Python's generator.
    """

    def __init__(self, fan_in, seed=None):
        super().__init__(seed=seed)
        self.fan_in = fan_in

    def draw(self, rng, shape):
        limit = 1.0 / math.sqrt(self.fan_in)
        return rng.uniform(-limit, limit, size=shape)

    def get_config(self):
        return {**super().get_config(), "fan_in": self.fan_in}
