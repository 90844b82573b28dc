"""A `.keras` file's configuration makes a model of no more numbers than lie in the file."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state

import keras_video_focalnet as kvf
from keras_video_focalnet.cli.networks import load_network
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.model_bounds import check_whole_model

SMALL = {"embed_dim": 2, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3), "classes": 3}


def change(path, edit):
    """Changes the configuration in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(members["config.json"])
    edit(described["config"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(described) if name == "config.json" else content)


def foreign():
    clip = keras.Input((2, 8, 8, 3))
    x = keras.layers.Conv3D(4, 1)(keras.layers.Rescaling(1 / 255)(clip))
    x = keras.layers.GlobalAveragePooling3D()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.1)(x)
    return keras.Model(clip, keras.layers.Dense(3, dtype="mixed_float16")(x))


def dense(units):
    config = {"name": "more", "units": units}
    module = {"module": "keras.layers", "class_name": "Dense", "registered_name": None, "name": "more"}
    return {**module, "config": config, "build_config": {"input_shape": [None, 20]}, "inbound_nodes": []}


@pytest.mark.parametrize(
    "edit",
    [
        {"classes": 10**10},
        {"embed_dim": 10**6},
        {"depths": [1, 1, 1, 10**9]},
        {"focal_windows": [10**6 + 1] * 4},
        {"mlp_ratio": 1e10},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_a_network_of_ours_that_claims_more(tmp_path, edit):
    path = tmp_path / "x.keras"
    kvf.VideoFocalNet(**SMALL).save(path)
    change(path, lambda config: config.update(edit))
    waiting = global_state.get_global_attribute("uninitialized_variables")
    with pytest.raises(ValueError, match=f"{path.name}.*describes a model of far more numbers than the file holds"):
        load_network("nano", str(path))
    assert global_state.get_global_attribute("uninitialized_variables") is waiting


def test_a_foreign_model_that_claims_more(tmp_path):
    path = tmp_path / "x.keras"
    foreign().save(path)
    change(path, lambda config: config["layers"].append(dense(10**10)))
    with pytest.raises(WeightsFileError, match="x.keras: .*describes a model of far more numbers") as error:
        check_whole_model(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["ours", "foreign", pytest.param("int8", marks=pytest.mark.slow)])
def test_models_are_loaded_as_they_were(tmp_path, kind):
    model = foreign() if kind == "foreign" else kvf.VideoFocalNet(**SMALL | {"embed_dim": 4})
    if kind == "int8":
        model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    model.save(tmp_path / "x.keras")
    loaded = load_network("nano", str(tmp_path / "x.keras"))
    assert len(loaded.weights) == len(model.weights)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
