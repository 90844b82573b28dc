"""Keras's 8-bit quantization of Vita-CLIP: both towers are quantized, and files, clones and other names keep it."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.vita_clip.model import VitaCLIP
from keras_video_focalnet.models.vita_clip.other_names import zero_shot

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
SMALL = {
    **{"embed_dim": 16, "depth": 2, "num_heads": 2, "projection_dim": 12, "num_global_prompts": 3},
    **{"text_dim": 16, "text_heads": 2, "text_depth": 2, "context_tokens": 3, "input_shape": (4, 32, 32, 3)},
}
NAMES, OTHERS = ["opening a door", "closing a door", "a cat"], ["a dog", "a horse"]
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype("uint8")
# Of a block of the vision tower: q, k, v and out of two attentions, two of the MLP and the projection of class tokens;
# of a text block: joined q, k and v, out, and two of the MLP.
OF_A_BLOCK, OF_A_TEXT_BLOCK = 4 + 4 + 2 + 1, 4


def made(**options):
    keras.utils.set_random_seed(0)
    return VitaCLIP(NAMES, classifier_activation=None, **{**SMALL, **options})


def logits(model):
    return model.predict(CLIPS, verbose=0)


def count_int8(layer):
    return sum(keras.backend.standardize_dtype(variable.dtype) == "int8" for variable in layer.variables)


@pytest.fixture(scope="module")
def float_logits():
    return logits(made())


@pytest.fixture(scope="module")
def quantized():
    model = made()
    model.quantize("int8")
    return model


def test_every_product_of_both_towers_is_quantized(quantized, float_logits):
    assert [count_int8(quantized.get_layer(f"block{place}")) for place in range(2)] == [OF_A_BLOCK] * 2
    assert count_int8(quantized.classifier) == SMALL["text_depth"] * OF_A_TEXT_BLOCK
    after = logits(quantized)
    assert 0 < np.abs(after - float_logits).max() < 0.05 * np.abs(float_logits).max()


def test_its_text_features_are_of_the_quantized_tower(quantized):
    exact = made()
    own, other = (keras.ops.convert_to_numpy(model.text_features) for model in (quantized, exact))
    assert 0 < np.abs(own - other).max() < 0.1 * np.abs(other).max()


@pytest.mark.parametrize("name", ["int8.keras", "int8.weights.h5"])
def test_a_file_gives_it_back(quantized, name, tmp_path):
    if name.endswith(".keras"):
        quantized.save(tmp_path / name)
        loaded = keras.saving.load_model(tmp_path / name)
    else:
        quantized.save_weights(tmp_path / name)
        loaded = quantized.rebuild()
        loaded.load_weights(tmp_path / name)
    np.testing.assert_allclose(logits(loaded), logits(quantized), atol=1e-6)
    assert count_int8(loaded) == count_int8(quantized)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_clone_and_a_model_around_it(quantized, tmp_path):
    clone = keras.models.clone_model(quantized)
    clone.set_weights(quantized.get_weights())
    np.testing.assert_allclose(logits(clone), logits(quantized), atol=1e-6)
    clip = keras.Input(SMALL["input_shape"])
    keras.Model(clip, quantized(clip)).save(tmp_path / "around.keras")
    loaded = keras.saving.load_model(tmp_path / "around.keras")
    given = loaded.predict(CLIPS.astype("float32"), verbose=0)
    np.testing.assert_allclose(given, logits(quantized), atol=1e-6)


def test_other_names_are_compared_by_the_quantized_tower():
    model = made()
    before = zero_shot(model, CLIPS, OTHERS)
    model.quantize("int8")
    after = zero_shot(model, CLIPS, OTHERS)
    assert 0 < np.abs(after - before).max() < 0.05
    renamed = model.set_class_names(OTHERS)
    assert count_int8(renamed) == count_int8(model)
    scores = keras.ops.convert_to_numpy(keras.ops.softmax(logits(renamed)))
    np.testing.assert_allclose(scores, after, atol=1e-6)


@pytest.mark.parametrize("context", ["class", "shared"])
@pytest.mark.slow_on("tensorflow", "jax")
def test_another_classifier_has_the_quantized_tower(context):
    model = made(context=context)
    model.quantize("int8")
    swapped = model.with_classifier(5, ["run", "walk", "jump", "sit", "fall"])
    assert count_int8(swapped) == count_int8(model)
    for own, other in zip(model.classifier.textual.weights, swapped.classifier.textual.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (own, other)))
    same = keras.ops.convert_to_numpy(model.classifier.ctx), keras.ops.convert_to_numpy(swapped.classifier.ctx)
    assert np.array_equal(*same) == (context == "shared")
    assert logits(swapped).shape == (2, 5) and np.isfinite(logits(swapped)).all()


def test_a_map_of_policies(tmp_path):
    """It is handed to both towers, as to the layers of other architectures."""
    default = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    model = made(dtype=keras.dtype_policies.DTypePolicyMap(default_policy=default))
    assert model.classifier.textual.blocks[0].c_fc.compute_dtype == "bfloat16"
    assert model.get_layer("block1").fc1.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(logits(model), logits(made(dtype="mixed_bfloat16")))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(keras.saving.load_model(tmp_path / "model.keras")), logits(model))
