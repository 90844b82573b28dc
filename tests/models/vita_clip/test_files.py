"""Files of a Vita-CLIP and of a model around it give the same scores in another process and on another backend, which
computes the text features of the file's names once.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.vita_clip.model import VitaCLIP
from tests.models.conformance_case import scattered

ROOT = Path(__file__).parents[3]
OTHER = {"tensorflow": "torch", "torch": "jax", "jax": "tensorflow"}[keras.backend.backend()]
NAMES = ["run", "walk", "jump", "sit", "fall", "open a door", "close a door", "eat", "drink"]
SMALL = {
    **{"embed_dim": 16, "depth": 2, "num_heads": 2, "projection_dim": 12, "num_global_prompts": 3},
    **{"text_dim": 8, "text_heads": 2, "text_depth": 2, "context_tokens": 3, "input_shape": (4, 32, 32, 3)},
}
CHILD = """
import sys
import keras
import numpy as np
from keras_video_focalnet.models.vita_clip.text_tower import TextTower
from tests.models.vita_clip.test_files import made

path, clips, scores = sys.argv[1:]
texts, call = [], TextTower.call

def counted(self, inputs, ends):
    texts.append(inputs.shape[0])
    return call(self, inputs, ends)

TextTower.call = counted
if path.endswith(".keras"):
    model = keras.saving.load_model(path)
else:
    model = made(seed=1)
    model.load_weights(path)
np.save(scores, model.predict(np.load(clips), verbose=0))
print(sum(texts))
"""

pytestmark = pytest.mark.skipif(importlib.util.find_spec(OTHER) is None, reason=f"{OTHER} is not installed")


def made(seed=0, **options):
    keras.utils.set_random_seed(seed)
    return scattered(VitaCLIP(NAMES, **{**SMALL, **options}))


def around():
    """A model of somebody's own around ours, which sees clips darker."""
    model = made()
    clip = keras.Input(SMALL["input_shape"])
    return keras.Model(clip, model(keras.layers.Rescaling(0.5)(clip)), name="around")


def after_a_step():
    model = made()
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", jit_compile=False)
    model.train_on_batch(noise(2), np.array([0, 1]))
    return model


def quantized():
    model = made()
    model.quantize("int8")
    return model


def noise(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, *SMALL["input_shape"])).astype("float32")


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize(
    "make,name",
    [
        pytest.param(after_a_step, "model.keras", id="trained"),
        pytest.param(made, "model.weights.h5", id="weights", marks=pytest.mark.slow),
        pytest.param(around, "around.keras", id="around", marks=pytest.mark.slow),
        pytest.param(quantized, "int8.keras", id="int8", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow_on("tensorflow", "jax")
def test_another_backend_gives_the_scores_of_a_file(make, name, tmp_path):
    model = make()
    # Nobody has asked for text features before the file is written.
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    np.save(tmp_path / "clips.npy", noise())
    paths = [tmp_path / name, tmp_path / "clips.npy", tmp_path / "scores.npy"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": OTHER, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    own = model.predict(noise(), verbose=0)
    assert np.ptp(own, axis=0).max() > 1e-3
    # A number that lies between two of 8 bits may be rounded to either.
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), own, atol=0.02 if make is quantized else 1e-5)
    assert int(done.stdout.split()[-1]) == len(NAMES)


def test_features_that_are_not_of_the_weights_are_computed_anew(tmp_path):
    model = made()
    right = model.predict(noise(), verbose=0)
    model.save_weights(tmp_path / "right.weights.h5")
    other = made(seed=1)
    kept = other.classifier.kept.features
    other.load_weights(tmp_path / "right.weights.h5")
    kept.assign(np.random.default_rng(2).normal(0, 1, kept.shape))
    np.testing.assert_allclose(other.predict(noise(), verbose=0), right, atol=1e-6)


def test_weights_of_the_same_names_in_another_order(tmp_path):
    options = {"context": None, "classifier_activation": None}
    model = made(**options)
    right = model.predict(noise(), verbose=0)
    model.save_weights(tmp_path / "right.weights.h5")
    order = [0, 2, 1, *range(3, len(NAMES))]
    keras.utils.set_random_seed(1)
    other = VitaCLIP([NAMES[place] for place in order], **SMALL, **options)
    other.load_weights(tmp_path / "right.weights.h5")
    np.testing.assert_allclose(other.predict(noise(), verbose=0), right[:, order], atol=1e-4)
    assert np.abs(right[:, 1] - right[:, 2]).min() > 1e-2


def test_a_part_of_a_model_whose_prompts_train(tmp_path):
    model = made()
    part = keras.Model(model.input, model.get_layer("norm").output)
    part.save(tmp_path / "part.keras")
    again = keras.saving.load_model(tmp_path / "part.keras")
    np.testing.assert_array_equal(again.predict(noise(1), verbose=0), part.predict(noise(1), verbose=0))
    again.trainable = True
    count = len(part.trainable_weights)
    assert len(again.trainable_weights) == len(keras.models.clone_model(part).trainable_weights) == count > 0
