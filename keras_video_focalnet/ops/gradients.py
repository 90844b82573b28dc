"""What a backward pass keeps in memory."""

import functools

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import on_cpu
from keras_video_focalnet.ops.fusion import compiled_apart


def rematerialized(function, x):
    """`function(x)`, of which a backward pass keeps `x` alone and computes the rest again (Chen et al. 2016).

    Args:
        function: from a tensor to a tuple of tensors, without randomness of its own.
        x: floating tensor.

    Returns:
        What `function` returns.

    Example:
    >>> rematerialized(lambda x: (x + 1.0,), np.zeros((1, 2), "float32"))[0].shape
    (1, 2)
    """
    if keras.backend.backend() == "jax" and on_cpu(x):
        return _rematerialized_by_xla_on_cpu(function, x)
    if keras.backend.backend() != "torch":
        # Made anew for each call: made once, it would hold the weights of the first under JAX.
        return keras.remat(function)(x)
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

    # It stops early by an exception, whose traceback Keras keeps, and with it all that was computed.
    with set_checkpoint_early_stop(False):
        return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)


def _rematerialized_by_xla_on_cpu(function, x):
    """There `jax.checkpoint` changes nothing: XLA finds that it computes the same twice and computes it once."""
    import jax

    function, weights = jax.closure_convert(function, x)
    run = jax.custom_vjp(function)
    again = compiled_apart(lambda kept, upstream: jax.vjp(function, *kept)[1](upstream))
    run.defvjp(lambda *arguments: (function(*arguments), arguments), again)
    return run(x, *weights)


def with_gradients(function):
    """`keras.ops.custom_gradient`, but variables may be arguments on TensorFlow too.

    Args:
        function: from tensors to its result and what `keeping` gives.

    Returns:
        A function from the same tensors to the result alone.

    Example:
    >>> square = with_gradients(lambda x: (x * x, keeping(lambda x, upstream: 2 * x * upstream, x)))
    >>> float(square(ops.convert_to_tensor(3.0)))
    9.0
    """
    decorated = ops.custom_gradient(function)

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
            return decorated(*map(tf.convert_to_tensor, tensors))
        return decorated(*map(ops.convert_to_tensor, tensors))

    return call


def keeping(gradients, *kept):
    """The second result of a function under `with_gradients`: its gradients from what is kept and upstream.

    Args:
        gradients: from the function's arguments and the gradient of its result to the gradients of the arguments.
        *kept: the function's arguments.

    Returns:
        What the running backend calls in the backward pass.

    Example: see `with_gradients`.
    """
    if keras.backend.backend() == "torch":
        # It gives the arguments back, as it kept them; holding them here would outlive rematerialization.
        return lambda *arguments, upstream: gradients(*arguments, upstream)
    return lambda upstream: gradients(*kept, upstream)
