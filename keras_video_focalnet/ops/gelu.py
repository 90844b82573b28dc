"""Exact GELU (paper Eq. 6, Hendrycks and Gimpel 2016)."""

import math

import keras
from keras import ops

from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import keeping, with_gradients
from keras_video_focalnet.ops.recompute import cheap


@cheap
def gelu(x):
    """`x * Phi(x)` with the Gaussian distribution function itself (erf), not its tanh approximation.

    Args:
        x: floating tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`.

    Example:
    >>> float(gelu(ops.convert_to_tensor(1.0)))
    0.8413447141647339
    """
    if keras.backend.backend() == "torch":
        return ops.gelu(x, approximate=False)
    # Keras's own becomes Erfc on TensorFlow, which neither LiteRT's delegates nor the ONNX converter know.
    return _with_gradient(x)


def _by_erf(x):
    return 0.5 * x * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))


@with_gradients
def _with_gradient(x):
    """Keeps `x` alone for the backward pass, where the automatic gradient keeps every step between."""
    return _by_erf(x), keeping(_gradient, x)


@compiled_apart
def _gradient(x, upstream):
    below = 0.5 * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))
    return upstream * (below + x * ops.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi)))
