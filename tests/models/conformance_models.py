"""Conformance of a model as a whole: its builder, copies of it, shapes, dtypes and outputs."""

import inspect
import json
import os
import pydoc
import subprocess
import sys
import traceback

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.cli.networks import as_input, scores_of
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.classifier import constructor_arguments
from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.training.freezing import freeze_stages, linear_probe
from keras_video_focalnet.training.optimizers import layerwise_multipliers, muon_exclusions
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.models.conformance_case import BACKEND, CLASSES, LABELS, call, check, same, same_state, without_classifier

APPLICATIONS = ("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation")


def around(case):
    """The architecture's features in a model of a user's own, with a layer before and a classifier behind."""
    inner = case.build(include_top=False, pooling="avg")
    clip = keras.Input(case.shape)
    scores = keras.layers.Dense(4, "softmax", name="own")(inner(keras.layers.Rescaling(0.5)(clip)))
    return keras.Model(clip, scores)


def with_head(case):
    """The architecture's own layers in one graph with a user's classifier."""
    model = case.build(include_top=False, pooling="avg")
    return keras.Model(model.input, keras.layers.Dense(4, "softmax", name="own")(model.output))


# === Builders and the registry ===


@check(every_builder=True)
def build(case, folder):
    model = case.model
    assert type(model) is case.architecture and issubclass(case.architecture, kvf.VideoClassifier)
    assert model.input_shape == (None, *case.shape) and model.output_shape == (None, CLASSES)
    assert (model.classes, model.labels) == (CLASSES, LABELS)
    assert np.isfinite(case.answer).all() and np.ptp(case.answer, axis=-1).min() > 1e-4
    same(case.answer.sum(-1), 1, 1e-5)


@check(every_builder=True)
def registered(case, folder):
    assert registry.family_of(case.architecture) is case.family
    for name in (case.builder.name, *case.builder.aliases):
        assert (registry.find_builder(name), registry.find_family(name)) == (case.builder, case.family)
    names = [entry.name for entry in case.family.entries if entry.architecture == case.builder.name]
    assert kvf.list_models(case.builder.name) == names and len(set(names)) == len(names)
    assert case.builder.weights is None or case.builder.weights in names


@check(every_builder=True)
def signature(case, folder):
    parameters = inspect.signature(case.function).parameters
    own = constructor_arguments(case.architecture)
    assert tuple(parameters)[: len(APPLICATIONS)] == APPLICATIONS
    assert set(parameters) == {*own, "weights", *case.architecture.load_options}
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters.values())
    assert parameters["weights"].default == case.builder.weights
    text = pydoc.plain(pydoc.render_doc(case.function))
    assert case.builder.name in text
    for name, parameter in parameters.items():
        assert f"{name}={parameter.default!r}" in text, name
    with pytest.raises(TypeError, match=f"{case.builder.name} has no argument 'no_such_argument'; it has include_top"):
        case.function(no_such_argument=1)
    with pytest.raises(ValueError, match="classes must be an integer of at least 1, received 0") as error:
        case.build(classes=0)
    assert case.builder.name in [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]


@check(every_builder=True)
def configuration(case, folder):
    config = case.model.get_config()
    for name in constructor_arguments(case.architecture):
        assert hasattr(case.model, name) or name == "input_tensor", name
        assert name in config or name == "input_tensor", name
    other = case.architecture.from_config(json.loads(json.dumps(config)))
    assert json.dumps(other.get_config()) == json.dumps(config)
    other.set_weights(case.model.get_weights())
    same(call(other, case.clips()), case.answer)


# === Copies ===


@check(slow_on=("tensorflow", "jax"))
def keras_file(case, folder):
    """A fresh process that imports Keras and the package, or the architecture's module, gives the same answer."""
    case.model.save(folder / "model.keras")
    np.save(folder / "clips.npy", case.clips())
    own = case.family.module.startswith("keras_video_focalnet.")
    code = (
        f"import sys, keras, numpy as np, keras_video_focalnet as kvf{'' if own else ', ' + case.family.module}\n"
        "model = keras.saving.load_model('model.keras')\n"
        "print(type(model).__name__, model.labels, list(kvf.feature_taps(model)))\n"
        "np.save('answer.npy', model.predict_on_batch(np.load('clips.npy').astype('float32')))\n"
    )
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.returncode == 0, done.stderr
    assert f"{case.architecture.__name__} {LABELS} {list(kvf.feature_taps(case.model))}" in done.stdout
    same(np.load(folder / "answer.npy"), case.answer)


@check(slow_on=("tensorflow", "jax"))
def clone(case, folder):
    model = keras.models.clone_model(case.model)
    assert type(model) is case.architecture and model.labels == LABELS
    assert json.dumps(model.get_config()) == json.dumps(case.model.get_config())
    model.set_weights(case.model.get_weights())
    same(call(model, case.clips()), case.answer)
    assert list(kvf.feature_taps(model)) == list(kvf.feature_taps(case.model))
    names = [{layer.name: role for layer, role in find_network(m).roles.items()} for m in (model, case.model)]
    assert names[0] == names[1]
    linear_probe(model)
    assert model.trainable_weights == find_network(model).classifier.trainable_weights != []


@check(slow_on=("tensorflow", "jax"))
def head_swap(case, folder):
    model = case.like_the_model(labels=LABELS)
    freeze_stages(model, 1)
    new = model.with_classifier(3, labels=["x", "y", "z"])
    with pytest.warns(FutureWarning, match=r"model = model.with_classifier\(classes\): it gives a new model"):
        assert model.reset_classifier(3).output_shape == (None, 3)
    assert (new.output_shape, new.labels, model.output_shape) == ((None, 3), ("x", "y", "z"), (None, CLASSES))
    same_state(*(without_classifier(case, m.state()) for m in (model, new)))
    learning = [{layer.name for layer in m.layers if layer.trainable_weights} for m in (model, new)]
    assert learning[0] == learning[1]
    pooled = [call(keras.Model(m.input, m.pooled), case.clips()) for m in (model, new)]
    same(*pooled)


@check(slow_on=("tensorflow", "jax"))
def model_around(case, folder):
    """A model of a user's own around the features, nested or in one graph, freezes, loads and shows taps."""
    state = case.model.state()
    write_safetensors(folder / "weights.safetensors", state)
    features = without_classifier(case, state)
    nested, flat = around(case), with_head(case)
    for model in (nested, flat):
        taps = list(kvf.feature_taps(model))
        assert taps == list(kvf.feature_taps(case.model))
        extractor = kvf.feature_extractor(model, taps[0])
        assert extractor.input_shape == (None, *case.shape)
        kvf.load_weights(model, folder / "weights.safetensors")
        same_state(find_network(model).state(), features)
        freeze_stages(model, find_network(model).stages)
        assert [weight.path.split("/")[-2] for weight in model.trainable_weights] == ["own", "own"]
        assert set(layerwise_multipliers(model, 0.5)) == {layer.name for layer in find_network(model).roles}
        assert any("own" in pattern for pattern in muon_exclusions(model))
        model.save(folder / "around.keras")
        loaded = keras.saving.load_model(folder / "around.keras")
        same(call(loaded, case.clips()), call(model, case.clips()))


@check(slow_on=("tensorflow", "jax"))
def input_tensor(case, folder):
    source = keras.Input(case.shape, name="source")
    arguments = {"input_tensor": keras.layers.Rescaling(0.5, name="half")(source), "input_shape": None}
    model = case.like_the_model(**arguments)
    assert not model.takes_clips_directly
    doubled = 2 * case.clips().astype("float32")
    same(call(model, doubled), case.answer, 1e-5)
    model.save(folder / "model.keras")
    same(call(keras.saving.load_model(folder / "model.keras"), doubled), case.answer, 1e-5)


# === Shapes, dtypes and outputs ===


@check(slow_on=("tensorflow", "jax"))
def dtype_policies(case, folder):
    policies = ["mixed_bfloat16", "mixed_float16"]
    # JAX has no float64 unless a process asks for it when it begins.
    for policy in policies if BACKEND == "jax" else [*policies, "float64"]:
        exact = policy == "float64"
        model = case.like_the_model(dtype=policy)
        assert model.compute_dtype_of_layers == policy.removeprefix("mixed_")
        assert {weight.dtype for weight in model.weights} == {"float64" if exact else "float32"}
        assert model.classifier.compute_dtype == ("float64" if exact else "float32")
        answer = call(model, case.clips())
        assert answer.dtype == model.classifier.compute_dtype
        # Half precision has 8 or 11 binary digits, of which some are lost from layer to layer.
        same(answer, case.answer, 1e-4 if exact else 0.1)


@check(slow_on=("tensorflow", "jax"))
def ranks(case, folder):
    """Mobile GPU delegates take no tensor of five dimensions: a clip and a grid of features alone have so many."""
    model = case.build(include_top=False)
    inner = {
        layer.name
        for layer in model.layers
        for tensor in keras.tree.flatten(layer.output)
        if len(tensor.shape) > 4 and tensor is not model.output
    }
    assert inner == {"clip"}


@check(slow_on=("tensorflow", "jax"))
def other_shapes(case, folder):
    frames, height, width, _ = case.shape
    for shape in (
        (case.architecture.least_frames, height, width),
        (2 * frames, height, width + 32),
        (frames, 2 * height + 16, width),
    ):
        model = case.build(input_shape=(*shape, 3))
        scores = call(model, case.clips(*shape))
        assert scores.shape == (2, CLASSES) and np.isfinite(scores).all()


@check(slow_on=("tensorflow", "jax"))
def any_frames(case, folder):
    model = case.like_the_model(input_shape=(None, *case.shape[1:]))
    assert model.input_shape[1] is None
    same(call(model, case.clips()), case.answer, 1e-5)
    frames = 2 * case.shape[0]
    longer = case.like_the_model(input_shape=(frames, *case.shape[1:]))
    same(call(model, case.clips(frames)), call(longer, case.clips(frames)), 1e-5)


@check(slow_on=("tensorflow", "jax"))
def pooling(case, folder):
    grid = case.like_the_model(include_top=False)
    assert (grid.classes, grid.labels, grid.classifier) == (None, None, None)
    features = call(grid, case.clips())
    assert features.shape[:2] == (2, grid.features.shape[1]) and features.shape[2:4] == tuple(grid.grid)
    for name in ("avg", "max"):
        pooled = call(case.like_the_model(include_top=False, pooling=name), case.clips())
        same(pooled, (features.mean if name == "avg" else features.max)((1, 2, 3)), 1e-5)


@check(slow_on=("tensorflow", "jax"))
def preprocessing(case, folder):
    """A model that does not normalize pixels gets them normalized by its contract, wherever pixels go in."""
    bare, clips = case.like_the_model(include_preprocessing=False), case.clips()
    assert case.model.normalizes and not bare.normalizes
    same(scores_of(bare, clips), case.answer, 1e-5)
    same(call(bare, kvf.preprocess_input(clips, preprocessing=bare.preprocessing)), case.answer, 1e-5)
    same(as_input(case.model, clips), clips)
    assert case.model.preprocess_input(clips) is clips
    same(bare.preprocess_input(clips), kvf.preprocess_input(clips, preprocessing=bare.preprocessing))
    # Frames in memory become clips of the contract's size, rule and range.
    frames = np.repeat(clips[0], 2, 0)
    rule = {"num_frames": case.shape[0], "size": case.shape[1:3], **bare.preprocessing.resize_rule}
    same(case.model.read(frames), kvf.read_clip(frames, **rule))
    same(bare.read(frames), bare.preprocess_input(kvf.read_clip(frames, **rule)))


@check()
def logits(case, folder):
    """What the contract says of scores and logits is what the model gives."""
    model = case.like_the_model(classifier_activation=None)
    assert model.gives_logits and not case.model.gives_logits
    given = call(model, case.clips())
    pooled = keras.ops.convert_to_tensor(call(keras.Model(case.model.input, case.model.pooled), case.clips()))
    own = case.model.logits(pooled)
    same(keras.ops.convert_to_numpy(own), given, 1e-5)
    same(keras.ops.convert_to_numpy(case.model.scores(own)), case.answer, 1e-5)


@check(slow_on=("torch",))
def jit_compile(case, folder):
    model = case.like_the_model()
    model.compile(jit_compile=True)
    same(model.predict(case.clips(), verbose=0), case.answer, 1e-5)
