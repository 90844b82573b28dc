"""The gradient of a number of a model's output for the model's input."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops.autodiff.input_gradient import input_gradient

RNG = np.random.default_rng(0)


def model_of_two_inputs():
    """Gives `relu(first @ kernel + bias) + second`, with dropout that does nothing when the model infers."""
    first, second = keras.Input((3,)), keras.Input((4,))
    dense = keras.layers.Dense(4, "relu")
    output = keras.layers.Dropout(0.9)(dense(first)) + second
    model = keras.Model([first, second], output)
    dense.set_weights([RNG.normal(size=(3, 4)), RNG.normal(size=4)])
    return model, *dense.get_weights()


def test_value_and_gradient_by_arithmetic():
    model, kernel, bias = model_of_two_inputs()
    first, second = (RNG.normal(size=(2, side)).astype("float32") for side in (3, 4))
    weights = RNG.normal(size=(2, 4)).astype("float32")
    factors = keras.ops.convert_to_tensor(weights)
    value, gradient = input_gradient(model, [first, second], lambda output: keras.ops.sum(output * factors))
    before = first.astype("float64") @ kernel + bias
    assert value == pytest.approx(((np.maximum(before, 0) + second) * weights).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, (weights * (before > 0)) @ kernel.T, rtol=1e-4, atol=1e-5)
    assert gradient.shape == first.shape


def test_a_number_that_does_not_depend_on_the_input_has_no_slope():
    model, *_ = model_of_two_inputs()
    other = keras.Model(model.inputs, model.inputs[1] * 2)
    _, gradient = input_gradient(other, [np.ones((1, 3), "float32"), np.ones((1, 4), "float32")], keras.ops.sum)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


def test_gradients_of_weights_stay():
    model, *_ = model_of_two_inputs()
    inputs = [np.ones((1, 3), "float32"), np.ones((1, 4), "float32")]
    input_gradient(model, inputs, keras.ops.sum)
    if keras.backend.backend() == "torch":
        assert all(variable.value.grad is None for variable in model.trainable_variables)
