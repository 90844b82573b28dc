"""What is computed again in the backward pass."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops import recompute
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.formulation import force
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.layer_norm import layer_norm
from keras_video_focalnet.ops.linear import linear, linears
from keras_video_focalnet.ops.recompute import recomputing
from keras_video_focalnet.ops.temporal import temporal_conv
from tests.gradients import values_and_gradients

BACKEND = keras.backend.backend()


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
