"""The golden training run, done again with the package's own optimizer and schedule."""

import json
from dataclasses import dataclass

import keras
import numpy as np

from keras_video_focalnet.models.building import load_weights
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet
from keras_video_focalnet.training.optimizers import TorchSGD
from keras_video_focalnet.training.schedule import WarmupCosine
from tests.golden import expected, golden, options

LOSS = 1e-4
GRADIENT_NORM = 3e-4
PARAMETERS = 1e-4

# What `config.json` holds beside the arguments of the model.
SETTINGS = (
    "base_lr",
    "warmup_lr",
    "min_lr",
    "total_steps",
    "warmup_steps",
    "momentum",
    "nesterov",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
)


@dataclass(frozen=True)
class Errors:
    """Worst errors: of a loss, of a gradient norm (relative), of all parameters (norm of difference over norm).

    `by_parameter` has the last for each parameter, by the reference's names.
    """

    loss: float
    gradient_norm: float
    parameters: float
    by_parameter: dict


def settings():
    config = json.loads((golden("training") / "config.json").read_text())
    return {name: config[name] for name in SETTINGS}


def schedule():
    config = settings()
    return WarmupCosine(
        config["base_lr"], config["total_steps"], config["warmup_steps"], config["warmup_lr"], config["min_lr"]
    )


def errors(jit_compile="auto", dtype="float32"):
    """Train the golden run's model for its steps, and compare."""
    data, config = expected("training"), settings()
    arguments = {name: value for name, value in options("training").items() if name not in SETTINGS}
    model = VideoFocalNet(**arguments, drop_path_rate=0.0, dtype=dtype)
    load_weights(model, golden("training") / "checkpoint.pth")
    optimizer = TorchSGD(
        schedule(),
        momentum=config["momentum"],
        nesterov=config["nesterov"],
        weight_decay=config["weight_decay"],
        global_clipnorm=config["clip_norm"],
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, dtype=dtype)
    model.compile(optimizer, loss, jit_compile=jit_compile)
    optimizer.build(model.trainable_variables)  # In the first step TensorFlow would trace that step twice.

    smoothing, classes = config["label_smoothing"], arguments["classes"]
    targets = np.eye(classes)[data["labels"]] * (1 - smoothing) + smoothing / classes
    losses, norms = [], []
    for step in range(config["total_steps"]):
        batch = step % len(data["inputs"])
        clips = data["inputs"][batch].astype(dtype)
        losses.append(float(model.train_on_batch(clips, targets[batch].astype(dtype))))
        norms.append(float(keras.ops.convert_to_numpy(optimizer.gradient_norm)))

    wanted = {name.removeprefix("final/"): data[name] for name in data.files if name.startswith("final/")}
    actual = model.state()
    assert actual.keys() == wanted.keys()
    difference = {name: np.linalg.norm(actual[name] - wanted[name]) for name in wanted}
    size = {name: np.linalg.norm(wanted[name]) for name in wanted}
    return Errors(
        loss=float(np.abs(np.array(losses) - data["losses"]).max()),
        gradient_norm=float(np.abs(np.array(norms) / data["grad_norms"] - 1).max()),
        parameters=float(np.linalg.norm(list(difference.values())) / np.linalg.norm(list(size.values()))),
        by_parameter={name: float(difference[name] / size[name]) for name in wanted},
    )
