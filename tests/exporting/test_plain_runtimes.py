"""What a file says of itself is enough to use it: with NumPy, Pillow and a runtime, from decoded frames to scores."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.data.clip import resize_and_crop
from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.exporting.errors import ExportMismatchError
from keras_video_focalnet.exporting.verify import compare, reference_outputs
from tests.exporting.small_model import clips_like, scores

for runtime in ("ai_edge_litert", "onnxruntime", "tensorflow"):
    pytest.importorskip(runtime)
onnx = pytest.importorskip("onnx")

# A program of somebody who has the file and the JSON beside it, and nothing of this package.
PLAIN = """
import json, sys
import numpy as np
from PIL import Image

path, video, given = sys.argv[1:]
told = json.load(open(path + ".json"))
taken = told["input"]
how = taken["preparation"]


def prepared(picture):
    height, width = picture.shape[:2]
    covers, (high, wide) = how["resize"]["covers"], how["crop"]["size"]
    scale = max(covers[0] / height, covers[1] / width)
    rows, columns = int(height * scale + 0.5), int(width * scale + 0.5)
    resample = Image.Resampling[how["resize"]["filter"].upper()]
    picture = np.asarray(Image.fromarray(picture).resize((columns, rows), resample))
    top, left = (rows - high) // 2, (columns - wide) // 2
    return picture[top : top + high, left : left + wide]


frames = np.load(video)
count = how["sampling"]["frames"]
chosen = [(2 * i + 1) * len(frames) // (2 * count) for i in range(count)]
clip = np.stack([prepared(frames[index]) for index in chosen]).astype(taken["dtype"])
clip = clip.reshape([side or 1 for side in taken["shape"]])
assert taken["range"] == [0, 255]

if told["format"] == "litert":
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    assert entry["name"] == taken["name"]
    interpreter.set_tensor(entry["index"], clip)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    names, values = [output["name"] for output in outputs], [interpreter.get_tensor(o["index"]) for o in outputs]
    by_name = interpreter.get_signature_runner("serve")(**{taken["name"]: clip})
else:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names, feed = [output.name for output in session.get_outputs()], {taken["name"]: clip}
    values = session.run(None, feed)
    by_name = {name: session.run([name], feed)[0] for name in told["outputs"]}

assert names == told["outputs"] == ["scores", "logits"], names
for name, value in zip(names, values):
    np.testing.assert_allclose(by_name[name], value, atol=1e-6)
np.savez(given, clip=clip.reshape(clip.shape[-4:]), scores=values[0][0], logits=values[1][0])
assert not {"keras", "keras_video_focalnet", "tensorflow", "torch", "jax"} & set(sys.modules)
"""


def moving(frames=11, height=50, width=90):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height // 5, width // 5 + frames, 3)).repeat(5, 0).repeat(5, 1)
    return np.stack([picture[:, 4 * frame : 4 * frame + width] for frame in range(frames)]).astype("uint8")


@pytest.mark.slow_on("jax", "torch")
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_numpy_pillow_and_the_runtime_are_enough(model, suffix, request, tmp_path):
    path = request.getfixturevalue("litert")[0] if suffix == ".tflite" else request.getfixturevalue("onnx_file")
    frames = moving()
    np.save(tmp_path / "frames.npy", frames)
    command = [sys.executable, "-c", PLAIN, path, tmp_path / "frames.npy", tmp_path / "given.npz"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = frames[kvf.sample_frame_indices(len(frames), num_frames=4)]
    clip = np.stack([resize_and_crop(frame, 32, 32) for frame in chosen])
    with np.load(tmp_path / "given.npz") as given:
        np.testing.assert_array_equal(given["clip"], clip)
        np.testing.assert_allclose(given["scores"], scores(model, clip[None])[0], atol=1e-5)
        assert given["scores"].sum() == pytest.approx(1) and given["logits"].min() < 0


@pytest.mark.slow_on("jax", "torch")
def test_the_code_of_the_page_is_enough(model, onnx_file, tmp_path):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code, found = re.subn(r"^frames = .*$", 'frames = np.load("frames.npy")', code, flags=re.MULTILINE)
    assert found == 1
    for suffix in ("", ".json"):
        shutil.copy(f"{onnx_file}{suffix}", tmp_path / f"nano.onnx{suffix}")
    frames = moving(height=70, width=40)
    np.save(tmp_path / "frames.npy", frames)
    code += '\nnp.save("scores.npy", scores)\n'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = frames[kvf.sample_frame_indices(len(frames), num_frames=4)]
    clip = np.stack([resize_and_crop(frame, 32, 32) for frame in chosen])
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), scores(model, clip[None]), atol=1e-5)


@pytest.mark.slow_on("jax", "torch")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends write by the same code")
def test_a_file_in_another_order_is_told(model, onnx_file, tmp_path):
    path, clips = tmp_path / "swapped.onnx", clips_like(model)
    onnx.save(swapped(onnx_file), path)
    contract = kvf.load_exported(path).contract
    with pytest.raises(ExportMismatchError, match="onnx file gives logits, scores in this order, where its contract"):
        compare(path, contract, reference_outputs(model, clips), clips)


def swapped(path):
    """An ONNX graph with its outputs the other way round."""
    proto = onnx.load(path)
    outputs = list(proto.graph.output)[::-1]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    return proto


def as_before(told):
    """A contract as version 0.1.0 wrote it."""
    told = json.loads(told)
    for name in ("preparation", "crop_fraction", "interpolation"):
        del told["input"][name]
    return json.dumps(told)


@pytest.mark.slow_on("jax", "torch")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends write by the same code")
def test_files_of_0_1_0_are_read(model, litert, onnx_file, tmp_path):
    """Their outputs are in the order of the alphabet, and their contracts say less."""
    clips, path, proto = clips_like(model), tmp_path / "before.onnx", swapped(onnx_file)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == KEY]
    entry.value = as_before(entry.value)
    onnx.save(proto, path)
    tflite = tmp_path / "before.tflite"
    with zipfile.ZipFile(litert[0]) as archive:
        told = archive.read(f"{KEY}.json").decode()
        start = min(member.header_offset for member in archive.infolist())
    tflite.write_bytes(unnamed(pathlib.Path(litert[0]).read_bytes()[:start]))
    with zipfile.ZipFile(tflite, "a") as archive:
        archive.writestr(f"{KEY}.json", as_before(told))
    for file in (path, tflite):
        exported = kvf.load_exported(file)
        assert exported.in_order(clips[:1])[0][0] != "scores"
        np.testing.assert_allclose(exported.predict(clips), scores(model, clips), atol=1e-5)


def unnamed(content):
    """The bytes of a LiteRT file with its outputs the other way round and under TensorFlow's names."""
    from tensorflow.lite.tools import flatbuffer_utils

    flat = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (graph,) = flat.subgraphs
    graph.outputs = graph.outputs[::-1]
    for place, index in enumerate(graph.outputs):
        graph.tensors[index].name = f"Identity_{place}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(flat))
