"""Loss and gradients of a model on the running backend."""

import keras
import numpy as np


def loss_and_gradients(model, clip, labels):
    """Mean cross-entropy of logits, and its gradient for each trainable variable, as NumPy arrays."""

    def loss_of(logits):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(model(clip, training=True))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    elif backend == "jax":
        import jax

        fixed = [variable.value for variable in model.non_trainable_variables]

        def forward(trainable):
            return loss_of(model.stateless_call(trainable, fixed, clip, training=True)[0])

        # Compiled as a whole: one by one, JAX compiles every operation for every shape.
        backward = jax.jit(jax.value_and_grad(forward))
        loss, gradients = backward([variable.value for variable in model.trainable_variables])
    else:
        model.zero_grad()
        loss = loss_of(model(clip, training=True))
        loss.backward()
        gradients = [variable.value.grad for variable in model.trainable_variables]
    as_numpy = keras.ops.convert_to_numpy
    return float(as_numpy(loss)), [np.asarray(as_numpy(gradient)) for gradient in gradients]
