"""Vita-CLIP as files: the vision tower alone, beside the text features of the moment as numbers."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.vita_clip.model import VitaCLIP, VitaCLIPB
from tests.exporting.delegation import check_litert
from tests.exporting.small_model import clips_like, scores
from tests.exporting.test_keras_export import WRITTEN, outputs_of_onnx, outputs_of_saved_model
from tests.models.conformance_case import scattered

for runtime in ("ai_edge_litert", "onnxruntime", "openvino", "tensorflow", "tf2onnx"):
    pytest.importorskip(runtime)

BACKEND = keras.backend.backend()
SMALL = {
    **{"embed_dim": 16, "depth": 3, "num_heads": 2, "projection_dim": 12, "num_global_prompts": 3},
    **{"text_dim": 16, "text_heads": 2, "text_depth": 2, "context_tokens": 3, "input_shape": (4, 32, 48, 3)},
}
NAMES = ["opening a door", "closing a door", "a cat"]
# The token embedding alone takes more bytes than a file may have.
EMBEDDING_BYTES = 49408 * SMALL["text_dim"] * 4
KINDS = {
    "all prompts": {},
    "global": {"prompts": "global"},
    "no prompts": {"prompts": ()},
    "summary, shared in the middle": {"prompts": "summary", "context": "shared", "context_position": "middle"},
    "templates": {"context": None, "templates": ("{}", "a video of {}.")},
    "logits": {"classifier_activation": None},
    "groups": {"long_clips": "groups", "num_frames": 4, "input_shape": (8, 32, 48, 3)},
    "features": {"include_top": False, "class_names": None},
    "no text tower": {"text_depth": None, "class_names": None, "classes": 3},
}
QUICK = "all prompts", "templates", "features"


def made(kind="all prompts", **options):
    keras.utils.set_random_seed(0)
    return scattered(VitaCLIP(**{"class_names": NAMES, **SMALL, **KINDS[kind], **options}))


def logits_of(model, clips):
    twin = model.rebuild(classifier_activation=None)
    twin.set_weights(model.get_weights())
    return scores(twin, clips)


def check_values(path, model, clips):
    """The file gives what the model gives, and they differ between clips."""
    own = scores(model, clips)
    given = kvf.load_exported(path, precision="float32").outputs(clips)
    assert np.ptp(own, axis=0).max() > 1e-3
    if "features" in given:
        np.testing.assert_allclose(given["features"], own, atol=2e-5 * np.abs(own).max())
        return
    logits = logits_of(model, clips)
    np.testing.assert_allclose(given["logits"], logits, atol=2e-5 * np.abs(logits).max())
    if "scores" in given:
        np.testing.assert_allclose(given["scores"], own, atol=1e-5)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml", ""])
@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
@pytest.mark.slow_on("jax", "torch")
def test_a_file_holds_the_vision_tower_and_gives_the_models_outputs(kind, suffix, tmp_path):
    model = made(kind)
    clips = clips_like(model, 2)
    path = tmp_path / f"model{suffix}"
    report = kvf.export(model, path, clips=clips)
    assert report["difference"] < 2e-5 and 0 < report["bytes"] < EMBEDDING_BYTES
    wanted = {"features": ["features"], "logits": ["logits"]}
    assert report["outputs"] == wanted.get(kind, ["scores", "logits"])
    check_values(path, model, clips)
    if suffix == ".tflite":
        check_litert(path, report)


def test_a_file_from_any_backend(tmp_path):
    model = made()
    clips = clips_like(model, 2)
    report = kvf.export(model, tmp_path / "model.tflite", clips=clips)
    check_litert(tmp_path / "model.tflite", report)
    check_values(tmp_path / "model.tflite", model, clips)
    assert report["bytes"] < EMBEDDING_BYTES


def after_a_step(model):
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", jit_compile=False)
    before = keras.ops.convert_to_numpy(model.classifier.ctx)
    model.train_on_batch(clips_like(model, 2).astype("float32"), np.array([0, 1]))
    assert np.abs(keras.ops.convert_to_numpy(model.classifier.ctx) - before).max() > 1e-3
    return model


def after_an_assignment(model):
    ctx = model.classifier.ctx
    ctx.assign(np.random.default_rng(3).normal(0, 1, ctx.shape))
    return model


def after_other_names(model):
    return model.set_class_names(["a dog", "a horse", "opening a window", "a dance"])


@pytest.mark.parametrize("change", [after_a_step, after_an_assignment, after_other_names])
@pytest.mark.slow_on("jax", "torch")
def test_the_text_features_are_those_of_the_moment(change, tmp_path):
    model = made()
    clips = clips_like(model, 2)
    before = model.predict(clips, verbose=0)
    model = change(model)
    kvf.export(model, tmp_path / "model.onnx", clips=clips)
    given = kvf.load_exported(tmp_path / "model.onnx").predict(clips)
    assert given.shape != before.shape or np.abs(given - before).max() > 1e-3
    np.testing.assert_allclose(given, model.predict(clips, verbose=0), atol=1e-5)


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
@pytest.mark.parametrize("precision", ["float16", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["all prompts", pytest.param("groups", marks=pytest.mark.slow)])
def test_other_precisions(kind, precision, tmp_path):
    model = made(kind)
    report = kvf.export(model, tmp_path / "small.tflite", precision=precision, clips=clips_like(model))
    assert report["refused_by_gpus"] == [] or precision == "int8"
    assert report["bytes"] < EMBEDDING_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_mixed_precision_is_written_in_float32(policy, tmp_path):
    model = made(dtype=policy)
    clips = clips_like(model, 2)
    report = kvf.export(model, tmp_path / "model.onnx", clips=clips)
    assert report["difference"] < 2e-5
    given = kvf.load_exported(tmp_path / "model.onnx").predict(clips)
    np.testing.assert_allclose(given, scores(model, clips), atol=0.05)


def around(**options):
    """A model of somebody's own around ours, which sees clips darker."""
    model = made(**options)
    clip = keras.Input(SMALL["input_shape"])
    return keras.Model(clip, model(keras.layers.Rescaling(0.5)(clip)), name="around")


@pytest.mark.slow_on("jax", "torch")
def test_a_model_around_ours(tmp_path):
    model = around()
    clips = clips_like(model, 2)
    report = kvf.export(model, tmp_path / "around.onnx", clips=clips)
    assert report["bytes"] < EMBEDDING_BYTES
    given = kvf.load_exported(tmp_path / "around.onnx").predict(clips)
    np.testing.assert_allclose(given, scores(model, clips), atol=1e-5)


@pytest.mark.parametrize("format", WRITTEN[BACKEND])
@pytest.mark.parametrize("make", [made, around])
@pytest.mark.slow_on("jax")
def test_keras_own_export_computes_no_text_features(make, format, tmp_path):
    run = {"onnx": outputs_of_onnx, "tf_saved_model": outputs_of_saved_model}[format]
    # The model is exported as it is built: nothing has called it.
    model = make()
    path = tmp_path / "model.onnx"
    model.export(str(path), format=format, verbose=False)
    clips = clips_like(model, 2).astype("float32")
    np.testing.assert_allclose(run(str(path), clips), scores(model, clips), atol=1e-5)
    if format == "onnx":
        assert path.stat().st_size < EMBEDDING_BYTES


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_full_size(suffix, tmp_path):
    keras.utils.set_random_seed(0)
    model = scattered(VitaCLIPB(class_names=NAMES, weights=None))
    path = tmp_path / f"model{suffix}"
    report = kvf.export(model, path)
    print(f"logits off by {report['difference']:.2g}, {report['bytes'] / 1e6:.1f} MB")
    assert model.input_shape == (None, 8, 224, 224, 3)
    # The vision tower has 121,800,960 numbers, and the text tower would add half as many.
    assert 4 * 121_000_000 < report["bytes"] < 4 * 126_000_000
    if suffix == ".tflite":
        check_litert(path, report)
