"""The schedule against the reference's rates, at its corners, and as part of a saved optimizer."""

import warnings

import keras
import numpy as np
import pytest

from keras_video_focalnet.training.schedule import WarmupCosine
from tests.golden import expected
from tests.training import golden_run


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_equals_the_references_rates_in_every_step():
    wanted = expected("training")["learning_rates"]
    np.testing.assert_allclose(rates(golden_run.schedule(), range(len(wanted))), wanted, rtol=1e-6)


def test_is_the_formula_in_double_precision_over_a_long_run():
    total, warmup, base, low = 56_400, 9_400, 0.1, 0.001
    steps = np.array([0, 1, 2, 4_700, 9_400, 9_401, 9_402, 28_000, 47_000, 56_000, 56_398, 56_399, 56_400, 56_401])
    update = np.maximum(steps - 1, 0)
    cosine = low + (base - low) * (1 + np.cos(np.pi * update / total)) / 2
    wanted = np.where(update < warmup, low + (base - low) * update / warmup, cosine)
    np.testing.assert_allclose(rates(WarmupCosine(base, total, warmup, low, low), steps), wanted, rtol=1e-6)


def test_without_warmup_it_begins_at_the_base_rate_and_stays_at_the_least_one():
    schedule = WarmupCosine(0.5, total_steps=10, min_learning_rate=0.25)
    assert rates(schedule, [0, 1, 11, 1_000]).tolist() == [0.5, 0.5, 0.25, 0.25]


def test_is_saved_with_an_optimizer():
    optimizer = keras.optimizers.SGD(WarmupCosine(0.1, 20, 5, 0.01, 0.001))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be a number of at least 0, received -0.1"),
        ({"min_learning_rate": float("nan")}, "min_learning_rate must be a number of at least 0, received nan"),
        ({"total_steps": 0}, "total_steps must be a number of at least 1, received 0"),
        ({"warmup_steps": 11}, r"warmup_steps must be a number in \[0, 10\], received 11"),
        ({"warmup_steps": -1}, r"warmup_steps must be a number in \[0, 10\], received -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(**{"learning_rate": 0.1, "total_steps": 10, **arguments})


def test_old_names_work_and_warn_with_the_new_one():
    with pytest.warns(DeprecationWarning, match="(base|warmup|min)_rate is an old name, .* use "):
        schedule = WarmupCosine(base_rate=0.1, total_steps=20, warmup_steps=5, warmup_rate=0.01, min_rate=0.001)
    assert schedule.get_config() == WarmupCosine(0.1, 20, 5, 0.01, 0.001).get_config()


def test_a_saved_schedule_with_the_old_names_is_read_silently():
    saved = {"base_rate": 0.1, "total_steps": 20, "warmup_steps": 5, "warmup_rate": 0.01, "min_rate": 0.001}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = WarmupCosine.from_config(saved)
    assert schedule.get_config() == WarmupCosine(0.1, 20, 5, 0.01, 0.001).get_config()
