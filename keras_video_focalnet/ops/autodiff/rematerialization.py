"""A function whose results a backward pass computes again, instead of keeping them in memory."""

import contextlib
from collections.abc import Callable

import keras

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, on_cpu, with_forced_choices
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart


def rematerialized(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> tuple[Tensor, ...]:
    """`function(x)`, of which a backward pass keeps `x` alone and computes the rest again (Chen et al. 2016).

    The function returns a tuple of tensors and has no randomness of its own. What is computed again is computed in the
    same formulations, whatever the context of the backward pass forces.
    """
    # Keras has no public function for it.
    from keras.src.backend.common.stateless_scope import get_stateless_scope

    scope, backend = get_stateless_scope(), keras.backend.backend()
    if backend == "tensorflow" and scope is not None:
        # Its rematerialization finds variables, but not tensors in their place: they would have no gradient.
        return function(x)
    function = with_forced_choices(function)
    if backend != "torch":
        # Made anew for each call: made once, it would hold the weights of the first call under JAX.
        formulations = {"automatic": lambda function, x: keras.remat(function)(x)}
        if backend == "jax" and on_cpu(x):
            formulations["by_hand"] = _rematerialized_by_xla_on_cpu
        return choose("gradients", formulations, next(reversed(formulations)))(function, x)
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

    def compute(x):
        # The backward pass must see the values that `stateless_call` gave in the forward pass.
        with contextlib.nullcontext() if scope in (None, get_stateless_scope()) else scope:
            return function(x)

    # It would stop early by an exception, whose traceback Keras keeps, and with it all that was computed.
    with set_checkpoint_early_stop(False):
        return checkpoint(compute, x, use_reentrant=False, preserve_rng_state=False)


def _rematerialized_by_xla_on_cpu(function, x):
    """As `jax.checkpoint`, which changes nothing here: XLA finds that it computes the same twice, and does so once."""
    import jax
    from jax.extend.core import jaxpr_as_fun

    def may_have_gradient(constant):
        is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(constant.dtype))
        return is_float and isinstance(constant, jax.core.Tracer)

    # What the function closes over becomes an argument where it may have a gradient. Fixed arrays have none; functions
    # with a gradient of their own close over some, such as Winograd's matrices.
    traced = jax.make_jaxpr(function)(x)
    weights = [constant for constant in traced.consts if may_have_gradient(constant)]

    def pure(x, *weights):
        weights = iter(weights)
        constants = [next(weights) if may_have_gradient(constant) else constant for constant in traced.consts]
        return tuple(jaxpr_as_fun(traced.replace(consts=constants))(x))

    run = jax.custom_vjp(pure)
    backward = compiled_apart(lambda kept, upstream: jax.vjp(pure, *kept)[1](upstream))
    run.defvjp(lambda *arguments: (pure(*arguments), arguments), backward)
    return run(x, *weights)
