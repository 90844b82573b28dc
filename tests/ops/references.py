"""Operations run and checked against plain NumPy."""

import keras
import numpy as np

from tests.gradients import values_and_gradients

BACKEND = keras.backend.backend()


def run(function, *arrays):
    tensors = [keras.ops.convert_to_tensor(array.astype("float32")) for array in arrays]
    return keras.ops.convert_to_numpy(function(*tensors))


def check(function, reference, *arrays, atol=2e-5):
    """Values and gradients as `check_once` says; on TensorFlow, eagerly and compiled by XLA."""
    for jit_compile in (False, True) if BACKEND == "tensorflow" else (False,):
        check_once(function, reference, arrays, atol, jit_compile)


def check_once(function, reference, arrays, atol, jit_compile):
    """Values, and gradients of a random weighting of them, against `reference` in float64 by central differences.

    Along a random direction in each argument; `reference` is linear in each, so the differences are exact.
    """
    rng = np.random.default_rng(0)
    wanted = reference(*arrays)
    weights = rng.normal(size=wanted.shape)
    singles = [array.astype("float32") for array in arrays]
    value, gradients = values_and_gradients(function, singles, weights.astype("float32"), jit_compile)
    np.testing.assert_allclose(value, wanted, atol=atol)
    for place, gradient in enumerate(gradients):
        direction = rng.normal(size=arrays[place].shape)
        ahead, behind = (
            reference(*arrays[:place], arrays[place] + sign * direction, *arrays[place + 1 :]) for sign in (1, -1)
        )
        slope = (weights * (ahead - behind)).sum() / 2
        norm = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs((gradient * direction).sum() - slope) < 1e-5 * norm


def numpy_depthwise(x, kernel):
    size, (height, width) = len(kernel), x.shape[1:3]
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    places = [(i, j) for i in range(size) for j in range(size)]
    return sum(padded[:, i : i + height, j : j + width] * kernel[i, j, :, 0] for i, j in places)


def numpy_temporal(x, kernel):
    half = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0)))
    return sum(padded[:, k : k + x.shape[1]] @ kernel[k, 0] for k in range(len(kernel)))
