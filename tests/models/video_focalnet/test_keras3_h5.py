"""Whole models that Keras saves as `.h5`, weights that it cuts into parts, and activations that are lambdas."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.weights.errors import WeightsFileError
from tests.states import read_state, state_of

SMALL = {"embed_dim": 4, "depths": (1, 2, 1, 1), "input_shape": (4, 32, 32, 3), "classes": 3}
OPTIONS = {
    "plain": {"labels": ["a", "b", "c"]},
    "every layer": {"use_layerscale": True, "use_postln_in_modulation": True, "use_conv_embed": True},
    "tubelets": {"tubelet_size": 2, "focal_levels": (1, 2, 3, 1)},
    "no classifier": {"include_top": False, "drop_rate": 0.1},
}


def save(model, path):
    if path.suffix == ".h5":
        model.save(path)
    else:
        model.save_weights(path, max_shard_size=0.0001)
    return path


@pytest.mark.parametrize("name", ["x.h5", "x.weights.json"])
@pytest.mark.parametrize("options", OPTIONS)
def test_what_keras_wrote_comes_back(tmp_path, options, name):
    model = kvf.VideoFocalNet(**SMALL, **OPTIONS[options])
    path = save(model, tmp_path / name)
    state, labels = read_state(path)
    assert labels == (OPTIONS[options].get("labels") if name == "x.h5" else None)
    expected = state_of(model)
    assert sorted(state) == sorted(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(state[key], array, err_msg=key)
    again = kvf.VideoFocalNet(**SMALL, **OPTIONS[options])
    assert load_weights(again, path) == []
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_keras_finds_the_class_of_a_whole_h5(tmp_path):
    model = kvf.VideoFocalNet(**SMALL, labels=["a", "b", "c"])
    loaded = keras.saving.load_model(save(model, tmp_path / "x.h5"), compile=False)
    assert (type(loaded), loaded.labels) == (kvf.VideoFocalNet, ("a", "b", "c"))
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def change_config(file, **changes):
    config = json.loads(file.attrs["model_config"])
    config["config"] |= changes
    file.attrs["model_config"] = json.dumps(config)


def drop_tensor(file):
    del file["model_weights/stage0_block0/stage0_block0/norm1/gamma"]


def foreign_layer(file):
    weights = file["model_weights"]
    weights.attrs["layer_names"] = [*weights.attrs["layer_names"], "dense"]
    weights.create_group("dense").attrs["weight_names"] = ["dense/kernel"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: change_config(file, labels=["a"]), "its labels are 1 names, but the classifier has 3 classes"),
        (lambda file: change_config(file, labels="names.txt"), "its labels are 'names.txt', not a list of names"),
        (drop_tensor, "tensor 'stage0_block0/norm1/gamma' is missing"),
        (foreign_layer, "its layer 'dense' with weights is none of a Video-FocalNet; load it with keras.saving"),
    ],
)
def test_whole_h5_files_that_are_none(tmp_path, change, message):
    path = save(kvf.VideoFocalNet(**SMALL), tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "x_00001.weights.h5").unlink(), "its part x_00001.weights.h5 is not beside it"),
        (lambda folder: (folder / "x.weights.json").write_text("[]"), "damaged or cut short"),
        (lambda folder: (folder / "x.weights.json").write_text('{"weight_map": {"a": [3]}}'), "it names '3'"),
        (
            lambda folder: (folder / "x.weights.json").rename(folder / "y.weights.json"),
            "it names 'x_00000.weights.h5', but the parts of y.weights.json are called y_00000.weights.h5",
        ),
        (
            lambda folder: shutil.copy(folder / "x_00000.weights.h5", folder / "x_00001.weights.h5"),
            "is in more than one of the files",
        ),
    ],
)
def test_parts_that_do_not_fit(tmp_path, change, message):
    save(kvf.VideoFocalNet(**SMALL), tmp_path / "x.weights.json")
    change(tmp_path)
    (path,) = tmp_path.glob("*.weights.json")
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_comes_back_where_the_user_allows_it(tmp_path):
    path, clip = tmp_path / "x.keras", np.zeros((1, 4, 32, 32, 3), "uint8")
    model = kvf.VideoFocalNet(**SMALL, classifier_activation=lambda logits: 3.0 * logits)
    model.save(path)
    with pytest.raises(ValueError, match="lambda.*disallowed by default"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, safe_mode=False)
    np.testing.assert_array_equal(loaded.predict(clip, verbose=0), model.predict(clip, verbose=0))
    # Numbers are read without it.
    assert sorted(read_state(path)[0]) == sorted(state_of(model))
