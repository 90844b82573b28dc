"""Values and gradients on the running backend."""

import functools

import keras
import numpy as np


def loss_and_gradients(model, mode="eager"):
    """A function from a clip and labels to the mean cross-entropy of logits and its gradients, as NumPy arrays.

    There is a gradient for each trainable variable. On TensorFlow `mode` is "eager", "graph" or "xla"; JAX compiles
    always, PyTorch never.
    """

    def loss_of(logits, labels):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def backward(clip, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(model(clip, training=True), labels)
            return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

        if mode != "eager":
            backward = tf.function(backward, jit_compile=mode == "xla")
    elif backend == "jax":
        import jax

        fixed = [variable.value for variable in model.non_trainable_variables]

        def forward(trainable, clip, labels):
            return loss_of(model.stateless_call(trainable, fixed, clip, training=True)[0], labels)

        # Compiled as a whole: one by one, JAX compiles every operation for every shape.
        whole = jax.jit(jax.value_and_grad(forward))

        def backward(clip, labels):
            return whole([variable.value for variable in model.trainable_variables], clip, labels)
    else:

        def backward(clip, labels):
            model.zero_grad()
            loss = loss_of(model(clip, training=True), labels)
            loss.backward()
            return loss, [variable.value.grad for variable in model.trainable_variables]

    as_numpy = keras.ops.convert_to_numpy

    def call(clip, labels):
        loss, gradients = backward(*map(keras.ops.convert_to_tensor, (clip, labels)))
        return float(as_numpy(loss)), [np.asarray(as_numpy(gradient)) for gradient in gradients]

    return call


def values_and_gradients(function, arrays, weights, jit_compile=False):
    """What a function of tensors gives, and the gradient of its sum weighted by `weights` for each, as NumPy arrays.

    On TensorFlow eagerly, or compiled by XLA; on JAX always compiled.
    """
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def backward(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
                total = tf.reduce_sum(value * weights)
            return value, tape.gradient(total, tensors)

        value, gradients = (tf.function(backward, jit_compile=True) if jit_compile else backward)(*tensors)
    elif backend == "jax":
        import jax

        def total(*tensors):
            value = function(*tensors)
            return (value * weights).sum(), value

        backward = jax.jit(jax.value_and_grad(total, argnums=tuple(range(len(tensors))), has_aux=True))
        (_, value), gradients = backward(*tensors)
    else:
        tensors = [tensor.requires_grad_() for tensor in tensors]
        value = function(*tensors)
        (value * keras.ops.convert_to_tensor(weights)).sum().backward()
        gradients = [tensor.grad for tensor in tensors]
    as_numpy = keras.ops.convert_to_numpy
    return np.asarray(as_numpy(value)), [np.asarray(as_numpy(gradient)) for gradient in gradients]


def probed(layer, x, probes, training=False, mode="eager"):
    """What a layer or model gives for `x`, and gradients of the sum of its first outputs, each weighted by a probe.

    On TensorFlow `mode` is "eager", "graph" or "xla"; JAX compiles always, PyTorch never.

    Returns:
        The outputs; the gradients of `x` and of each trainable variable, by its id; and what the variables without a
        gradient hold afterwards, by their ids. All as NumPy arrays.
    """
    backend, trainable, fixed = keras.backend.backend(), layer.trainable_variables, layer.non_trainable_variables
    x, probes = keras.ops.convert_to_tensor(x), [keras.ops.convert_to_tensor(probe) for probe in probes]

    def weighted(outputs):
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        pairs = zip(outputs[: len(probes)], probes, strict=True)
        return sum(keras.ops.sum(output * keras.ops.cast(probe, output.dtype)) for output, probe in pairs), outputs

    if backend == "tensorflow":
        import tensorflow as tf

        def backward(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total, outputs = weighted(layer(x, training=training))
            return outputs, tape.gradient(total, [x, *(variable.value for variable in trainable)])

        outputs, gradients = (backward if mode == "eager" else tf.function(backward, jit_compile=mode == "xla"))(x)
        after = [variable.value for variable in fixed]
    elif backend == "jax":
        import jax

        def total(x, values, others):
            outputs, after = layer.stateless_call(values, others, x, training=training)
            total, outputs = weighted(outputs)
            return total, (outputs, after)

        values, others = ([variable.value for variable in variables] for variables in (trainable, fixed))
        backward = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (_, (outputs, after)), (of_x, gradients) = backward(x, values, others)
        gradients = [of_x, *gradients]
    else:
        import torch

        x = x.requires_grad_()
        total, outputs = weighted(layer(x, training=training))
        gradients = torch.autograd.grad(total, [x, *(variable.value for variable in trainable)])
        after = [variable.value for variable in fixed]
    outputs, (of_x, *gradients), after = (
        [np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in tensors]
        for tensors in (outputs, gradients, after)
    )
    by_id = {id(variable): gradient for variable, gradient in zip(trainable, gradients, strict=True)}
    return outputs, of_x, by_id, {id(variable): value for variable, value in zip(fixed, after, strict=True)}


def by_names(model, values):
    """Values by the ids of variables as arrays by the original's names and in its layouts."""
    slots = model.network.slots()
    return {
        name: slot.to_reference(values[id(slot.variable)])
        for name, slot in slots.items()
        if id(slot.variable) in values
    }


@functools.cache
def modes():
    """How a model of the running backend is run: what is eager is quick, and JAX is always compiled."""
    return {"tensorflow": ("eager", "graph", "xla"), "jax": ("xla",), "torch": ("eager",)}[keras.backend.backend()]
