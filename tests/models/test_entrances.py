"""Clips of another shape or range are told at every entrance, and an error leaves the model as it was."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest

from keras_video_focalnet import feature_extractor, preprocess_input
from keras_video_focalnet.models import given_clips, jax_state
from tests.exporting.small_model import around, small

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
CLIPS = RNG.integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([0, 1])
WRONG = {
    "channels first": (np.moveaxis(CLIPS, -1, 1), r"received \(2, 3, 4, 32, 32\).*moveaxis\(.*, 1, -1\)"),
    "frames, channels": (np.moveaxis(CLIPS, -1, 2), r"received \(2, 4, 3, 32, 32\).*moveaxis\(.*, 2, -1\)"),
    "swapped": (np.swapaxes(CLIPS, 1, -1), r"received \(2, 3, 32, 32, 4\).*swapaxes\(.*, 1, -1\)"),
    "other sides": (CLIPS.reshape(2, 8, 16, 32, 3), r"received \(2, 8, 16, 32, 3\)"),
    "grey": (CLIPS[..., :1], r"received \(2, 4, 32, 32, 1\).*repeated three times"),
    "no channels": (CLIPS[..., 0], r"received \(2, 4, 32, 32\)"),
}
CALLS = {
    "call": lambda model, x: model(x),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "fit": lambda model, x: model.fit(x, LABELS, verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, LABELS, verbose=0),
    "train_on_batch": lambda model, x: model.train_on_batch(x, LABELS),
    "test_on_batch": lambda model, x: model.test_on_batch(x, LABELS),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "validation_data": lambda model, x: model.fit(CLIPS, LABELS, validation_data=(x, LABELS), verbose=0),
}


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.x, LABELS


def tensorflow_dataset(x):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensors((x, LABELS))


def tensorflow_dataset_of_unknown_shape(x):
    tf = pytest.importorskip("tensorflow")
    unknown = tf.TensorSpec([None] * x.ndim, tf.uint8), tf.TensorSpec([None], tf.int64)
    return tf.data.Dataset.from_generator(lambda: iter([(x, LABELS)]), output_signature=unknown)


def grain_dataset(x):
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(x, LABELS, strict=True))).batch(2)


def generator(x):
    yield x, LABELS


SOURCES = [Batches, tensorflow_dataset, tensorflow_dataset_of_unknown_shape, grain_dataset, generator]


def compiled(**options):
    model = small(**options)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


# What a callback adds to weights, too little for activations to overflow.
STEP = 1e-3


@pytest.fixture(scope="module")
def model():
    """A model that knows all functions and, on TensorFlow, more than one size of batch already."""
    model = compiled()
    model.optimizer.learning_rate = 0.0
    for count in (1, 2):
        model.predict(CLIPS[:count], verbose=0)
    model.fit(CLIPS, LABELS, verbose=0)
    model.evaluate(CLIPS, LABELS, verbose=0)
    return model


@pytest.fixture
def whole(model):
    """The model has its weights and scores after the test."""
    weights, scores = model.get_weights(), model.predict(CLIPS, verbose=0)
    yield
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(model.predict(CLIPS, verbose=0), scores)


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


class Stop(Exception):
    pass


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


@pytest.mark.parametrize("clips", [CLIPS / 255, pytest.param((CLIPS - 114.5) / 58, marks=pytest.mark.slow)])
def test_scaled_pixels_are_told_once(clips):
    model = compiled()
    for x in (CLIPS, CLIPS.astype("float32"), CLIPS * 0.0):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.predict(x, verbose=0)
    with pytest.warns(UserWarning, match="x holds values of .* takes pixels of 0 to 255") as told:
        model.predict(clips, verbose=0)
        model(clips)
        model.evaluate(clips, LABELS, verbose=0)
    assert len([one for one in told if "takes pixels" in str(one.message)]) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        small(include_preprocessing=False).predict(clips, verbose=0)


@pytest.mark.slow_on("jax")
def test_scaled_tensors_are_told_where_they_are_given(model, monkeypatch):
    """Tensors of the running backend too, but none of a graph, and of an accelerator's not one after the other."""
    scaled, pixels = (keras.ops.convert_to_tensor(clips.astype("float32")) for clips in (CLIPS / 255, CLIPS))
    for call in ("call", "predict", "fit", "validation_data"):
        given_clips._warned.discard(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            CALLS[call](model, pixels)
        with pytest.warns(UserWarning, match="holds values of .* takes pixels of 0 to 255"):
            CALLS[call](model, scaled)
    looked = []
    monkeypatch.setattr(given_clips, "in_host_memory", lambda tensor: False)
    monkeypatch.setattr(given_clips, "looks_scaled", lambda *_: looked.append(1))
    monkeypatch.setattr(given_clips, "_warned", set())
    for _ in range(3):
        model.predict_on_batch(pixels)
    assert len(looked) == 1
    model.predict(pixels, verbose=0)
    assert len(looked) == 2


class Every(keras.callbacks.Callback):
    """Raises after the first step of anything."""

    def __init__(self, error):
        super().__init__()
        self.on_train_batch_end = self.on_test_batch_end = self.on_predict_batch_end = self.stop
        self.error = error

    def stop(self, *_, **__):
        raise self.error


@pytest.fixture(scope="module")
def outer():
    """Keras's own model around one of ours."""
    model = around()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


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


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [one for one in caught if "takes pixels of 0 to 255" in str(one.message)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_scaled_batches_are_told_once(model, whole, source):
    given_clips._warned.discard(model)
    pixels, scaled = CLIPS.astype("float32"), (CLIPS / 255).astype("float32")
    if source is tensorflow_dataset_of_unknown_shape:
        pytest.skip("its batches are of integers")
    assert not told(lambda: model.predict(source(pixels), verbose=0))
    (warning,) = told(lambda: [model.predict(source(scaled), verbose=0) for _ in range(2)])
    assert str(warning.message).startswith("x holds values of 0 to 1, but") and warning.filename == __file__
    given_clips._warned.discard(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*takes pixels of 0 to 255")
        with pytest.raises(UserWarning, match="takes pixels of 0 to 255"):
            model.predict(source(scaled), verbose=0)


def test_batches_pass_once_and_in_order(model, whole):
    asked, scaled = [], [(CLIPS[number : number + 1] / 255).astype("float32") for number in (1, 0, 1)]

    def batches():
        for number, batch in enumerate(scaled):
            asked.append(number)
            yield (batch,)

    given_clips._warned.discard(model)
    expected = np.concatenate([model.predict(batch, verbose=0) for batch in scaled])
    given_clips._warned.discard(model)
    assert len(told(lambda: asked.append(model.predict(batches(), verbose=0)))) == 1
    np.testing.assert_allclose(asked.pop(), expected, atol=1e-6)
    assert asked == [0, 1, 2]


def test_scaled_pixels_of_a_model_around_ours(outer):
    inner, normalized = outer.layers[1], preprocess_input(CLIPS)
    for clips in (normalized, generator(normalized)):
        given_clips._warned.clear()
        (warning,) = told(lambda clips=clips: outer.predict(clips, verbose=0))
        assert "but around takes pixels" in str(warning.message) and warning.filename == __file__
    assert not told(lambda: outer.predict(normalized, verbose=0))
    clip = keras.Input(CLIPS.shape[1:])
    for layer, tells in ((keras.layers.Rescaling(255.0), False), (keras.layers.Reshape(CLIPS.shape[1:]), True)):
        assert given_clips.takes_only_pixels(keras.Model(clip, inner(layer(clip)))) == tells
    assert given_clips.takes_only_pixels(keras.Sequential([clip, inner]))
    assert given_clips.takes_only_pixels(feature_extractor(inner, "stage0_block0"))


def test_normalized_clips_with_a_bright_first_frame():
    bright = CLIPS.copy()
    bright[:, 0] = 255
    assert given_clips.looks_scaled(preprocess_input(bright), np.asarray)
    assert not given_clips.looks_scaled(bright.astype("float32"))


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


@pytest.mark.slow
def test_copies_of_a_used_model(model, whole):
    scores = model.predict(CLIPS, verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone):
        np.testing.assert_allclose(copied.predict(CLIPS, verbose=0), scores, atol=1e-6)
