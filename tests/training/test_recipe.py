"""The recipes' values, what they make, and how they are changed."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_video_focalnet
from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.rand_augment import RandAugment
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetB, VideoFocalNetS, VideoFocalNetT
from keras_video_focalnet.models.video_focalnet.recipes import RECIPES
from keras_video_focalnet.training.losses import ClassWeightedCrossentropy
from keras_video_focalnet.training.optimizers import LayerwiseAdamW, TorchSGD, layerwise_multipliers
from keras_video_focalnet.training.recipe import FINETUNE, Recipe, get_recipe
from tests.training.test_freezing import ORDER, network


def test_kinetics_is_the_papers_table():
    table = {
        "optimizer": "sgd",
        "epochs": 120,
        "warmup_epochs": 20,
        "learning_rate": 0.1,
        "warmup_learning_rate": 0.001,
        "min_learning_rate": 0.001,
        "rate_batch": 512,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "clip_norm": 5.0,
        "label_smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "cutmix_probability": 0.5,
        "mix_probability": 1.0,
        "num_frames": 8,
        "size": 224,
        "area": (0.08, 1.0),
        "flip": 0.5,
        "color_jitter": 0.8,
        "gray": 0.2,
        "scale_jitter": (0.75, 1.33),
    }
    assert dataclasses.asdict(get_recipe("k400")).items() >= table.items()
    assert get_recipe("k600") == get_recipe("k400")


@pytest.mark.parametrize("name", ["ssv2", "diving48", "activitynet", "Something-Something-v2", "anet"])
def test_other_data_sets_differ_in_the_flip(name):
    assert get_recipe(name) == dataclasses.replace(get_recipe("k400"), flip=0.0)


def test_vita_clip_is_the_authors_script():
    """32 epochs of 240,000 videos in batches of 256 are 30,000 steps; the rate falls from the first one to 0."""
    found = get_recipe("vita_clip")
    assert get_recipe("k400", "vita-clip") == found
    assert (found.num_frames, found.size, found.sampling) == (8, 224, ("dense", 16))
    names = [type(transform).__name__ for transform in found.transforms(224).transforms]
    assert names == ["RandomResizedCrop", "RandAugment"]
    crop, augment = found.transforms(224).transforms
    assert (crop.area, crop.aspect) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert augment == RandAugment(count=4, magnitude=7.0, operation_probability=0.5, spread=0.5)
    assert not found.mixing(400).changes_clips and found.label_smoothing == 0
    steps = 240_000 // 256
    optimizer = found.build_optimizer(network(), steps_per_epoch=steps, batch_size=256)
    assert type(optimizer) is LayerwiseAdamW and set(optimizer.multipliers.values()) == {1.0}
    config = optimizer.get_config()
    wanted = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.05, "decay_vectors": True}
    assert config.items() >= {**wanted, "clipnorm": None, "global_clipnorm": None, "use_ema": False}.items()
    np.testing.assert_allclose(
        rates(optimizer, [0, 1, 1 + 16 * steps, 1 + 32 * steps]), [4e-4, 4e-4, 2e-4, 0], atol=1e-10
    )


@pytest.mark.parametrize("builder, rate", [(VideoFocalNetT, 0.2), (VideoFocalNetS, 0.3), (VideoFocalNetB, 0.5)])
def test_builders_have_the_stochastic_depth_of_the_published_runs(builder, rate):
    assert get_recipe("k400").drop_path_rate is None
    model = builder(weights=None, input_shape=(2, 32, 32, 3), embed_dim=8)
    assert model.get_layer("stage3_block1").drop_path_rate == rate


@pytest.mark.parametrize("name", [*RECIPES, FINETUNE])
def test_is_plain_data(name):
    text = json.dumps(dataclasses.asdict(get_recipe(name)))
    assert json.loads(text).keys() == {field.name for field in dataclasses.fields(Recipe)}


def test_fine_tuning_keeps_left_and_right_and_does_not_mix():
    fine_tuning = get_recipe("finetune")
    clips = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
    mixed, targets = fine_tuning.mixing(3)(clips, np.array([0, 2]), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed, clips)
    np.testing.assert_allclose(targets, [[28 / 30, 1 / 30, 1 / 30], [1 / 30, 1 / 30, 28 / 30]], rtol=1e-6)
    names = [type(transform).__name__ for transform in fine_tuning.transforms(8).transforms]
    assert names == ["RandomResizedCrop", "ColorJitter", "RandomGray"]
    assert fine_tuning.transforms(8).transforms[0].area == (0.5, 1.0)


def test_makes_transforms_mixing_and_sampling_for_a_data_set():
    changed = get_recipe("k400", erasing=0.25, rand_augment=(2, 9.0), label_smoothing=0.2)
    names = [type(transform).__name__ for transform in changed.transforms(32).transforms]
    assert names == [
        "ScaleJitter",
        "RandomResizedCrop",
        "RandomFlip",
        "ColorJitter",
        "RandomGray",
        "RandAugment",
        "RandomErasing",
    ]
    assert changed.mixing(7) == Mixing(7, 0.8, 1.0, 0.5, 1.0, 0.2)
    assert changed.mixing(7, multi_label=True) == Mixing(7, 0.8, 1.0, 0.5, 1.0, 0.2, multi_label=True)
    assert (changed.sampling, get_recipe("k400", stride=4).sampling) == (None, ("dense", 4))


def rates(optimizer, steps):
    return [float(optimizer._learning_rate(step)) for step in steps]


def test_rates_are_in_proportion_to_the_batch():
    optimizer = get_recipe("k400").build_optimizer(network(), steps_per_epoch=10, batch_size=128)
    assert type(optimizer) is TorchSGD
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay, optimizer.global_clipnorm) == (
        0.9,
        True,
        1e-4,
        5.0,
    )
    quarter = np.array([0.001, 0.001 + 0.099 / 2, 0.001 + 0.099 * 0.75, 0.001]) / 4
    np.testing.assert_allclose(rates(optimizer, [0, 101, 401, 1_201]), quarter, rtol=1e-6)


def test_rates_of_fine_tuning_hold_for_every_batch():
    optimizer = get_recipe("finetune", warmup_epochs=0.0).build_optimizer(network(), steps_per_epoch=10, batch_size=3)
    np.testing.assert_allclose(rates(optimizer, [0, 201]), [2e-3, 1e-6], rtol=1e-6)


def test_accumulated_batches_count_as_one():
    changed = get_recipe("k400", gradient_accumulation_steps=4, use_ema=True, ema_momentum=0.9)
    optimizer = changed.build_optimizer(network(), steps_per_epoch=10, batch_size=128)
    np.testing.assert_allclose(rates(optimizer, [0]), [0.001], rtol=1e-6)
    assert (optimizer.gradient_accumulation_steps, optimizer.use_ema, optimizer.ema_momentum) == (4, True, 0.9)


def test_every_layer_moves_at_its_own_rate():
    """The first step of Adam is the rate in every number that has a gradient."""
    model = network()
    changed = get_recipe("finetune", frozen_stages=1, warmup_epochs=0.0, weight_decay=0.0, learning_rate=0.001)
    changed.compile(model, steps_per_epoch=5, batch_size=2)
    # What is made in the first step has TensorFlow trace that step twice.
    assert len(model.optimizer._trainable_variables) == len(model.trainable_variables)
    # One of each layer: running eagerly, JAX compiles every operation for every shape.
    last = {variable.path.split("/")[0]: variable for variable in model.trainable_variables}
    assert set(last) == set(ORDER[3:])
    before = {layer: keras.ops.convert_to_numpy(variable) for layer, variable in last.items()}
    model.optimizer.apply([keras.ops.ones(variable.shape) for variable in last.values()], list(last.values()))
    multipliers = layerwise_multipliers(model, 0.75)
    for layer, variable in last.items():
        moved = keras.ops.convert_to_numpy(variable) - before[layer]
        np.testing.assert_allclose(moved, -0.001 * multipliers[layer], atol=1e-6, err_msg=variable.path)


def test_reports_the_loss_and_both_accuracies_of_mixed_targets():
    clip = keras.Input((4,))
    model = keras.Model(clip, keras.layers.Dense(3, kernel_initializer="identity")(clip))
    get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2)
    scores = np.array([[3, 2, 1, 0], [1, 2, 3, 0]], "float32")
    targets = np.array([[0.7, 0.3, 0], [0.2, 0.6, 0.2]], "float32")
    logs = model.train_on_batch(scores, targets, return_dict=True)
    losses = np.log(np.exp(scores[:, :3]).sum(-1)) - (targets * scores[:, :3]).sum(-1)
    assert logs == pytest.approx(
        {"loss": losses.mean(), "cross_entropy": losses.mean(), "top1": 0.5, "top5": 1.0}, rel=1e-5
    )


def identity(activation=None):
    """A model whose logits are its input."""
    clip = keras.Input((3,))
    return keras.Model(clip, keras.layers.Dense(3, activation, kernel_initializer="identity")(clip))


LOGITS = np.array([[3, -2, 1], [-1, 2, -3], [0.5, 1, 1], [9, 9, 9]], "float32")
TARGETS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]], "float32")
# The last row does not count.
WEIGHTS = np.array([1, 1, 1, 0], "float32")


def binary_losses(logits, targets):
    """The binary cross-entropy of each label of each row."""
    return np.log1p(np.exp(logits)) - targets * logits


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_several_labels_have_a_binary_loss_and_their_own_metrics(activation):
    model = identity(activation)
    get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2, multi_label=True)
    logs = model.test_on_batch(LOGITS, TARGETS, WEIGHTS, return_dict=True)
    losses = binary_losses(LOGITS, TARGETS)
    assert logs["loss"] == pytest.approx(losses[:3].mean() * 3 / 4, rel=1e-4)
    assert logs["cross_entropy"] == pytest.approx(losses[:3].mean(), rel=1e-4)
    # Of the first and the second label all clips with it have higher scores than those without. Of the third one
    # without it, row 2, has the same score as the one with it.
    assert logs["roc_auc"] == pytest.approx((1 + 1 + 0.75) / 3, abs=2e-3)
    assert 0.7 < logs["average_precision"] < 1
    assert set(logs) == {"loss", "cross_entropy", "average_precision", "roc_auc"}


def test_average_precision_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (600, 3)).astype("float32")
    logits = (rng.normal(size=(600, 3)) + targets).astype("float32")
    model = identity()
    get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2, multi_label=True)
    logs = model.test_on_batch(logits, targets, np.ones(600, "float32"), return_dict=True)
    # Keras takes 200 thresholds where scikit-learn takes all.
    assert logs["average_precision"] == pytest.approx(metrics.average_precision_score(targets, logits), abs=0.01)
    assert logs["roc_auc"] == pytest.approx(metrics.roc_auc_score(targets, logits), abs=0.01)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_class_weights_multiply_the_loss_of_their_class(activation):
    model, weights = identity(activation), [0.5, 2.0, 1.0]
    get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2, class_weights=weights)
    targets = np.array([[1, 0, 0], [0, 1, 0], [0.7, 0.3, 0], [0, 0, 1]], "float32")
    logs = model.test_on_batch(LOGITS, targets, return_dict=True)
    plain = np.log(np.exp(LOGITS).sum(-1)) - (targets * LOGITS).sum(-1)
    assert logs["loss"] == pytest.approx((plain * [0.5, 2.0, 0.7 * 0.5 + 0.3 * 2, 1.0]).mean(), rel=1e-4)
    assert logs["cross_entropy"] == pytest.approx(plain.mean(), rel=1e-4)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_class_weights_of_several_labels_multiply_those_that_are_there(activation):
    model, weights = identity(activation), np.array([0.5, 2.0, 3.0])
    compiled = {"multi_label": True, "class_weights": weights}
    get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2, **compiled)
    logs = model.test_on_batch(LOGITS[:3], TARGETS[:3], np.ones(3, "float32"), return_dict=True)
    factors = np.where(TARGETS[:3] == 1, weights, 1)
    assert logs["loss"] == pytest.approx((factors * binary_losses(LOGITS, TARGETS)[:3]).mean(), rel=1e-4)


def test_weights_of_one_are_no_weights():
    for options in ({}, {"multi_label": True}):
        losses = []
        for weights in (None, [1, 1, 1]):
            model = identity()
            get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2, class_weights=weights, **options)
            losses.append(model.test_on_batch(LOGITS, np.eye(4, 3, dtype="float32"), return_dict=True)["loss"])
        # The last row has no target: of one label that is no loss, of several it is.
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_weighted_loss_comes_back_from_its_configuration():
    loss = ClassWeightedCrossentropy([1, 2.5], multi_label=True, from_logits=True, name="loss")
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert type(again) is ClassWeightedCrossentropy
    assert again.get_config() == loss.get_config()


def test_class_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="class_weights has 2 weights but the model 3 classes; pass one each"):
        get_recipe("k400").compile(identity(), steps_per_epoch=5, batch_size=2, class_weights=[1, 1])
    with pytest.raises(ValueError, match="class_weights must be a number of at least 0, received -1"):
        get_recipe("k400").compile(identity(), steps_per_epoch=5, batch_size=2, class_weights=[1, -1, 1])


def test_several_labels_are_not_scores_of_a_softmax():
    with pytest.raises(ValueError, match="no classifier with a sigmoid or without an activation for several labels"):
        get_recipe("k400").compile(identity("softmax"), steps_per_epoch=5, batch_size=2, multi_label=True)


def test_the_loss_goes_by_what_the_model_ends_in():
    for activation, logits in {"softmax": False, None: True}.items():
        model = network(classifier_activation=activation)
        get_recipe("k400").compile(model, steps_per_epoch=5, batch_size=2)
        assert model.loss.get_config()["from_logits"] is logits


@pytest.mark.parametrize("options", [{"include_top": False, "pooling": "avg"}, {"classifier_activation": "sigmoid"}])
def test_a_model_that_is_no_classifier_is_refused(options):
    with pytest.raises(ValueError, match="ends in the layer .*, which is no classifier"):
        get_recipe("k400").compile(network(**options), steps_per_epoch=5, batch_size=2)


def test_float16_gets_loss_scaling_whatever_the_global_policy():
    optimizer = get_recipe("finetune").build_optimizer(network(dtype="mixed_float16"), steps_per_epoch=5, batch_size=2)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "6", 6),
        ("warmup_epochs", "0.25", 0.25),
        ("learning_rate", "1e-3", 1e-3),
        ("use_ema", "True", True),
        ("optimizer", "sgd", "sgd"),
        ("clip_norm", "none", None),
        ("frozen_stages", "7", 7),
        ("stride", "8", 8),
        ("area", "0.3, 1", (0.3, 1.0)),
        ("scale_jitter", "none", None),
        ("rand_augment", "2,9.5", (2, 9.5)),
    ],
)
def test_values_are_read_from_text(name, text, value):
    changed = get_recipe("finetune").set(name, text)
    assert getattr(changed, name) == value
    assert type(getattr(changed, name)) is type(value)
    assert changed == get_recipe("finetune", **{name: value})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epoch", "6", "a recipe has no attribute 'epoch'; it has optimizer, epochs, warmup_epochs, "),
        ("epochs", "6.5", "epochs must be an integer, received '6.5'"),
        ("epochs", "none", "epochs must be an integer, received 'none'"),
        ("epochs", "0", "epochs must be an integer of at least 1, received 0"),
        ("frozen_stages", "-1", "frozen_stages must be an integer of at least 0, received -1"),
        ("learning_rate", "nan", "learning_rate must be a number, received 'nan'"),
        ("use_ema", "yes", "use_ema must be true or false, received 'yes'"),
        ("clip_norm", "much", "clip_norm must be a number or none, received 'much'"),
        ("area", "0.3", "area must be two numbers, such as 0.5,1, received '0.3'"),
        ("optimizer", "adam", 'optimizer must be one of "sgd", "adamw", "muon"; received \'adam\''),
        ("warmup_epochs", "200", r"warmup_epochs must be a number in \[0, 20\], received 200.0"),
        ("learning_rate", "__import__('os')", "learning_rate must be a number"),
    ],
)
def test_bad_text_is_refused(name, text, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("finetune").set(name, text)


def test_unknown_recipes_are_refused():
    with pytest.raises(ValueError, match="recipe='imagenet' is not known; use one of 'finetune', 'k400', 'k600', "):
        get_recipe("imagenet")
    with pytest.raises(ValueError, match="a recipe has no attribute 'epoch'"):
        get_recipe("k400", epoch=3)


OLD_NAMES = {
    "rule": ("optimizer", "adamw"),
    "base_rate": ("learning_rate", 0.5),
    "warmup_rate": ("warmup_learning_rate", 0.25),
    "min_rate": ("min_learning_rate", 0.125),
    "switch": ("cutmix_probability", 0.75),
}


@pytest.mark.parametrize("old", OLD_NAMES)
def test_old_names_work_and_warn_with_the_new_one(old):
    new, value = OLD_NAMES[old]
    expected = get_recipe("k400", **{new: value})
    assert getattr(expected, new) == value
    with pytest.warns(DeprecationWarning, match=f"^{old} is an old name, .* use {new}") as caught:
        changed = [
            get_recipe("k400", **{old: value}),
            Recipe(**{old: value}),
            dataclasses.replace(get_recipe("k400"), **{old: value}),
            get_recipe("k400").set(old, str(value)),
        ]
        assert getattr(expected, old) == value
    assert changed == [expected] * 4
    assert len(caught) == 5
    assert [warning.filename for warning in caught].count(__file__) == 4  # `dataclasses.replace` is the other caller.


def test_the_function_by_its_old_name():
    with pytest.warns(DeprecationWarning, match="^recipe is an old name, .* use get_recipe") as caught:
        from keras_video_focalnet import recipe
    assert recipe is get_recipe
    assert caught[0].filename == __file__
    assert "recipe" not in keras_video_focalnet.__all__
