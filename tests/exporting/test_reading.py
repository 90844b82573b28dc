"""An exported file reads the clips that it takes and names its scores, as the model does."""

import numpy as np
import pytest

import keras_video_focalnet as kvf

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype="uint8")


@pytest.mark.slow_on("jax")
def test_exported_files_read_and_name_alike(litert, model):
    exported = kvf.load_exported(litert[0])
    clip = exported.read(FRAMES)
    np.testing.assert_array_equal(clip, model.read(FRAMES))
    scores = exported.predict(clip[None])
    assert exported.decode_predictions(scores, 2) == kvf.decode_predictions(scores, 2, labels=exported.labels)
    with pytest.raises(ValueError, match="clips must be clips, received the path 'a.mp4'"):
        exported.predict("a.mp4")
