"""Our optimizers against PyTorch's, and with what Keras puts around an optimizer."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetNano
from keras_video_focalnet.training.optimizers import LayerwiseAdamW, Muon, TorchSGD, layerwise_multipliers
from keras_video_focalnet.training.recipe import get_recipe
from keras_video_focalnet.training.schedule import WarmupCosine

RATES = [0.3, 0.1, 0.5, 0.2, 0.4]
SHAPES = {"kernel": (2, 2, 3, 4), "matrix": (5, 3), "vector": (7,)}
MULTIPLIERS = {"matrix": 0.5, "vector": 0.1}


def arrays(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [(scale * rng.normal(size=shape)).astype("float32") for shape in SHAPES.values()]


@keras.saving.register_keras_serializable(package="tests")
class Steps(keras.optimizers.schedules.LearningRateSchedule):
    """A rate for every step that jumps, which tells rules apart that a constant rate would not."""

    def __call__(self, step):
        return ops.take(ops.convert_to_tensor(RATES, "float32"), step)

    def get_config(self):
        return {}


def trained(optimizer, gradients):
    """The variables after one step a list of gradients, and the gradient norms that the optimizer noted."""
    variables = [keras.Variable(array, name=name) for array, name in zip(arrays(0), SHAPES, strict=True)]
    norms = []
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(array) for array in step], variables)
        norms.append(float(ops.convert_to_numpy(optimizer.gradient_norm)))
    return [ops.convert_to_numpy(variable) for variable in variables], norms


def trained_by_torch(make, gradients, clip):
    """The same with an optimizer of PyTorch's, made from parameters by name."""
    torch = pytest.importorskip("torch")
    parameters = {
        name: torch.nn.Parameter(torch.tensor(array, device="cpu"))
        for array, name in zip(arrays(0), SHAPES, strict=True)
    }
    optimizer = make(torch.optim, parameters)
    at_first = [group["lr"] for group in optimizer.param_groups]
    norms = []
    for rate, step in zip(RATES, gradients, strict=False):
        for parameter, array in zip(parameters.values(), step, strict=True):
            parameter.grad = torch.tensor(array, device="cpu")
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(parameters.values()), clip)))
        for group, multiplier in zip(optimizer.param_groups, at_first, strict=True):
            group["lr"] = rate * multiplier
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters.values()], norms


def by_decay(parameters, decay, multipliers):
    return [
        {
            "params": [parameter],
            "weight_decay": decay if parameter.ndim > 1 else 0.0,
            "lr": multipliers.get(name, 1.0),
        }
        for name, parameter in parameters.items()
    ]


def assert_same(actual, wanted, tolerance=2e-6):
    for array, other in zip(actual[0], wanted[0], strict=True):
        np.testing.assert_allclose(array, other, rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_allclose(actual[1], wanted[1], rtol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("clip", [1.0, 1e3])
def test_sgd_is_pytorchs(nesterov, clip):
    gradients = [arrays(step) for step in range(1, 6)]

    def make(optim, parameters):
        groups = by_decay(parameters, 0.1, {})
        return optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=nesterov)

    optimizer = TorchSGD(Steps(), nesterov=nesterov, weight_decay=0.1, global_clipnorm=clip)
    assert_same(trained(optimizer, gradients), trained_by_torch(make, gradients, clip))


def test_adamw_is_pytorchs_with_a_rate_for_each_layer():
    """But for epsilon, which Keras adds in another place, and for the powers of beta, which it rounds to float32."""
    gradients = [arrays(step) for step in range(1, 6)]

    def make(optim, parameters):
        return optim.AdamW(by_decay(parameters, 0.2, MULTIPLIERS), lr=1.0, eps=1e-12)

    optimizer = LayerwiseAdamW(Steps(), 0.2, MULTIPLIERS, global_clipnorm=1.0, epsilon=1e-12)
    assert_same(trained(optimizer, gradients), trained_by_torch(make, gradients, 1.0), 2e-5)


OPTIMIZERS = [
    lambda **kwargs: TorchSGD(0.1, weight_decay=0.1, **kwargs),
    lambda **kwargs: LayerwiseAdamW(0.1, weight_decay=0.1, multipliers=MULTIPLIERS, **kwargs),
    # JAX compiles its iterations for every shape.
    pytest.param(lambda **kwargs: Muon(0.1, weight_decay=0.1, **kwargs), marks=pytest.mark.slow_on("jax")),
]
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "adamw", "muon"])


def change(path, shape, gradient, **options):
    """What the first update of `Muon` at a rate of 1 takes away from a variable."""
    variable = keras.Variable(np.zeros(shape, "float32"), name=path)
    Muon(1.0, weight_decay=0.0, **options).apply([ops.convert_to_tensor(gradient)], [variable])
    return -ops.convert_to_numpy(variable)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 2, 6, 4)])
def test_muon_takes_steps_with_singular_values_near_one(shape):
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    update = change("kernel", shape, gradient).reshape(-1, shape[-1])
    matrix = gradient.reshape(-1, shape[-1])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    sizes = np.linalg.svd(update / (0.2 * max(matrix.shape) ** 0.5))[1]
    assert values.max() > 1.5 * values.min() and 0.6 < sizes.min() <= sizes.max() < 1.3
    # The singular vectors stay as they are.
    turned = left.T @ update @ right.T
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"momentum": 0.0}], ids=str)
def test_muon_of_a_matrix_is_keras_own(options):
    """Over several steps; Keras decays before the update too."""
    gradients = [[arrays(step)[1]] for step in range(1, 6)]
    results = []
    for kind in (Muon, keras.optimizers.Muon):
        variable = keras.Variable(arrays(0)[1], name="matrix")
        optimizer = kind(Steps(), weight_decay=0.1, adam_beta_2=0.99, **options)
        for step in gradients:
            optimizer.apply([ops.convert_to_tensor(array) for array in step], [variable])
        results.append(ops.convert_to_numpy(variable))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_muon_without_gradient_decays_once():
    variable = keras.Variable(np.ones((3, 2), "float32"), name="matrix")
    Muon(0.1, weight_decay=0.1).apply([ops.zeros((3, 2))], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), 0.99, rtol=1e-6)


def test_muon_takes_every_tap_of_a_temporal_kernel_for_a_matrix():
    gradient = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype("float32")
    together = change("temporal_kernel_0", gradient.shape, gradient)
    for tap in range(3):
        np.testing.assert_allclose(together[tap, 0], change("kernel", (4, 4), gradient[tap, 0]), atol=1e-5)


@pytest.mark.parametrize("path,shape", [("bias", (4,)), ("spatial_kernel_0", (3, 3, 4, 1))])
def test_muon_takes_adams_update_of_what_is_no_matrix(path, shape):
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.testing.assert_allclose(change(path, shape, gradient), np.sign(gradient), atol=1e-4)


def by_adam(model, optimizer):
    """Names of the variables of two axes and more that take Adam's update."""
    optimizer.build(model.trainable_variables)
    velocities = zip(model.trainable_variables, optimizer.adam_velocities, strict=True)
    return {variable.path for variable, velocity in velocities if velocity is not None and len(variable.shape) > 1}


def test_muon_takes_adams_update_of_stem_classifier_and_depthwise_kernels():
    model = VideoFocalNetNano(weights=None, classes=9)
    spatial = {variable.path for variable in model.trainable_variables if "spatial_kernel" in variable.path}
    assert len(spatial) == 10
    assert by_adam(model, Muon()) == {"patch_embed/kernel", "head/kernel", *spatial}
    assert by_adam(keras.models.clone_model(model), Muon()) == {"patch_embed/kernel", "head/kernel", *spatial}
    assert by_adam(model, Muon(exclude_layers=None)) == spatial


@pytest.mark.parametrize("apart", [False, True])
def test_a_recipe_knows_a_classifier_by_its_place(apart):
    model = classifier()
    model = keras.Model(model.input, layers.Softmax()(model.output)) if apart else model
    optimizer = get_recipe("finetune", optimizer="muon").build_optimizer(model, steps_per_epoch=1, batch_size=8)
    assert by_adam(model, optimizer) == {"top/kernel"}


@pytest.mark.parametrize(
    "options,message",
    [
        ({"exclude_layers": "head"}, "exclude_layers must be a list of expressions, received 'head'"),
        ({"adam_weight_decay": 0.1}, "adam_weight_decay=0.1 cannot be set: weight_decay is that of all"),
    ],
)
def test_bad_arguments_of_muon(options, message):
    with pytest.raises(ValueError, match=message):
        Muon(**options)


@each_optimizer
def test_no_clipping_and_no_decay(make):
    """A huge gradient stays, and what has no gradient stays as it is."""
    optimizer = make(global_clipnorm=None)
    optimizer.weight_decay = 0.0
    zero = [np.zeros_like(array) for array in arrays(0)]
    still, norms = trained(optimizer, [zero])
    assert norms == [0.0]
    for array, other in zip(still, arrays(0), strict=True):
        np.testing.assert_array_equal(array, other)


def test_sgd_without_clipping_takes_the_whole_gradient():
    huge = arrays(1, scale=1e3)
    after, _ = trained(TorchSGD(0.1, momentum=0.0, weight_decay=None, global_clipnorm=None), [huge])
    for array, before, gradient in zip(after, arrays(0), huge, strict=True):
        np.testing.assert_allclose(array, before - 0.1 * gradient, rtol=1e-5)


@each_optimizer
def test_variables_excluded_by_the_user_do_not_decay(make):
    optimizer = make()
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    after, _ = trained(optimizer, [[np.zeros_like(array) for array in arrays(0)]])
    kept, decayed, vector = (np.array_equal(array, before) for array, before in zip(after, arrays(0), strict=True))
    assert (kept, decayed, vector) == (True, False, True)


@each_optimizer
def test_vectors_decay_where_they_are_to(make):
    zero = [np.zeros_like(array) for array in arrays(0)]
    decayed = {}
    for options in ({}, {"decay_vectors": True}):
        optimizer = make(**options)
        optimizer = type(optimizer).from_config(optimizer.get_config())
        after, _ = trained(optimizer, [zero])
        decayed[len(options)] = [not np.array_equal(x, y) for x, y in zip(after, arrays(0), strict=True)]
    assert decayed == {0: [True, True, False], 1: [True, True, True]}


@each_optimizer
def test_accumulated_gradients_are_averaged_before_clipping(make):
    pairs = [(arrays(step), arrays(step + 10)) for step in range(1, 4)]
    means = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in pairs]
    at_once = trained(make(global_clipnorm=1.0), means)
    accumulating = make(global_clipnorm=1.0, gradient_accumulation_steps=2)
    variables, norms = trained(accumulating, [half for pair in pairs for half in pair])
    assert_same((variables, norms[1::2]), at_once)


def classifier(dtype=None):
    clip = keras.Input((6,))
    hidden = layers.Dense(5, "relu", dtype=dtype, name="matrix")(clip)
    return keras.Model(clip, layers.Dense(3, "softmax", dtype="float32", name="top")(hidden))


def batch():
    rng = np.random.default_rng(3)
    return rng.normal(size=(8, 6)).astype("float32"), np.eye(3, dtype="float32")[rng.integers(0, 3, 8)]


@each_optimizer
def test_a_saved_model_trains_on_as_if_it_had_not_been_saved(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = classifier()
    optimizer = make(use_ema=True, ema_momentum=0.5)
    optimizer.learning_rate = WarmupCosine(0.1, 8, 2)
    model.compile(optimizer, "categorical_crossentropy")
    clips, targets = batch()
    for _ in range(3):
        model.train_on_batch(clips, targets)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is type(optimizer)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, again):
        each.train_on_batch(clips, targets)
        each.optimizer.finalize_variable_values(each.trainable_variables)
    for weight, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


@each_optimizer
def test_half_precision_with_loss_scaling_takes_the_step_of_full_precision(make):
    clips, targets = batch()
    weights = []
    for dtype in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = classifier(dtype)
        optimizer = make()
        scaled = keras.optimizers.LossScaleOptimizer(optimizer) if dtype != "float32" else optimizer
        model.compile(scaled, "categorical_crossentropy")
        model.train_on_batch(clips, targets)
        assert 0 < float(ops.convert_to_numpy(optimizer.gradient_norm)) < 5
        weights.append(model.get_weights())
    for full, half in zip(*weights, strict=True):
        np.testing.assert_allclose(half, full, atol=2e-3)


def test_multipliers_fall_with_depth():
    from tests.training.test_freezing import network

    assert layerwise_multipliers(network(), 0.5) == {
        "head": 1,
        "norm": 1,
        "stage3_block0": 0.5,
        "stage2_downsample": 0.5,
        "stage2_block1": 0.25,
        "stage2_block0": 0.125,
        "stage1_downsample": 0.125,
        "stage1_block0": 0.0625,
        "stage0_downsample": 0.0625,
        "stage0_block0": 0.03125,
        "patch_embed": 0.015625,
    }


@pytest.mark.parametrize("decay", [0, -1, 1.5, float("nan")])
def test_bad_arguments(decay):
    with pytest.raises(ValueError, match=r"decay must be a number in \(0, 1\], received"):
        layerwise_multipliers(None, decay)


def test_muon_takes_the_roles_that_names_tell():
    with pytest.raises(ValueError, match="role:block"):
        Muon(exclude_layers=["role:block"])
