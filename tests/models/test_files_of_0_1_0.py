"""What version 0.1.0 wrote is read by this one to the same numbers, and what this one writes is laid out alike."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNet, load_best, load_weights, train
from keras_video_focalnet.training.recipe import get_recipe
from tests.data.version_0_1_0.common import Clips, digest
from tests.states import read_state, state_of

FILES = Path(__file__).parent.parent / "data" / "version_0_1_0"
ANSWERS = dict(np.load(FILES / "answers.npz"))
DIGESTS = json.loads((FILES / "digests.json").read_text())
SMALL = {
    "embed_dim": 2,
    "depths": (1, 1, 1, 1),
    "focal_levels": (2, 1, 1, 1),
    "mlp_ratio": 2.0,
    "input_shape": (4, 32, 32, 3),
    "classes": 5,
    "drop_rate": 0.1,
}
# Quantized layers compile long.
ON_TORCH = pytest.mark.slow_on("tensorflow", "jax")
NAMES = [pytest.param(name, marks=ON_TORCH if name == "int8" else []) for name in DIGESTS]
# Numbers are rounded otherwise by another backend or processor; a quantized layer turns that into a step of 1 in 127.
TOLERANCES = dict.fromkeys(DIGESTS, 1e-5) | {"int8": 0.02}
REMOVED_CHOICE = "ignore:The configuration has rematerialize:UserWarning"


def assert_same_answer(model, name):
    answer = model.predict(ANSWERS["clip"], verbose=0)
    for key, array in answer.items() if isinstance(answer, dict) else [("", answer)]:
        expected = ANSWERS[f"{name}:{key}"]
        np.testing.assert_allclose(array, expected, rtol=0, atol=TOLERANCES[name] * np.abs(expected).max())


@pytest.mark.filterwarnings(REMOVED_CHOICE)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_the_same_variables_and_gives_the_same_answer(name):
    model = keras.saving.load_model(FILES / f"{name}.keras")
    assert digest(model) == DIGESTS[name]
    assert_same_answer(model, name)


@pytest.mark.filterwarnings(REMOVED_CHOICE)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_saved_under_the_same_names(name, tmp_path):
    keras.saving.load_model(FILES / f"{name}.keras").save(tmp_path / "again.keras")
    before, again = (layout(path) for path in (FILES / f"{name}.keras", tmp_path / "again.keras"))
    assert again == before


def layout(path):
    """Paths of the variables in a `.keras` file, and the registered names in its configuration."""
    with zipfile.ZipFile(path) as archive:
        config, weights = json.loads(archive.read("config.json")), io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights) as file:
        paths = []
        file.visititems(lambda name, item: paths.append(name) if isinstance(item, h5py.Dataset) else None)
    layers = config["config"].get("layers", [])
    return sorted(paths), config["registered_name"], [layer["registered_name"] for layer in layers]


def test_weights_alone():
    for name in ("small.weights.h5", "small.keras", "small.safetensors"):
        model = VideoFocalNet(**SMALL)
        load_weights(model, FILES / name)
        assert_same_answer(model, "small")
    model = VideoFocalNet(**SMALL)
    model.load_weights(FILES / "small.weights.h5")
    assert digest(model) == DIGESTS["small"]


def test_the_reader_without_keras_gives_the_same_state():
    model = VideoFocalNet(**SMALL)
    model.load_weights(FILES / "small.weights.h5")
    expected = state_of(model)
    for name in ("small.weights.h5", "small.keras", "small.safetensors"):
        state, _ = read_state(FILES / name)
        assert state.keys() == expected.keys()
        for tensor, array in expected.items():
            np.testing.assert_array_equal(state[tensor], array, err_msg=f"{name}: {tensor}")


def test_the_best_weights_of_a_run():
    model = VideoFocalNet(**SMALL, classifier_activation=None)
    load_best(model, FILES / "run")
    assert all(np.abs(weight).max() > 0 for weight in model.get_weights())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a run goes on on the backend that began it")
def test_a_run_goes_on_to_the_same_weights(tmp_path):
    shutil.copytree(FILES / "run", tmp_path / "run")
    model = VideoFocalNet(**SMALL, classifier_activation=None)
    recipe = get_recipe("k400", epochs=2, warmup_epochs=1.0, rate_batch=2)
    history = train(model, Clips(), None, recipe, out=tmp_path / "run", resume=True, progress=False)
    assert history["step"] == [2, 4]
    trained = np.load(FILES / "trained.npz")
    for weight, name in zip(model.get_weights(), trained.files, strict=True):
        np.testing.assert_allclose(weight, trained[name], rtol=1e-4, atol=1e-5)
