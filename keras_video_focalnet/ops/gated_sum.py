"""Gated aggregation (paper Eq. 7)."""

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import choose, compiled_by_xla
from keras_video_focalnet.ops.fusion import compiled_apart, sums_in_one_pass
from keras_video_focalnet.ops.gradients import keeping, with_gradients
from keras_video_focalnet.ops.recompute import cheap


def gated_sum(contexts, gates):
    """Sum of contexts, each weighted by its gate.

    Args:
        contexts: list of `(..., channels)`; the last may be 1 wide where the gates are not.
        gates: `(..., len(contexts))`, the dtype of the contexts.

    Returns:
        `(..., channels)`.

    Example:
    >>> gated_sum([np.ones((1, 8, 49, 4), "float32")] * 3, np.ones((1, 8, 49, 3), "float32")).shape
    (1, 8, 49, 4)
    """
    contexts, gates = [ops.convert_to_tensor(context) for context in contexts], ops.convert_to_tensor(gates)
    spread = choose("gated_sum", {"broadcast": lambda context, _: context, "resized": _resized}, "broadcast")
    return _gated_sum(gates, *(spread(context, gates) for context in contexts))


def _resized(context, gates):
    """`context` as wide as `gates`: a phone's GPU multiplies no two tensors that would both have to be broadcast."""
    size = gates.shape[1:3]
    if context.shape[1:3] == size:
        return context
    return ops.image.resize(context, size, interpolation="bilinear", data_format="channels_last")


@cheap
def _gated_sum(gates, *contexts):
    return (_with_gradients if compiled_by_xla() else _sum)(gates, *contexts)


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
    """The gates' from one pass over all contexts."""
    *contexts, upstream = contexts_and_upstream
    rank = len(upstream.shape)
    of_gates = ops.stack(sums_in_one_pass([context * upstream for context in contexts], (rank - 1,)), axis=-1)
    of_gates = ops.cast(of_gates, gates.dtype)
    of_contexts = []
    for level, context in enumerate(contexts):
        gradient = upstream * gates[..., level : level + 1]
        wide = [axis for axis in range(rank) if context.shape[axis] == 1 != upstream.shape[axis]]
        of_contexts.append(ops.sum(gradient, axis=wide, keepdims=True) if wide else gradient)
    return of_gates, *of_contexts
