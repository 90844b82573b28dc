"""Keras's own models that share layers with one of ours are left whole by errors and threads, as ours are."""

import keras
import numpy as np
import pytest

from keras_video_focalnet import feature_extractor
from keras_video_focalnet.models import jax_state
from tests.models.entrances import BACKEND, CLIPS, LABELS, WRONG, Stop, told


class Every(keras.callbacks.Callback):
    """Raises after the first step of anything."""

    def __init__(self, error):
        super().__init__()
        self.on_train_batch_end = self.on_test_batch_end = self.on_predict_batch_end = self.stop
        self.error = error

    def stop(self, *_, **__):
        raise self.error


def compiled_extractor(inner):
    extractor = feature_extractor(inner, "stage0_block0")
    extractor.compile("sgd", "mse")
    return extractor


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("shares", ["around", pytest.param("extractor", marks=pytest.mark.slow_on("tensorflow"))])
def test_models_that_share_layers_of_ours_are_left_whole(outer, tmp_path, shares, error):
    """What Keras takes out of a model of its own it takes out of ours inside it."""
    inner = outer.layers[1]
    used = outer if shares == "around" else compiled_extractor(inner)
    weights, answer = outer.get_weights(), outer.predict(CLIPS, verbose=0)
    calls = [lambda: used.predict(CLIPS, verbose=0, callbacks=[Every(error)])]
    if shares == "around":
        calls.append(lambda: used.evaluate(CLIPS, LABELS, verbose=0, callbacks=[Every(error)]))
    for call in calls:
        with pytest.raises(error):
            call()
        for before, after in zip(weights, outer.get_weights(), strict=True):
            np.testing.assert_array_equal(after, before)
    with pytest.raises(ValueError, match=r"x must have shape .* received \(2, 8, 16, 32, 3\)"):
        used.predict(WRONG["other sides"][0], verbose=0)
    outer.save(tmp_path / "outer.keras")
    assert np.isfinite(inner.predict(CLIPS, verbose=0)).all()
    np.testing.assert_allclose(outer.predict(CLIPS, verbose=0), answer, atol=1e-6)


def test_training_a_model_around_ours_is_stopped(outer):
    start, steps = outer.get_weights(), int(outer.optimizer.iterations.value)
    with pytest.raises(KeyboardInterrupt):
        outer.fit(CLIPS, LABELS, batch_size=1, verbose=0, callbacks=[Every(KeyboardInterrupt)])
    after = outer.get_weights()
    assert int(outer.optimizer.iterations.value) == steps + 1
    assert any((one != other).any() for one, other in zip(start, after, strict=True))
    assert np.isfinite(outer.predict(CLIPS, verbose=0)).all()
    outer.set_weights(start)


def test_data_and_callbacks_that_use_a_part_of_the_model(outer):
    """The model inside answers, and gives its weights, while one around it computes with them."""
    inner, seen, weights = outer.layers[1], [], []
    pooled, alone = inner.predict(CLIPS, verbose=0), outer.predict(CLIPS, verbose=0)

    def batches():
        for _ in range(2):
            seen.append(inner.predict(CLIPS, verbose=0))
            yield (CLIPS,)

    read = keras.callbacks.Callback()
    read.on_predict_batch_end = lambda *_, **__: weights.append(inner.get_weights())
    answers = outer.predict(batches(), verbose=0, callbacks=[read])
    np.testing.assert_allclose(answers, np.concatenate([alone, alone]), atol=1e-6)
    assert len(seen) >= 2 and len(weights) == 2
    for one in seen:
        np.testing.assert_allclose(one, pooled, atol=1e-6)


def test_other_models_of_keras_are_left_alone():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    x = np.full((2, 3), -0.5, "float32")
    assert not told(lambda: (model.predict(x, verbose=0), model.fit(x, np.zeros((2, 2)), verbose=0)))

    class Trainer:
        jax_state_sync = None

    assert not jax_state.mend(Trainer) and Trainer.jax_state_sync is None
    if BACKEND == "jax":
        mended = [vars(base).get("jax_state_sync") for base in keras.Model.__mro__]
        assert any(getattr(one, "__module__", "").endswith("trainer") and one.__wrapped__ for one in mended if one)
