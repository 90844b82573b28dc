"""The kernels, in every formulation, against plain NumPy: values and gradients."""

import gc
import math
import weakref

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.ops import depthwise, formulation, recompute, temporal
from keras_video_focalnet.ops import linear as linear_module
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.formulation import compiled_by_xla, force
from keras_video_focalnet.ops.fusion import sums_in_one_pass, xla_region
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.layer_norm import layer_norm
from keras_video_focalnet.ops.linear import linear, linears
from keras_video_focalnet.ops.recompute import recomputing
from keras_video_focalnet.ops.temporal import temporal_conv
from keras_video_focalnet.ops.winograd import PRODUCTS, tile_transforms
from tests.gradients import values_and_gradients
from tests.onednn import onednn_is_there

BACKEND = keras.backend.backend()


def run(function, *arrays):
    tensors = [keras.ops.convert_to_tensor(array.astype("float32")) for array in arrays]
    return keras.ops.convert_to_numpy(function(*tensors))


def check(function, reference, *arrays, atol=2e-5):
    """Values and gradients as `check_once` says; on TensorFlow, eagerly and compiled by XLA."""
    for jit_compile in (False, True) if BACKEND == "tensorflow" else (False,):
        check_once(function, reference, arrays, atol, jit_compile)


def check_once(function, reference, arrays, atol, jit_compile):
    """Values, and gradients of a random weighting of them, against `reference` in float64 by central differences.

    Along a random direction in each argument; `reference` is linear in each, so the differences are exact.
    """
    rng = np.random.default_rng(0)
    wanted = reference(*arrays)
    weights = rng.normal(size=wanted.shape)
    singles = [array.astype("float32") for array in arrays]
    value, gradients = values_and_gradients(function, singles, weights.astype("float32"), jit_compile)
    np.testing.assert_allclose(value, wanted, atol=atol)
    for place, gradient in enumerate(gradients):
        direction = rng.normal(size=arrays[place].shape)
        ahead, behind = (
            reference(*arrays[:place], arrays[place] + sign * direction, *arrays[place + 1 :]) for sign in (1, -1)
        )
        slope = (weights * (ahead - behind)).sum() / 2
        norm = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs((gradient * direction).sum() - slope) < 1e-5 * norm


def numpy_depthwise(x, kernel):
    size, (height, width) = len(kernel), x.shape[1:3]
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    places = [(i, j) for i in range(size) for j in range(size)]
    return sum(padded[:, i : i + height, j : j + width] * kernel[i, j, :, 0] for i, j in places)


def numpy_temporal(x, kernel):
    half = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0)))
    return sum(padded[:, k : k + x.shape[1]] @ kernel[k, 0] for k in range(len(kernel)))


@pytest.mark.parametrize("formulation", ["convolution", "shifted"])
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_depthwise_conv2d(size, formulation):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, 6, 5, 4)), rng.normal(size=(size, size, 4, 1))
    with force(depthwise_conv2d=formulation):
        check(depthwise_conv2d, numpy_depthwise, x, kernel)


@pytest.mark.parametrize(
    "size,formulation", [(1, "convolution"), (3, "convolution"), (5, "convolution"), (3, "winograd"), (5, "winograd")]
)
@pytest.mark.parametrize("frames", [1, 2, 8, 11])
def test_temporal_conv(size, formulation, frames):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, frames, 6, 4)), rng.normal(size=(size, 1, 4, 3))
    with force(temporal_conv=formulation):
        check(temporal_conv, numpy_temporal, x, kernel)


@pytest.mark.parametrize("size", PRODUCTS)
@pytest.mark.parametrize("frames", [1, 8, 11])
def test_unrolled_winograd(size, frames):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, frames, 6, 4)), rng.normal(size=(size, 1, 4, 3))
    with force(temporal_conv="winograd", winograd="unrolled"):
        check_once(temporal_conv, numpy_temporal, (x, kernel), atol=2e-5, jit_compile=BACKEND == "tensorflow")


def test_winograd_rounds_within_a_digit_of_the_convolution():
    """With as many channels as it is for."""
    rng = np.random.default_rng(0)
    for window in PRODUCTS:
        x, kernel = rng.normal(size=(1, 8, 4, 384)), rng.normal(size=(window, 1, 384, 16)) / math.sqrt(384 * window)
        wanted = numpy_temporal(*(a.astype("float32").astype("float64") for a in (x, kernel)))
        errors = {}
        for name in ("convolution", "winograd"):
            with force(temporal_conv=name):
                errors[name] = np.sqrt(np.mean((run(temporal_conv, x, kernel) - wanted) ** 2))
        assert errors["winograd"] < 5 * errors["convolution"], errors


@pytest.mark.parametrize("window", PRODUCTS)
def test_tile_transforms_filter_exactly(window):
    a, g, b = tile_transforms(window)
    rng = np.random.default_rng(window)
    taps, inputs = rng.normal(size=window), rng.normal(size=len(b))
    wanted = [inputs[i : i + window] @ taps for i in range(len(a))]
    np.testing.assert_allclose(a @ ((g @ taps) * (b @ inputs)), wanted, rtol=1e-12)
    assert np.array_equal(b, np.round(b))


@pytest.fixture
def chosen(monkeypatch):
    """The formulations that run, in turn, by operation."""
    seen = {}

    def choose(operation, formulations, default):
        seen.setdefault(operation, []).append(formulation._forced.get(operation, default))
        return real(operation, formulations, default)

    real = formulation.choose
    for module in (depthwise, linear_module, temporal):
        monkeypatch.setattr(module, "choose", choose)
    return seen


def test_what_the_rules_choose(chosen):
    """On a CPU, where the tests run."""
    kernel, x = keras.ops.ones((3, 1, 192, 2)), keras.ops.ones((1, 8, 4, 192))
    temporal_conv(x, kernel)
    depthwise_conv2d(x, keras.ops.ones((3, 3, 192, 1)))
    assert chosen == {
        "winograd": ["stacked"],
        "temporal_conv": ["winograd"],
        "depthwise_conv2d": ["shifted" if BACKEND == "jax" else "convolution"],
    }


def test_rules_hold_in_training(chosen):
    """Keras calls a model on shapes alone before it trains: what is chosen there must not stay."""
    block = FocalBlock(192, grid_size=2)
    model = keras.Sequential([keras.Input((8, 4, 192)), keras.layers.Lambda(lambda x: block(x)[0])])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.zeros((1, 8, 4, 192), "float32")
    model.train_on_batch(x, x)
    model.predict(x, verbose=0)
    assert set(chosen["temporal_conv"][-2:]) == {"winograd"}


@pytest.mark.parametrize("dtype,frames,channels", [("bfloat16", 8, 192), ("float32", 2, 192), ("float32", 8, 96)])
def test_winograd_is_left_where_it_does_not_pay(dtype, frames, channels, chosen):
    x = keras.ops.ones((1, frames, 1, channels), dtype)
    kernel = keras.ops.cast(np.random.default_rng(0).normal(size=(3, 1, channels, 2)), dtype)
    temporal_conv(x, kernel)
    assert chosen["temporal_conv"] == ["convolution"]


def test_rules_as_on_another_device():
    x = keras.ops.ones((1, 2))
    for name in ("cpu", "gpu"):
        with force(device=name):
            assert formulation.on_cpu(x) == (name == "cpu")


def test_winograd_takes_any_batch(chosen):
    model_input = keras.Input((8, 4, 192))

    class Convolve(keras.layers.Layer):
        def build(self, _):
            self.kernel = self.add_weight(shape=(3, 1, 192, 5))

        def call(self, x):
            return temporal_conv(x, self.kernel)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 5)

    layer = Convolve()
    model = keras.Model(model_input, layer(model_input))
    x = np.random.default_rng(0).normal(size=(3, 8, 4, 192)).astype("float32")
    wanted = numpy_temporal(x, keras.ops.convert_to_numpy(layer.kernel))
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=2e-5)
    assert set(chosen["temporal_conv"]) == {"winograd"}


def test_an_unknown_formulation_is_refused():
    with (
        force(temporal_conv="winograd"),
        pytest.raises(ValueError, match="temporal_conv has no formulation 'winograd'"),
    ):
        temporal_conv(keras.ops.ones((1, 8, 4, 2)), keras.ops.ones((7, 1, 2, 2)))


@pytest.mark.parametrize("places,forced", [((5,), {}), ((3, 5), {}), ((3, 5), {"gated_sum": "resized"})])
def test_gated_sum(places, forced):
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(2, *places, 4)), rng.normal(size=(2, *places, 4))
    everything = rng.normal(size=(2, *(1 for _ in places), 4))

    def reference(near, far, everything, gates):
        return sum(context * gates[..., i : i + 1] for i, context in enumerate((near, far, everything)))

    gates = rng.normal(size=(2, *places, 3))
    with force(**forced):
        check(lambda *a: gated_sum(list(a[:3]), a[3]), reference, near, far, everything, gates)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 5, 4)])
def test_linear(shape):
    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=shape), rng.normal(size=(4, 6)), rng.normal(size=6)
    check(linear, lambda x, kernel, bias: x @ kernel + bias, x, kernel, bias)
    activated = run(lambda *a: linear(*a, activate=True), x, kernel, bias)
    np.testing.assert_allclose(activated, run(gelu, x @ kernel + bias), atol=2e-5)


@pytest.mark.skipif(not onednn_is_there(), reason="oneDNN's product is a formulation of PyTorch's, on x86")
@pytest.mark.parametrize("activate", [False, True])
def test_linear_without_gradients(activate):
    import torch

    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(4, 9)), rng.normal(size=9)
    wanted = run(lambda *a: linear(a[0], a[1][:, 2:6], a[2][2:6], activate), x, kernel, bias)
    with torch.inference_mode(), force(linear="onednn"):
        actual = run(lambda *a: linear(a[0], a[1][:, 2:6], a[2][2:6], activate), x, kernel, bias)
    np.testing.assert_allclose(actual, wanted, atol=1e-6)
    with force(linear="onednn"), pytest.raises(ValueError, match="linear has no formulation 'onednn'"):
        run(linear, x, kernel, bias)  # it has no gradient, so where gradients are recorded it is not there


@pytest.mark.parametrize("forced", [{}, {"layer_norm": "quotient"}], ids=str)
def test_layer_norm(forced):
    """It is not linear in its input: against central differences of a small step."""
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=4), rng.normal(size=4)

    def reference(x, gamma, beta):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta

    def normalize(*arrays):
        with force(**forced):
            return layer_norm(*arrays, 1e-5)

    check(lambda gamma, beta: normalize(x.astype("float32"), gamma, beta), lambda *a: reference(x, *a), gamma, beta)
    weights, direction, step = rng.normal(size=x.shape), rng.normal(size=x.shape), 1e-5
    slopes = reference(x + step * direction, gamma, beta) - reference(x - step * direction, gamma, beta)
    arrays = [array.astype("float32") for array in (x, gamma, beta)]
    for jit_compile in (False, True):
        _, (gradient, _, _) = values_and_gradients(normalize, arrays, weights.astype("float32"), jit_compile)
        assert abs((gradient * direction).sum() - (weights * slopes).sum() / (2 * step)) < 1e-4


def test_layer_norm_of_half_precision_is_computed_in_float32():
    x = np.float32(200) + np.random.default_rng(0).normal(size=(4, 64)).astype("float32")
    half = keras.ops.cast(x, "bfloat16")
    wanted = run(
        lambda x: layer_norm(x, np.ones(64, "float32"), np.zeros(64, "float32"), 1e-5),
        np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))),
    )
    actual = layer_norm(half, keras.ops.ones(64, "bfloat16"), keras.ops.zeros(64, "bfloat16"), 1e-5)
    assert keras.backend.standardize_dtype(actual.dtype) == "bfloat16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.cast(actual, "float32")), wanted, rtol=2**-8)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="unknown sizes in compiled training are TensorFlow's")
def test_temporal_conv_of_unknown_frames_has_gradients_under_xla():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.normal(size=(3, 1, 4, 4)).astype("float32"))

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec((None, None, 6, 4))])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            total = tf.reduce_sum(temporal_conv(x, kernel))
        return tape.gradient(total, kernel)

    for frames in (4, 7):
        x = rng.normal(size=(2, frames, 6, 4)).astype("float32")
        wanted = [x[:, :-1].sum((0, 1, 2)), x.sum((0, 1, 2)), x[:, 1:].sum((0, 1, 2))]
        np.testing.assert_allclose(gradient(x)[:, 0, :, 0], wanted, atol=1e-4)


def recomputed(x, kernel, other, bias, filters):
    """A chain of cheap and costly operations in which results have several consumers."""
    activated = gelu(x)
    first, second = linears(activated, [(kernel, bias), (other, bias)])
    normal = layer_norm(first, bias, bias, 1e-5)
    convolve = depthwise_conv2d if filters.shape[-1] == 1 else temporal_conv
    context = gelu(convolve(normal, filters))
    total = gated_sum([context, gelu(context), gelu(keras.ops.mean(context, axis=(1, 2), keepdims=True))], second)
    return linear(total, kernel[:3], bias) + activated[..., :3]


@pytest.mark.parametrize("filters", [(3, 3, 3, 1), (3, 1, 3, 3)])
@pytest.mark.parametrize("forced", [{}, {"depthwise_conv2d": "shifted", "temporal_conv": "winograd"}])
def test_what_is_computed_again_has_the_same_gradients(monkeypatch, filters, forced):
    calls, by_hand = [], recompute._BACKENDS[BACKEND]
    monkeypatch.setitem(recompute._BACKENDS, BACKEND, lambda *args: calls.append(args[0]) or by_hand(*args))
    rng = np.random.default_rng(0)
    shapes = [(2, 6, 5, 4), (4, 3), (4, 3), (3,), filters]
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    weights = rng.normal(size=(2, 6, 5, 3)).astype("float32")

    def again(*tensors):
        with recomputing():
            return recomputed(*tensors)

    with force(**forced):
        value, gradients = values_and_gradients(recomputed, arrays, weights)
        assert not calls
        for jit_compile in (False, True):
            value_again, gradients_again = values_and_gradients(again, arrays, weights, jit_compile)
            np.testing.assert_allclose(value_again, value, atol=1e-4)
            for one, other in zip(gradients, gradients_again, strict=True):
                np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())
    # Two products of one input, the convolution and the last product, each time it was traced.
    assert calls and len(calls) % 3 == 0


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow's XLA takes the same computed twice for one, barrier or not")
def test_xla_computes_again_what_it_would_take_for_the_same():
    import jax

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype("float32") for shape in ((8, 16), (16, 16), (16,))]

    def compiled():
        def total(x, kernel, bias):
            with recomputing():
                return keras.ops.sum(linear(gelu(x), kernel, bias) ** 2)

        return jax.jit(jax.grad(total, argnums=1)).lower(*arrays).compile().as_text()

    with force(gradients="automatic"):
        assert compiled().count(" erf(") == 1
    assert compiled().count(" erf(") == 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what TensorFlow keeps where it runs eagerly")
def test_nothing_keeps_a_cheap_result_in_eager_mode():
    import tensorflow as tf

    results = []
    x, kernel, bias = tf.ones((8, 16)), tf.ones((16, 16)), tf.ones(16)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        with recomputing():
            activated = gelu(x)
            results.append(weakref.ref(activated))
            loss = tf.reduce_sum(linear(activated, kernel, bias))
            del activated
    gc.collect()
    assert results[0]() is None
    assert tape.gradient(loss, kernel).shape == (16, 16)


def test_automatic_gradients_can_be_differentiated_again():
    if BACKEND == "torch":
        import torch

        def twice(x):
            (slope,) = torch.autograd.grad(gelu(x).sum(), x, create_graph=True)
            return torch.autograd.grad(slope.sum(), x)[0]

        x = torch.tensor(0.0, requires_grad=True)
    elif BACKEND == "jax":
        import jax

        twice, x = jax.jacfwd(jax.grad(gelu)), 0.0
    else:
        import tensorflow as tf

        def twice(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = gelu(x)
                slope = inner.gradient(y, x)
            return outer.gradient(slope, x)

        x = tf.constant(0.0)
    with force(gradients="automatic"):
        # x Phi(x) has the second derivative 2 phi(0) at 0.
        assert float(twice(x)) == pytest.approx(2 / math.sqrt(2 * math.pi), rel=1e-5)


def test_gradient_of_gelu():
    x, step = np.linspace(-6, 6, 241), 1e-5
    above, below = ([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x + sign * step] for sign in (1, -1))
    wanted = (np.array(above) - np.array(below)) / (2 * step)
    for jit_compile in (False, True):
        _, (gradient,) = values_and_gradients(gelu, [x.astype("float32")], np.ones(241, "float32"), jit_compile)
        np.testing.assert_allclose(gradient, wanted, atol=2e-6)


def test_sums_in_one_pass():
    tensors = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype("float32")

    def stacked(*arrays):
        return keras.ops.stack(sums_in_one_pass(list(arrays), (1,)))

    functions = [stacked]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        functions.append(tf.function(stacked, jit_compile=True))
    for function in functions:
        np.testing.assert_allclose(run(function, *tensors), tensors.sum(2), atol=1e-5)


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 241)
    wanted = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    # The tanh approximation is off by 5e-4 here.
    np.testing.assert_allclose(run(gelu, x), wanted, atol=2e-6)


def test_a_region_for_xla_is_part_of_a_tensorflow_graph():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        seen = []
        tf.function(lambda x: xla_region(lambda x: seen.append(compiled_by_xla()) or x + 1)(x))(tf.ones(2))
        assert seen == [True]
    with pytest.raises(RuntimeError, match="part of a TensorFlow graph"):
        xla_region(lambda x: x)


def test_xla_is_noticed_when_it_compiles():
    seen = {}

    def function(x):
        seen["xla"] = compiled_by_xla()
        return x + 1

    if BACKEND == "tensorflow":
        import tensorflow as tf

        for jit_compile in (False, True):
            tf.function(function, jit_compile=jit_compile)(tf.ones(2))
            assert seen["xla"] is jit_compile
            outer = tf.function(lambda x: tf.function(function)(x), jit_compile=jit_compile)
            outer(tf.ones(2))
            assert seen["xla"] is jit_compile
    else:
        function(0)
        assert seen["xla"] is (BACKEND == "jax")
