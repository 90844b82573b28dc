"""Vita-CLIP as files: the vision tower alone, with the text features of the moment, for every device."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from benchmarks.subjects import with_scales_and_shifts
from keras_video_focalnet.exporting.litert_operations import highest_rank, list_operations
from keras_video_focalnet.models.vita_clip.tokenizer import VOCABULARY_SIZE
from tests.exporting.delegation import outside_delegates
from tests.exporting.small_model import clips_like, scores

for runtime in ("ai_edge_litert", "tensorflow"):
    pytest.importorskip(runtime)
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
NAMES = ("opening a door", "closing a door", "walking")
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "projection_dim": 16, "input_shape": (6, 32, 48, 3)}
SMALL |= {"text_dim": 16, "text_heads": 2, "text_depth": 1, "context_tokens": 3}
KINDS = {
    "all prompts": {},
    "logits": {"classifier_activation": None},
    "global": {"prompts": "global"},
    "no prompts": {"prompts": (), "context": None, "templates": ("a video of {}.", "{}")},
    "local": {"prompts": "local", "context": "shared", "context_position": "front"},
    "groups": {"num_frames": 3, "long_clips": "groups"},
}


def small(**options):
    return with_scales_and_shifts(kvf.VitaCLIP(NAMES, **{**SMALL, **options}))


def check_file(path, report):
    """Every processor takes it, and takes it whole but for the first conversion of pixels."""
    operations = list_operations(path)
    assert highest_rank(operations) <= 4
    assert not {"FLEX", "CUSTOM", "GATHER", "GATHER_ND"} & {operation.name for operation in operations}
    assert report["refused_by_gpus"] == []
    assert outside_delegates(path) == (1, ["CAST"])


def check_scores(model, path, tolerance=1e-5):
    # OpenVINO takes bfloat16 by itself where a processor has it.
    clips, file = clips_like(model, 2), kvf.load_exported(path, precision="float32" if path.suffix == ".xml" else None)
    assert file.labels == NAMES
    np.testing.assert_allclose(file.predict(clips), scores(model, clips), atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_every_delegate_takes_a_small_model_whole(kind, tmp_path):
    model = small(**KINDS[kind])
    report = kvf.export(model, tmp_path / "small.tflite", clips=clips_like(model))
    check_file(tmp_path / "small.tflite", report)
    check_scores(model, tmp_path / "small.tflite", 1e-5 if kind != "logits" else 1e-4)
    # The vectors of the vocabulary alone would take this much.
    assert report["bytes"] < VOCABULARY_SIZE * SMALL["text_dim"] * 4 / 5


def test_features_without_a_classifier(tmp_path):
    model = small(include_top=False)
    report = kvf.export(model, tmp_path / "features.tflite", clips=clips_like(model, 1))
    check_file(tmp_path / "features.tflite", report)
    assert report["outputs"] == ["features"]


@pytest.mark.parametrize(
    "file", ["model.onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in ("model.xml", "model"))]
)
def test_the_text_features_are_those_of_the_moment(file, tmp_path):
    model = small()
    model.predict(clips_like(model, 1), verbose=0)
    model.classifier.ctx.assign(model.classifier.ctx + 0.5)
    kvf.export(model, tmp_path / file, clips=clips_like(model))
    check_scores(model, tmp_path / file)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_lower_precisions(precision, tmp_path):
    model = small()
    report = kvf.export(model, tmp_path / "small.tflite", precision=precision, clips=clips_like(model))
    assert highest_rank(list_operations(tmp_path / "small.tflite")) <= 4 and report["refused_by_gpus"] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", ["full.tflite", "full.onnx", "full.xml", "full"])
def test_the_full_size(file, tmp_path):
    model = with_scales_and_shifts(kvf.VitaCLIPB(weights=None, class_names=NAMES))
    report = kvf.export(model, tmp_path / file, clips=clips_like(model, 1))
    if file.endswith(".tflite"):
        check_file(tmp_path / file, report)
    # 86 million parameters of CLIP's vision tower and 36 million of prompts, without a text tower.
    assert report["bytes"] < 1.02 * 4 * 122e6
