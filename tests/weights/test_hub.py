"""Weights of a model hub, `hf://`: there and back, digests, the cache, and what goes wrong."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import keras
import numpy as np
import pytest
from huggingface_hub import constants

import keras_video_focalnet as kvf
from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.weights import download
from keras_video_focalnet.weights import hub as hub_module
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.golden import golden
from tests.states import open_weights, state_of
from tests.weights.fake_hub import FakeHub, use
from tests.weights.served import digest

# What is read from a hub is a file, and files are read by every backend in other tests.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")

LABELS = ["ä", *"bcdefghi"]
SMALL = {"embed_dim": 2, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3), "classes": 9, "labels": LABELS}
REPOSITORY = "me/motion"


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    with FakeHub() as hub:
        use(hub, monkeypatch, tmp_path / "hub")
        yield hub


def model(**options):
    keras.utils.set_random_seed(0)
    return kvf.VideoFocalNet(**{**SMALL, **options})


def clips():
    return np.random.default_rng(0).random((2, *SMALL["input_shape"]), np.float32) * 255


def same(arrays, expected):
    assert len(arrays) == len(expected)
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def as_safetensors(folder, value=None):
    state = state_of(model())
    if value is not None:
        state["norm.bias"] = np.full_like(state["norm.bias"], value)
    write_safetensors(folder / "made.safetensors", state)
    return (folder / "made.safetensors").read_bytes()


def test_a_saved_model_comes_back(hub):
    saved = model()
    expected = saved.predict(clips(), verbose=0)
    saved.save(f"hf://{REPOSITORY}")
    assert {"config.json", "metadata.json", "model.weights.h5", "README.md"} <= set(hub.files(REPOSITORY))

    loaded = keras.saving.load_model(f"hf://{REPOSITORY}")
    assert type(loaded) is kvf.VideoFocalNet
    np.testing.assert_array_equal(loaded.predict(clips(), verbose=0), expected)

    # Keras asks TensorFlow what lies at an address with "://"; where it is not installed, a folder loads all the same.
    folder = huggingface_hub.snapshot_download(REPOSITORY)
    same(keras.saving.load_model(folder).get_weights(), saved.get_weights())

    opened = open_weights(None, f"hf://{REPOSITORY}")
    assert opened.origin == f"hf://{REPOSITORY}/model.weights.h5" and opened.labels == tuple(LABELS)
    other = kvf.VideoFocalNet(**SMALL)
    load_weights(other, f"hf://{REPOSITORY}")
    same(other.get_weights(), saved.get_weights())


FRESH = """
import sys, keras, numpy as np, keras_video_focalnet
expected = np.load(sys.argv[1])
loaded = keras.saving.load_model("hf://me/motion")
built = keras_video_focalnet.VideoFocalNet.from_config(loaded.get_config())
keras_video_focalnet.load_weights(built, "hf://me/motion")
for model in (loaded, built):
    for number, array in enumerate(model.get_weights()):
        np.testing.assert_array_equal(array, expected[f"arr_{number}"])
"""


def test_a_fresh_process_needs_the_environment_alone(hub, tmp_path):
    saved = model()
    saved.save(f"hf://{REPOSITORY}")
    np.savez(tmp_path / "expected.npz", *saved.get_weights())
    settings = {"HF_ENDPOINT": hub.base, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", FRESH, str(tmp_path / "expected.npz")]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), **settings}
    subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)


def test_a_builder_takes_weights_of_a_hub(hub, tmp_path):
    hub.publish(REPOSITORY, {"model.safetensors": as_safetensors(tmp_path)})
    options = {name: SMALL[name] for name in ("embed_dim", "depths", "input_shape")}
    built = kvf.VideoFocalNetNano(weights=f"hf://{REPOSITORY}", labels=LABELS, **options)
    for name, array in state_of(model()).items():
        np.testing.assert_array_equal(state_of(built)[name], array)


def test_every_format(hub, tmp_path):
    made = model()
    made.save(tmp_path / "mine.keras")
    made.save_weights(tmp_path / "mine.weights.h5")
    as_safetensors(tmp_path)
    shutil.copy(golden("micro") / "checkpoint.pth", tmp_path / "mine.pth")
    shutil.copy(golden("keras2_h5") / "weights.h5", tmp_path / "mine.h5")
    names = ("mine.keras", "mine.weights.h5", "made.safetensors", "mine.pth", "mine.h5")
    hub.publish(REPOSITORY, {f"some/folder/{name}": (tmp_path / name).read_bytes() for name in names})
    for name in names:
        opened = open_weights(None, f"hf://{REPOSITORY}/some/folder/{name}")
        expected = open_weights(None, tmp_path / name)
        assert opened.labels == expected.labels and list(opened.state) == list(expected.state)
        for tensor in expected.state:
            np.testing.assert_array_equal(opened.state[tensor], expected.state[tensor])


# --- Which file ---


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("z.pth", "model.keras", "model.weights.h5", "model.safetensors"), "model.safetensors"),
        (("a.safetensors", "model.keras", "model.weights.h5"), "model.weights.h5"),
        (("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "model.safetensors"), "model.safetensors"),
        (("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin"), "pytorch_model.bin"),
        (("a.safetensors", "model.keras"), "model.keras"),
        (("readme.md", "a.safetensors", "config.json", "folder/b.safetensors"), "a.safetensors"),
    ],
)
def test_the_file_that_is_taken_where_none_is_named(hub, tmp_path, names, chosen, monkeypatch):
    content = as_safetensors(tmp_path)
    model().save_weights(tmp_path / "m.weights.h5")
    model().save(tmp_path / "m.keras")
    shutil.copy(golden("micro") / "checkpoint.pth", tmp_path / "m.bin")
    made = {"model.weights.h5": "m.weights.h5", "model.keras": "m.keras", "pytorch_model.bin": "m.bin"}
    hub.publish(REPOSITORY, {name: (tmp_path / made[name]).read_bytes() if name in made else content for name in names})
    assert open_weights(None, f"hf://{REPOSITORY}").origin == f"hf://{REPOSITORY}/{chosen}"
    # The cache answers the same.
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    assert open_weights(None, f"hf://{REPOSITORY}/").origin == f"hf://{REPOSITORY}/{chosen}"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.pth", "b.bin"), "hf://me/motion: a.pth, b.bin are in it; name the file: hf://me/motion/FILE"),
        (("readme.md", "folder/b.pth", "..\\c.pth"), "hf://me/motion: it has no file of weights outside its folders"),
    ],
)
def test_no_file_or_several(hub, names, message):
    hub.publish(REPOSITORY, dict.fromkeys(names, b"x"))
    with pytest.raises(WeightsFileError, match=message):
        open_weights(None, f"hf://{REPOSITORY}")


def test_revisions(hub, tmp_path):
    first = hub.publish(REPOSITORY, {"model.safetensors": as_safetensors(tmp_path, 1)})
    hub.publish(REPOSITORY, {"model.safetensors": as_safetensors(tmp_path, 2)}, revision="refs/pr/1")
    for revision, value in (("", 1), (f"@{first}", 1), ("@refs%2Fpr%2F1", 2), ("@main", 1)):
        for file in ("", "/model.safetensors"):
            assert open_weights(None, f"hf://{REPOSITORY}{revision}{file}").state["norm.bias"][0] == value
    # What is published anew is noticed.
    hub.publish(REPOSITORY, {"model.safetensors": as_safetensors(tmp_path, 3)})
    assert open_weights(None, f"hf://{REPOSITORY}").state["norm.bias"][0] == 3
    assert open_weights(None, f"hf://{REPOSITORY}@{first}").state["norm.bias"][0] == 1


# --- Digests ---


def cached(tmp_path):
    """What the hub's cache holds: files, and links to them."""
    return sorted(
        str(path.relative_to(tmp_path / "hub"))
        for path in (tmp_path / "hub").glob("models--*/**/*")
        if path.is_file() and not {"refs", ".no_exist"} & set(path.parts)
    )


def test_a_digest_that_fits(hub, tmp_path):
    content = as_safetensors(tmp_path)
    hub.publish(REPOSITORY, {"model.safetensors": content})
    for file in ("", "/model.safetensors"):
        address = f"hf://{REPOSITORY}{file}#sha256={digest(content).upper()}"
        assert open_weights(None, address).origin == f"hf://{REPOSITORY}/model.safetensors"


def test_a_digest_that_does_not_fit_leaves_no_cache_entry(hub, tmp_path, monkeypatch):
    content = as_safetensors(tmp_path)
    hub.publish(REPOSITORY, {"model.safetensors": content, "folder/other.safetensors": content})
    wrong = f"hf://{REPOSITORY}/model.safetensors#sha256={'0' * 64}"
    with pytest.raises(WeightsFileError, match=f"its SHA-256 is {digest(content)}, but {'0' * 64} is expected"):
        open_weights(None, wrong)
    assert list((tmp_path / "hub").glob("models--*")) == []
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    with pytest.raises(WeightsDownloadError, match="not in the cache"):
        open_weights(None, f"hf://{REPOSITORY}/model.safetensors")


def test_a_wrong_digest_leaves_what_was_cached_before(hub, tmp_path):
    first = as_safetensors(tmp_path, 1)
    hub.publish(REPOSITORY, {"a.safetensors": first, "same.safetensors": first, "x/b.safetensors": first + b" "})
    open_weights(None, f"hf://{REPOSITORY}/a.safetensors")
    before = cached(tmp_path)
    assert len(before) == 2
    for file in ("a.safetensors", "same.safetensors", "x/b.safetensors"):
        with pytest.raises(WeightsFileError, match=f"hf://{REPOSITORY}/{file}: its SHA-256 is"):
            open_weights(None, f"hf://{REPOSITORY}/{file}#sha256={'0' * 64}")
        assert cached(tmp_path) == before
    assert open_weights(None, f"hf://{REPOSITORY}/a.safetensors").state["norm.bias"][0] == 1


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64])
def test_what_is_no_digest(hub, wrong):
    with pytest.raises(ValueError, match="is not a SHA-256 digest"):
        open_weights(None, f"hf://{REPOSITORY}#sha256={wrong}")
    assert hub.asked == []


# --- Offline ---


@pytest.mark.parametrize("switch", [download.OFFLINE_VARIABLE, "HF_HUB_OFFLINE", "no hub"])
def test_offline_reads_the_cache_alone(hub, tmp_path, monkeypatch, switch):
    content = as_safetensors(tmp_path, 5)
    hub.publish(REPOSITORY, {"model.safetensors": content})
    open_weights(None, f"hf://{REPOSITORY}")
    requests = len(hub.asked)
    if switch == "no hub":
        hub.stop()
    elif switch == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setenv(switch, "1")
    for file in ("", "/model.safetensors", f"#sha256={digest(content)}"):
        assert open_weights(None, f"hf://{REPOSITORY}{file}").state["norm.bias"][0] == 5
    if switch != "no hub":
        for other in ("hf://me/other", f"hf://{REPOSITORY}/other.pth", f"hf://{REPOSITORY}@v2"):
            with pytest.raises(
                WeightsDownloadError, match="not in the cache.*unset KERAS_VIDEO_FOCALNET_OFFLINE"
            ) as error:
                open_weights(None, other)
            assert str(error.value).startswith(other)
    assert len(hub.asked) == requests


# --- What goes wrong ---


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me/absent", "no such repository, or it is private.*hf auth login.*HF_TOKEN"),
        ("hf://me/absent/model.safetensors", "no such repository, or it is private"),
        ("hf://me/motion/absent.safetensors", "no such file: check its name"),
        ("hf://me/motion@absent", "no such revision: check what follows the @"),
        ("hf://me/motion@absent/model.safetensors", "no such revision: check what follows the @"),
        ("hf://me/gated", "its owner must grant access: ask for it on the repository's page.*HF_TOKEN"),
        ("hf://me/gated/model.safetensors", "its owner must grant access"),
        ("hf://me/mo..tion", "not the name of a repository"),
        ("hf://me/motion/../../etc/model.safetensors", "me/motion/../../etc"),
    ],
)
def test_what_is_not_there_or_not_open(hub, tmp_path, address, message):
    for repository in (REPOSITORY, "me/gated"):
        hub.publish(repository, {"model.safetensors": as_safetensors(tmp_path)})
    hub.gated.add("me/gated")
    with pytest.raises(WeightsDownloadError, match=message) as error:
        open_weights(None, address)
    assert str(error.value).startswith(address)
    assert cached(tmp_path) == []


def test_a_file_that_cannot_be_read(hub):
    hub.publish(REPOSITORY, {"model.safetensors": b"<html>"})
    with pytest.raises(WeightsFileError, match="^hf://me/motion/model.safetensors: .* an HTML page"):
        open_weights(None, f"hf://{REPOSITORY}")


@pytest.mark.parametrize(
    "address", ["hf://", "hf://me", "hf://me/", "hf:///motion", "hf://me/@v1", "hf://me/motion?x=1"]
)
def test_addresses_without_a_repository(hub, address):
    with pytest.raises(ValueError, match="names no repository; write hf://user/repository"):
        open_weights(None, address)
    assert hub.asked == []


def test_a_cache_without_room_or_access_names_its_variable():
    explained = hub_module._explain(OSError(errno.ENOSPC, "No space left on device", "/cache/blob"))
    assert "/cache/blob cannot be used: make room or give access there, or set HF_HOME" in explained
    assert "No space left" in explained


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"install it: pip install 'keras-video-focalnet\[hub\]'"):
        open_weights(None, f"hf://{REPOSITORY}")
