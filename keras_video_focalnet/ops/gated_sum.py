"""Gated aggregation (Video-FocalNet, Eq. 7)."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_xla
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart, sums_in_one_pass
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients


def gated_sum(contexts: Sequence[Tensor], gates: Tensor) -> Tensor:
    """Sum contexts `(..., channels)`, each weighted by its gate of `(..., len(contexts))`; the axes of a context before
    the channels may be 1 where those of the gates are not.
    """
    contexts, gates = [ops.convert_to_tensor(context) for context in contexts], ops.convert_to_tensor(gates)
    formulations = {"broadcast": lambda context, gates: context, "resized": _resized}
    fit = choose("gated_sum", formulations, "broadcast")
    weighted_sum = _with_gradients if compiled_by_xla() else _sum
    return weighted_sum(gates, *(fit(context, gates) for context in contexts))


def gated_sum_gradients(contexts: Sequence[Tensor], gates: Tensor, upstream: Tensor) -> tuple[list[Tensor], Tensor]:
    """The gradients of `gated_sum` by each context and by the gates, given that of its result."""
    by_gates, *by_contexts = _gradients(gates, *contexts, upstream)
    return by_contexts, by_gates


def _resized(context, gates):
    """`context` as large as `gates`: a phone's GPU multiplies no two tensors that would both have to be broadcast."""
    size = gates.shape[1:3]
    if context.shape[1:3] == size:
        return context
    return ops.image.resize(context, size, interpolation="bilinear", data_format="channels_last")


def _sum(gates, *contexts):
    total = None
    for level, context in enumerate(contexts):
        gate = gates[..., level : level + 1]
        if total is None:
            total = context * gate
        elif keras.backend.backend() == "torch":
            total = total.addcmul(context, gate)
        else:
            total = total + context * gate
    return total


@with_gradients
def _with_gradients(gates, *contexts):
    return _sum(gates, *contexts), keeping(_gradients, gates, *contexts)


@compiled_apart
def _gradients(gates, *contexts_and_upstream):
    """Of the gates by one pass over all contexts; of each context by itself."""
    *contexts, upstream = contexts_and_upstream
    rank = len(upstream.shape)
    sums = sums_in_one_pass([context * upstream for context in contexts], (rank - 1,))
    gates_gradient = ops.cast(ops.stack(sums, axis=-1), gates.dtype)
    context_gradients = []
    for level, context in enumerate(contexts):
        gradient = upstream * gates[..., level : level + 1]
        broadcast = [axis for axis in range(rank) if context.shape[axis] == 1 != upstream.shape[axis]]
        context_gradients.append(ops.sum(gradient, axis=broadcast, keepdims=True) if broadcast else gradient)
    return gates_gradient, *context_gradients
