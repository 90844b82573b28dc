"""Batch normalization in every formulation against plain NumPy: values, statistics and gradients."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.batch_norm import batch_norm, batch_norm_in_training
from tests.gradients import values_and_gradients

BACKEND = keras.backend.backend()
FORMULATIONS = ["plain"] if BACKEND == "jax" else ["plain", "library"]
RNG = np.random.default_rng(0)
X, GAMMA, BETA = RNG.normal(2, 3, (2, 3, 4, 5)), RNG.normal(size=5), RNG.normal(size=5)
MEAN, VARIANCE = RNG.normal(size=5), RNG.uniform(0.5, 2, 5)


def normalized(x, mean, variance, gamma, beta):
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_given_statistics(formulation):
    arrays = [array.astype("float32") for array in (X, MEAN, VARIANCE, GAMMA, BETA)]
    with force(batch_norm=formulation):
        given = batch_norm(*map(keras.ops.convert_to_tensor, arrays), 1e-3)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(given), normalized(X, MEAN, VARIANCE, GAMMA, BETA), atol=2e-5)


@pytest.mark.parametrize("jit_compile", [False, True] if BACKEND == "tensorflow" else [False])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_statistics_of_a_batch(formulation, jit_compile):
    rows, weights = X.reshape(-1, 5), RNG.normal(size=X.shape)

    def reference(x, gamma, beta):
        own = x.reshape(-1, 5)
        return normalized(x, own.mean(0), own.var(0), gamma, beta)

    found = {}

    def function(x, gamma, beta):
        with force(batch_norm=formulation):
            value, found["mean"], found["variance"] = batch_norm_in_training(x, gamma, beta, 1e-3)
        return keras.ops.concatenate([value, value * 0 + found["mean"], value * 0 + found["variance"]], -1)

    arrays = [array.astype("float32") for array in (X, GAMMA, BETA)]
    probes = np.concatenate([weights, 0 * weights, 0 * weights], -1).astype("float32")
    value, gradients = values_and_gradients(function, arrays, probes, jit_compile)
    np.testing.assert_allclose(value[..., :5], reference(X, GAMMA, BETA), atol=2e-5)
    np.testing.assert_allclose(value[0, 0, 0, 5:10], rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(value[0, 0, 0, 10:], rows.var(0, ddof=1), rtol=1e-5)
    for place, gradient in enumerate(gradients):
        direction, step = RNG.normal(size=gradient.shape), 1e-5
        moved = [
            (X, GAMMA, BETA)[:place]
            + ((X, GAMMA, BETA)[place] + sign * step * direction,)
            + (X, GAMMA, BETA)[place + 1 :]
            for sign in (1, -1)
        ]
        slope = (weights * (reference(*moved[0]) - reference(*moved[1]))).sum() / (2 * step)
        assert abs((gradient * direction).sum() - slope) < 1e-4 * max(1, abs(slope))
