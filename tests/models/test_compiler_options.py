"""The options with which JAX compiles steps of our models, and of no others."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.models import entrances
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet
from keras_video_focalnet.ops.autodiff import compilation

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="these options are of JAX's compiler")
YNN, SCHEDULER = "xla_cpu_experimental_ynn_fusion_type", "xla_cpu_scheduler_type"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    compilation._supported.cache_clear()
    yield
    compilation._supported.cache_clear()


@pytest.fixture
def asked(monkeypatch):
    """Whether each step that was compiled with our options was one of training, in order."""
    steps = []
    monkeypatch.setattr(entrances, "compiler_options", lambda training: steps.append(training) or {})
    return steps


def small_model():
    return VideoFocalNet(4, (1, 1, 1, 1), input_shape=(2, 32, 32, 3), classes=2)


def test_steps_of_our_models_have_them(asked):
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    clips, labels = np.zeros((1, 2, 32, 32, 3), "uint8"), np.zeros(1)
    model.predict(clips, verbose=0)
    assert asked == [False]
    model.fit(clips, labels, verbose=0)
    assert asked == [False, True]
    keras.Sequential([model]).predict(clips, verbose=0)
    assert asked == [False, True, False]


def test_steps_of_other_models_do_not(asked):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).predict(np.zeros((1, 3)), verbose=0)
    assert asked == []


def test_a_model_that_a_callback_calls_does_not(asked):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    given = {}

    def call(epoch, logs):
        before = list(asked)
        other.predict(np.zeros((1, 3)), verbose=0)
        given["by the other"] = asked[len(before) :]

    callback = keras.callbacks.LambdaCallback(on_epoch_end=call)
    model.fit(np.zeros((1, 2, 32, 32, 3), "uint8"), np.zeros(1), verbose=0, callbacks=[callback])
    assert asked == [True] and given == {"by the other": []}


def test_this_jax_knows_them():
    assert set(compilation.compiler_options(training=True)) == {YNN}
    assert set(compilation.compiler_options(training=False)) == {YNN, SCHEDULER}


def test_what_the_user_sets_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{SCHEDULER}=CPU_SCHEDULER_TYPE_DEFAULT")
    assert set(compilation.compiler_options(training=False)) == {YNN}


def test_what_this_jax_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "_ALWAYS", {"xla_cpu_of_another_time": "1"})
    assert set(compilation.compiler_options(training=True)) == set()


def test_none_but_on_a_cpu(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options(training=False) == {}
