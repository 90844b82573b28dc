"""What a window's attention adds for the relative position of two tokens."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers.initializers import NumpyNormal
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_integer, fail


@saved_as("RelativePositionBias")
@widening
class RelativePositionBias(keras.layers.Layer):
    """Gives a learned number for each head and each relative position of two tokens of a window (Liu et al. 2021).

    The window has any number of axes: `(rows, columns)` of an image, `(frames, rows, columns)` of a clip. The table has
    a row for each relative position, query's minus key's, in row-major order from the most negative one.

    Args:
        window_size: Sides of the window, integers of at least 1.
        num_heads: Number of heads, an integer of at least 1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call argument:
        inputs: Logits of a window's attention, `(..., num_heads, tokens, tokens)` with `tokens` the product of
            `window_size`, floating.

    Returns:
        The logits with the bias added, of the same shape.

    Raises:
        ValueError: An argument is out of its range.

    Example:
    >>> RelativePositionBias((7, 7), 3)(np.zeros((2, 3, 49, 49), "float32")).shape
    (2, 3, 49, 49)
    """

    def __init__(self, window_size: Sequence[int], num_heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(window_size, (tuple, list)) or not window_size:
            raise fail("window_size", "a sequence of the window's sides, such as (7, 7)", window_size)
        self.window_size = tuple(check_integer("window_size", side, minimum=1) for side in window_size)
        self.num_heads = check_integer("num_heads", num_heads, minimum=1)
        self._index = relative_position_index(self.window_size).reshape(-1).astype("int32")

    def build(self, input_shape: Sequence[int | None]) -> None:
        positions = math.prod(2 * side - 1 for side in self.window_size)
        shape = (positions, self.num_heads)
        self.table = self.add_weight(name="table", shape=shape, initializer=NumpyNormal())
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs + ops.cast(self.bias()[0], inputs.dtype)

    def bias(self) -> Any:
        """Reads what is added to the logits of every head, `(1, num_heads, tokens, tokens)`."""
        tokens = math.prod(self.window_size)
        rows = ops.take(self.table, self._index, axis=0)
        # The axis in front is there from the start: LiteRT's converter takes one away that comes last, and phones' GPUs
        # add no tensors of two ranks.
        # A single head has nothing to move, and OpenVINO's runtime would mistake its moved axis for that of the batch.
        if self.num_heads == 1:
            return ops.reshape(rows, (1, 1, tokens, tokens))
        return ops.transpose(ops.reshape(rows, (1, tokens, tokens, self.num_heads)), (0, 3, 1, 2))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window_size": self.window_size, "num_heads": self.num_heads}


def relative_position_index(window_size: Sequence[int]) -> np.ndarray:
    """The row of the table for each pair of tokens of a window, `(tokens, tokens)`: query first, then key."""
    places = np.stack(np.meshgrid(*map(np.arange, window_size), indexing="ij"), -1).reshape(-1, len(window_size))
    difference = places[:, None] - places[None] + np.array(window_size) - 1
    index = np.zeros(difference.shape[:2], "int64")
    for axis, side in enumerate(window_size):
        index = index * (2 * side - 1) + difference[..., axis]
    return index
