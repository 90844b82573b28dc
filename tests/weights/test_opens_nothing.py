"""A file of weights or of a model opens no other file and no connection, whatever it says.

Python tells an audit hook of all that it opens; the hook runs in a process of its own, as it cannot be taken off. Of
what libraries in C open it hears nothing: on Linux the system itself tells whether anybody opens the file in question.
"""

import ctypes
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import keras_video_focalnet as kvf
from tests.weights.torch_files import Attribute, Call, write_zip

SMALL = {"embed_dim": 2, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 32, 3), "classes": 3}

LOAD = """
import json, sys

opened = []
WITH_SECRET = {"open", "os.open", "os.listdir", "os.scandir", "shutil.copyfile", "subprocess.Popen", "ctypes.dlopen"}
ALWAYS = {"os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo", "urllib.Request"}

def hook(event, arguments):
    if event in ALWAYS or (event in WITH_SECRET and "secret" in repr(arguments)):
        opened.append(f"{event} {arguments!r}"[:300])

import keras
from keras_video_focalnet.models.building import VideoClassifier, read_weights
from keras_video_focalnet.models import registry

for family in registry.families():
    family.architecture()
sys.addaudithook(hook)
ways = {
    "load_model": keras.saving.load_model,
    "load_model, unsafe": lambda path: keras.saving.load_model(path, safe_mode=False),
    "read_weights": lambda path: read_weights(path, "VideoFocalNetNano"),
}
for path in sys.argv[1:]:
    for name, load in ways.items():
        model = path.endswith(".keras")
        if name.startswith("load_model") != model and not path.endswith("/labels.keras"):
            continue
        if name.endswith("unsafe") and "/labels" not in path:
            continue
        opened.clear()
        try:
            result = repr(getattr(load(path), "labels", None))
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        print(json.dumps([path, name, result[:2000], opened]), flush=True)
"""


def layer(module, name, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def configurations(secret):
    """Changes of a model's configuration that point at a file or an address."""
    address = "http://127.0.0.1:9/secret"
    lookup = layer("keras.layers", "StringLookup", vocabulary=secret)
    return {
        "labels": {"labels": secret},
        "labels as a URI": {"labels": f"file://{secret}"},
        "labels of a hub": {"labels": "hf://user/secret"},
        "labels as an address": {"labels": address},
        "labels in a list": {"labels": [secret, "b", "c"]},
        "labels in lists": {"labels": [[secret], "b", "c"]},
        "labels as a dictionary": {"labels": {"class_name": "__tuple__", "items": [secret]}},
        "weights": {"weights": secret},
        "a vocabulary before the clip": {"input_graph": lookup},
        "a saved model before the clip": {"input_graph": layer("keras.layers", "TFSMLayer", filepath=secret)},
        "a file as an activation": {"classifier_activation": secret},
        "a vocabulary as an activation": {"classifier_activation": lookup},
        "a fetching function": {"classifier_activation": function("keras.utils", "get_file")},
        "a loading function": {"classifier_activation": function("keras.saving", "load_model")},
        "our loading function": {"classifier_activation": function("keras_video_focalnet.labels", "load_labels")},
        "a function of the system": {"classifier_activation": function("os", "system")},
        "a vocabulary as a policy": {"dtype": lookup},
        "a file as a policy": {"dtype": secret},
        "a file as a quantized layer": {"quantized": {secret: "int8"}},
        "a file as a frozen layer": {"frozen_layers": [secret]},
        "a file as a tensor": {"input_tensor": secret},
    }


def write_configurations(folder, secret):
    kvf.VideoFocalNet(**SMALL).save(folder / "plain.keras")
    with zipfile.ZipFile(folder / "plain.keras") as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    for name, change in configurations(secret).items():
        config = json.loads(members["config.json"])
        config["config"] |= change
        with zipfile.ZipFile(folder / f"{name}.keras", "w") as archive:
            for member, content in members.items():
                archive.writestr(member, json.dumps(config) if member == "config.json" else content)
    with zipfile.ZipFile(folder / "member names.keras", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        for name in (secret, "../secret", "assets/../../secret"):
            archive.writestr(name, b"")


def write_others(folder, secret):
    with h5py.File(folder / "links.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink(secret, "x")
        file.create_group("layers/focal_block/vars").create_dataset("0", (2,), "f4", external=[(secret, 0, 8)])
    with h5py.File(folder / "links.h5", "w") as file:
        file.attrs["layer_names"] = [secret, "a"]
        file["a"] = h5py.ExternalLink(secret, "a")
    (folder / "parts.weights.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": secret}}))
    (folder / "up.weights.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": ["../secret"]}}))
    table = json.dumps({"__metadata__": {"labels": secret, "file": secret}}).encode()
    (folder / "texts.safetensors").write_bytes(len(table).to_bytes(8, "little") + table)
    for name, call in {
        "open": Call((Attribute("builtins", "open"), secret)),
        "load": Call((Attribute("torch", "load"), secret)),
        "numpy": Call((Attribute("numpy", "memmap"), secret)),
    }.items():
        write_zip(folder / f"{name}.pth", {"model": call, "a.x": call}, {})


class Watch:
    """Tells of every opening of a file by any process, where the system is Linux."""

    def __init__(self, path):
        self._events = None
        if sys.platform == "linux":
            library, opened = ctypes.CDLL(None, use_errno=True), 0x20
            self._events = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            assert library.inotify_add_watch(self._events, os.fsencode(path), opened) > 0, os.strerror(
                ctypes.get_errno()
            )

    def opened(self):
        """Whether the file was opened since it was last asked; None where that is not known."""
        if self._events is None:
            return None
        try:
            return bool(os.read(self._events, 1 << 16))
        except BlockingIOError:
            return False


@pytest.mark.slow_on("jax", "torch")
def test_nothing_is_opened(tmp_path):
    folder, secret = tmp_path / "files", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("one secret line\ntwo\nthree\n")
    write_configurations(folder, str(secret))
    write_others(folder, str(secret))
    paths = sorted(map(str, folder.iterdir()))
    watch = Watch(secret)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not watch.opened()
    h5py.is_hdf5(secret)
    assert watch.opened() is not False
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert {result[0] for result in results} == set(paths)
    answers = {}
    for path, way, result, opened in results:
        name = Path(path).name
        assert opened == [], (name, way)
        assert "one secret line" not in result, (name, way)
        answers[name, way] = result
    assert answers["plain.keras", "load_model"] == answers["member names.keras", "load_model"] == "None"
    for way in ("load_model", "load_model, unsafe"):
        assert answers["labels in a list.keras", way] == repr((str(secret), "b", "c"))
        for name in ("labels", "labels as a URI", "labels of a hub", "labels as an address"):
            assert "in a configuration is the name of no known data set" in answers[f"{name}.keras", way]
    assert "WeightsFileError" in answers["labels.keras", "read_weights"]
    for name in ("parts.weights.json", "up.weights.json"):
        assert "it names" in answers[name, "read_weights"]


@pytest.mark.parametrize("labels", ["camera_motion", "Camera motion"])
def test_a_configuration_may_name_a_data_set(labels):
    model = kvf.VideoFocalNet(**{**SMALL, "classes": 9}, labels="camera_motion")
    again = type(model).from_config({**model.get_config(), "labels": labels})
    assert again.labels == model.labels and again.labels[0] == "static"


def test_a_user_may_type_a_path(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a\nb\nc\n")
    for given in (str(path), path):
        model = kvf.VideoFocalNet(**SMALL, labels=given)
        assert model.labels == ("a", "b", "c") and tuple(model.get_config()["labels"]) == ("a", "b", "c")
        assert kvf.VideoFocalNet(**SMALL).with_classifier(3, labels=given).labels == ("a", "b", "c")
        with pytest.raises(ValueError, match="names.txt' in a configuration is the name of no known data set"):
            type(model).from_config({**model.get_config(), "labels": given})


def test_the_command_line_looks_before_keras_reads(tmp_path):
    from click.testing import CliRunner

    from keras_video_focalnet.cli.main import main
    from keras_video_focalnet.weights.keras3_file import check_keras_file

    path = tmp_path / "model.keras"
    kvf.VideoFocalNet(**SMALL).save(path)
    check_keras_file(path)
    with zipfile.ZipFile(path) as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    (tmp_path / "inner.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "inner.h5", "a") as file:
        file["layers/extra"] = h5py.ExternalLink("secret", "x")
    damaged = Path(__file__).parents[1] / "data" / "damaged_hdf5" / "crash.h5"
    np.save(tmp_path / "clip.npy", np.zeros((2, 32, 32, 3), "uint8"))
    for weights, message in ((damaged, "damaged or cut short"), (tmp_path / "inner.h5", "lies in another place")):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, weights.read_bytes() if name == "model.weights.h5" else content)
        result = CliRunner().invoke(main, ["predict", "video.mp4", "--weights", str(path)])
        assert result.exit_code != 0
        assert message in " ".join((result.output + str(result.exception)).split())
