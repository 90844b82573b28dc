"""A small model, the clips it takes and what it says of them; the tests of exported files begin with these."""

import keras
import numpy as np

import keras_video_focalnet as kvf
from benchmarks.subjects import with_scales_and_shifts

SMALL = {
    "embed_dim": 8,
    "depths": (1, 1, 1, 1),
    "input_shape": (4, 32, 32, 3),
    "classes": 5,
    "labels": ["run", "walk", "jump", "sit", "fall"],
    "drop_path_rate": 0.0,
}


def small(**options):
    keras.utils.set_random_seed(0)
    model = kvf.VideoFocalNet(**{**SMALL, **options})
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            # So large that every part has a say.
            weight.assign(rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape))
    return with_scales_and_shifts(model)


def around(**options):
    """Keras's own model around one of ours, with a head of somebody's own."""
    body = small(include_top=False, labels=None, pooling="avg", **options)
    clip = keras.Input(SMALL["input_shape"])
    return keras.Model(clip, keras.layers.Dense(5, "softmax", name="own")(body(clip)), name="around")


def clips_like(model, count=3):
    frames, height, width, _ = model.input_shape[1:]
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, frames or 8, height // 8, width // 8, 3))
    return coarse.repeat(8, 2).repeat(8, 3).astype("uint8")


def scores(model, clips):
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(clips.astype("float32")), training=False))
