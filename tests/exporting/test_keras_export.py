"""Keras's own `model.export`: its files compute what the model computes, or the error says what writes them."""

import keras
import numpy as np
import pytest

from tests.exporting.small_model import clips_like, scores, small

for package in ("onnxruntime", "tensorflow", "tf2onnx"):
    pytest.importorskip(package)

BACKEND = keras.backend.backend()
# Formats that Keras writes of a model like ours, by backend.
WRITTEN = {"tensorflow": ("tf_saved_model", "onnx"), "jax": ("tf_saved_model",), "torch": ("onnx",)}
# What Keras refuses, or needs a further package for. Another release may do better.
REFUSED = {"tensorflow": "torch", "jax": "litert", "torch": "tf_saved_model"}


def outputs_of_onnx(path, clips):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (clip,) = session.get_inputs()
    assert clip.name == "clip" and clip.shape[1:] == list(clips.shape[1:])
    (given,) = session.run(None, {"clip": clips})
    return given


def outputs_of_saved_model(path, clips):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return np.asarray(loaded.serve(clips))


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("format", WRITTEN[BACKEND])
@pytest.mark.parametrize("preprocessing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_files_give_the_models_scores(format, preprocessing, tmp_path):
    run = {"onnx": outputs_of_onnx, "tf_saved_model": outputs_of_saved_model}[format]
    # The model is exported as it is built: nothing has called it.
    model = small(include_preprocessing=preprocessing)
    path = str(tmp_path / "model.onnx")
    model.export(path, format=format, verbose=False)
    clips = clips_like(model).astype("float32")
    clips = clips if preprocessing else clips / 255
    np.testing.assert_allclose(run(path, clips), scores(model, clips), atol=1e-5)


def test_an_error_names_what_writes_the_file(tmp_path):
    with pytest.raises(Exception) as caught:  # noqa: B017 - each backend raises another kind.
        small().export(str(tmp_path / "model"), format=REFUSED[BACKEND], verbose=False)
    assert "keras_video_focalnet.export(model, path) writes LiteRT, SavedModel" in caught.value.__notes__[-1]
