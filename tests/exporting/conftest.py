import pytest

import keras_video_focalnet as kvf
from tests.exporting.small_model import clips_like, small


@pytest.fixture(scope="session")
def model():
    return small()


@pytest.fixture(scope="session")
def litert(model, tmp_path_factory):
    """A file of the small model, and what `export` reported."""
    path = tmp_path_factory.mktemp("exported") / "small.tflite"
    return path, kvf.export(model, path, clips=clips_like(model))


@pytest.fixture(scope="session")
def onnx_file(model, tmp_path_factory):
    """An ONNX file of the small model."""
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    kvf.export(model, path, clips=clips_like(model))
    return path
