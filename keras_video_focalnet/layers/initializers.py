"""The random initialization of the published Video-FocalNet code.

Numbers are drawn by NumPy: one seed gives the same weights on every backend, and JAX compiles no generator for each
shape. In files the initializers have the names that they are registered by.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


class _NumpyInitializer(keras.initializers.Initializer):
    """Draws with NumPy, by default with a seed from Python's generator, which `keras.utils.set_random_seed` sets."""

    def __init__(self, seed: int | None = None):
        self.seed = random.randrange(1 << 30) if seed is None else seed

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Any:
        array = self.draw(np.random.default_rng(self.seed), shape).astype("float32")
        return keras.ops.convert_to_tensor(array, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_video_focalnet", name="LinearKernel")
class NumpyNormal(_NumpyInitializer):
    """Draws the weights of linear layers from a normal distribution of mean 0 and standard deviation 0.02."""

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        return rng.normal(scale=0.02, size=shape)


@keras.saving.register_keras_serializable(package="keras_video_focalnet", name="Convolution")
class NumpyFanInUniform(_NumpyInitializer):
    """Draws weights and biases of convolutions evenly from `-1 / sqrt(fan_in)` to `1 / sqrt(fan_in)`."""

    def __init__(self, fan_in: int, seed: int | None = None):
        super().__init__(seed=seed)
        self.fan_in = fan_in

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        limit = 1.0 / math.sqrt(self.fan_in)
        return rng.uniform(-limit, limit, size=shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fan_in": self.fan_in}


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class NumpyFanOutNormal(_NumpyInitializer):
    """Draws kernels of convolutions before a ReLU from a normal distribution of variance `2 / fan_out`."""

    def __init__(self, fan_out: int, seed: int | None = None):
        super().__init__(seed=seed)
        self.fan_out = fan_out

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        return rng.normal(scale=math.sqrt(2.0 / self.fan_out), size=shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fan_out": self.fan_out}
