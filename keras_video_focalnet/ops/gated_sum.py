"""Gated aggregation (paper Eq. 7)."""

import keras
from keras import ops


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
    contexts, gates, total = (
        [ops.convert_to_tensor(context) for context in contexts],
        ops.convert_to_tensor(gates),
        None,
    )
    for level, context in enumerate(contexts):
        gate = gates[..., level : level + 1]
        if total is None:
            total = context * gate
        elif keras.backend.backend() == "torch":
            total = total.addcmul(context, gate)
        else:
            total = total + context * gate
    return total
