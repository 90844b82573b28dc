"""Conformance of the parts of a model: layers by their roles, training, weights and export."""

import re

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.maps import GATES, OFFSETS, TOKENS
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, STEM
from keras_video_focalnet.training.freezing import freeze_stages, linear_probe
from keras_video_focalnet.training.optimizers import LayerwiseAdamW, Muon, layerwise_multipliers, muon_exclusions
from keras_video_focalnet.visualization.layer_values import layer_values
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.gradients import loss_and_gradients
from tests.models.conformance_case import CLASSES, LABELS, call, check, same, same_state, without_classifier

# === Layers by their roles ===


@check(slow_on=("tensorflow", "jax"))
def taps(case, folder):
    found = kvf.feature_taps(case.model)
    blocks = [layer.name for layer in case.model.network.layers_of(BLOCK)]
    assert set(blocks) == {name.split("/")[0] for name in found}
    features = call(kvf.feature_extractor(case.model, list(found)), case.clips())
    assert set(features) == set(found)
    for name, tensor in found.items():
        assert features[name].shape[1:] == tuple(tensor.shape[1:]) and len(tensor.shape) <= 4
        assert np.isfinite(features[name]).all() and np.ptp(features[name]) > 0, name
    with pytest.raises(ValueError, match=f"no_such_tap.*there are: {blocks[0]}"):
        kvf.feature_extractor(case.model, ["no_such_tap"])


@check(slow_on=("tensorflow", "jax"))
def maps(case, folder):
    """What can be seen at a block has a place for each part of a frame, and of some block Grad-CAM can be made."""
    network, clip, sides = case.model.network, case.clips()[0], case.shape[1:3]
    found = network.maps()
    assert list(found) == [layer.name for layer in network.layers_of(BLOCK)]
    flat = {f"{block}/{name}": each for block, maps_of_it in found.items() for name, each in maps_of_it.items()}
    assert flat and any(each.kind == TOKENS for each in flat.values())
    for (name, each), values in zip(flat.items(), layer_values(network, list(flat.values()), clip), strict=True):
        frames, height, width, channels = values.shape
        assert case.shape[0] % (frames + each.of_pairs) == 0, name
        assert each.grid in (None, (height, width)) and max(height, width) <= max(sides), name
        assert (height > width) <= (sides[0] > sides[1]), name
        assert np.isfinite(values).all() and np.ptp(values) > 0, name
        assert each.kind != GATES or len(each.names) == channels, name
        assert each.kind != OFFSETS or channels % 2 == 0, name
    seen = kvf.visualize(case.model, clip, what="grad-cam", target=LABELS[1])
    assert seen.target == LABELS[1] and seen.maps["grad-cam"].shape == case.shape[:3]
    for other in (keras.models.clone_model(case.model), keras.Model(case.model.input, case.model.output * 2)):
        assert kvf.visualize(other, clip).maps.keys() == kvf.visualize(case.model, clip).maps.keys()


@check()
def roles(case, folder):
    """From the stem to the classifier, every weight belongs to one layer with a role and has one slot."""
    network = case.model.network
    kinds = [role.kind for role in network.roles.values()]
    assert kinds[0] == STEM and kinds[-1] == CLASSIFIER and kinds.count(CLASSIFIER) == 1
    order = [network.frozen_from(layer) for layer in network.roles]
    assert order == sorted(order)
    stages = [role.stage for role in network.roles.values() if role.kind == BLOCK]
    assert list(dict.fromkeys(stages)) == list(range(network.stages))
    weights = [id(weight) for weight in case.model.weights]
    assert sorted(weights) == sorted(id(weight) for layer in network.roles for weight in layer.weights)
    assert sorted(weights) == sorted(id(slot.variable) for slot in network.slots().values())


@check()
def foreign_layers(case, folder):
    """A layer of another kind that is called nearly as one of the network's is none of the network's."""
    names = {re.sub(r"\d+", "", layer.name) for layer in case.model.network.roles}
    names -= {layer.name for layer in case.model.network.roles}
    for name in (*names, *(f"my_{layer.name}" for layer in case.model.network.roles), "dense"):
        assert case.architecture.role(keras.layers.Identity(name=name)) is None, name


@check(slow_on=("tensorflow", "jax"))
def freezing(case, folder):
    model = case.build()
    network = model.network
    for count in range(network.stages + 1):
        freeze_stages(model, count)
        learning = [layer for layer in network.roles if layer.trainable_weights]
        assert learning == [layer for layer in network.roles if network.frozen_from(layer) > count]
        assert learning[-1] is network.classifier and network.layers_of(STEM)[0] not in learning
    other = case.architecture.from_config(model.get_config())
    assert [weight.path for weight in other.trainable_weights] == [weight.path for weight in model.trainable_weights]
    linear_probe(other)
    assert other.trainable_weights == other.classifier.trainable_weights != []
    with pytest.raises(ValueError, match=f"from 0 to {network.stages}, received {network.stages + 1}"):
        freeze_stages(model, network.stages + 1)


@check()
def layer_decay(case, folder):
    multipliers = layerwise_multipliers(case.model, 0.5)
    network = case.model.network
    assert list(multipliers) == [layer.name for layer in network.roles]
    rates = list(multipliers.values())
    assert rates == sorted(rates) and rates[-1] == 1.0
    assert rates[0] == 0.5 ** (1 + len(network.layers_of(BLOCK)))


@check()
def muon(case, folder):
    """By itself or by `muon_exclusions`, Muon leaves the stem and the classifier to Adam's update."""
    excluded = {id(weight) for layer in case.model.network.layers_of(STEM, CLASSIFIER) for weight in layer.weights}
    for optimizer in (Muon(), Muon(exclude_layers=muon_exclusions(case.model))):
        by_adam = [optimizer._should_use_adamw(weight) for weight in case.model.trainable_weights]
        assert all(by_adam[i] for i, weight in enumerate(case.model.trainable_weights) if id(weight) in excluded)
        assert not all(by_adam)


@check(slow_on=("tensorflow", "jax"))
def multiply_adds(case, folder):
    frames, *rest = case.shape
    one, *longer = (case.build(include_top=False, input_shape=(count * frames, *rest)) for count in (1, 2, 3))
    macs = [kvf.count_macs(model) for model in (one, *longer)]
    # What is computed once a clip is not doubled with its frames.
    assert 0 < macs[1] - macs[0] == macs[2] - macs[1] <= macs[0]
    assert kvf.count_macs(case.model) > kvf.count_macs(one)
    with pytest.raises(ValueError, match="any number of frames"):
        kvf.count_macs(case.build(input_shape=(None, *rest)))
    unknown = keras.layers.Lambda(lambda x: x, name="unknown")
    with pytest.raises(ValueError, match="layer 'unknown' .* are not known"):
        kvf.count_macs(keras.Model(one.input, unknown(one.output)))


# === Training ===


def batch(case):
    """Clips and their classes, so many that stochastic depth never drops a block of all of them."""
    return np.concatenate([case.clips().astype("float32")] * 8), np.arange(16) % CLASSES


@check()
def gradients(case, folder):
    model = case.like_the_model(classifier_activation=None)
    loss, found = loss_and_gradients(model)(*batch(case))
    assert np.isfinite(loss)
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert gradient.shape == tuple(weight.shape), weight.path
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


@check(slow_on=("jax",))
def training_step(case, folder):
    """A step moves what is not frozen and nothing else, and leaves numbers."""
    model = case.like_the_model(classifier_activation=None)
    freeze_stages(model, 1)
    optimizer = LayerwiseAdamW(1e-3, multipliers=layerwise_multipliers(model, 0.5))
    # XLA compiles for long.
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    # In the first step TensorFlow would trace that step twice.
    model.optimizer.build(model.trainable_variables)
    before = model.state()
    assert np.isfinite(model.train_on_batch(*batch(case)))
    learning = {id(weight) for weight in model.trainable_weights}
    frozen = {id(weight) for layer in model.network.roles if not layer.trainable_weights for weight in layer.weights}
    for name, slot in model.network.slots().items():
        array = slot.to_reference()
        assert np.isfinite(array).all(), name
        if id(slot.variable) in learning:
            assert (array != before[name]).any(), name
        elif id(slot.variable) in frozen:
            # Also statistics of batches, which move in layers that learn.
            assert array.tobytes() == before[name].tobytes(), name


# === Weights ===


def weights_files(case, folder):
    """The model's weights in every format that its architecture reads."""
    import torch

    state = case.model.state()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, folder / "weights.pth")
    write_safetensors(folder / "weights.safetensors", state)
    case.model.save_weights(folder / "model.weights.h5")
    case.model.save(folder / "model.keras")
    return [folder / name for name in ("weights.pth", "weights.safetensors", "model.weights.h5", "model.keras")]


@check()
def state_there_and_back(case, folder):
    state, model = case.model.state(), case.build()
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    assert model.load_state(state) == []
    same_state(model.state(), state)
    last = list(without_classifier(case, state))[-1]
    for wrong, message in (
        ({name: array for name, array in state.items() if name != last}, f"tensor '{last}' is missing"),
        ({**state, "no.such.tensor": np.ones(1, "float32")}, "tensor 'no.such.tensor' has no place"),
        ({**state, last: np.ones((1, 2, 3), "float32")}, f"tensor '{last}' has shape .1, 2, 3."),
    ):
        with pytest.raises(WeightsFileError, match=message):
            model.load_state({name: array + 1 for name, array in wrong.items()})
        same_state(model.state(), state)


@check(slow_on=("tensorflow", "jax"))
def weights_from_files(case, folder):
    """Every format gives the same bits, the number of classes and, where the file has them, their names."""
    for path in weights_files(case, folder):
        model = case.build(weights=path, classes=None)
        assert model.classes == CLASSES, path.name
        assert model.labels == (LABELS if path.suffix == ".keras" else None)
        same_state(model.state(), case.model.state())


@check(slow_on=("tensorflow", "jax"))
def weights_of_other_classes(case, folder):
    for path in weights_files(case, folder):
        with pytest.warns(UserWarning, match=f"has {CLASSES} classes and the model 7"):
            model = case.build(weights=path, classes=7)
        assert model.output_shape == (None, 7)
        same_state(*(without_classifier(case, m.state()) for m in (model, case.model)))
        features = case.build(weights=path, include_top=False)
        same_state(features.state(), without_classifier(case, case.model.state()))


# === Export ===


def exported(case, path):
    """Export a model without preprocessing of its own, whose file takes pixels all the same."""
    bare = case.like_the_model(include_preprocessing=False, labels=LABELS)
    report = kvf.export(bare, path, clips=case.clips())
    file = kvf.load_exported(path)
    assert (file.labels, file.input_shape) == (LABELS, case.shape)
    assert report["difference"] < 1e-4
    same(file.predict(case.clips()), case.answer, 1e-4)


@check(slow_on=("jax", "torch"))
def export_litert(case, folder):
    exported(case, folder / "model.tflite")


@check(slow_on=("tensorflow", "jax", "torch"))
def export_onnx(case, folder):
    exported(case, folder / "model.onnx")
