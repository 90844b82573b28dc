"""The kernels against plain NumPy, and their gradients against finite differences."""

import math

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.temporal import temporal_conv


def run(function, *arrays):
    tensors = [keras.ops.convert_to_tensor(array.astype("float32")) for array in arrays]
    return keras.ops.convert_to_numpy(function(*tensors))


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_depthwise_conv2d(size):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, 6, 5, 4)), rng.normal(size=(size, size, 4, 1))
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    wanted = np.zeros_like(x)
    for i in range(size):
        for j in range(size):
            wanted += padded[:, i : i + 6, j : j + 5] * kernel[i, j, :, 0]
    np.testing.assert_allclose(run(depthwise_conv2d, x, kernel), wanted, atol=2e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_temporal_conv(size, frames):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, frames, 6, 4)), rng.normal(size=(size, 1, 4, 3))
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0)))
    wanted = sum(padded[:, k : k + frames] @ kernel[k, 0] for k in range(size))
    np.testing.assert_allclose(run(temporal_conv, x, kernel), wanted, atol=2e-5)


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 241)
    wanted = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    # The tanh approximation is off by 5e-4 here.
    np.testing.assert_allclose(run(gelu, x), wanted, atol=2e-6)
