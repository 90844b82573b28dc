"""Keras's 8-bit quantization of our models: what they compute, and that their files give it back."""

import gc
import weakref

import keras
import numpy as np
import pytest

from examples.camera_motion.motions import CAMERA_MOTIONS
from examples.camera_motion.synthesis import move_window
from keras_video_focalnet import VideoFocalNet, VideoFocalNetNano
from keras_video_focalnet.data.clip import read_frames
from tests.clips import real_clips

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
SMALL = {"embed_dim": 16, "depths": (1, 1, 1, 1), "input_shape": (4, 32, 32, 3), "classes": 5, "drop_path_rate": 0.0}
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype("uint8")


def weights_alone():
    return {"config": keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)}


def logits(model):
    return model.predict(CLIPS, verbose=0)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda: {"mode": "int8"}, id="int8", marks=pytest.mark.slow_on("tensorflow", "jax")),
        pytest.param(weights_alone, id="weights alone", marks=pytest.mark.slow_on("tensorflow", "jax")),
    ],
)
def test_a_quantized_model_computes_the_same_within_8_bits_and_survives_its_file(how, tmp_path):
    keras.utils.set_random_seed(0)
    model = VideoFocalNet(**SMALL, classifier_activation=None)
    before = logits(model)
    model.quantize(**how())
    block = model.get_layer("stage0_block0")
    for layer in (block.fc1, block.fc2, block.modulation.f, block.modulation.f_temporal, block.modulation.h_temporal):
        assert "int8" in {keras.backend.standardize_dtype(variable.dtype) for variable in layer.variables}, layer.name
    after = logits(model)
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    model.save(tmp_path / "int8.keras")
    loaded = keras.saving.load_model(tmp_path / "int8.keras")
    np.testing.assert_allclose(logits(loaded), after, atol=1e-6)
    copy = keras.models.clone_model(loaded)
    copy.set_weights(loaded.get_weights())
    np.testing.assert_allclose(logits(copy), after, atol=1e-6)


def test_quantizing_looks_for_garbage_in_what_is_new_alone():
    model = VideoFocalNet(**SMALL)
    looked_through = []

    def note(phase, about):
        if phase == "start" and about["generation"] == 2:
            looked_through.append(len(gc.get_objects(generation=2)))

    kernel = weakref.ref(model.get_layer("stage0_block0").fc1._kernel._value)
    gc.callbacks.append(note)
    try:
        model.quantize("int8")
    finally:
        gc.callbacks.remove(note)
    # Keras looks after each layer; beside those one look at everything may fall due.
    assert len(looked_through) > 20 and sorted(looked_through)[-3] < 50_000
    assert gc.get_freeze_count() == 0
    assert kernel() is None


@pytest.mark.slow_on("jax")
def test_the_bundled_model_answers_the_same_in_8_bits():
    footage = read_frames(real_clips() / "bikes.mp4", range(8))
    clips = np.stack([move_window(footage, motion) for motion in CAMERA_MOTIONS])
    model = VideoFocalNetNano(weights="camera_motion")
    before = model.predict(clips, verbose=0)
    model.quantize("int8")
    after = model.predict(clips, verbose=0)
    assert (before.argmax(-1) == after.argmax(-1)).all()
    assert 0 < np.abs(after - before).max() < 0.1
