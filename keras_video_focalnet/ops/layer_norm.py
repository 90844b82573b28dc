"""Layer normalization over channels (Ba et al. 2016)."""

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import keeping, with_gradients
from keras_video_focalnet.ops.recompute import cheap


def layer_norm(x, gamma, beta, epsilon):
    """Normalize every token to mean 0 and variance 1 over its channels, then scale and shift.

    Args:
        x: `(..., channels)`, floating.
        gamma: `(channels,)`, the scale.
        beta: `(channels,)`, the shift.
        epsilon: float, added to the variance.

    Returns:
        `(..., channels)`, the dtype of `x`; half precision is normalized in float32.

    Example:
    >>> layer_norm(np.ones((1, 8, 49, 4), "float32"), np.ones(4, "float32"), np.zeros(4, "float32"), 1e-5).shape
    (1, 8, 49, 4)
    """
    return _normalize(*map(ops.convert_to_tensor, (x, gamma, beta)), epsilon=epsilon)


@cheap
def _normalize(x, gamma, beta, epsilon):
    dtype = keras.backend.standardize_dtype(x.dtype)
    exact = keras.backend.result_type(dtype, "float32")
    x, gamma, beta = (ops.cast(tensor, exact) for tensor in (x, gamma, beta))
    own = ("library", _library) if keras.backend.backend() == "torch" else ("rsqrt", _with_gradients)
    result = choose("layer_norm", dict([own, ("quotient", _quotient)]), own[0])(x, gamma, beta, epsilon)
    return ops.cast(result, dtype)


def _library(x, gamma, beta, epsilon):
    from torch.nn.functional import layer_norm as library

    return library(x, gamma.shape, gamma, beta, epsilon)


def _quotient(x, gamma, beta, epsilon):
    """As the paper writes it, which ONNX Runtime knows for a norm."""
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
    straight, turned = (ops.mean(t, axis=-1, keepdims=True) for t in (inner, inner * normalized))
    of_x = scale * (inner - straight - normalized * turned)
    return of_x, ops.sum(upstream * normalized, axis=tokens), ops.sum(upstream, axis=tokens)
