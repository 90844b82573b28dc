"""Exported files run where there is no Keras, and say what is wrong with a clip or with themselves."""

import json
import os
import pathlib
import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.exporting import runtime as runtimes
from keras_video_focalnet.exporting.errors import ExportedFileError
from tests.exporting.small_model import clips_like, scores

pytestmark = pytest.mark.slow_on("jax")

for runtime in ("ai_edge_litert", "onnxruntime", "openvino", "tensorflow"):
    pytest.importorskip(runtime)

ROOT = pathlib.Path(__file__).parents[2]
ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)


@pytest.mark.parametrize(
    "clips,message",
    [
        (np.zeros((4, 32, 32, 3), "uint8"), r"clips must have shape \(batch, 4, 32, 32, 3\).*clips\[None\]"),
        (np.zeros((1, 3, 4, 32, 32), "uint8"), r"channels first.*numpy.moveaxis\(clips, 1, -1\)"),
        (np.full((1, 4, 32, 32, 3), 0.5), "pixels of 0 to 255, received 0.5 to 0.5.*neither divided by 255"),
        (np.zeros((1, 8, 32, 32, 3), "uint8"), r"received \(1, 8, 32, 32, 3\)"),
        (np.full((1, 4, 32, 32, 3), -1.0), "pixels of 0 to 255, received -1.0 to -1.0"),
        (np.full((1, 4, 32, 32, 3), np.nan), "pixels of 0 to 255, received nan"),
    ],
)
def test_clips_that_do_not_fit(litert, clips, message):
    with pytest.raises(ValueError, match=message):
        kvf.load_exported(litert[0]).predict(clips)


def test_pixels_of_any_dtype(model, litert):
    exported = kvf.load_exported(litert[0])
    clips = clips_like(model, 1)
    for dtype in ("int64", "float32", "float16"):
        np.testing.assert_array_equal(exported.predict(clips.astype(dtype)), exported.predict(clips))


@pytest.mark.parametrize("name", ["page.tflite", "page.onnx", "page.xml"])
def test_files_of_others(name, tmp_path):
    (tmp_path / name).write_text("<html>not found</html>")
    with pytest.raises(ExportedFileError, match=f"{name}.*(was not written by `export`, or is damaged|is damaged)"):
        kvf.load_exported(tmp_path / name)


def test_paths_that_are_no_exported_model(litert, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no .*none.tflite"):
        kvf.load_exported(tmp_path / "none.tflite")
    for name in ("model.keras", "model.zip"):
        (tmp_path / name).touch()
    with pytest.raises(
        ExportedFileError, match=r"is no exported model but what training left: open_model\('.*opens it"
    ):
        kvf.load_exported(tmp_path / "model.keras")
    with pytest.raises(ExportedFileError, match="is no exported model; those are: .tflite, a folder, .onnx, .xml"):
        kvf.load_exported(tmp_path / "model.zip")
    with pytest.raises(ExportedFileError, match="was not written by `export`"):
        kvf.load_exported(tmp_path)
    with pytest.raises(ValueError, match="precision must be None or"):
        kvf.load_exported(litert[0], precision="int4")
    content = litert[0].read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportedFileError, match=r"cut\.tflite holds no description"):
        kvf.load_exported(tmp_path / "cut.tflite")


def test_contracts_of_other_versions_are_refused(litert, tmp_path):
    path = tmp_path / "later.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        told = json.loads(kvf.load_exported(litert[0]).contract.to_json())
        archive.writestr("keras_video_focalnet.json", json.dumps({**told, "version": 7}))
    with pytest.raises(ExportedFileError, match=r"later\.tflite holds no contract that this version reads.*version 7"):
        kvf.load_exported(path)


# As if a package were not installed.
HIDDEN = """
import importlib.machinery, sys

find_spec = importlib.machinery.PathFinder.find_spec

def find_what_is_not_hidden(name, path=None, target=None):
    return None if name.split(".")[0] in {hidden} else find_spec(name, path, target)

importlib.machinery.PathFinder.find_spec = find_what_is_not_hidden
"""


def in_a_process_without(hidden, code, *arguments, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN.format(hidden=set(hidden)) + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_file_runs_where_there_is_no_keras(model, litert, tmp_path):
    clips = clips_like(model)
    np.save(tmp_path / "clips.npy", clips)
    code = """
import numpy as np
from keras_video_focalnet import load_exported
model = load_exported(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[3])))
print(model.labels[1])
"""
    hidden = ("keras", "tensorflow", "jax", "torch", "h5py")
    printed = in_a_process_without(hidden, code, litert[0], tmp_path / "given.npy", tmp_path / "clips.npy")
    assert printed.split() == ["walk"]
    np.testing.assert_allclose(np.load(tmp_path / "given.npy"), scores(model, clips), atol=1e-5)


@ON_TENSORFLOW
@pytest.mark.slow
def test_a_saved_model_is_served_without_keras_and_without_this_package(model, tmp_path):
    clips = clips_like(model)
    kvf.export(model, tmp_path / "served", clips=clips)
    np.save(tmp_path / "clips.npy", clips)
    code = """
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
clips = tf.constant(np.load(sys.argv[2]))
given, default = (loaded.signatures[name](clip=clips) for name in ("serve", "serving_default"))
assert (given["scores"].numpy() == default["scores"].numpy()).all()
features = loaded.signatures["features"](clip=clips)
np.savez(sys.argv[3], **given, **features)
assert not {"keras", "keras_video_focalnet"} & set(sys.modules)
"""
    arguments = tmp_path / "served", tmp_path / "clips.npy", tmp_path / "given.npz"
    in_a_process_without(["keras", "keras_video_focalnet"], code, *arguments, cwd=tmp_path)
    with np.load(tmp_path / "given.npz") as given:
        np.testing.assert_allclose(given["scores"], scores(model, clips), atol=1e-5)
        assert given["pooled"].shape == (3, 64) and given["grid"].shape == (3, 4, 1, 1, 64)
        np.testing.assert_allclose(given["grid"].mean(axis=(1, 2, 3)), given["pooled"], atol=1e-5)
        head = model.get_layer("head").get_weights()
        np.testing.assert_allclose(given["pooled"] @ head[0] + head[1], given["logits"], atol=1e-4)
    exported = kvf.load_exported(tmp_path / "served")
    assert exported.features(clips)["pooled"].shape == (3, 64)


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("precision", [None, "float32", "own"])
def test_openvino_takes_its_own_precision_where_that_is_faster(monkeypatch, precision, pays):
    model = object.__new__(runtimes.OpenVINOModel)
    model._precision, model.threads, model._model, told = precision, 1, None, {}
    model._core = types.SimpleNamespace(compile_model=lambda _, device, options: told.update(options))
    monkeypatch.setattr(runtimes, "this_one_multiplies_faster_in", lambda dtype: pays)
    model._load()
    assert (told.get("INFERENCE_PRECISION_HINT") == "f32") == (
        precision == "float32" or (precision is None and not pays)
    )
