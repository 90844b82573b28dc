"""Reading by index, and adding by index: each is the other's gradient.

Of a matrix, numbers of each row are read or added to; of rows, whole rows.
"""

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor


def pick(matrix: Tensor, places: Tensor) -> Tensor:
    """Read `(batch, rows, width)` at int32 places `(batch, rows, picks)` of the last axis, all of them inside."""
    if keras.backend.backend() == "torch":
        return matrix.gather(-1, ops.cast(places, "int64"))
    flat = ops.take(ops.reshape(matrix, (-1,)), _flat(places, matrix.shape[-1]), axis=0)
    return ops.reshape(flat, (-1, *places.shape[1:]))


def spread(values: Tensor, places: Tensor, width: int) -> Tensor:
    """Make rows `(batch, rows, width)` of zeros and add values at int32 places, both `(batch, rows, picks)`; values at
    the same place add up.
    """
    batch, rows = ops.shape(places)[0], places.shape[1]
    if keras.backend.backend() == "torch":
        return values.new_zeros((batch, rows, width)).scatter_add(-1, ops.cast(places, "int64"), values)
    index = ops.reshape(_flat(places, width), (-1, 1))
    flat = ops.scatter(index, ops.reshape(values, (-1,)), (batch * rows * width,))
    return ops.reshape(flat, (-1, rows, width))


def _flat(places, width):
    """Places counted through all rows of all matrices."""
    batch, rows = ops.shape(places)[0], places.shape[1]
    starts = ops.reshape(ops.arange(batch * rows, dtype="int32") * width, (-1, rows, 1))
    return ops.reshape(places + starts, (-1,))


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Read rows of `(count, channels)` at an int32 index of any shape: `(*index.shape, channels)`."""
    return ops.take(rows, index, axis=0)


def add_rows(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Make `(count, channels)` of zeros and add `(picks, channels)` to the rows of an int32 index `(picks,)`."""
    if keras.backend.backend() == "torch":
        return values.new_zeros((count, values.shape[-1])).index_add(0, ops.cast(index, "int64"), values)
    return ops.scatter(ops.expand_dims(index, -1), values, (count, values.shape[-1]))
