"""Attention: values summed by shares that are a softmax of products of queries and keys."""

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_torch


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sum values by shares that are a softmax of queries times keys, plus a bias where one is given.

    Args:
        queries: `(batch, heads, queries, depth)`, of which the products with keys are divided by the root of the depth.
        keys: `(batch, heads, keys, depth)`.
        values: Of the same shape as the keys.
        bias: `(windows, heads or 1, queries, keys)` of float32 or float64, which is added to the logits of rows of the
            batch in turn; `windows` divides the batch. None adds nothing.

    Returns:
        What is attended to, `(batch, queries, heads * depth)`.
    """
    formulations = {"written_out": _written_out}
    if keras.backend.backend() == "torch":
        formulations["library"] = _library
    default = "library" if "library" in formulations and _library_runs(queries, bias) else "written_out"
    attended = choose("attention", formulations, default)(queries, keys, values, bias)
    _, heads, tokens, depth = queries.shape
    return ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (-1, tokens, heads * depth))


def _written_out(queries, keys, values, bias):
    heads, tokens, depth = queries.shape[1:]
    exact = keras.backend.result_type(queries.dtype, "float32") if bias is None else bias.dtype
    logits = ops.cast(ops.matmul(queries * depth**-0.5, ops.transpose(keys, (0, 1, 3, 2))), exact)
    if bias is None:
        return ops.matmul(ops.cast(ops.softmax(logits, axis=-1), values.dtype), values)
    windows = bias.shape[0]
    if windows > 1:
        # One array for all windows and all heads: no tensor has five axes.
        logits = ops.reshape(logits, (-1, windows * heads, tokens, keys.shape[2]))
        bias = ops.reshape(bias, (1, windows * bias.shape[1], tokens, keys.shape[2]))
    shares = ops.cast(ops.softmax(logits + bias, axis=-1), values.dtype)
    return ops.matmul(ops.reshape(shares, (-1, heads, tokens, keys.shape[2])), values)


def _library(queries, keys, values, bias):
    """One pass over logits that are never in memory as a whole."""
    from torch.nn.functional import scaled_dot_product_attention

    if bias is not None:
        bias = bias.to(queries.dtype)
        if bias.shape[0] > 1:
            bias = bias.repeat(queries.shape[0] // bias.shape[0], 1, 1, 1)
    return scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


def _library_runs(x, bias):
    """Whether PyTorch's own attention is faster: for a bias that learns it has no fast gradient."""
    import torch

    if compiled_by_torch(x) or torch.jit.is_tracing():
        return False
    return x.dtype == torch.float32 and (bias is None or not torch.is_grad_enabled())
