"""Layers of half precision on a CPU: in float32 where that is faster, said once; in half precision elsewhere."""

import warnings

import keras
import numpy as np
import pytest

from examples.camera_motion.train import unseen_photograph_clips
from keras_video_focalnet.layers import FocalBlock, FusedDense
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNet, VideoFocalNetNano
from keras_video_focalnet.ops import half_precision
from keras_video_focalnet.ops.autodiff.formulation import force
from tests.golden import expected
from tests.gradients import probed
from tests.models.test_parity import MODES, build, compiled

BACKEND = keras.backend.backend()
TOKENS = (2, 4, 30, 16)
# Half of the distance of neighbouring numbers, of the larger one.
ROUNDING = 2.0**-8


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))


def tokens(dtype="float32"):
    """Numbers that half precision holds exactly, in a dtype."""
    values = np.random.default_rng(0).normal(size=TOKENS).astype("float32")
    return keras.ops.cast(keras.ops.cast(values, "bfloat16"), dtype)


def block(dtype, **options):
    layer = FocalBlock(TOKENS[-1], grid_size=(6, 5), dtype=dtype, **options)
    layer.build(TOKENS)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.2, weight.shape))
    return layer


@pytest.fixture
def told(monkeypatch):
    """The dtypes of which a warning was given, which are none yet."""
    monkeypatch.setattr(half_precision, "_told", set())
    return half_precision._told


def on_a_processor(monkeypatch, faster):
    monkeypatch.setattr(half_precision, "this_one_multiplies_faster_in", lambda dtype: faster)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_a_widened_block_rounds_once(dtype):
    """Its results are those in float32, rounded to half precision; rounding before the last step may tip that."""
    exact, half = block("float32"), block(dtype)
    for own, other in zip(half.weights, exact.weights, strict=True):
        other.assign(keras.ops.cast(own.value, "float32"))
    with force(half_products="widened"):
        outputs = half(tokens("bfloat16"))
    assert half.compute_dtype == half.modulation.f.compute_dtype == "bfloat16"
    for given, wanted in zip(outputs, exact(tokens()), strict=True):
        assert keras.backend.standardize_dtype(given.dtype) == "bfloat16"
        np.testing.assert_allclose(to_numpy(given), to_numpy(wanted), rtol=1.01 * ROUNDING, atol=1e-5)


def test_a_native_block_rounds_every_step():
    exact, half = block("float32"), block("mixed_bfloat16")
    with force(half_products="native"):
        outputs = half(tokens("bfloat16"))
    for given, wanted in zip(outputs, exact(tokens()), strict=True):
        assert keras.backend.standardize_dtype(given.dtype) == "bfloat16"
        error = np.linalg.norm(to_numpy(given) - to_numpy(wanted)) / np.linalg.norm(to_numpy(wanted))
        # A path through the block has some twenty roundings.
        assert 1e-5 < error < 20 * ROUNDING


def test_a_layer_inside_may_be_widened_alone():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="float32")
    policies[".*/fc1"] = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    mixed, exact = block(policies), block("float32")
    with force(half_products="widened"):
        given, wanted = mixed(tokens())[0], exact(tokens())[0]
    assert keras.backend.standardize_dtype(given.dtype) == "float32"
    error = np.abs(to_numpy(given) - to_numpy(wanted)).max()
    assert 0 < error < 3 * ROUNDING * np.abs(to_numpy(wanted)).max()


@pytest.mark.parametrize("rematerialize", [False, True])
def test_gradients_of_a_widened_block(rematerialize):
    """They come in the dtypes of the variables; only that of the inputs is rounded."""
    probes = [np.random.default_rng(2).normal(size=TOKENS).astype("float32")]
    exact, half = block("float32"), block("mixed_bfloat16", rematerialize=rematerialize)
    _, wanted, wanted_of_weights, _ = probed(exact, tokens(), probes, training=True)
    with force(half_products="widened"):
        _, given, given_of_weights, _ = probed(half, tokens(), probes, training=True)
    pairs = list(zip(given_of_weights.values(), wanted_of_weights.values(), strict=True))
    assert {str(own.dtype) for own, _ in pairs} == {"float32"}
    for own, other in [(given, wanted), *pairs]:
        # What comes from above is rounded once, and so is what goes down.
        assert np.linalg.norm(own - other) < 3 * ROUNDING * np.linalg.norm(other)


@pytest.mark.parametrize("products", ["native", "widened"])
def test_training_in_half_precision(products):
    model = VideoFocalNet(**VideoFocalNet.small_arguments, classes=2, dtype="mixed_bfloat16")
    model.compile(keras.optimizers.SGD(1e-2), "sparse_categorical_crossentropy", jit_compile=BACKEND == "jax")
    clips = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:])).astype("uint8")
    before = [to_numpy(variable) for variable in model.trainable_variables]
    with force(half_products=products):
        losses = [float(model.train_on_batch(clips, np.arange(2))) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    changed = [np.any(to_numpy(own) != other) for own, other in zip(model.trainable_variables, before, strict=True)]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_one_warning_where_it_does_not_pay(monkeypatch, told, dtype):
    on_a_processor(monkeypatch, faster=False)
    layers = [FusedDense(4, dtype=f"mixed_{dtype}"), block(f"mixed_{dtype}")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for layer in (*layers, *layers):
            layer(tokens())
    (warning,) = [str(one.message) for one in caught if "than those of float32" in str(one.message)]
    assert f"matrices of {dtype}" in warning and 'dtype="float32"' in warning


def test_no_warning_where_it_pays_or_is_chosen(monkeypatch, told):
    on_a_processor(monkeypatch, faster=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for products in ("native", "widened"):
            with force(half_products=products):
                block("mixed_bfloat16")(tokens())
        if BACKEND != "jax":
            block("mixed_bfloat16")(tokens())
        block("float32")(tokens())
    assert not told


def test_a_gpu_computes_in_half_precision(monkeypatch, told):
    on_a_processor(monkeypatch, faster=False)
    with force(device="gpu"):
        assert not half_precision.is_widened("bfloat16", tokens())
    with force(device="cpu"):
        assert half_precision.is_widened("bfloat16", tokens())
    assert told == {"bfloat16"}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere there is one compiler")
def test_xla_multiplies_no_faster_on_any_processor(monkeypatch, told):
    import tensorflow as tf

    on_a_processor(monkeypatch, faster=True)
    widened = {}
    for jit_compile in (False, True):

        @tf.function(jit_compile=jit_compile)
        def call(x, jit_compile=jit_compile):
            widened[jit_compile] = half_precision.is_widened("bfloat16", x)
            return x

        call(tokens())
    assert widened == {False: False, True: True}


def golden_error(name, products):
    """By how much logits in bfloat16 are off from the golden ones, relative to the largest."""
    data = expected(name)
    with force(half_products=products):
        model = build(name, dtype="mixed_bfloat16")
        given = compiled(model, MODES[-1])(keras.ops.convert_to_tensor(data["input"]))
    return np.abs(to_numpy(given) - data["logits"]).max() / np.abs(data["logits"]).max()


@pytest.mark.parametrize("products,bound", [("native", 0.6), ("widened", 0.25)])
def test_golden_logits_in_half_precision(products, bound):
    """Golden models magnify errors: those of float32, 1e-5, are 80 times a rounding, so several roundings of half
    precision may give some 0.6, and those between blocks alone less than half of it.
    """
    assert golden_error("micro", products) < bound


@pytest.mark.parametrize("products", ["native", "widened"])
def test_real_clips_are_classified_alike(products):
    """By the weights that ship. A score that is off by less than a tenth cannot tip a class that is clear."""
    clips, _ = unseen_photograph_clips(18, seed=3)
    exact = VideoFocalNetNano(weights="camera_motion").predict(clips, verbose=0)
    with force(half_products=products):
        given = VideoFocalNetNano(weights="camera_motion", dtype="mixed_bfloat16").predict(clips, verbose=0)
    assert np.abs(given - exact).max() < 0.1
    first, second = np.sort(exact, axis=-1)[:, [-1, -2]].T
    clear = first - second > 0.2
    assert clear.sum() > 9
    np.testing.assert_array_equal(given.argmax(-1)[clear], exact.argmax(-1)[clear])
