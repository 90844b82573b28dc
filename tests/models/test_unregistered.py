"""A `.keras` file tells what to import, where our package was not imported."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from tests.exporting.small_model import clips_like, small

CODE = """
import sys
import numpy as np
import pytest
import keras

assert "keras_video_focalnet" not in sys.modules
clips, *paths = sys.argv[1:]
for path in paths:
    try:
        keras.saving.load_model(path)
    except TypeError as error:
        assert "from keras_video_focalnet import VideoClassifier, before keras.saving.load_model" in str(error), error
    else:
        raise AssertionError(path)
from keras_video_focalnet import VideoClassifier

clips = np.load(clips).astype("float32")
for path in paths:
    model = keras.saving.load_model(path)
    given = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(clips), training=False))
    np.save(path + ".npy", given)
"""


@pytest.mark.slow_on("jax", "tensorflow")
def test_keras_shows_what_to_import(tmp_path):
    body = small(include_top=False, labels=None, pooling="avg")
    clip = keras.Input((4, 32, 32, 3))
    bare = small(include_top=False, labels=None, pooling="avg", include_preprocessing=False)
    models = {
        "ours": small(),
        "around": keras.Model(clip, keras.layers.Dense(3)(body(clip))),
        "continued": keras.Model(body.input, keras.layers.Dense(3)(body.output)),
        "bare": keras.Model(bare.input, keras.layers.Dense(3)(bare.output)),
    }
    clips = clips_like(body)
    np.save(tmp_path / "clips.npy", clips)
    paths = [tmp_path / f"{name}.keras" for name in models]
    for model, path in zip(models.values(), paths, strict=True):
        model.save(path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, [tmp_path / "clips.npy", *paths])],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for model, path in zip(models.values(), paths, strict=True):
        expected = keras.ops.convert_to_numpy(
            model(keras.ops.convert_to_tensor(clips.astype("float32")), training=False)
        )
        np.testing.assert_allclose(np.load(f"{path}.npy"), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_not_built_stays_so():
    layer = kvf.StochasticDepth(0.1)
    assert layer.get_build_config() is None
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kvf.PatchEmbedding(8, 4)))
    assert not again.built
