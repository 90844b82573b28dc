"""What the conformance checks have in common: the case of a builder, and how a check is registered and run."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_video_focalnet.models import registry

BACKEND = keras.backend.backend()
CLASSES, LABELS = 5, ("run", "walk", "jump", "sit", "fall")


@dataclasses.dataclass(frozen=True)
class Case:
    """A builder of a family, whose models are small."""

    family: registry.Family
    builder: registry.Builder

    @functools.cached_property
    def architecture(self):
        return self.family.architecture()

    @functools.cached_property
    def function(self):
        return self.family.function(self.builder)

    @functools.cached_property
    def shape(self):
        return tuple(self.architecture.small_arguments["input_shape"])

    def build(self, **arguments):
        """A small model with random weights, all of which have a say."""
        model = self.function(**{"weights": None, **self.architecture.small_arguments, "classes": CLASSES, **arguments})
        return scattered(model) if arguments.get("weights") is None else model

    @functools.cached_property
    def model(self):
        """The model that checks look at and leave as it is."""
        return self.build(labels=LABELS)

    @functools.cached_property
    def answer(self):
        return call(self.model, self.clips())

    def clips(self, frames=None, height=None, width=None):
        """Two clips of coarse noise as pixels."""
        shape = [wanted or own for wanted, own in zip((frames, height, width), self.shape, strict=False)]
        rng = np.random.default_rng(1)
        coarse = rng.integers(0, 256, (2, shape[0], -(-shape[1] // 8), -(-shape[2] // 8), 3), dtype="uint8")
        return coarse.repeat(8, 2).repeat(8, 3)[:, :, : shape[1], : shape[2]]

    def like_the_model(self, **arguments):
        """Another model with the weights of `model`."""
        model = self.build(**{"labels": LABELS, **arguments} if arguments.get("include_top", True) else arguments)
        # As arrays: JAX would have both models hold one buffer, which what one of them does may free.
        arrays = {weight.path: keras.ops.convert_to_numpy(weight) for weight in self.model.weights}
        for weight in model.weights:
            weight.assign(arrays[weight.path])
        return model


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: its function of a case and a folder, which builders it needs, and where it takes long."""

    function: Callable[[Case, Path], None]
    every_builder: bool
    slow_on: tuple[str, ...]


CHECKS: dict[str, Check] = {}


def check(every_builder=False, slow_on=()):
    """Make a function a check of that name: of the family's first builder, the others being slow, or of every one on
    PyTorch.
    """

    def decorate(function):
        CHECKS[function.__name__] = Check(function, every_builder, tuple(slow_on))
        return function

    return decorate


def run(case, name, folder):
    """Run a check of a case in an empty folder; what the architecture excludes must fail, and is skipped then."""
    reason = case.architecture.exclusions.get(name)
    if reason is None:
        CHECKS[name].function(case, folder)
        return
    try:
        CHECKS[name].function(case, folder)
    except (Exception, pytest.fail.Exception):  # A check fails by an assertion, the architecture by anything.
        pytest.skip(f"{case.family.title}: {reason}")
    pytest.fail(f"{case.family.title} passes {name!r}; take it out of its exclusions.")


def scattered(model):
    """The model with other weights than layers begin with: of matrices so large that every part has a say."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape))
        else:
            weight.assign(weight + rng.uniform(0, 0.2, weight.shape))
    return model


def call(model, clips):
    """What a model gives for clips, as an array or a dict of arrays; JAX compiles it as one."""
    clips = clips.astype("float32")
    given = model.predict_on_batch(clips) if BACKEND == "jax" else model(clips, training=False)
    return keras.tree.map_structure(lambda tensor: np.asarray(keras.ops.convert_to_numpy(tensor)), given)


def same(left, right, tolerance=1e-6):
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def same_state(left, right):
    assert list(left) == list(right)
    for name, array in left.items():
        assert array.tobytes() == right[name].tobytes(), name


def without_classifier(case, state):
    own = case.architecture.layer_slots(case.model.classifier)
    return {name: array for name, array in state.items() if name not in own}
