"""A matrix product over channels, with a bias and a GELU."""

import functools
import itertools

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, half_precision_by_context, on_cpu
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.recompute import costly


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
    (result,) = linears(x, [(kernel, bias)], activate)
    return result


def linears(x, weights, activate=False):
    """Several `linear` of the same `x`.

    Args:
        x: as of `linear`.
        weights: list of pairs of a kernel and a bias, as of `linear`.
        activate: as of `linear`.

    Returns:
        A list of tensors.

    Example:
    >>> x, kernel, bias = np.ones((1, 8, 49, 2), "float32"), np.ones((2, 4), "float32"), np.ones(4, "float32")
    >>> [y.shape for y in linears(x, [(kernel, bias), (kernel[:, :3], bias[:3])])]
    [(1, 8, 49, 4), (1, 8, 49, 3)]
    """
    x = ops.convert_to_tensor(x)
    formulations = {"library": _library}
    if keras.backend.backend() == "torch" and _onednn_runs(x):
        formulations["onednn"] = _onednn
    return choose("linear", formulations, next(reversed(formulations)))(x, weights, activate)


def _library(x, weights, activate):
    results = _products(x, *itertools.chain(*weights))
    return [gelu(result) for result in results] if activate else list(results)


def _gradients(x, *weights_and_upstream, needed):
    *weights, upstream = weights_and_upstream
    rows, of_x, of_weights = ops.reshape(x, (-1, x.shape[-1])), None, []
    for kernel, of_result, *of_both in zip(weights[::2], upstream, needed[1::2], needed[2::2], strict=True):
        of_rows = ops.reshape(of_result, (-1, kernel.shape[-1]))
        if needed[0]:
            part = ops.matmul(of_result, ops.transpose(kernel))
            of_x = part if of_x is None else of_x + part
        of_weights.append(ops.matmul(ops.transpose(rows), of_rows) if of_both[0] else None)
        of_weights.append(ops.sum(of_rows, axis=0) if of_both[1] else None)
    return of_x, *of_weights


@costly(_gradients)
def _products(x, *weights):
    return tuple(_product(x, kernel, bias) for kernel, bias in zip(weights[::2], weights[1::2], strict=True))


def _product(x, kernel, bias):
    backend = keras.backend.backend()
    if backend == "torch":
        from torch.nn.functional import linear

        return linear(x, ops.convert_to_tensor(kernel).T, ops.convert_to_tensor(bias))
    if backend == "tensorflow":
        import tensorflow as tf

        # As matrices and with BiasAdd, the graph optimizer fuses the two.
        rows = tf.nn.bias_add(tf.matmul(ops.reshape(x, (-1, x.shape[-1])), ops.convert_to_tensor(kernel)), bias)
        return ops.reshape(rows, (*ops.shape(x)[:-1], kernel.shape[-1]))
    return ops.add(ops.matmul(x, kernel), bias)


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
    allowed = torch.backends.mkldnn.enabled and not half_precision_by_context(x)
    return plain and allowed and not recorded and _onednn_operation() is not None


def _onednn(x, weights, activate):
    attribute = ("gelu", [], "none") if activate else ("none", [], "")
    results = []
    for kernel, bias in weights:
        kernel, bias = map(ops.convert_to_tensor, (kernel, bias))
        # Some columns of a larger matrix would take it minutes: they are copied first, which takes next to nothing.
        results.append(_onednn_operation()(x, kernel.contiguous().T, bias.contiguous(), *attribute))
    return results
