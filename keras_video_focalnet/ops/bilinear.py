"""Bilinear reading of a map at learned positions: which places a position reads, and how much of each.

A position between four places reads each of them by its nearness; a place outside the map reads as zero by itself. All
of it is arithmetic on small tensors, in float32 at least: bfloat16 knows a position near 27 to 1/8 only.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.ops import Tensor


def bilinear_corners(offsets: Tensor, grid: tuple[int, int], kernel_size: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Find the four places that each displaced tap of a window reads, and their weights.

    Args:
        offsets: `(batch, height * width, 2 * kernel_size**2)`: of each tap its displacement down, then right. Taps are
            in row-major order.
        grid: `(height, width)`.
        kernel_size: Odd side of the window, which is centred.
        dilation: Distance of neighbouring taps.

    Returns:
        int32 places and floating weights, both `(batch, height * width, 4 * kernel_size**2)`: the upper left places of
        all taps, then the upper right, lower left and lower right ones. The weights' derivative by an offset is the one
        to the right where a position is a whole number, and zero where all of a tap lies outside.
    """
    (tops, upper, lower, *_), (lefts, left, right, *_) = _both_axes(offsets, grid, kernel_size, dilation)
    height, width = grid
    top, bottom = (ops.clip(tops + step, 0, height - 1) * width for step in (0, 1))
    first, last = (ops.clip(lefts + step, 0, width - 1) for step in (0, 1))
    places = ops.concatenate([top + first, top + last, bottom + first, bottom + last], axis=-1)
    weights = ops.concatenate([upper * left, upper * right, lower * left, lower * right], axis=-1)
    return places, weights


def bilinear_nearness(offsets: Tensor, grid: tuple[int, int], kernel_size: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Find how near each row and each column of the map is to each displaced tap: products of both weigh the places.

    Arguments are those of `bilinear_corners`. It takes neither an index nor an integer nor a tensor of which two axes
    would have to be broadcast, as phones' GPUs have none of these.

    Returns:
        `(batch * height * width, height, kernel_size**2)` of rows and `(batch * height * width, kernel_size**2, width)`
        of columns: 1 at a tap, 0 at a distance of 1 and more.
    """
    (height, width), taps = grid, kernel_size**2
    dtype = keras.backend.result_type(keras.backend.standardize_dtype(offsets.dtype), "float32")
    places = np.stack(list(_window_places(*grid, kernel_size, dilation)), axis=-1).reshape(1, height * width, 2 * taps)
    positions = ops.cast(offsets, dtype) + ops.convert_to_tensor(places.astype(dtype))
    positions = ops.reshape(positions, (-1, 2 * taps))
    # A product with zeros and ones hands positions out, exactly: those down to all rows, those right to all columns.
    down, right = np.eye(2 * taps)[:, 0::2], np.eye(2 * taps)[:, 1::2]
    rows = _nearness(positions, np.tile(down, height), np.repeat(np.arange(height), taps), dtype)
    columns = _nearness(positions, np.repeat(right, width, axis=1), np.tile(np.arange(width), taps), dtype)
    return ops.reshape(rows, (-1, height, taps)), ops.reshape(columns, (-1, taps, width))


def _nearness(positions, hand_out, lines, dtype):
    hand_out, lines = (ops.convert_to_tensor(array.astype(dtype)) for array in (hand_out, lines))
    return ops.relu(1 - ops.abs(ops.matmul(positions, hand_out) - lines))


def offset_gradients(
    weight_gradients: Tensor, offsets: Tensor, grid: tuple[int, int], kernel_size: int, dilation: int
) -> Tensor:
    """Turn gradients of the weights of `bilinear_corners` into gradients of the offsets, of their shape."""
    vertical, horizontal = _both_axes(offsets, grid, kernel_size, dilation)
    (_, upper, lower, above, below), (_, left, right, before, after) = vertical, horizontal
    upper_left, upper_right, lower_left, lower_right = ops.split(weight_gradients, 4, axis=-1)
    down = below * (lower_left * left + lower_right * right) - above * (upper_left * left + upper_right * right)
    along = after * (upper_right * upper + lower_right * lower) - before * (upper_left * upper + lower_left * lower)
    return ops.cast(ops.reshape(ops.stack([down, along], axis=-1), ops.shape(offsets)), offsets.dtype)


@functools.cache
def undisplaced_places(
    grid: tuple[int, int], kernel_size: int, dilation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find what a window without offsets reads.

    Returns:
        Which place reads which, `(1, height * width, height * width)` of 0 and 1; the int32 places of all taps, `(1,
        height * width, kernel_size**2)`; and whether each is inside, of that shape, of 0 and 1.
    """
    height, width = grid
    rows, columns = _window_places(height, width, kernel_size, dilation)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = np.where(inside, rows * width + columns, 0).astype("int32")
    mask = np.zeros((1, height * width, height * width), "float32")
    for tap in range(kernel_size**2):
        seen = np.flatnonzero(inside[0, :, tap])
        mask[0, seen, places[0, seen, tap]] = 1
    return mask, places, inside.astype("float32")


def _both_axes(offsets, grid, kernel_size, dilation):
    """What `_neighbours` tells of the rows, and of the columns, that all taps of all places read."""
    dtype = keras.backend.result_type(keras.backend.standardize_dtype(offsets.dtype), "float32")
    offsets, places = ops.cast(offsets, dtype), _window_places(*grid, kernel_size, dilation)
    rows, columns = (ops.convert_to_tensor(np.asarray(axis, dtype)) for axis in places)
    return _neighbours(rows + offsets[:, :, 0::2], grid[0]), _neighbours(columns + offsets[:, :, 1::2], grid[1])


def _window_places(height, width, kernel_size, dilation):
    """Rows and columns of the undisplaced taps of every place, each `(1, height * width, kernel_size**2)`."""
    taps = dilation * (np.arange(kernel_size) - kernel_size // 2)
    rows = np.arange(height)[:, None, None, None] + taps[:, None]
    columns = np.arange(width)[:, None, None] + taps
    shape = (height, width, kernel_size, kernel_size)
    return (np.broadcast_to(axis, shape).reshape(1, height * width, -1) for axis in (rows, columns))


def _neighbours(positions, size):
    """The whole number below each position, the weights of it and of the next one, and whether each of them is inside.

    The weights of those outside are zero. A position of -1 or less reads nothing, so that of -1 itself has no slope.
    """
    floor = ops.stop_gradient(ops.floor(positions))
    part = positions - floor
    # What is far away stays outside, and in the range of an integer.
    whole = ops.cast(ops.clip(floor, -2, size), "int32")
    reads = ops.logical_and(whole >= -1, ops.stop_gradient(positions) > -1)
    before = ops.cast(ops.logical_and(whole >= 0, whole < size), part.dtype)
    after = ops.cast(ops.logical_and(reads, whole < size - 1), part.dtype)
    return whole, (1 - part) * before, part * after, before, after
