"""T, S and B in every format, with random weights: minutes each, so `make verify` runs them."""

import keras
import pytest

import keras_video_focalnet as kvf
from benchmarks.subjects import with_scales_and_shifts
from keras_video_focalnet.exporting.formats import FORMATS
from keras_video_focalnet.exporting.litert_operations import highest_rank, list_operations
from tests.clips import real_clips

pytest.importorskip("ai_edge_litert")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends convert by the same code"),
]
BUILDERS = {"tiny": kvf.VideoFocalNetT, "small": kvf.VideoFocalNetS, "base": kvf.VideoFocalNetB}
CASES = [(name, precision) for name, entry in FORMATS.items() for precision in entry.tolerances]


@pytest.fixture(scope="module", params=BUILDERS)
def model(request):
    keras.utils.set_random_seed(0)
    return with_scales_and_shifts(BUILDERS[request.param](weights=None))


@pytest.mark.parametrize("format,precision", CASES)
def test_every_format(model, format, precision, tmp_path):
    path = tmp_path / f"model{FORMATS[format].suffix}"
    calibration = None
    if precision == "int8_full":
        calibration = [real_clips() / name for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")]
    report = kvf.export(model, path, precision=precision, calibration=calibration)
    print(
        f"{model.name} {format} {precision}: logits off by {report['difference']:.2g}, {report['bytes'] / 1e6:.1f} MB"
    )
    assert report["difference"] <= FORMATS[format].tolerances[precision]
    if format == "litert":
        operations = list_operations(path)
        print(report["operations"], f"highest rank {highest_rank(operations)}")
        assert highest_rank(operations) == 4 and not {"FLEX", "CUSTOM"} & set(report["operations"])
    if precision.startswith("int8"):
        assert report["bytes"] <= 0.27 * 4 * model.count_params()
