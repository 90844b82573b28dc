"""A model that prepares its own input says so once where what it gets cannot be pixels of 0 to 255."""

import warnings

import keras
import numpy as np
import pytest

from keras_video_focalnet import feature_extractor, preprocess_input
from keras_video_focalnet.models import given_clips
from tests.exporting.small_model import small
from tests.models.entrances import (
    CALLS,
    CLIPS,
    LABELS,
    SOURCES,
    compiled,
    generator,
    tensorflow_dataset_of_unknown_shape,
    told,
)


@pytest.mark.slow_on("jax")
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


@pytest.mark.slow_on("jax", "tensorflow")
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
