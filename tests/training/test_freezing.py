"""Which layers learn after freezing, and which models are refused."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet
from keras_video_focalnet.training.freezing import freeze_stages, linear_probe


def network(**kwargs):
    """A very small Video-FocalNet with two blocks in its third stage."""
    arguments = {"embed_dim": 8, "depths": (1, 1, 2, 1), "input_shape": (2, 32, 32, 3), "classes": 4}
    return VideoFocalNet(**{**arguments, **kwargs})


ORDER = [
    "patch_embed",
    "stage0_block0",
    "stage0_downsample",
    "stage1_block0",
    "stage1_downsample",
    "stage2_block0",
    "stage2_block1",
    "stage2_downsample",
    "stage3_block0",
    "norm",
    "head",
]


def learning(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def test_layers_are_told_in_order():
    assert [layer.name for layer in find_network(network()).roles] == ORDER
    assert [layer.name for layer in find_network(keras.models.clone_model(network())).roles] == ORDER
    assert [layer.name for layer in find_network(network(include_top=False)).roles] == ORDER[:-1]


@pytest.mark.parametrize(("count", "frozen"), [(0, 1), (1, 3), (2, 5), (3, 8), (4, 10)])
def test_the_stem_and_the_first_stages_are_frozen(count, frozen):
    model = network()
    freeze_stages(model, 4)
    freeze_stages(model, count)
    assert learning(model) == ORDER[frozen:]


def test_a_linear_probe_trains_the_classifier_alone():
    model = network()
    linear_probe(model)
    assert learning(model) == ["head"]


def test_layers_around_a_network_are_left_alone():
    clip = keras.Input((2, 32, 32, 3))
    features = network(include_top=False, pooling="avg")(keras.layers.Rescaling(2.0)(clip))
    model = keras.Model(clip, keras.layers.Dense(2, name="classifier")(features))
    freeze_stages(model, 4)
    assert [weight.path for weight in model.trainable_weights] == ["classifier/kernel", "classifier/bias"]


def test_a_frozen_block_still_draws_its_stochastic_depth():
    model = network(drop_path_rate=0.5)
    freeze_stages(model, 4)
    branch = np.ones((64, 2, 1, 1), "float32")
    kept = model.get_layer("stage3_block0").drop_path_2(branch, training=True)
    assert set(np.unique(keras.ops.convert_to_numpy(kept))) == {0, 2}


def test_other_models_are_refused():
    clip = keras.Input((4,))
    other = keras.Model(clip, keras.layers.Dense(2, name="head")(clip), name="perceptron")
    with pytest.raises(ValueError, match="model 'perceptron' holds 0 networks of ours"):
        freeze_stages(other, 1)


def test_two_networks_are_refused():
    clip = keras.Input((2, 32, 32, 3))
    both = keras.layers.add([network(name="first")(clip), network(name="second")(clip)])
    with pytest.raises(ValueError, match="holds 2 networks of ours"):
        linear_probe(keras.Model(clip, both))


def test_a_network_without_a_classifier_is_no_linear_probe():
    with pytest.raises(ValueError, match=r"has no classifier to train.*freeze_stages\(model, 4\)"):
        linear_probe(network(include_top=False))


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (5, "count must be an integer from 0 to 4, received 5; 0 freezes the stem alone"),
        (-1, "count must be an integer from 0 to 4, received -1"),
        (1.5, "count must be an integer from 0 to 4, received 1.5"),
    ],
)
def test_bad_arguments(count, message):
    with pytest.raises(ValueError, match=message):
        freeze_stages(network(), count)
