"""SIFA's models as files: whatever moves by what it learned, a phone's GPU and a processor's delegate take it whole."""

import pathlib

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from benchmarks.subjects import with_scales_and_shifts
from tests.exporting.delegation import check_litert
from tests.exporting.small_model import clips_like, scores

for runtime in ("ai_edge_litert", "tensorflow"):
    pytest.importorskip(runtime)
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same code runs in a process with TensorFlow, which others test"
)
NANO = {"sifa_net_nano": kvf.SIFANetNano, "sifa_transformer_nano": kvf.SIFATransformerNano}
FULL = {"sifa_net50": kvf.SIFANet50, "sifa_transformer_s": kvf.SIFATransformerS}


def trained(name, **options):
    (weights,) = pathlib.Path(kvf.__file__).parent.rglob(f"{name}_camera_motion.safetensors")
    return NANO[name](weights=weights, classes=9, **options)


@pytest.fixture(scope="module", params=NANO)
def exported(request, tmp_path_factory):
    model = trained(request.param)
    path = tmp_path_factory.mktemp("sifa") / f"{request.param}.tflite"
    return request.param, model, path, kvf.export(model, path, clips=clips_like(model))


def test_every_delegate_takes_a_nano_model_whole(exported):
    _, _, path, report = exported
    check_litert(path, report)


def test_the_file_of_a_nano_model_computes_its_logits(exported):
    name, model, path, _ = exported
    clips = clips_like(model, 2)
    given = kvf.load_exported(path).outputs(clips)
    logits = scores(trained(name, classifier_activation=None), clips)
    np.testing.assert_allclose(given["logits"], logits, atol=2e-5 * np.abs(logits).max())
    np.testing.assert_allclose(given["scores"], scores(model, clips), atol=1e-5)
    assert np.ptp(logits, axis=0).max() > 0.1


def test_no_operation_reads_by_an_index_where_offsets_were_learned(exported):
    """The net's taps are displaced by parts of places, and differently at different places, so the test above shows
    that they are read as in Keras.
    """
    name, model, _, _ = exported
    taps = [tensor for tap, tensor in kvf.feature_taps(model).items() if tap.endswith("/offsets")]
    assert bool(taps) == (name == "sifa_net_nano")
    if taps:
        clips = clips_like(model, 1).astype("float32")
        offsets = [np.asarray(tap) for tap in keras.Model(model.input, taps)(clips)]
        assert max(np.abs(tap - np.rint(tap)).max() for tap in offsets) > 0.1
        assert max(tap.std() for tap in offsets) > 0.01


@pytest.mark.parametrize("name", ["sifa_net_nano", pytest.param("sifa_transformer_nano", marks=pytest.mark.slow)])
def test_features_without_a_classifier(name, tmp_path):
    model = trained(name, include_top=False)
    report = kvf.export(model, tmp_path / "features.tflite", clips=clips_like(model, 1))
    check_litert(tmp_path / "features.tflite", report)
    assert report["outputs"] == ["features"]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_scores_of_other_activations(activation, tmp_path):
    model = trained("sifa_net_nano", classifier_activation=activation)
    check_litert(tmp_path / "net.tflite", kvf.export(model, tmp_path / "net.tflite", clips=clips_like(model)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("name", NANO)
def test_other_precisions(name, precision, tmp_path):
    model = trained(name)
    report = kvf.export(model, tmp_path / "small.tflite", precision=precision, clips=clips_like(model))
    assert report["refused_by_gpus"] == [] or precision == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ""])
@pytest.mark.parametrize("name", NANO)
def test_other_formats(name, suffix, tmp_path):
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
    model = trained(name)
    report = kvf.export(model, tmp_path / f"model{suffix}", clips=clips_like(model))
    assert report["difference"] < 1e-4 and report["outputs"] == ["scores", "logits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_size(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = with_scales_and_shifts(FULL[name](weights=None))
    path = tmp_path / "model.tflite"
    report = kvf.export(model, path)
    print(f"{name}: logits off by {report['difference']:.2g}, {report['bytes'] / 1e6:.1f} MB")
    assert model.input_shape == (None, 16, 224, 224, 3)
    check_litert(path, report)
