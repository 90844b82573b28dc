"""Exact GELU (paper Eq. 6, Hendrycks and Gimpel 2016)."""

import math

import keras
from keras import ops


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
    return 0.5 * x * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))
