"""A thread that exports changes nothing of what another thread computes."""

import threading

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.ops.autodiff.formulation import force
from tests.exporting.small_model import around, clips_like, small

BACKEND = keras.backend.backend()
KERAS_FORMATS = {"tensorflow": ("tf_saved_model", ""), "jax": ("tf_saved_model", ""), "torch": ("onnx", ".onnx")}


@pytest.mark.slow
def test_a_thread_predicts_the_same_while_another_exports(tmp_path):
    """Bit for bit, with a model that serves all the time and with models that are new.

    Each thread has models of its own here; `test_eight_threads_share_a_model_and_a_file` shares one.
    """
    # Its last stage has the channels for which the rule takes Winograd's filtering, and exports take the convolution.
    exported, served = small(embed_dim=24), small(embed_dim=24)
    weights, config, clips = served.get_weights(), served.get_config(), clips_like(served)
    format, suffix = KERAS_FORMATS[BACKEND]
    failures = []

    def answers_of_a_new_model():
        model = type(served).from_config(config)
        model.set_weights(weights)
        return model.predict(clips, verbose=0)

    def export():
        try:
            exported.predict(clips, verbose=0)
            with force(temporal_conv="convolution", layer_norm="quotient"):
                exported.export(tmp_path / f"by_keras{suffix}", format=format, verbose=False)
                kvf.export(exported, tmp_path / "small.tflite", clips=clips)
        except BaseException as error:
            failures.append(error)

    alone = answers_of_a_new_model()
    with force(temporal_conv="convolution", layer_norm="quotient"):
        forced = answers_of_a_new_model()
    assert not np.array_equal(alone, forced)  # The formulations round differently, so equality says something.
    np.testing.assert_array_equal(served.predict(clips, verbose=0), alone)
    thread, rounds = threading.Thread(target=export), 0
    thread.start()
    while thread.is_alive() or not rounds:
        np.testing.assert_array_equal(served.predict(clips, verbose=0), alone)
        np.testing.assert_array_equal(answers_of_a_new_model(), alone)
        rounds += 1
    thread.join()
    assert not failures, failures
    np.testing.assert_array_equal(exported.predict(clips, verbose=0), alone)


def together(*calls, timeout=300):
    """Run calls in threads of their own, and raise what the first that failed raised."""
    failures = []

    def run(call):
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if failures:
        raise failures[0]


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eight_threads_share_a_model_and_a_file(model, litert, tmp_path, everything):
    """With `everything`, a ninth thread exports the same model and a tenth trains another one."""
    served, exported, clips = model, kvf.load_exported(litert[0]), clips_like(model)
    alone, alone_exported = served.predict(clips, verbose=0), exported.predict(clips)
    trained = small()
    trained.compile("sgd", "sparse_categorical_crossentropy")

    def predict():
        for _ in range(3):
            np.testing.assert_allclose(served.predict(clips, verbose=0), alone, atol=1e-5)
            np.testing.assert_allclose(served.predict_on_batch(clips), alone, atol=1e-5)
            np.testing.assert_array_equal(exported.predict(clips), alone_exported)

    def export():
        kvf.export(served, tmp_path / "again.tflite", clips=clips)
        again = kvf.load_exported(tmp_path / "again.tflite")
        np.testing.assert_allclose(again.predict(clips), alone_exported, atol=1e-5)

    def train():
        trained.fit(clips, np.arange(len(clips)), epochs=3, verbose=0)
        assert all(np.isfinite(weight).all() for weight in trained.get_weights())

    together(*[predict] * 8, *([export, train] if everything else []))
    np.testing.assert_allclose(served.predict(clips, verbose=0), alone, atol=1e-5)


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_threads_share_a_model_through_others(rounds):
    """One of ours, a model around it and the extractor of its features have the same variables."""
    outer = around()
    inner, clips = outer.layers[1], clips_like(outer)
    extractor = kvf.feature_extractor(inner, "stage0_block0")
    models = (outer, inner, extractor)

    def answer(model):
        return keras.tree.flatten(model.predict(clips, verbose=0))[0]

    alone, weights = [answer(model) for model in models], outer.get_weights()

    def serve(number):
        for _ in range(rounds):
            np.testing.assert_allclose(answer(models[number]), alone[number], atol=1e-5)
            called = keras.tree.flatten(models[number](clips, training=False))[0]
            np.testing.assert_allclose(keras.ops.convert_to_numpy(called), alone[number], atol=1e-4)
            for before, after in zip(weights, outer.get_weights(), strict=True):
                np.testing.assert_array_equal(after, before)

    together(*[lambda number=number: serve(number) for number in (0, 1, 2, 0, 1, 2)])
