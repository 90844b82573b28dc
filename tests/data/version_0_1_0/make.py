"""Writes the files of this folder. It ran once, with version 0.1.0 on TensorFlow, and needs that version.

Every file holds a small network with random weights. `answers.npz` holds the clip that all of them were given, and
what each gave; `digests.json` holds a digest of the weights of each, which does not depend on their names. `run/` is
a run of training that was killed after the 3rd of 4 steps, and `trained.npz` the weights of one that was not.

    python -m tests.data.version_0_1_0.make
"""

import contextlib
import json
import shutil
from pathlib import Path

import keras
import numpy as np
from keras_video_focalnet.weights.mapping import state_of

import keras_video_focalnet as kvf
from keras_video_focalnet.models.features import feature_extractor
from keras_video_focalnet.training.recipe import recipe
from keras_video_focalnet.training.train import train
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.data.version_0_1_0.common import Clips, PowerCut, digest

HERE = Path(__file__).parent
SMALL = {
    "embed_dim": 2,
    "depths": (1, 1, 1, 1),
    "focal_levels": (2, 1, 1, 1),
    "mlp_ratio": 2.0,
    "input_shape": (4, 32, 32, 3),
    "classes": 5,
    "drop_rate": 0.1,
}
OPTIONS = {
    "tubelet_size": 2,
    "use_conv_embed": True,
    "use_layerscale": True,
    "use_postln": True,
    "use_postln_in_modulation": True,
    "normalize_modulator": True,
    "drop_path_per": "clip",
    "rematerialize": "cheap",
    "labels": ["run", "jump", "swim", "ride", "fall"],
}


def network(**options):
    """A network whose weights all matter: none is 0 or 1, as some are that a training begins with."""
    keras.utils.set_random_seed(0)
    model = kvf.VideoFocalNet(**{**SMALL, **options})
    rng = np.random.default_rng(len(options))
    for weight in model.weights:
        if "float" in weight.dtype:
            center = 1.0 if weight.name == "gamma" else 0.0
            weight.assign(rng.normal(center, 0.3, weight.shape).astype("float32"))
    return model


def with_a_head(model):
    """A functional model of our layers and of Keras's, of which some have the names of ours."""
    x = keras.layers.LayerNormalization(name="extra_norm")(model.get_layer("norm").output)
    x = keras.layers.Dropout(0.5, name="extra_dropout")(keras.ops.mean(x, axis=(1, 2)))
    head = keras.Model(model.input, keras.layers.Dense(3, name="scores")(x), name="with_a_head")
    rng = np.random.default_rng(0)
    for name in ("extra_norm", "scores"):
        layer = head.get_layer(name)
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return head


def main():
    """Writes all."""
    small = network()
    int8 = network(drop_rate=0.0)
    int8.quantize("int8")
    models = {
        "small": small,
        "options": network(**OPTIONS),
        "with_a_head": with_a_head(network(rematerialize=("cheap", False, True, False))),
        "features": feature_extractor(small, ["stage0_block0", "stage1_block0/temporal_modulator"]),
        "int8": int8,
    }
    clip = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), dtype=np.uint8)
    answers = {"clip": clip}
    for name, model in models.items():
        model.save(HERE / f"{name}.keras")
        answer = model.predict(clip, verbose=0)
        for key, array in answer.items() if isinstance(answer, dict) else [("", answer)]:
            answers[f"{name}:{key}"] = array
    small.save_weights(HERE / "small.weights.h5")
    write_safetensors(HERE / "small.safetensors", state_of(small), {"note": "of version 0.1.0"})
    np.savez_compressed(HERE / "answers.npz", **answers)

    shutil.rmtree(HERE / "run", ignore_errors=True)
    plan = recipe("k400", epochs=2, warmup_epochs=1.0, rate_batch=2)
    logits = {"classifier_activation": None}
    with contextlib.suppress(RuntimeError):
        train(network(**logits), Clips(), None, plan, out=HERE / "run", save_every=3, callbacks=[PowerCut(4)])
    (HERE / "run/checkpoints/step-00000002.safetensors").unlink()
    unbroken = network(**logits)
    train(unbroken, Clips(), None, plan, out=HERE / "unbroken", progress=False)
    shutil.rmtree(HERE / "unbroken")
    np.savez_compressed(HERE / "trained.npz", *unbroken.get_weights())
    (HERE / "digests.json").write_text(json.dumps({name: digest(model) for name, model in models.items()}, indent=1))


if __name__ == "__main__":
    main()
