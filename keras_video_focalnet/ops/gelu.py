"""GELU (Hendrycks and Gimpel 2016), exact and by a sigmoid."""

import functools
import math

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients

# What the sigmoid of the approximation is steeper by.
QUICK = 1.702
# From here on the error function is 1 in float32.
_ONE = 3.7439211627767994
# Factors of even powers, the highest first.
_NUMERATOR = (0.00022905065861350646, 0.0034082910107109506, 0.050955695062380861, 0.18520832239976145)
_NUMERATOR += (1.128379143519084,)
_DENOMINATOR = (-1.1791602954361697e-7, 0.000023547966471313185, 0.0010179625278914885, 0.014070470171167667)
_DENOMINATOR += (0.11098505178285362, 0.49746925110067538, 1.0)


def gelu(x: Tensor) -> Tensor:
    """`x * Phi(x)` with the Gaussian distribution function itself (erf), not its tanh approximation."""
    if keras.backend.backend() == "torch":
        return ops.gelu(x, approximate=False)
    # Keras's GELU becomes Erfc on TensorFlow, which neither LiteRT's delegates nor the ONNX converter know.
    return _with_gradient(x)


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`, the approximation of GELU that CLIP has (Radford et al. 2021)."""
    if keras.backend.backend() == "torch" and not _recorded_by_torch(x):
        # In one new tensor, where PyTorch would make three.
        return (x * QUICK).sigmoid_().mul_(x)
    return _quick_with_gradient(x)


def _recorded_by_torch(x):
    import torch

    return torch.is_grad_enabled() or compiled_by_torch(x) or torch.jit.is_tracing()


def activation(x: Tensor, kind: bool | str) -> Tensor:
    """What a dense layer gives of its product `x`: with True its exact GELU, with `"quick_gelu"` the approximation."""
    return _ACTIVATIONS[kind](x)


def _by_erf(x):
    erf = choose("erf", {"library": ops.erf, "rational": _rational_erf}, "library")
    return 0.5 * x * (1.0 + erf(x * (1.0 / math.sqrt(2.0))))


def _rational_erf(x):
    """The error function from sums and products alone, as XLA computes it in float32: within 4e-7.

    JAX writes its own down as one operation that a TensorFlow of the same year may not read.
    """
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return ops.erf(x)
    x = ops.clip(x, -_ONE, _ONE)
    numerator, denominator = _polynomial(x * x, _NUMERATOR), _polynomial(x * x, _DENOMINATOR)
    return x * numerator / denominator


def _polynomial(x, factors):
    return functools.reduce(lambda total, factor: total * x + factor, factors)


def gelu_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of `gelu` by its input `x`, given that of its result."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.ops.aten.gelu_backward(upstream, x)
    return _gradient(x, upstream)


@with_gradients
def _with_gradient(x):
    """Keeps `x` alone for the backward pass, where the automatic gradient keeps every step between."""
    return _by_erf(x), keeping(_gradient, x)


@compiled_apart
def _gradient(x, upstream):
    cumulative = 0.5 * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))
    return upstream * (cumulative + x * ops.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi)))


@with_gradients
def _quick_with_gradient(x):
    return x * ops.sigmoid(QUICK * x), keeping(_quick_gradient, x)


@compiled_apart
def _quick_gradient(x, upstream):
    share = ops.sigmoid(QUICK * x)
    return upstream * share * (1.0 + QUICK * x * (1.0 - share))


_ACTIVATIONS = {False: lambda x: x, True: gelu, "quick_gelu": quick_gelu}
ACTIVATIONS = tuple(_ACTIVATIONS)
"""The kinds of `activation`."""
