"""A functional Keras model of the user's own, around a network of ours or without one, is written like ours."""

import json

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.around import labels_inside, preprocessing_inside, takes_pixels
from tests.exporting.small_model import clips_like, scores, small

for runtime in ("ai_edge_litert", "onnxruntime", "openvino", "tensorflow"):
    pytest.importorskip(runtime)

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
CLIP = (4, 32, 32, 3)
NAMES = ["one", "two", "three"]


def backbone(**options):
    return small(include_top=False, labels=None, pooling="avg", **options)


def spread(model):
    """The model with a head that tells clips apart."""
    rng = np.random.default_rng(2)
    for weight in model.trainable_weights[-2:]:
        weight.assign(rng.normal(0, 1, weight.shape))
    return model


def nested(activation="softmax", **options):
    """Our backbone as one layer, and a head of somebody's own."""
    body = backbone(**options)
    clip = keras.Input(CLIP)
    x = keras.layers.Dense(7, "relu", name="mine")(body(clip))
    return spread(keras.Model(clip, keras.layers.Dense(3, activation, dtype="float32", name="out")(x), name="own"))


def continued():
    """Our backbone's own layers with further ones behind."""
    body = backbone()
    x = keras.layers.Dense(3)(body.output)
    return spread(keras.Model(body.input, keras.layers.Softmax()(x), name="own"))


def other():
    """A model without anything of ours."""
    clip = keras.Input(CLIP)
    x = keras.layers.Rescaling(1 / 255)(clip)
    x = keras.layers.Conv3D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling3D()(x)
    return spread(keras.Model(clip, keras.layers.Dense(3, "sigmoid")(x), name="own"))


def in_front():
    """Ours with a layer of the user's before it."""
    clip = keras.Input(CLIP)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(clip)
    return small(input_tensor=x, input_shape=None, include_preprocessing=False)


def slow(name, *arguments):
    return pytest.param(*arguments, id=name, marks=pytest.mark.slow)


BOTH, LOGITS = ["scores", "logits"], ["logits"]


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "make,suffix,outputs,refused",
    [
        pytest.param(other, ".tflite", BOTH, True, id="other"),
        pytest.param(lambda: nested(include_preprocessing=False), ".tflite", BOTH, False, id="unprepared"),
        slow("logits", lambda: nested(None), ".onnx", LOGITS, None),
        slow("bfloat16", lambda: nested(dtype="mixed_bfloat16"), ".tflite", BOTH, False),
        slow("continued", continued, ".tflite", BOTH, False),
        slow("other-saved", other, "", BOTH, None),
        slow("other-openvino", other, ".xml", BOTH, None),
        slow("in_front", in_front, ".tflite", BOTH, True),
        slow("sequential", lambda: keras.Sequential([keras.Input(CLIP), small()]), ".tflite", ["scores"], False),
        slow("clone", lambda: keras.models.clone_model(small()), ".tflite", BOTH, False),
    ],
)
def test_a_file_of_any_model(make, suffix, outputs, refused, tmp_path):
    model = make()
    clips = clips_like(small())
    report = kvf.export(model, tmp_path / f"own{suffix}", clips=clips)
    assert report["outputs"] == outputs and report["difference"] < 1e-4
    assert list(json.loads((tmp_path / f"own{suffix}.json").read_text())["meaning"]) == outputs
    if refused is not None:
        assert bool(report["refused_by_gpus"]) == refused
    exported = kvf.load_exported(tmp_path / f"own{suffix}", precision="float32")
    expected = scores(model, clips if takes_pixels(model) else kvf.preprocess_input(clips))
    bfloat16 = any(layer.compute_dtype == "bfloat16" for layer in model._flatten_layers())
    np.testing.assert_allclose(exported.predict(clips), expected, atol=0.03 if bfloat16 else 1e-4)
    assert np.ptp(expected, axis=0).max() > 1e-3


@pytest.mark.slow_on("jax", "torch")
def test_from_every_backend_with_names(tmp_path):
    model, clips = nested(), clips_like(small())
    kvf.export(model, tmp_path / "own.tflite", clips=clips, labels=NAMES)
    exported = kvf.load_exported(tmp_path / "own.tflite")
    assert exported.labels == tuple(NAMES) and exported.contract.classes == 3 and exported.name == "own"
    np.testing.assert_allclose(exported.predict(clips), scores(model, clips), atol=1e-5)


@ON_TENSORFLOW
@pytest.mark.slow
def test_eight_bits_by_calibration(tmp_path):
    model, clips = nested(), clips_like(small())
    report = kvf.export(model, tmp_path / "own.tflite", precision="int8_full", clips=clips, calibration=clips)
    assert report["difference"] < 0.4 and report["operations"]["QUANTIZE"] > 0


def test_names_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="labels has 2 names but classes=3"):
        kvf.export(nested(), tmp_path / "own.onnx", labels=NAMES[:2])
    with pytest.raises(ValueError, match="labels name classes, but the model has no classifier"):
        kvf.export(backbone(), tmp_path / "own.onnx", labels=NAMES)
    assert not list(tmp_path.iterdir())


def test_preprocessing_comes_from_the_network_inside():
    unprepared = nested(include_preprocessing=False)
    assert takes_pixels(nested()) and takes_pixels(other()) and not takes_pixels(unprepared)
    assert preprocessing_inside(unprepared) is kvf.VideoFocalNet.preprocessing
    clip = keras.Input(CLIP)
    body = unprepared.layers[1]
    for prepare, prepares in (
        (keras.layers.Rescaling(1 / 127.5, offset=-1), True),
        (lambda x: (x - 127.0) / 128.0, True),
        (keras.layers.GaussianNoise(0.1), False),
    ):
        assert takes_pixels(keras.Model(clip, body(prepare(clip)))) == prepares
    assert takes_pixels(in_front())


def test_names_come_from_the_model_whose_scores_are_given():
    model = small()
    assert labels_inside(keras.Sequential([keras.Input(CLIP), model])) == model.labels
    assert labels_inside(keras.Model(model.input, keras.layers.Dense(5)(model.output))) is None
