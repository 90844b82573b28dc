"""Numerical parity with the reference: logits, features, modulators, loss and gradients."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.features import feature_extractor, feature_taps
from keras_video_focalnet.models.video_focalnet import VideoFocalNet
from keras_video_focalnet.weights.loading import load_weights
from keras_video_focalnet.weights.mapping import reference_slots
from tests.golden import MICRO, expected, golden, options
from tests.gradients import loss_and_gradients

LOGITS = 3e-5
FEATURES = 1e-4
GRADIENTS = 3e-4
MODES = ("eager", "graph", "xla") if keras.backend.backend() == "tensorflow" else ("eager", "xla")
if keras.backend.backend() == "torch":
    MODES = ("eager",)


def build(name, **kwargs):
    file = "weights.h5" if name == "keras2_h5" else "checkpoint.pth"
    model = VideoFocalNet(**{**options(name), "drop_path_rate": 0.0, **kwargs})
    load_weights(model, golden(name) / file)
    return model


def compiled(model, mode):
    """The model as a function that runs in one mode of the backend."""
    if keras.backend.backend() == "tensorflow" and mode != "eager":
        import tensorflow as tf

        return tf.function(model, jit_compile=mode == "xla")
    if keras.backend.backend() == "jax" and mode == "xla":
        import jax

        return jax.jit(model)
    return model


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def worst(actual, wanted):
    return float(np.abs(to_numpy(actual) - wanted).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*MICRO, "keras2_h5"])
def test_logits(name, mode, record_property):
    data = expected(name)
    error = worst(compiled(build(name), mode)(keras.ops.convert_to_tensor(data["input"])), data["logits"])
    record_property("worst", error)
    assert error < LOGITS


@pytest.mark.parametrize("name", [*MICRO, "keras2_h5"])
def test_logits_of_predict(name):
    data = expected(name)
    assert worst(build(name).predict(data["input"], verbose=0), data["logits"]) < LOGITS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MICRO)
def test_features_and_modulators(name, mode, record_property):
    data, model = expected(name), build(name)
    last = {f"stage{stage}": f"stage{stage}_block{depth - 1}" for stage, depth in enumerate(options(name)["depths"])}
    wanted = {}
    for stage, block in last.items():
        wanted[block] = data[f"feature/{stage}"]
        for kind in ("spatial", "temporal"):
            wanted[f"{block}/{kind}_modulator"] = data[f"modulator_{kind}/{stage}"]
    assert set(wanted) <= set(feature_taps(model))
    features = compiled(feature_extractor(model, list(wanted)), mode)(keras.ops.convert_to_tensor(data["input"]))
    largest = 0.0
    for tap, array in wanted.items():
        error = worst(keras.ops.reshape(features[tap], array.shape), array) / np.abs(array).max()
        assert error < FEATURES, tap
        largest = max(largest, error)
    record_property("worst", largest)


@pytest.mark.parametrize("layer,key", [("patch_embed", "feature/patch_embed"), ("norm", "feature/norm")])
def test_embedding_and_norm(layer, key):
    data, model = expected("micro"), build("micro")
    features = keras.Model(model.inputs, model.get_layer(layer).output)(data["input"])
    assert worst(keras.ops.reshape(features, data[key].shape), data[key]) / np.abs(data[key]).max() < FEATURES


@pytest.mark.parametrize("name", ["micro", "micro_options"])
def test_loss_and_gradients(name, record_property):
    data, model = expected(name), build(name)
    loss, gradients = loss_and_gradients(model, data["input"], data["labels"])
    assert abs(loss - float(data["loss"])) < LOGITS
    by_variable = {id(v): gradient for v, gradient in zip(model.trainable_variables, gradients, strict=True)}
    slots = reference_slots(model)
    assert {f"grad/{parameter}" for parameter in slots} == {key for key in data.files if key.startswith("grad/")}
    largest = 0.0
    for parameter, slot in slots.items():
        wanted = slot.to_ours(data[f"grad/{parameter}"])
        error = np.linalg.norm(by_variable[id(slot.variable)] - wanted) / np.linalg.norm(wanted)
        assert error < GRADIENTS, parameter
        largest = max(largest, float(error))
    record_property("worst", largest)


@pytest.mark.parametrize("mode", MODES)
def test_a_still_clip_gives_the_image_models_answer(mode, record_property):
    data = expected("focalnet_image")
    images = data["input"]
    model = VideoFocalNet(**options("focalnet_image"))
    skipped = load_weights(model, golden("focalnet_image") / "checkpoint.pth")
    assert skipped and all("_temporal" in name for name in skipped)
    still = np.repeat(images[:, None], 8, axis=1)
    error = worst(compiled(model, mode)(keras.ops.convert_to_tensor(still)), data["logits"])
    record_property("worst", error)
    assert error < LOGITS


def test_random_temporal_initialization_is_an_option():
    model = VideoFocalNet(**options("focalnet_image"))
    load_weights(model, golden("focalnet_image") / "checkpoint.pth", temporal_init="random")
    kernel = to_numpy(model.get_layer("stage0_block0").modulation.h_temporal.kernel)
    assert np.abs(kernel).max() > 0


def test_weights_load_at_other_frame_counts_and_sizes():
    data = expected("micro")
    other = build("micro", input_shape=(None, 64, 80, 3))
    assert other(np.zeros((1, 5, 64, 80, 3), "float32")).shape == (1, 7)
    same = build("micro", input_shape=(None, 48, 48, 3))
    assert worst(same(data["input"]), data["logits"]) < LOGITS
