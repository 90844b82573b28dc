"""How much a number that is computed of a model's output depends on what the model is given."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_video_focalnet.ops import Tensor


def input_gradient(
    model: keras.Model, inputs: Sequence[Tensor], number: Callable[[Tensor], Tensor]
) -> tuple[float, np.ndarray]:
    """Compute a number of a model's output, and its gradient for the first input, as the model infers.

    Args:
        model: A model of one output that takes a list of inputs.
        inputs: What it is given, of which the first is floating; tensors or arrays.
        number: Function of the output, in `keras.ops`, that gives a scalar. On JAX it is traced.

    Returns:
        The number, and the gradient, a floating array of the first input's shape. Weights keep what gradients they had.

    Example:
        >>> inputs = keras.Input((3,))
        >>> square = keras.Model([inputs], keras.ops.square(inputs))
        >>> value, gradient = input_gradient(square, [np.array([[1.0, 2.0, 3.0]], "float32")], keras.ops.sum)
        >>> value, gradient.tolist()
        (14.0, [[2.0, 4.0, 6.0]])
    """
    first, *others = map(keras.ops.convert_to_tensor, inputs)
    backward = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}[keras.backend.backend()]
    value, gradient = (keras.ops.convert_to_numpy(each) for each in backward(model, first, others, number))
    return float(value), np.asarray(gradient)


def _by_tensorflow(model, first, others, number):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(first)
        value = number(model([first, *others], training=False))
    return value, tape.gradient(value, first, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _by_jax(model, first, others, number):
    import jax

    def compute(first, others, trainable, fixed):
        output, _ = model.stateless_call(trainable, fixed, [first, *others], training=False)
        return number(output)

    weights = (
        [variable.value for variable in part] for part in (model.trainable_variables, model.non_trainable_variables)
    )
    # Compiled as a whole: one by one, JAX compiles every operation for every shape.
    return jax.jit(jax.value_and_grad(compute))(first, others, *weights)


def _by_torch(model, first, others, number):
    import torch

    with torch.enable_grad():
        first = first.detach().requires_grad_()
        value = number(model([first, *others], training=False))
        # PyTorch has no gradient of what does not depend on the input.
        recorded = value.requires_grad
        (gradient,) = torch.autograd.grad(value, first, allow_unused=True) if recorded else (None,)
    return value, torch.zeros_like(first) if gradient is None else gradient
