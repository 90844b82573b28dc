"""Layer normalization over channels (Ba et al. 2016)."""

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch, on_cpu
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Normalize every token of `(..., channels)` to mean 0 and variance 1 over its channels, then scale and shift by
    `gamma` and `beta` of shape `(channels,)`; half precision is normalized in float32.
    """
    x, gamma, beta = map(ops.convert_to_tensor, (x, gamma, beta))
    dtype = keras.backend.standardize_dtype(x.dtype)
    exact = dtype if _sums_in_float32(x) else keras.backend.result_type(dtype, "float32")
    x, gamma, beta = (ops.cast(tensor, exact) for tensor in (x, gamma, beta))
    formulations = {"library": _library} if keras.backend.backend() == "torch" else {"rsqrt": _with_gradients}
    default = next(iter(formulations))
    normalize = choose("layer_norm", {**formulations, "quotient": _quotient}, default)
    return ops.cast(normalize(x, gamma, beta, epsilon), dtype)


def _sums_in_float32(x):
    """Whether the library computes in float32 what comes in half precision; of its gradients nothing is assumed."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return on_cpu(x) and not torch.is_grad_enabled() and not compiled_by_torch(x)


def _library(x, gamma, beta, epsilon):
    from torch.nn.functional import layer_norm as library

    return library(x, gamma.shape, gamma, beta, epsilon)


def _quotient(x, gamma, beta, epsilon):
    """As Ba et al. write it: ONNX Runtime makes one operation of a norm in this form."""
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.power(centered, 2.0), axis=-1, keepdims=True) + epsilon)
    return centered / deviation * gamma + beta


def _with_gradients(x, gamma, beta, epsilon):
    """Keeps `x` and two numbers a token for the backward pass; the automatic gradient keeps every step between."""

    @with_gradients
    def normalize(x, gamma, beta):
        mean = ops.mean(x, axis=-1, keepdims=True)
        scale = ops.rsqrt(ops.mean(ops.square(x - mean), axis=-1, keepdims=True) + epsilon)
        return (x - mean) * scale * gamma + beta, keeping(_gradients, x, mean, scale, gamma)

    return normalize(x, gamma, beta)


@compiled_apart
def _gradients(x, mean, scale, gamma, upstream):
    normalized = (x - mean) * scale
    tokens = tuple(range(len(x.shape) - 1))
    inner = upstream * gamma
    mean_gradient = ops.mean(inner, axis=-1, keepdims=True)
    deviation_gradient = ops.mean(inner * normalized, axis=-1, keepdims=True)
    x_gradient = scale * (inner - mean_gradient - normalized * deviation_gradient)
    return x_gradient, ops.sum(upstream * normalized, axis=tokens), ops.sum(upstream, axis=tokens)
