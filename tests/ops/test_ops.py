"""Products, sums, norms and GELU, in every formulation, against plain NumPy: values and gradients."""

import math

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.autodiff.fusion import sums_in_one_pass
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu, quick_gelu
from keras_video_focalnet.ops.layer_norm import layer_norm
from keras_video_focalnet.ops.linear import linear
from tests.gradients import values_and_gradients
from tests.onednn import onednn_is_there
from tests.ops.references import check, run

BACKEND = keras.backend.backend()


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


@pytest.mark.parametrize("shape,forced", [((4,), {}), ((2, 3, 5, 4), {}), ((2, 3, 5, 4), {"linear": "unflattened"})])
def test_linear(shape, forced):
    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=shape), rng.normal(size=(4, 6)), rng.normal(size=6)
    with force(**forced):
        check(linear, lambda x, kernel, bias: x @ kernel + bias, x, kernel, bias)
        for kind, function in ((True, gelu), ("quick_gelu", quick_gelu)):
            activated = run(lambda *a, kind=kind: linear(*a, activate=kind), x, kernel, bias)
            np.testing.assert_allclose(activated, run(function, x @ kernel + bias), atol=2e-5)


@pytest.mark.skipif(not onednn_is_there(), reason="oneDNN's product is a formulation of PyTorch's, on x86")
@pytest.mark.parametrize("activate", [False, True])
def test_linear_without_gradients(activate):
    import torch

    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(4, 9)), rng.normal(size=9)
    with torch.inference_mode(), force(linear="onednn"):
        actual = run(lambda *a: linear(a[0], a[1][:, 2:6], a[2][2:6], activate), x, kernel, bias)
    x, kernel, bias = (array.astype("float32").astype("float64") for array in (x, kernel[:, 2:6], bias[2:6]))
    unit, wanted = 2.0**-24, x @ kernel + bias
    # Each of 4 products and the bias is rounded at most 5 times, in any order of summation.
    bound = 5.001 * unit * (np.abs(x) @ np.abs(kernel) + np.abs(bias))
    if activate:
        # The slope of GELU is at most 1.13. The error function itself is within 2.5e-7 in every library.
        cumulative = 0.5 * (1 + np.vectorize(math.erf)(wanted / math.sqrt(2)))
        bound = 1.13 * bound + np.abs(wanted) * (1.25e-7 + 5 * unit * cumulative)
        wanted = wanted * cumulative
    assert (np.abs(actual - wanted) <= bound).all(), np.max(np.abs(actual - wanted) / bound)
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


@pytest.mark.parametrize("erf", ["library", "rational"])
def test_gelu_is_the_exact_one(erf):
    x = np.linspace(-6, 6, 241)
    wanted = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    # The tanh approximation is off by 5e-4 here.
    with force(erf=erf):
        np.testing.assert_allclose(run(gelu, x), wanted, atol=2e-6)


def test_quick_gelu():
    x = np.linspace(-12, 12, 241)
    share = 1 / (1 + np.exp(-1.702 * x))
    np.testing.assert_allclose(run(quick_gelu, x), x * share, atol=2e-6)
    wanted = share * (1 + 1.702 * x * (1 - share))
    for jit_compile in (False, True):
        _, (gradient,) = values_and_gradients(quick_gelu, [x.astype("float32")], np.ones(241, "float32"), jit_compile)
        np.testing.assert_allclose(gradient, wanted, atol=2e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch alone records or not")
def test_quick_gelu_without_gradients_leaves_its_input_alone():
    import torch

    x = torch.linspace(-12, 12, 241)
    kept, recorded = x.clone(), quick_gelu(x)
    with torch.no_grad():
        np.testing.assert_allclose(quick_gelu(x).numpy(), recorded.detach().numpy(), atol=2e-6)
    assert torch.equal(x, kept)


def test_quick_gelu_of_large_numbers_in_half_precision():
    for dtype in ("float16", "bfloat16"):
        given = quick_gelu(keras.ops.convert_to_tensor([-1000.0, 0.0, 1000.0], dtype=dtype))
        assert keras.backend.standardize_dtype(given.dtype) == dtype
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.ops.cast(given, "float32")), [0, 0, 1000])
