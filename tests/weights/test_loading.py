"""From `weights=` to a loaded model, and back."""

import http.server
import json
import os
import shutil
import threading
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.models.video_focalnet.keras2_h5 import read_keras2_h5
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.golden import MICRO, golden, options
from tests.states import load_state, read_state, reference_slots, state_of

NANO = {"classes": 9, "input_shape": (2, 32, 32, 3)}


def micro(**kwargs):
    return kvf.VideoFocalNet(**{**options("micro"), **kwargs})


def reference(name="micro"):
    return read_state_dict(golden(name) / "checkpoint.pth")


@pytest.mark.parametrize("name", MICRO)
def test_every_tensor_of_a_checkpoint_is_mapped_there_and_back_bit_for_bit(name):
    state = reference(name)
    model = kvf.VideoFocalNet(**options(name))
    assert load_weights(model, golden(name) / "checkpoint.pth") == []
    back = state_of(model)
    assert list(sorted(back)) == sorted(state)
    for key, array in state.items():
        assert back[key].dtype == np.float32
        np.testing.assert_array_equal(back[key], array, err_msg=key)
    variables = {id(slot.variable) for slot in reference_slots(model).values()}
    assert variables == {id(variable) for variable in model.trainable_variables}


@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".safetensors"])
def test_our_own_files_hold_the_same_state(name, suffix, tmp_path):
    model = kvf.VideoFocalNet(**options(name), labels=[f"class {i}" for i in range(7)])
    load_weights(model, golden(name) / "checkpoint.pth")
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
    elif suffix == ".weights.h5":
        model.save_weights(path)
    else:
        write_safetensors(path, state_of(model))
    state, labels = read_state(path)
    assert labels == ([f"class {i}" for i in range(7)] if suffix == ".keras" else None)
    assert sorted(state) == sorted(reference(name))
    for key, array in reference(name).items():
        np.testing.assert_array_equal(state[key], array, err_msg=key)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_builders_take_our_own_files(suffix, tmp_path):
    model = kvf.VideoFocalNetNano(weights=None, labels=list("abcdefghi"), **NANO)
    path = tmp_path / f"mine{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    loaded = kvf.VideoFocalNetNano(weights=path, input_shape=(None, 48, 40, 3))
    assert loaded.output_shape == (None, 9)
    assert loaded.labels == (tuple("abcdefghi") if suffix == ".keras" else None)
    for key, array in state_of(model).items():
        np.testing.assert_array_equal(state_of(loaded)[key], array)
    with pytest.warns(UserWarning, match="has 9 classes and the model 4"):
        other = kvf.VideoFocalNetNano(weights=path, classes=4, input_shape=(2, 32, 32, 3))
    assert other.labels is None
    np.testing.assert_array_equal(state_of(other)["norm.weight"], state_of(model)["norm.weight"])
    headless = kvf.VideoFocalNetNano(weights=path, include_top=False, input_shape=(2, 32, 32, 3))
    assert "head.weight" not in state_of(headless)


def test_weights_without_a_classifier_load_with_a_warning(tmp_path):
    headless = kvf.VideoFocalNetNano(weights=None, include_top=False, input_shape=(2, 32, 32, 3))
    headless.save_weights(tmp_path / "body.weights.h5")
    with pytest.warns(UserWarning, match="has no classifier"):
        model = kvf.VideoFocalNetNano(weights=tmp_path / "body.weights.h5", classes=3, input_shape=(2, 32, 32, 3))
    np.testing.assert_array_equal(state_of(model)["norm.weight"], state_of(headless)["norm.weight"])


def broken(change):
    state = dict(reference())
    change(state)
    return state


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda s: s.pop("layers.2.blocks.1.mlp.fc1.bias"), "'layers.2.blocks.1.mlp.fc1.bias' is missing"),
        (lambda s: s.update(extra=np.zeros(3)), "'extra' has no place in the model"),
        (lambda s: s.update({"norm.bias": np.zeros(63)}), r"'norm.bias' has shape \(63,\) where the model has \(64,\)"),
        (lambda s: s.pop("layers.0.blocks.0.modulation.h_temporal.bias"), "h_temporal.bias' is missing"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message, tmp_path):
    model = micro()
    before = state_of(model)
    path = tmp_path / "broken.safetensors"
    write_safetensors(path, broken(change))
    with pytest.raises(WeightsFileError, match=message) as error:
        load_weights(model, path)
    assert str(path) in str(error.value)
    for key, array in state_of(model).items():
        np.testing.assert_array_equal(array, before[key])


def test_nan_weights_load_with_a_warning():
    state = dict(reference())
    state["norm.bias"] = np.full(64, np.nan, "float32")
    model = micro()
    with pytest.warns(UserWarning, match="not finite, first 'norm.bias'"):
        load_state(model, state, "nan.pth")
    assert np.isnan(state_of(model)["norm.bias"]).all()


@pytest.mark.slow_on("jax")
def test_identity_initialization_makes_the_temporal_modulator_one():
    model = kvf.VideoFocalNet(**options("focalnet_image"))
    load_weights(model, golden("focalnet_image") / "checkpoint.pth")
    tap = kvf.feature_extractor(model, ["stage2_block1/temporal_modulator"])
    clip = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype("float32")
    assert (keras.ops.convert_to_numpy(tap(clip)["stage2_block1/temporal_modulator"]) == 1).all()
    with pytest.raises(ValueError, match='temporal_init must be one of "identity", "random"'):
        load_weights(model, golden("focalnet_image") / "checkpoint.pth", temporal_init="zeros")


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda p: p.write_text("<!doctype html><title>Sign in</title>"), "HTML page"),
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100), "damaged or cut short"),
        (lambda p: h5py.File(p, "w").close(), "no group 'layers'"),
        (lambda p: zipfile.ZipFile(p, "w").close(), "no config.json"),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_what_is_no_file_of_ours(make, message, suffix, tmp_path):
    path = tmp_path / f"broken{suffix}"
    make(path)
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state(path)
    assert str(path) in str(error.value)


def test_a_bomb_in_a_keras_file_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"config": {}}))
        archive.writestr("model.weights.h5", bytes(50 << 20))
    with pytest.raises(WeightsFileError, match="unpacks to 52428800 bytes"):
        read_state(path)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_truncated_files_of_ours(cut, suffix, tmp_path):
    model = kvf.VideoFocalNetNano(weights=None, **NANO)
    path = tmp_path / f"whole{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(WeightsFileError, match="whole"):
        read_state(path)


def test_unknown_kinds_of_files_and_names(tmp_path):
    (tmp_path / "weights.ckpt").write_bytes(b"x")
    with pytest.raises(WeightsFileError, match="unknown kind of file"):
        read_state(tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match="is no path or URL"):
        load_weights(micro(), "k400")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder served from this machine in place of the published addresses, and an empty cache."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_VIDEO_FOCALNET_OFFLINE", raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def cached(tmp_path):
    return sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_one_argument_downloads_converts_caches_and_loads(mirror, tmp_path, monkeypatch):
    """The published names and layout, at the size of the golden file."""
    url = registry.find_entry("VideoFocalNetT", "k400").url
    shutil.copy(golden("keras2_h5") / "weights.h5", mirror / url.rsplit("/", 1)[1])
    small = {"embed_dim": 8, "depths": (1, 1, 2, 1), "input_shape": (8, 64, 64, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = kvf.VideoFocalNetT(weights="k400", labels=None, **small)
    assert model.output_shape == (None, 7)
    for key, array in read_keras2_h5(golden("keras2_h5") / "weights.h5").items():
        np.testing.assert_array_equal(state_of(model)[key], array)
    assert any(name.endswith(".safetensors") for name in cached(tmp_path))
    shutil.rmtree(mirror)
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_OFFLINE", "1")
    again = kvf.VideoFocalNetT(weights="kinetics-400", labels=None, **small)
    np.testing.assert_array_equal(state_of(again)["head.weight"], state_of(model)["head.weight"])


def test_a_download_that_does_not_fit_leaves_the_cache_as_it_was(mirror, tmp_path):
    url = registry.find_entry("VideoFocalNetT", "k400").url
    shutil.copy(golden("keras2_h5") / "weights.h5", mirror / url.rsplit("/", 1)[1])
    with pytest.raises(WeightsFileError, match="has shape"):
        kvf.VideoFocalNetT(weights="k400", labels=None, embed_dim=16, depths=(1, 1, 2, 1), input_shape=(2, 32, 32, 3))
    assert cached(tmp_path) == []


def test_missing_publications_are_reported(mirror, tmp_path):
    with pytest.raises(WeightsDownloadError, match="404"):
        kvf.VideoFocalNetB(weights="ssv2")
    assert cached(tmp_path) == []


def test_a_url_of_the_users(mirror, tmp_path, monkeypatch):
    base = os.environ["KERAS_VIDEO_FOCALNET_BASE_URL"]
    monkeypatch.delenv("KERAS_VIDEO_FOCALNET_BASE_URL")
    shutil.copy(golden("micro") / "checkpoint.pth", mirror / "mine.pth")
    model = micro()
    assert load_weights(model, f"{base}mine.pth") == []
    np.testing.assert_array_equal(state_of(model)["head.weight"], reference()["head.weight"])
