"""Vita-CLIP as files: the vision tower alone, with the text features of the moment, for every device."""

import gc
import shutil

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.vita_clip.tokenizer import VOCABULARY_SIZE
from tests.exporting.delegation import check_litert
from tests.exporting.small_model import clips_like, scores
from tests.exporting.test_keras_export import WRITTEN, outputs_of_onnx, outputs_of_saved_model
from tests.models.conformance_case import scattered

for runtime in ("ai_edge_litert", "onnxruntime", "openvino", "tensorflow"):
    pytest.importorskip(runtime)

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
NAMES = ("opening a door", "closing a door", "walking")
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "projection_dim": 16, "input_shape": (6, 32, 48, 3)}
SMALL |= {"text_dim": 16, "text_heads": 2, "text_depth": 1, "context_tokens": 3}
# The vectors of the vocabulary alone would take this much.
EMBEDDING_BYTES = VOCABULARY_SIZE * SMALL["text_dim"] * 4
KINDS = {
    "all prompts": {},
    "logits": {"classifier_activation": None},
    "global": {"prompts": "global"},
    "no prompts": {"prompts": (), "context": None, "templates": ("a video of {}.", "{}")},
    "local": {"prompts": "local", "context": "shared", "context_position": "front"},
    "summary": {"prompts": "summary", "context_position": "middle"},
    "groups": {"num_frames": 3, "long_clips": "groups"},
    "given texts": {"text_depth": None, "class_names": None, "labels": NAMES},
}


def small(**options):
    keras.utils.set_random_seed(0)
    # All weights are such that each part has a say.
    return scattered(kvf.VitaCLIP(**{"class_names": NAMES, **SMALL, **options}))


def around(**options):
    """A model of somebody's own around ours, which sees clips darker."""
    model = small(**options)
    clip = keras.Input(model.input_shape[1:], name="clip")
    return keras.Model(clip, model(keras.layers.Rescaling(0.5)(clip)), name="around")


def check_outputs(model, path, tolerance=1e-5):
    """The file gives scores as the model does, and logits as the model without an activation."""
    # OpenVINO takes bfloat16 by itself where a processor has it.
    clips, file = clips_like(model, 2), kvf.load_exported(path, precision="float32" if path.suffix == ".xml" else None)
    assert file.labels == NAMES
    given, bare = file.outputs(clips), model.rebuild(classifier_activation=None)
    bare.set_weights(model.get_weights())
    logits = scores(bare, clips)
    assert np.ptp(logits, axis=0).max() > 0.1
    np.testing.assert_allclose(given["logits"], logits, atol=tolerance * np.abs(logits).max())
    if "scores" in given:
        np.testing.assert_allclose(given["scores"], scores(model, clips), atol=tolerance)


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "kind", [kind if kind == "all prompts" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_delegate_takes_a_small_model_whole(kind, tmp_path):
    model = small(**KINDS[kind])
    report = kvf.export(model, tmp_path / "small.tflite", clips=clips_like(model))
    check_litert(tmp_path / "small.tflite", report)
    check_outputs(model, tmp_path / "small.tflite")
    assert report["bytes"] < EMBEDDING_BYTES / 5


@ON_TENSORFLOW
@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model.xml", "model"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_formats(kind, file, tmp_path):
    model = small(**KINDS[kind])
    report = kvf.export(model, tmp_path / file, clips=clips_like(model))
    check_outputs(model, tmp_path / file)
    assert report["difference"] < 1e-5 and report["bytes"] < EMBEDDING_BYTES


@pytest.mark.slow_on("jax", "torch")
@pytest.mark.parametrize(
    "file",
    [pytest.param("model.tflite", marks=pytest.mark.slow), pytest.param("model", marks=pytest.mark.slow), "model.onnx"],
)
def test_a_file_from_any_backend(file, tmp_path):
    model = small()
    report = kvf.export(model, tmp_path / file, clips=clips_like(model))
    check_outputs(model, tmp_path / file)
    assert report["bytes"] < EMBEDDING_BYTES


@ON_TENSORFLOW
def test_features_without_a_classifier(tmp_path):
    model = small(include_top=False, class_names=None)
    report = kvf.export(model, tmp_path / "features.tflite", clips=clips_like(model, 1))
    check_litert(tmp_path / "features.tflite", report)
    assert report["outputs"] == ["features"]


def after_a_step(model):
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", jit_compile=False)
    before = keras.ops.convert_to_numpy(model.classifier.ctx)
    model.train_on_batch(clips_like(model, 2).astype("float32"), np.array([0, 1]))
    assert np.abs(keras.ops.convert_to_numpy(model.classifier.ctx) - before).max() > 1e-3
    return model


def after_an_assignment(model):
    # The same added to all channels would be taken off by the layer norms.
    model.classifier.ctx.assign(np.random.default_rng(2).normal(0, 1, model.classifier.ctx.shape))
    return model


def with_other_names(model):
    return model.set_class_names(["a dog", "a horse", "opening a window", "a dance"])


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "file", ["model.onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in ("model.xml", "model"))]
)
@pytest.mark.parametrize(
    "change",
    [
        after_an_assignment,
        *(pytest.param(change, marks=pytest.mark.slow) for change in (after_a_step, with_other_names)),
    ],
)
def test_the_text_features_are_those_of_the_moment(change, file, tmp_path):
    model = small()
    clips = clips_like(model, 2)
    before = model.predict(clips, verbose=0)
    model = change(model)
    kvf.export(model, tmp_path / file, clips=clips)
    exported = kvf.load_exported(tmp_path / file, precision="float32" if file.endswith(".xml") else None)
    given = exported.predict(clips)
    assert exported.labels == model.labels
    assert given.shape != before.shape or np.abs(given - before).max() > 1e-3
    np.testing.assert_allclose(given, model.predict(clips, verbose=0), atol=1e-5)


@ON_TENSORFLOW
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_lower_precisions(precision, tmp_path):
    model = small()
    report = kvf.export(model, tmp_path / "small.tflite", precision=precision, clips=clips_like(model))
    assert report["refused_by_gpus"] == [] and report["bytes"] < EMBEDDING_BYTES / 5


@ON_TENSORFLOW
@pytest.mark.slow
@pytest.mark.parametrize("make", [small, around])
def test_a_model_of_mixed_precision_is_written_in_float32(make, tmp_path):
    model = make(dtype="mixed_bfloat16")
    clips = clips_like(model, 2)
    report = kvf.export(model, tmp_path / "model.onnx", clips=clips)
    given = kvf.load_exported(tmp_path / "model.onnx").predict(clips)
    assert report["difference"] < 1e-5 and report["bytes"] < EMBEDDING_BYTES
    np.testing.assert_allclose(given, scores(model, clips), atol=0.1)


@pytest.mark.slow_on("jax", "torch")
def test_a_model_around_ours(tmp_path):
    model = around()
    clips = clips_like(model, 2)
    report = kvf.export(model, tmp_path / "around.onnx", clips=clips)
    given = kvf.load_exported(tmp_path / "around.onnx").predict(clips)
    np.testing.assert_allclose(given, scores(model, clips), atol=1e-5)
    assert report["bytes"] < EMBEDDING_BYTES


@pytest.mark.parametrize("format", WRITTEN[keras.backend.backend()])
@pytest.mark.parametrize("make", [small, pytest.param(around, marks=pytest.mark.slow)])
@pytest.mark.slow_on("jax")
def test_keras_own_export_computes_no_text_features(make, format, tmp_path):
    run = {"onnx": outputs_of_onnx, "tf_saved_model": outputs_of_saved_model}[format]
    model, path = make(), tmp_path / "model.onnx"
    if make is around:
        # Of a model of its own Keras wants that it was called; ours are exported as they are built.
        scores(model, clips_like(model, 1))
    model.export(str(path), format=format, verbose=False)
    clips = clips_like(model, 2).astype("float32")
    np.testing.assert_allclose(run(str(path), clips), scores(model, clips), atol=1e-5)
    # Keras writes all variables of a model into a SavedModel, and into ONNX what is read.
    if format == "onnx":
        assert path.stat().st_size < EMBEDDING_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["full.onnx", *(pytest.param(name, marks=ON_TENSORFLOW) for name in ("full.tflite", "full.xml", "full"))]
)
def test_the_full_size(file, tmp_path):
    # The test before this one may have left gigabytes.
    gc.collect()
    keras.utils.set_random_seed(0)
    model = scattered(kvf.VitaCLIPB(weights=None, class_names=NAMES))
    report = kvf.export(model, tmp_path / file, clips=clips_like(model, 1))
    print(f"{file}: logits off by {report['difference']:.2g}, {report['bytes'] / 1e6:.1f} MB")
    if file.endswith(".tflite"):
        check_litert(tmp_path / file, report)
    # Of float32 the limit of export itself is 1e-4 of the largest logit.
    assert report["difference"] < 3e-5
    head = model.classifier
    vision = model.count_params() - head.textual.count_params() - np.prod(head.ctx.shape)
    assert 0.99 * 4 * vision < report["bytes"] < 1.05 * 4 * vision
    shutil.rmtree(tmp_path)
