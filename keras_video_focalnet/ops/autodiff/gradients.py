"""Gradients that a kernel computes itself, from what it chooses to keep."""

import functools
from collections.abc import Callable

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch


def with_gradients(function: Callable) -> Callable:
    """As `keras.ops.custom_gradient`, but the arguments may be variables on TensorFlow too.

    The function returns its result and what `keeping` gives. Such gradients can be differentiated once. For second
    derivatives, or forward mode on JAX, trace the model inside
    `keras_video_focalnet.ops.autodiff.formulation.force(gradients="automatic")`.
    """
    formulations = {"automatic": lambda *tensors: function(*tensors)[0], "by_hand": ops.custom_gradient(function)}

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras leaves a variable as it is, and TensorFlow would count it as one that the function found by itself.
            tensors = list(map(tf.convert_to_tensor, tensors))
        else:
            tensors = list(map(ops.convert_to_tensor, tensors))
        return choose("gradients", formulations, "by_hand" if _recorded(tensors) else "automatic")(*tensors)

    return call


def _recorded(tensors):
    """Whether a gradient by hand is of use: on PyTorch only where it records gradients, as eager code does."""
    if keras.backend.backend() != "torch":
        return True
    import torch

    by_other_means = compiled_by_torch(*tensors) or torch._C._are_functorch_transforms_active()
    return torch.is_grad_enabled() and not by_other_means


def keeping(gradients: Callable, *kept: Tensor) -> Callable:
    """The second result of a function under `with_gradients`: its gradients, a function of what is kept and the
    gradient of the result. On PyTorch what is kept has to be the arguments of the function.
    """
    if keras.backend.backend() == "torch":
        # PyTorch hands the arguments back as it kept them. Held here, they would outlive rematerialization.
        return lambda *arguments, upstream: gradients(*arguments, upstream)
    return lambda upstream: gradients(*kept, upstream)
