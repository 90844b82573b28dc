"""A model reads the clips that it takes and names its scores; and so do models around it and exported files."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.data.clip_rule import clip_rule
from tests.exporting.small_model import SMALL, small

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype="uint8")


@pytest.fixture(scope="module")
def model():
    return small()


def test_one_call_reads_what_predict_takes(model):
    clip = model.read(FRAMES)
    np.testing.assert_array_equal(clip, kvf.read_clip(list(FRAMES), like=model))
    np.testing.assert_array_equal(clip, kvf.read_clip(FRAMES, num_frames=4, size=32))
    scores = model.predict(clip[None], verbose=0)
    assert model.decode_predictions(scores) == kvf.decode_predictions(scores, labels=model.labels)
    assert model.decode_predictions(scores, top=2) == kvf.decode_predictions(scores, top=2, labels=model)
    assert model.read(FRAMES, end=0.1, num_frames=2, size=16).shape == (2, 16, 16, 3)


def test_any_number_of_frames_and_models_without_preprocessing(model):
    assert clip_rule(small(input_shape=(None, 32, 32, 3))).num_frames == 8
    bare = small(include_preprocessing=False)
    clip = bare.read(FRAMES)
    assert clip.dtype == np.float32
    np.testing.assert_array_equal(clip, kvf.preprocess_input(model.read(FRAMES)))


@pytest.mark.parametrize("include_preprocessing", [True, False])
def test_models_around_a_network_read_as_it_does(include_preprocessing):
    inner = small(include_top=False, pooling="avg", labels=None, include_preprocessing=include_preprocessing)
    clip = keras.Input(SMALL["input_shape"])
    for around in (
        keras.Model(clip, keras.layers.Dense(2)(inner(clip))),
        keras.Model(inner.input, keras.layers.Dense(2)(inner.output)),
        keras.Sequential([inner, keras.layers.Dense(2)]),
    ):
        np.testing.assert_array_equal(kvf.read_clip(FRAMES, like=around), inner.read(FRAMES))


def test_models_of_other_makes_and_models_of_other_things():
    clip = keras.Input((3, 16, 24, 3))
    other = keras.Model(clip, keras.layers.Flatten()(clip))
    np.testing.assert_array_equal(kvf.read_clip(FRAMES, like=other), kvf.read_clip(FRAMES, 3, (16, 24)))
    with pytest.raises(ValueError, match="like must be a model of clips, .*received <Sequential"):
        kvf.read_clip(FRAMES, like=keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


@pytest.mark.parametrize("given", ["video.mp4", b"video.mp4", np.array(["video.mp4"])])
def test_a_path_in_place_of_a_clip(model, given):
    for call in (model, model.predict):
        with pytest.raises(ValueError, match=r"must be clips, received the path .*; read_clip\(path, like=model\)"):
            call(given)


def test_clips_that_are_no_batch_or_of_another_size(model):
    clip = model.read(FRAMES)
    with pytest.raises(ValueError, match=r"x must be one array of clips, received a list of 2; numpy.stack\(x\) makes"):
        model.predict([clip, clip])
    for wrong in (kvf.read_clip(FRAMES), kvf.read_clip(FRAMES)[None], kvf.read_clip(FRAMES, 2, 32)[None]):
        with pytest.raises(ValueError, match=r"read_clip\(path, like=model\) reads the clip"):
            model.predict(wrong)
    with pytest.raises(ValueError, match=r"grey clips without channels: numpy.repeat\(x\[..., None\], 3, -1\)"):
        model.predict(clip[None, ..., 0])


def test_preprocessing_is_the_identity_where_the_model_prepares(model):
    clip = model.read(FRAMES)[None]
    assert model.preprocess_input(clip) is clip
    bare = small(include_preprocessing=False)
    np.testing.assert_array_equal(bare.preprocess_input(clip), kvf.preprocess_input(clip))
    expected = model.predict(model.preprocess_input(clip), verbose=0)
    np.testing.assert_allclose(bare.predict(bare.preprocess_input(clip), verbose=0), expected, atol=1e-5)


def test_logits_are_told(model):
    with pytest.warns(UserWarning, match="these are logits and no probabilities.*keras.ops.softmax") as told:
        decoded = model.decode_predictions([[3.0, 1.0, 0.0, -1.0, 0.5]], top=1)
    assert decoded == [[("run", 3.0)]] and [one.filename for one in told] == [__file__]
    with pytest.warns(UserWarning, match="5 classes may be anybody's") as told:
        assert small(labels=None).decode_predictions([0, 1, 0, 0, 0], top=1) == [[("class 1", 1.0)]]
    assert [one.filename for one in told] == [__file__]
