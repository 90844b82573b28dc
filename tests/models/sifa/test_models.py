"""SIFA's models beside parity: sizes, costs, what they refuse, and the loss of two heads."""

import json

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.layers import initializers
from tests.sifa_golden import FIXED, file, present

BACKEND = keras.backend.backend()
SMALL = {"classes": 3, "input_shape": (16, 64, 64, 3), "weights": None}
TINY_NET = {"width": 4, "depths": (1, 2, 2, 1)}
# Builder: trained and used parameters and GMAC at 400 classes and 16 frames, shapes, and whether it takes long.
SIZES = {
    "SIFANet50": (43_040_928, 23.99, ("sifa_net50", "shapes.json")),
    "SIFANet101": (63_554_272, 39.19, ("shapes", "c2d_sifa_resnet101.json")),
    "SIFATransformerS": (53_288_602, 39.04, ("shapes", "c2d_sifa_swin_vit_s_p4_w7.json")),
    "SIFATransformerB": (94_509_128, 68.85, ("sifa_transformer_base", "shapes.json")),
    "SIFATransformerL": (212_136_868, 153.7, ("shapes", "c2d_sifa_swin_vit_l_p4_w7.json")),
}


@pytest.fixture
def full(monkeypatch):
    """Builds models of full size without drawing their weights."""
    for kind in (initializers.NumpyNormal, initializers.NumpyFanInUniform, initializers.NumpyFanOutNormal):
        monkeypatch.setattr(kind, "draw", lambda self, rng, shape: np.zeros(shape, "float32"))
    return lambda name, **options: getattr(kvf, name)(**{"weights": None, **options})


def by_size(names):
    return [name if name == "SIFANet50" else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", by_size(SIZES))
def test_names_shapes_parameters_and_multiply_adds(name, full):
    parameters, gmac, shapes = SIZES[name]
    model = full(name)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == parameters
    # The specification gives two decimals, of 100 and more one.
    assert kvf.count_macs(model) / 1e9 == pytest.approx(gmac, abs=0.0051 if gmac < 100 else 0.051)
    wanted = {key: tuple(shape) for key, shape in json.loads(present(*shapes).read_text()).items()}
    slots = {key: slot.reference_shape for key, slot in model.network.slots().items()}
    assert slots.items() <= wanted.items()
    left = {key for key in wanted.keys() - slots.keys() if not key.endswith(FIXED)}
    unused = type(model).unused_state(model.network)
    assert {**slots, **{key: array.shape for key, array in unused.items()}} == wanted
    # Of both looks at other frames a block of the transformer has, one is used.
    assert all(".conv.weight" in key or ".tda_norm." in key for key in left) and bool(left) == ("Transformer" in name)


@pytest.mark.slow
@pytest.mark.parametrize("name,frames,gmac", [("SIFANet50", 64, 95.97), ("SIFATransformerB", 64, 275.40)])
def test_multiply_adds_of_long_clips(name, frames, gmac, full):
    macs = kvf.count_macs(full(name, input_shape=(frames, 224, 224, 3)))
    assert macs / 1e9 == pytest.approx(gmac, abs=0.0051 if gmac < 100 else 0.11)


@pytest.mark.parametrize(
    "builder,arguments,message",
    [
        ("SIFANetNano", {"input_shape": (8, 64, 64, 3)}, "has 8 frames, of which 4 make one.*pass at least 16 frames"),
        ("SIFATransformerNano", {"input_shape": (4, 64, 64, 3)}, "has 4 frames, .*pass at least 8 frames"),
        ("SIFANetNano", {"input_shape": (10, 64, 64, 3)}, "10 frames, which tubelet_size=4 does not divide"),
        ("SIFANetNano", {"kernel_size": 2}, "kernel_size must be an odd integer, received 2"),
        ("SIFANetNano", {"kernel_size": (3, 3)}, "kernel_size must be one value or 4, one for each stage"),
        ("SIFATransformerNano", {"kernel_size": 4}, "kernel_size must be an odd integer, received 4"),
        ("SIFATransformerNano", {"input_shape": (8, 64, 72, 3)}, "multiples of 32, which are 4 stages.*resize the"),
        ("SIFATransformerNano", {"input_shape": (8, 96, 64, 3)}, r"windows fill the grid \(6, 4\) of stage 2.*choose"),
        ("SIFATransformerNano", {"num_heads": 3}, "num_heads must be a divisor of the 16 channels, received 3"),
    ],
)
def test_what_is_refused(builder, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(kvf, builder)(**{**SMALL, **arguments})


@pytest.mark.slow_on("jax")
def test_each_head_is_trained_by_the_loss():
    """The loss of training is the sum of the heads'; that of evaluation is of the mean of their softmaxes."""
    model = kvf.SIFANetNano(**SMALL, **TINY_NET, drop_rate=0.0)
    clips = np.random.default_rng(0).integers(0, 256, (4, 16, 64, 64, 3)).astype("float32")
    labels = np.eye(3)[[0, 1, 2, 1]]
    # With the statistics of batches that are kept, scores are the same in both.
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", jit_compile=False)
    pooled = keras.Model(model.input, model.pooled).predict(clips, verbose=0)
    heads = [
        np.asarray(keras.ops.convert_to_numpy(keras.ops.softmax(each)))
        for each in model.classifier.logits_of_heads(keras.ops.convert_to_tensor(pooled))
    ]
    losses = [-np.log((shares * labels).sum(-1)).mean() for shares in heads]
    joined = -np.log((np.mean(heads, 0) * labels).sum(-1)).mean()
    assert abs(losses[0] - losses[1]) > 1e-3
    assert model.evaluate(clips, labels, verbose=0) == pytest.approx(joined, rel=1e-4)
    assert model.train_on_batch(clips, labels) == pytest.approx(sum(losses), rel=1e-4)
    weights = np.array([1.0, 0.0, 2.0, 0.0])
    each = sum(-np.log((shares * labels).sum(-1)) for shares in heads)
    assert model.train_on_batch(clips, labels, weights) == pytest.approx((each * weights).mean(), rel=1e-4)


def test_open_frames_are_checked_when_it_is_called():
    model = kvf.SIFANet(**kvf.SIFANet.small_arguments | {"input_shape": (None, 32, 32, 3)}, classes=3)
    with pytest.raises(ValueError, match="has 18 frames, which tubelet_size=4 does not divide; pass a multiple of 4"):
        model(np.zeros((1, 18, 32, 32, 3), "float32"))


def test_half_a_classifier_is_missed_by_its_name():
    model = kvf.SIFANetNano(weights=None, classes=3)
    state = {name: array for name, array in model.state().items() if not name.startswith("fc.")}
    with pytest.raises(ValueError, match="the tensor 'fc.weight' is missing"):
        model.load_state(state)


@pytest.mark.slow_on("jax")
def test_a_loss_is_of_the_scores_that_it_is_given():
    model = kvf.SIFANetNano(weights=None, classes=3)
    model.compile(loss="categorical_crossentropy")
    clip, target = np.zeros((1, 16, 64, 64, 3), "float32"), np.eye(3, dtype="float32")[:1]
    scores, other = model(clip, training=True), keras.ops.convert_to_tensor(target)
    of_other = float(model.compute_loss(None, target, other))
    assert of_other == pytest.approx(0, abs=1e-5)
    assert float(model.compute_loss(None, target, scores)) > 0.1
    scores = model(clip, training=True)
    of_both = float(model.compute_loss(None, target, scores))
    assert of_both == pytest.approx(2 * float(model.compute_loss(None, target, scores)), rel=0.5) and of_both > 0.2


@pytest.mark.slow_on("jax")
def test_what_layers_add_to_the_loss_counts_once():
    model = kvf.SIFANetNano(**SMALL, **TINY_NET, drop_rate=0.0)
    clips = np.zeros((2, 16, 64, 64, 3), "float32")
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", jit_compile=False)
    labels = np.eye(3)[[0, 1]]
    before = model.train_on_batch(clips, labels)
    model.get_layer("stage0_block0").conv1.regularizer = lambda kernel: 7.0 + 0.0 * keras.ops.sum(kernel)
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", jit_compile=False)
    assert model.train_on_batch(clips, labels) == pytest.approx(before + 7.0, rel=1e-3)


def test_scores_of_several_labels_are_the_mean_of_both_sigmoids():
    model = kvf.SIFANetNano(**SMALL, **TINY_NET, classifier_activation="sigmoid")
    clips = np.random.default_rng(0).integers(0, 256, (1, 16, 64, 64, 3), dtype="uint8")
    pooled = keras.Model(model.input, model.pooled).predict(clips, verbose=0)
    heads = model.classifier.logits_of_heads(keras.ops.convert_to_tensor(pooled))
    wanted = np.mean([1 / (1 + np.exp(-keras.ops.convert_to_numpy(each))) for each in heads], 0)
    np.testing.assert_allclose(model.predict(clips, verbose=0), wanted, atol=1e-6)


def test_recipes_of_the_family_are_found_by_its_builders():
    recipe = kvf.get_recipe("Kinetics-400", architecture="sifa50")
    assert (recipe.epochs, recipe.num_frames, recipe.stride, recipe.nesterov) == (64, 16, 1, False)
    assert kvf.get_recipe("k400").num_frames == 8 and kvf.get_recipe("k400").nesterov
    assert kvf.get_recipe("ssv1", architecture="sifa-base").num_frames == 64
    model = kvf.SIFANetNano(**SMALL, **TINY_NET)
    # Four batches of 96 clips: their rate of a sum of four is four times that of a mean.
    optimizer = recipe.build_optimizer(model, steps_per_epoch=10, batch_size=96)
    assert not optimizer.nesterov and optimizer.global_clipnorm == 10.0
    assert float(optimizer._learning_rate(11)) == pytest.approx(0.16, rel=1e-3)


def test_golden_data_is_in_the_repository_or_beside_it():
    assert file("sifa_operator", "expected.npz") is not None
