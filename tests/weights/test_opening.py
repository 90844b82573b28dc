"""What `weights=` takes, the classifier in a file, and how the cache stands after a failure."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.models.video_focalnet.keras2_h5 import read_keras2_h5
from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.golden import golden
from tests.states import open_weights, read_state, reference_slots, state_of

SMALL = {"embed_dim": 2, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache and a working folder of the test's own."""
    for name in (download.BASE_URL_VARIABLE, download.OFFLINE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(download.HOME_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("weights", [123, b"k400", 1.5, ["k400"], True])
def test_what_weights_cannot_be(weights):
    with pytest.raises(TypeError, match="weights=.* is of type .*; pass None, a published name, a path or a URL"):
        open_weights("VideoFocalNetT", weights)


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_safetensors(tmp_path / "mine.safetensors", {"a": np.ones(2)})
    for weights in ("~/mine.safetensors", Path("~/mine.safetensors")):
        np.testing.assert_array_equal(open_weights(None, weights).state["a"], [1, 1])


def test_a_file_does_not_shadow_a_published_name():
    for name in ("camera_motion", "ssv2", "other"):
        write_safetensors(name, {"a": np.ones(2)})
    assert open_weights("VideoFocalNetNano", "camera_motion").origin == "VideoFocalNetNano/camera_motion"
    with pytest.raises(ValueError, match="'ssv2' is not published for VideoFocalNetNano"):
        open_weights("VideoFocalNetNano", "ssv2")
    for weights in ("./camera_motion", Path("camera_motion"), "other"):
        assert list(open_weights("VideoFocalNetNano", weights).state) == ["a"]


def of_each_format(folder):
    model = kvf.VideoFocalNet(**SMALL, classes=9)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    write_safetensors(folder / "model.safetensors", state_of(model))
    shutil.copy(golden("micro") / "checkpoint.pth", folder / "model.pth")
    shutil.copy(golden("keras2_h5") / "weights.h5", folder / "model.h5")
    return list(folder.glob("model.*"))


def test_content_tells_the_format_of_a_file_without_an_ending(tmp_path):
    paths = of_each_format(tmp_path)
    assert len(paths) == 5
    for path in paths:
        expected, _ = read_state(path)
        bare = tmp_path / "uc"
        shutil.copy(path, bare)
        url = f"{bare.as_uri()}?id={path.name}"
        for state in (read_state(bare)[0], open_weights(None, url).state):
            assert list(state) == list(expected)
            np.testing.assert_array_equal(state["norm.weight"], expected["norm.weight"])
    (tmp_path / "page").write_text("<html></html>")
    with pytest.raises(WeightsFileError, match="page: unknown kind of file: it is an HTML page"):
        read_state(tmp_path / "page")


def test_labels_of_a_keras_file_by_url_come_out_of_the_cache_too(tmp_path):
    labels = ["ä", *"bcdefghi"]
    kvf.VideoFocalNet(**SMALL, classes=9, labels=labels).save(tmp_path / "mine.keras")
    url = (tmp_path / "mine.keras").as_uri()
    assert open_weights(None, url).labels == tuple(labels)
    (tmp_path / "mine.keras").unlink()
    assert open_weights(None, url).labels == tuple(labels)


@pytest.mark.parametrize("deleted", [True, False])
def test_a_failed_load_leaves_an_earlier_record(tmp_path, cache, deleted):
    url = (golden("micro") / "checkpoint.pth").as_uri()
    model = kvf.VideoFocalNet(**SMALL, classes=9)
    open_weights(None, url)
    (converted,) = cache.glob("*.safetensors")
    if deleted:
        converted.unlink()
    before = files(cache)
    with pytest.raises(WeightsFileError, match="has shape|has no place|is missing"), pytest.warns(UserWarning):
        load_weights(model, url)
    assert files(cache) == before
    assert len(before) == (1 if deleted else 2)
    (record,) = (cache / "digests").iterdir()
    assert json.loads(record.read_text())["url"] == url


def test_a_failed_first_load_leaves_no_cache(cache):
    url = (golden("micro") / "checkpoint.pth").as_uri()
    with pytest.raises(WeightsFileError), pytest.warns(UserWarning):
        load_weights(kvf.VideoFocalNet(**SMALL, classes=9), url)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"head.bias": np.float32(1)}, r"'head.bias' has shape \(\)"),
        ({"head.weight": np.float32(1)}, r"'head.weight' has shape \(\)"),
        ({"head.bias": np.ones(5, "f4")}, "'head.bias' is of 5 classes and 'head.weight' of 7"),
        ({"head.bias": None}, "'head.bias' is missing"),
    ],
)
def test_classifiers_that_are_none(tmp_path, cache, head, message):
    state = {**read_keras2_h5(golden("keras2_h5") / "weights.h5"), **head}
    path = tmp_path / "head.safetensors"
    write_safetensors(path, {name: array for name, array in state.items() if array is not None})
    for weights in (path, path.as_uri()):
        with pytest.raises(WeightsFileError, match=message) as error:
            kvf.VideoFocalNetNano(weights=weights, embed_dim=8)
        assert str(weights) in str(error.value)
    assert not cache.exists()


def test_an_unknown_temporal_init_is_refused_before_anything_is_opened():
    for weights in (None, "missing.pth"):
        with pytest.raises(ValueError, match="temporal_init must be .* received 'bogus'"):
            load_weights(kvf.VideoFocalNet(**SMALL, classes=9), weights, temporal_init="bogus")


def test_a_network_inside_another_model():
    network = kvf.VideoFocalNet(**SMALL, include_top=False, pooling="avg")
    outer = keras.Sequential([keras.Input((2, 32, 32, 3)), network, keras.layers.Dense(3, name="mine")])
    found, expected = reference_slots(outer), reference_slots(network)
    assert list(found) == list(expected)
    assert all(found[name].variable is expected[name].variable for name in expected)


def test_models_without_or_with_two_networks():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="head")])
    with pytest.raises(ValueError, match="holds 0 networks of ours where one is needed"):
        reference_slots(other)
    clip = keras.Input((2, 32, 32, 3))
    both = [kvf.VideoFocalNet(**SMALL, classes=3, name=name)(clip) for name in "ab"]
    with pytest.raises(ValueError, match="holds 2 networks of ours where one is needed"):
        reference_slots(keras.Model(clip, both))
