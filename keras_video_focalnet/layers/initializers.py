"""The random initialization of the published code of the architectures.

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
    """Draws from a normal distribution of mean 0 and, if nothing else is given, standard deviation 0.02."""

    def __init__(self, stddev: float = 0.02, seed: int | None = None):
        super().__init__(seed=seed)
        self.stddev = stddev

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        return rng.normal(scale=self.stddev, size=shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev}


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class NumpyUniform(_NumpyInitializer):
    """Draws evenly from `-limit` to `limit`."""

    def __init__(self, limit: float, seed: int | None = None):
        super().__init__(seed=seed)
        self.limit = limit

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        return rng.uniform(-self.limit, self.limit, size=shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


def xavier_uniform(inputs: int, outputs: int) -> NumpyUniform:
    """Draws a matrix as Glorot and Bengio (2010) do: evenly, with a variance of 2 / (inputs + outputs)."""
    return NumpyUniform(math.sqrt(6.0 / (inputs + outputs)))


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
