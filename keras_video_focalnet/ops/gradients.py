"""What a backward pass keeps in memory."""

import contextlib
import functools

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, on_cpu
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
    # Keras has no public function for it.
    from keras.src.backend.common.stateless_scope import get_stateless_scope

    scope, backend = get_stateless_scope(), keras.backend.backend()
    if backend == "tensorflow" and scope is not None:
        # Its rematerialization finds variables, but not tensors in their place: they would have no gradient.
        return function(x)
    if backend != "torch":
        # Made anew for each call: made once, it would hold the weights of the first under JAX.
        formulations = {"automatic": lambda function, x: keras.remat(function)(x)}
        if backend == "jax" and on_cpu(x):
            formulations["by_hand"] = _rematerialized_by_xla_on_cpu
        return choose("gradients", formulations, next(reversed(formulations)))(function, x)
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

    def again(x):
        # In the backward pass, see the values that `stateless_call` gave in the forward pass.
        with contextlib.nullcontext() if scope in (None, get_stateless_scope()) else scope:
            return function(x)

    # It stops early by an exception, whose traceback Keras keeps, and with it all that was computed.
    with set_checkpoint_early_stop(False):
        return checkpoint(again, x, use_reentrant=False, preserve_rng_state=False)


def _rematerialized_by_xla_on_cpu(function, x):
    """There `jax.checkpoint` changes nothing: XLA finds that it computes the same twice and computes it once."""
    import jax
    from jax.extend.core import jaxpr_as_fun

    def may_have_gradient(constant):
        is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(constant.dtype))
        return is_float and isinstance(constant, jax.core.Tracer)

    # What the function closes over becomes an argument where it may have a gradient. Fixed arrays have none, and
    # functions with a gradient of their own close over some (Winograd's matrices).
    traced = jax.make_jaxpr(function)(x)
    weights = [constant for constant in traced.consts if may_have_gradient(constant)]

    def pure(x, *weights):
        weights = iter(weights)
        constants = [next(weights) if may_have_gradient(constant) else constant for constant in traced.consts]
        return tuple(jaxpr_as_fun(traced.replace(consts=constants))(x))

    run = jax.custom_vjp(pure)
    again = compiled_apart(lambda kept, upstream: jax.vjp(pure, *kept)[1](upstream))
    run.defvjp(lambda *arguments: (pure(*arguments), arguments), again)
    return run(x, *weights)


def with_gradients(function):
    """`keras.ops.custom_gradient`, but variables may be arguments on TensorFlow too.

    They can be differentiated once. For second derivatives, or forward mode on JAX, trace the model inside
    `keras_video_focalnet.ops.formulation.force(gradients="automatic")`.

    Args:
        function: from tensors to its result and what `keeping` gives.

    Returns:
        A function from the same tensors to the result alone.

    Example:
    >>> square = with_gradients(lambda x: (x * x, keeping(lambda x, upstream: 2 * x * upstream, x)))
    >>> float(square(ops.convert_to_tensor(3.0)))
    9.0
    """
    formulations = {"automatic": lambda *tensors: function(*tensors)[0], "by_hand": ops.custom_gradient(function)}

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
            tensors = map(tf.convert_to_tensor, tensors)
        else:
            tensors = map(ops.convert_to_tensor, tensors)
        return choose("gradients", formulations, "by_hand" if recorded() else "automatic")(*tensors)

    return call


def recorded():
    """Whether gradients are wanted that PyTorch itself records; its other ways know no function of Keras's."""
    if keras.backend.backend() != "torch":
        return True
    import torch

    otherwise = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return torch.is_grad_enabled() and not otherwise


def keeping(gradients, *kept):
    """The second result of a function under `with_gradients`: its gradients from what is kept and upstream.

    Args:
        gradients: from the function's arguments and the gradient of its result to the gradients of the arguments.
        *kept: what `gradients` takes before that; on PyTorch it has to be the arguments of the function.

    Returns:
        What the running backend calls in the backward pass.

    Example: see `with_gradients`.
    """
    if keras.backend.backend() == "torch":
        # It gives the arguments back, as it kept them; holding them here would outlive rematerialization.
        return lambda *arguments, upstream: gradients(*arguments, upstream)
    return lambda upstream: gradients(*kept, upstream)
