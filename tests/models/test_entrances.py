"""Clips of another shape or range are told at every entrance, and an error leaves the model as it was."""

import copy
import pickle

import keras
import numpy as np
import pytest

from keras_video_focalnet.models import jax_state
from tests.exporting.small_model import small
from tests.models.entrances import (
    BACKEND,
    CALLS,
    CLIPS,
    LABELS,
    SOURCES,
    WRONG,
    Stop,
    compiled,
    generator,
    tensorflow_dataset_of_unknown_shape,
)

# What a callback adds to weights, too little for activations to overflow.
STEP = 1e-3


@pytest.mark.parametrize("entrance", CALLS)
def test_arrays_of_another_shape(model, whole, entrance):
    argument = {"call": "inputs", "validation_data": r"validation_data\[0\]"}.get(entrance, "x")
    for clips, message in WRONG.values():
        with pytest.raises(ValueError, match=rf"^{argument} must have shape \(batch, 4, 32, 32, 3\), {message}"):
            CALLS[entrance](model, clips)
    with pytest.raises(ValueError, match=rf"received \(4, 32, 32, 3\).*one clip: {argument}\[None\] makes"):
        CALLS[entrance](model, CLIPS[0])


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("entrance", ["predict", "fit", "evaluate"])
def test_batches_of_another_shape(model, whole, entrance, source):
    call = {"predict": model.predict, "fit": model.fit, "evaluate": model.evaluate}[entrance]
    call(source(CLIPS), verbose=0)
    for name in ("channels first", "frames, channels", "other sides"):
        clips, message = WRONG[name]
        with pytest.raises(ValueError, match=rf"must have shape \(batch, 4, 32, 32, 3\), {message}"):
            call(source(clips), verbose=0)


def test_a_wrong_batch_after_a_good_one(model, whole):
    def batches():
        yield CLIPS, LABELS
        yield WRONG["channels first"][0], LABELS

    # TensorFlow's adapter learns from two batches that sides differ, and so the graph learns them when it runs.
    for call in (model.predict, model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"must have shape.*received \(2, 3, 4, 32, 32\)"):
            call(batches(), verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has functions of sides that are not known")
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_functions_of_unknown_sides(jit_compile):
    import tensorflow as tf

    model = compiled()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=jit_compile)
    for source in (generator, tensorflow_dataset_of_unknown_shape):
        model.fit(source(CLIPS), verbose=0)
        with pytest.raises(ValueError, match=r"x must have shape.*received \(2, 3, 4, 32, 32\).*channels first"):
            model.fit(tensorflow_dataset_of_unknown_shape(WRONG["channels first"][0]), verbose=0)
    function = tf.function(model, reduce_retracing=True)
    function(tf.constant(CLIPS, "float32"))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="[Ss]hape.*2,3,4,32,32"):
        function(tf.constant(WRONG["channels first"][0], "float32"))


def test_any_number_of_frames():
    model = small(input_shape=(None, 32, 32, 3))
    for frames in (1, 4, 5):
        assert model.predict(np.repeat(CLIPS[:, :1], frames, 1), verbose=0).shape == (2, 5)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, frames, 32, 32, 3\), received \(2, 3"):
        model.predict(WRONG["channels first"][0], verbose=0)
    with pytest.raises(ValueError, match=r"received \(2, 0, 32, 32, 3\)"):
        model.predict(CLIPS[:, :0], verbose=0)


class Raise(keras.callbacks.Callback):
    """Raises at an event's second time."""

    def __init__(self, event, error):
        super().__init__()
        self.error, self.count = error, 0
        setattr(self, event, self.tell)

    def tell(self, *_, **__):
        self.count += 1
        if self.count == 2:
            raise self.error


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("event", ["batch_begin", "batch_end"])
def test_a_callback_that_raises(model, whole, event, error):
    for word, call in (("train", model.fit), ("test", model.evaluate), ("predict", model.predict)):
        labels = () if word == "predict" else (LABELS,)
        with pytest.raises(error):
            call(CLIPS, *labels, batch_size=1, verbose=0, callbacks=[Raise(f"on_{word}_{event}", error)])
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("good", [0, 1, 3])
@pytest.mark.skipif(BACKEND != "jax", reason="only on JAX does Keras take the variables out of the model")
def test_data_that_raises(model, whole, good, error):
    def batches():
        for _ in range(good):
            yield CLIPS, LABELS
        raise error

    for call in (model.predict, model.fit, model.evaluate):
        with pytest.raises(error):
            call(batches(), verbose=0)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX has a function that takes and gives the values")
def test_an_interrupt_as_soon_as_a_step_has_computed(monkeypatch):
    """What a step gave is kept although Keras never got it, and what it took is gone."""
    model = compiled()
    before = model.get_weights()

    class Interrupted(jax_state.deque):
        def extend(self, items):
            super().extend(items)
            raise KeyboardInterrupt

    monkeypatch.setattr(jax_state, "deque", Interrupted)
    for call in (lambda: model.predict(CLIPS, verbose=0), lambda: model.fit(CLIPS, LABELS, verbose=0)):
        with pytest.raises(KeyboardInterrupt):
            call()
    monkeypatch.undo()
    after = model.get_weights()
    assert int(model.optimizer.iterations.value) == 1
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    assert np.isfinite(model.predict(CLIPS, verbose=0)).all()
    model.fit(CLIPS, LABELS, verbose=0)
    assert int(model.optimizer.iterations.value) == 2


def test_a_callback_that_predicts(model, whole):
    scores, alone = [], model.predict(CLIPS, verbose=0)
    predict = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: scores.append(model.predict(CLIPS, verbose=0))
    )
    model.fit(CLIPS, LABELS, batch_size=1, verbose=0, callbacks=[predict])
    np.testing.assert_array_equal(scores, [alone, alone])


def test_a_callback_that_reads_and_writes_the_weights(model, whole, tmp_path):
    """What it writes is what the next step begins with."""
    before, seen = model.get_weights(), []

    def after_a_batch(batch, logs):
        seen.append(model.state())
        model.save(tmp_path / "model.keras")
        model.set_weights([weight + STEP for weight in model.get_weights()])

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=after_a_batch)
    model.fit(CLIPS, LABELS, batch_size=1, verbose=0, callbacks=[callback])
    for weight, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(after, weight + 2 * STEP, atol=1e-5)
    saved = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for weight, after in zip(before, saved.get_weights(), strict=True):
        np.testing.assert_allclose(after, weight + STEP, atol=1e-5)
    for name, array in seen[0].items():
        np.testing.assert_allclose(seen[1][name], array + STEP, atol=1e-5)
    model.set_weights(before)


@pytest.mark.slow
def test_copies_of_a_used_model(model, whole):
    scores = model.predict(CLIPS, verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone):
        np.testing.assert_allclose(copied.predict(CLIPS, verbose=0), scores, atol=1e-6)
