"""A matrix product over channels, with a bias and a GELU."""

import functools

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.gelu import gelu


def linear(x, kernel, bias, activate=False):
    """`x @ kernel + bias`, through a GELU if asked for, in as few passes over memory as the backend has.

    Args:
        x: `(..., channels)`, floating.
        kernel: `(channels, units)`, the dtype of `x`.
        bias: `(units,)`, the dtype of `x`.
        activate: bool, exact GELU of the result.

    Returns:
        `(..., units)`, the dtype of `x`.

    Example:
    >>> linear(np.ones((1, 8, 49, 2), "float32"), np.ones((2, 4), "float32"), np.ones(4, "float32")).shape
    (1, 8, 49, 4)
    """
    backend = keras.backend.backend()
    if backend == "torch":
        x, kernel, bias = map(ops.convert_to_tensor, (x, kernel, bias))
        formulations = {"library": _torch, "onednn": _onednn} if _onednn_runs(x) else {"library": _torch}
        return choose("linear", formulations, next(reversed(formulations)))(x, kernel, bias, activate)
    if backend == "tensorflow":
        import tensorflow as tf

        # As matrices and with BiasAdd, the graph optimizer fuses the two.
        rows = tf.nn.bias_add(tf.matmul(ops.reshape(x, (-1, x.shape[-1])), ops.convert_to_tensor(kernel)), bias)
        result = ops.reshape(rows, (*ops.shape(x)[:-1], kernel.shape[-1]))
    else:
        result = ops.add(ops.matmul(x, kernel), bias)
    return gelu(result) if activate else result


def _torch(x, kernel, bias, activate):
    from torch.nn.functional import linear

    result = linear(x, kernel.T, bias)
    return gelu(result) if activate else result


@functools.cache
def _onednn_operation():
    """What `torch.compile` itself calls: oneDNN's product with its epilogue, without a gradient; None if not there."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _onednn_runs(x):
    """Whether oneDNN's product is there for `x`: it has no gradient, and no place in a graph that goes elsewhere."""
    import torch

    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and x.dtype == torch.float32 and on_cpu(x)
    allowed = torch.backends.mkldnn.enabled and not half_precision_by_context()
    return plain and allowed and not recorded and _onednn_operation() is not None


def _onednn(x, kernel, bias, activate):
    # Some columns of a larger matrix would take it minutes: they are copied first, which takes next to nothing.
    weights = kernel.contiguous().T
    attribute = ("gelu", [], "none") if activate else ("none", [], "")
    return _onednn_operation()(x, weights, bias.contiguous(), *attribute)
