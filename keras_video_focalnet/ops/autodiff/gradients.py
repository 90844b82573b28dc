"""Gradients that a kernel computes itself, from what it chooses to keep."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch, compiled_by_xla
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart


class _Kept(NamedTuple):
    gradients: Callable
    tensors: Sequence[Tensor]


def keeping(gradients: Callable, *kept: Tensor) -> _Kept:
    """The second result of a function under `with_gradients`: its gradients, a function of what is kept and then of the
    gradient of each result, and what is kept, of whatever was computed.
    """
    return _Kept(gradients, kept)


def with_gradients(function: Callable) -> Callable:
    """As `keras.ops.custom_gradient`, but the arguments may be variables on TensorFlow too, and what is kept anything
    that the function computed.

    The function returns its result, a tensor or a tuple of tensors, and what `keeping` gives. Such gradients can be
    differentiated once. For second derivatives, or forward mode on JAX, trace the model inside
    `keras_video_focalnet.ops.autodiff.formulation.force(gradients="automatic")`.
    """
    formulations = {"automatic": lambda *tensors: function(*tensors)[0], "by_hand": _by_hand(function)}

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
            tensors = list(map(tf.convert_to_tensor, tensors))
        else:
            tensors = list(map(ops.convert_to_tensor, tensors))
        return choose("gradients", formulations, "by_hand" if recorded(*tensors) else "automatic")(*tensors)

    return call


def recorded(*tensors: Tensor) -> bool:
    """Whether a gradient by hand is of use: on PyTorch only where it records gradients, as eager code does."""
    if keras.backend.backend() != "torch":
        return True
    import torch

    by_other_means = compiled_by_torch(*tensors) or torch._C._are_functorch_transforms_active()
    return torch.is_grad_enabled() and not by_other_means


def computed_again(gradients: Callable) -> Callable:
    """Gradients that compute again what the forward pass computed: no compiler may find that it is the same, and keep
    what the forward pass had.
    """
    if keras.backend.backend() != "tensorflow":
        return compiled_apart(gradients)

    @functools.wraps(gradients)
    def call(*tensors):
        import tensorflow as tf

        # The last of them is the gradient of a result. What waits for it is another operation than in the forward pass.
        with tf.control_dependencies([tensors[-1]]):
            kept = [tf.identity(tensor) for tensor in tensors[:-1]]
        if compiled_by_xla():
            kept = [tensor + tf.cast(_zero_of(tensors[-1]), tensor.dtype) for tensor in kept]
        return gradients(*kept, tensors[-1])

    return call


def _zero_of(gradient):
    """A zero that XLA cannot know before it has the gradient, since it leaves control dependencies out."""
    import tensorflow as tf

    known = tf.cast(tf.reshape(gradient, [-1])[0], tf.bool)
    return tf.where(tf.equal(known, known), 0.0, 1.0)


def _by_hand(function):
    if keras.backend.backend() == "torch":
        return lambda *tensors: _torch_function().apply(function, *tensors)

    def with_closure(*tensors):
        result, (gradients, kept) = function(*tensors)
        # JAX hands the gradients of several results on as one tuple, TensorFlow one by one.
        if keras.backend.backend() == "jax" and isinstance(result, tuple):
            return result, lambda upstreams: gradients(*kept, *upstreams)
        return result, lambda *upstreams: gradients(*kept, *upstreams)

    return ops.custom_gradient(with_closure)


@functools.cache
def _torch_function():
    import torch

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, *tensors):
            result, (ctx.gradients, kept) = function(*tensors)
            ctx.save_for_backward(*kept)
            return result

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, *upstreams):
            gradients = ctx.gradients(*ctx.saved_tensors, *upstreams)
            return None, *(gradients if isinstance(gradients, (list, tuple)) else [gradients])

    return ByHand
