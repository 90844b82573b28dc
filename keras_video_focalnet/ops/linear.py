"""A matrix product over channels, with a bias and an activation."""

import functools
from collections.abc import Sequence

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import (
    choose,
    compiled_by_torch,
    compiled_by_xla,
    half_precision_by_context,
    on_cpu,
)
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients
from keras_video_focalnet.ops.gelu import activation


def linear(x: Tensor, kernel: Tensor, bias: Tensor, activate: bool | str = False) -> Tensor:
    """`x @ kernel + bias`, through what `activate` names of `gelu.ACTIVATIONS`, in as few passes over memory as the
    backend has: `x` is `(..., channels)`, `kernel` `(channels, units)`, `bias` `(units,)`.
    """
    (result,) = linears(x, [(kernel, bias)], activate)
    return result


def linears(x: Tensor, weights: Sequence[tuple[Tensor, Tensor]], activate: bool | str = False) -> list[Tensor]:
    """Several `linear` of the same `x`, by pairs of a kernel and a bias whose numbers of units may differ."""
    x = ops.convert_to_tensor(x)
    formulations = {"unflattened": _unflattened, "library": _library}
    if keras.backend.backend() == "tensorflow":
        formulations["rows"] = _rows
    # OneDNN has no such activation, and is no faster without.
    if keras.backend.backend() == "torch" and activate != "quick_gelu" and _onednn_runs(x):
        formulations["onednn"] = _onednn
    return choose("linear", formulations, next(reversed(formulations)))(x, weights, activate)


def _library(x, weights, activate):
    return [activation(_product(x, kernel, bias), activate) for kernel, bias in weights]


def _rows(x, weights, activate):
    """The activation stands before rows get their shape back: so TensorFlow's graph optimizer makes one operation of
    product, bias and GELU.
    """
    import tensorflow as tf

    rows, results = ops.reshape(x, (-1, x.shape[-1])), []
    for kernel, bias in weights:
        product = tf.nn.bias_add(tf.matmul(rows, ops.convert_to_tensor(kernel)), bias)
        results.append(ops.reshape(activation(product, activate), (*ops.shape(x)[:-1], kernel.shape[-1])))
    return results


def _unflattened(x, weights, activate):
    """With the rank of `x` throughout: LiteRT's converter drops a reshape where only sides of 1 are lost, and a phone's
    GPU then refuses the product of two ranks.
    """
    return [activation(ops.add(ops.matmul(x, kernel), bias), activate) for kernel, bias in weights]


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
    rows = _rows_with_gradients(ops.reshape(x, (-1, x.shape[-1])), kernel, bias)
    return ops.reshape(rows, (*ops.shape(x)[:-1], kernel.shape[-1]))


@with_gradients
def _rows_with_gradients(x, kernel, bias):
    """As matrices: of tensors of a higher rank XLA copies what a gradient multiplies."""
    return ops.add(ops.matmul(x, kernel), bias), keeping(linear_gradients, x, kernel)


def linear_gradients(x: Tensor, kernel: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `linear` by `x`, by the kernel and by the bias, given that of its result."""
    rows, upstream_rows = (ops.reshape(tensor, (-1, tensor.shape[-1])) for tensor in (x, upstream))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        by_rows = tf.matmul(upstream_rows, kernel, transpose_b=True)
        by_kernel = tf.matmul(rows, upstream_rows, transpose_a=True)
        by_bias = tf.raw_ops.BiasAddGrad(out_backprop=upstream_rows)
    else:
        by_rows = ops.matmul(upstream_rows, ops.transpose(kernel))
        by_kernel = ops.matmul(ops.transpose(rows), upstream_rows)
        by_bias = _sum_of_rows(upstream_rows)
    return ops.reshape(by_rows, ops.shape(x)), by_kernel, by_bias


def _sum_of_rows(x):
    """A sum over the first of two axes: XLA on a CPU is slower at sums over many rows than at products with ones."""
    if compiled_by_xla() and on_cpu(x):
        return ops.reshape(ops.matmul(ops.ones((1, x.shape[0]), x.dtype), x), (-1,))
    return ops.sum(x, axis=0)


@functools.cache
def _onednn_operation():
    """OneDNN's product with a GELU in the same pass, as `torch.compile` calls it; None where PyTorch has none."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _onednn_runs(x):
    """Whether oneDNN's product serves for `x`: it has no gradient, and other machines that run a graph may lack it."""
    import torch

    recorded = torch.is_grad_enabled() or compiled_by_torch(x) or torch.jit.is_tracing()
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and _onednn_takes(x.dtype) and on_cpu(x)
    allowed = torch.backends.mkldnn.enabled and not half_precision_by_context(x)
    return plain and allowed and not recorded and _onednn_operation() is not None


def _onednn_takes(dtype):
    """Whether oneDNN multiplies tensors of a dtype on this processor."""
    import torch

    # PyTorch has no public name for it.
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _onednn(x, weights, activate):
    attribute = ("gelu", [], "none") if activate else ("none", [], "")
    results = []
    for kernel, bias in weights:
        kernel, bias = map(ops.convert_to_tensor, (kernel, bias))
        # It takes minutes for some columns of a larger matrix. Copying them first takes next to nothing.
        results.append(_onednn_operation()(x, kernel.contiguous().T, bias.contiguous(), *attribute))
    return results
