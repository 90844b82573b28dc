"""`compile(jit_compile=True)` on PyTorch: `torch.compile` takes a whole training step."""

import keras
import numpy as np
import pytest

from keras_video_focalnet import VideoFocalNet

pytestmark = [
    pytest.mark.slow,  # The compiler takes a minute or two.
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere jit_compile is XLA, which others test"),
]
# The last batch of the three is smaller.
CLIPS = np.random.default_rng(0).integers(0, 256, (5, 4, 32, 32, 3)).astype("uint8")
TARGETS = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1]]


def losses(drop_path_rate, jit_compile):
    keras.utils.set_random_seed(0)
    model = VideoFocalNet(8, (1, 1, 1, 1), input_shape=(4, 32, 32, 3), classes=3, drop_path_rate=drop_path_rate)
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", jit_compile=jit_compile)
    return model.fit(CLIPS, TARGETS, batch_size=2, epochs=2, shuffle=False, verbose=0).history["loss"]


def test_the_same_losses_as_in_eager_mode():
    np.testing.assert_allclose(losses(0.0, True), losses(0.0, False), rtol=1e-3)


def test_with_stochastic_depth():
    given = losses(0.1, True)
    assert len(given) == 2 and np.isfinite(given).all() and 0.3 < given[0] < 3
