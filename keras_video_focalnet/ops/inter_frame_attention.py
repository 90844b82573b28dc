"""Inter-frame attention: each place of a frame attends to a window of the next frame (SIFA, Long et al. 2022)."""

import functools
import operator

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, on_cpu
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.gradients import keeping, with_gradients
from keras_video_focalnet.ops.bilinear import (
    bilinear_corners,
    bilinear_nearness,
    offset_gradients,
    undisplaced_places,
)
from keras_video_focalnet.ops.indexing import add_rows, pick, spread, take_rows

# Up to so many places of a map, two products of whole maps take less time than reading rows for every tap.
MOST_PLACES = 1024
# XLA makes one loop of reading and summing, faster than products from so many places on; of gradients it makes many. In
# a graph of TensorFlow it is so as well; on PyTorch products are always faster.
MOST_MULTIPLIED = 196
# Without offsets a mask picks the window out of them, faster than slices up to so many places.
MOST_MASKED = 196


def inter_frame_attention(
    queries: Tensor, keys: Tensor, offsets: Tensor | None = None, kernel_size: int = 3, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """Compare every place of one map with a window of another, and sum the window by what the comparison gave.

    The similarity to a tap is the mean over channels of the products, and the sum is of the taps, each weighted by its
    similarity; no softmax makes shares of them. Taps are read bilinearly where offsets displace them, and what lies
    outside the map is zero.

    Args:
        queries: `(batch, height, width, channels)`, all but the batch static.
        keys: Of the same shape: what the window reads, both to compare and to sum.
        offsets: `(batch, height, width, 2 * kernel_size**2)`: how far each tap is displaced, in places of the map, of
            each tap first down, then right; None displaces none.
        kernel_size: Odd side of the window.
        dilation: Distance of neighbouring taps.

    Returns:
        The sums, of the shape of `queries`, and the similarities, `(batch, height, width, kernel_size**2)`.
    """
    window, places = (kernel_size, dilation), queries.shape[1] * queries.shape[2]
    if offsets is None:
        formulations = {"shifted": (_shifted, _shifted_gradients), "masked": (_masked, _masked_gradients)}
        chosen = choose("undisplaced_attention", formulations, "masked" if places <= MOST_MASKED else "shifted")
        return _attend(*chosen, window, queries, keys)
    formulations = {
        "product": (_product, _product_gradients),
        "gather": (_gather, _gather_gradients),
        "mixed": (_gather, _product_gradients),
        "separable": (_separable, _product_gradients),
    }
    reads = keras.backend.backend() != "torch" and on_cpu(queries) and places > MOST_MULTIPLIED
    default = ("mixed" if reads else "product") if places <= MOST_PLACES else "gather"
    return _attend(*choose("inter_frame_attention", formulations, default), window, queries, keys, offsets)


def _attend(function, gradients, window, *tensors):
    """Sums and similarities by a function, with gradients by hand.

    These keep the arguments alone; automatic gradients keep what every tap reads.
    """
    channels = tensors[0].shape[-1]

    def apart(*tensors):
        sums, *similarities = function(window, *tensors)
        return sums, ops.concatenate(similarities, axis=-1)

    @with_gradients
    def side_by_side(*tensors):
        result = ops.concatenate(function(window, *tensors), axis=-1)
        return result, keeping(compiled_apart(functools.partial(_split, gradients, window)), *tensors)

    def joined(*tensors):
        # Gradients by hand are of one result.
        result = side_by_side(*tensors)
        return result[..., :channels], result[..., channels:]

    return choose("gradients", {"automatic": apart, "by_hand": joined}, "by_hand")(*tensors)


def _split(gradients, window, *tensors_and_upstream):
    *tensors, upstream = tensors_and_upstream
    channels = tensors[0].shape[-1]
    return gradients(window, *tensors, upstream[..., :channels], upstream[..., channels:])


# === No offsets: shifted maps ===


def _shifted(window, queries, keys):
    """Slices of the padded keys, without an index."""
    similarities, sums = [], []
    for tap in _taps(window, keys):
        similarities.append(ops.mean(queries * tap, axis=-1, keepdims=True))
        sums.append(similarities[-1] * tap)
    return _total(sums), *similarities


def _shifted_gradients(window, queries, keys, sums_gradient, similarities_gradient):
    (height, width, channels), half = keys.shape[1:], _half(window)
    query_gradients, key_gradients = [], []
    for place, (tap, (row, column)) in enumerate(zip(_taps(window, keys), _starts(window), strict=True)):
        similarity = ops.mean(queries * tap, axis=-1, keepdims=True)
        slope = ops.sum(sums_gradient * tap, axis=-1, keepdims=True) + similarities_gradient[..., place : place + 1]
        slope = slope / channels
        query_gradients.append(slope * tap)
        # What a tap gives back lies where the tap was read.
        sides = ((0, 0), (row, 2 * half - row), (column, 2 * half - column), (0, 0))
        key_gradients.append(ops.pad(similarity * sums_gradient + slope * queries, sides))
    key_gradient = _total(key_gradients)[:, half : half + height, half : half + width]
    return _total(query_gradients), key_gradient


def _half(window):
    kernel_size, dilation = window
    return dilation * (kernel_size // 2)


def _starts(window):
    """Row and column in the padded map of the first place that each tap reads."""
    kernel_size, dilation = window
    steps = [dilation * step for step in range(kernel_size)]
    return [(row, column) for row in steps for column in steps]


def _taps(window, keys):
    """What each tap reads of undisplaced keys, in turn."""
    (height, width), sides = keys.shape[1:3], (_half(window),) * 2
    padded = ops.pad(keys, ((0, 0), sides, sides, (0, 0)))
    for row, column in _starts(window):
        yield padded[:, row : row + height, column : column + width]


def _total(tensors):
    return functools.reduce(operator.add, tensors)


# === No offsets, small maps: products of maps ===


def _masked(window, queries, keys):
    """Compares all pairs of places by one product, of which a mask leaves the windows; another product sums."""
    grid = keys.shape[1:3]
    queries, keys = map(_rows, (queries, keys))
    mask, places, inside = _window(window, grid, keys)
    pairs = _means(queries, keys)
    similarities = pick(pairs, places) * inside
    return [_map(tensor, grid, keys.dtype) for tensor in (ops.matmul(pairs * mask, keys), similarities)]


def _masked_gradients(window, queries, keys, sums_gradient, similarities_gradient):
    grid, channels, dtype = keys.shape[1:3], keys.shape[-1], keys.dtype
    queries, keys, sums_gradient, similarities_gradient = map(
        _rows, (queries, keys, sums_gradient, similarities_gradient)
    )
    mask, places, inside = _window(window, grid, keys)
    pairs = _means(queries, keys) * mask
    of_pairs = ops.matmul(sums_gradient, _transposed(keys)) * mask
    of_pairs = (of_pairs + spread(similarities_gradient * inside, places, keys.shape[1])) / channels
    key_gradient = ops.matmul(_transposed(pairs), sums_gradient) + ops.matmul(_transposed(of_pairs), queries)
    return _map(ops.matmul(of_pairs, keys), grid, dtype), _map(key_gradient, grid, dtype)


def _window(window, grid, keys):
    """Which pairs of places a window joins, and of each place the places of its taps and which of them are inside."""
    mask, places, inside = undisplaced_places(grid, *window)
    batch = ops.shape(keys)[0]
    places = ops.broadcast_to(ops.convert_to_tensor(places), (batch, *places.shape[1:]))
    return ops.convert_to_tensor(mask, keys.dtype), places, ops.convert_to_tensor(inside, keys.dtype)


# === Offsets, small maps: products of maps ===


def _product(window, queries, keys, offsets):
    """Compares all pairs of places by one product, of which each tap picks its four; another product sums.

    A reading is linear: what a tap is similar to is the mean of what its four places are, by their weights.
    """
    grid = keys.shape[1:3]
    queries, keys, offsets = map(_rows, (queries, keys, offsets))
    places, weights = bilinear_corners(offsets, grid, *window)
    similarities, _ = _similarities(queries, keys, places, weights)
    sums = ops.matmul(_spread_over(similarities, places, weights, keys), keys)
    return [_map(tensor, grid, keys.dtype) for tensor in (sums, similarities)]


def _product_gradients(window, queries, keys, offsets, sums_gradient, similarities_gradient):
    grid, channels = keys.shape[1:3], keys.shape[-1]
    tensors = (queries, keys, offsets, sums_gradient, similarities_gradient)
    queries, keys, offsets, sums_gradient, similarities_gradient = map(_rows, tensors)
    places, weights = bilinear_corners(offsets, grid, *window)
    similarities, picked = _similarities(queries, keys, places, weights)
    read = _picked_products(sums_gradient, keys, places, weights)
    slope = (_over_corners(read * weights) + ops.cast(similarities_gradient, weights.dtype)) / channels
    of_weights = _to_corners(similarities) * read + _to_corners(slope) * picked * channels
    of_sums = _spread_over(similarities, places, weights, keys)
    of_pairs = _spread_over(slope, places, weights, keys)
    key_gradient = ops.matmul(_transposed(of_sums), sums_gradient) + ops.matmul(_transposed(of_pairs), queries)
    offset_gradient = offset_gradients(of_weights, offsets, grid, *window)
    gradients = (ops.matmul(of_pairs, keys), key_gradient, offset_gradient)
    return tuple(_map(gradient, grid, gradient.dtype) for gradient in gradients)


def _means(queries, keys):
    """The mean over channels of the products of all pairs: as a sum it could exceed what half precision holds."""
    return ops.matmul(queries / keys.shape[-1], _transposed(keys))


def _rows(x):
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))


def _map(x, grid, dtype):
    return ops.cast(ops.reshape(x, (-1, *grid, x.shape[-1])), dtype)


def _transposed(x):
    return ops.transpose(x, (0, 2, 1))


def _picked_products(left, keys, places, weights):
    """What each tap reads of the products of `left` with the keys at its four places, before their weights."""
    return ops.cast(pick(ops.matmul(left, _transposed(keys)), places), weights.dtype)


def _similarities(queries, keys, places, weights):
    """The similarities, and what they are of: the means over channels of the products at each tap's four places."""
    picked = ops.cast(pick(_means(queries, keys), places), weights.dtype)
    return _over_corners(picked * weights), picked


def _spread_over(values, places, weights, keys):
    """A matrix by which every place weights all keys, from a number of each of its taps."""
    return ops.cast(spread(_to_corners(values) * weights, places, keys.shape[1]), keys.dtype)


def _over_corners(x):
    return _total(ops.split(x, 4, axis=-1))


def _to_corners(x):
    return ops.concatenate([x] * 4, axis=-1)


# === Offsets, for processors that read by no index: products with rows and columns ===


def _separable(window, queries, keys, offsets):
    """Weighs every row and every column of the map by its nearness to a tap: no index, and no operation on integers.

    A product of all pairs of places, as above, and of each place one with its columns and one with its rows. Automatic
    gradients of offsets are zero, by this formulation alone, where a position is a whole number.
    """
    grid, dtype = keys.shape[1:3], keys.dtype
    height, width = grid
    queries, keys, offsets = map(_rows, (queries, keys, offsets))
    rows, columns = bilinear_nearness(offsets, grid, *window)
    rows, columns = ops.cast(rows, dtype), ops.cast(columns, dtype)
    pairs = ops.reshape(_means(queries, keys), (-1, height, width))
    read = ops.matmul(pairs, _transposed(columns))
    similarities = ops.sum(read * rows, axis=1, keepdims=True)
    spread_pairs = ops.reshape(ops.matmul(rows * similarities, columns), (-1, height * width, height * width))
    return [_map(tensor, grid, dtype) for tensor in (ops.matmul(spread_pairs, keys), _of_places(similarities, grid))]


def _of_places(x, grid):
    return ops.reshape(x, (-1, grid[0] * grid[1], x.shape[-1]))


# === Offsets, large maps: rows of channels ===


def _gather(window, queries, keys, offsets):
    """Reads rows of channels, tap by tap: memory for one tap, whatever the size of the map."""
    grid, dtype = keys.shape[1:3], keys.dtype
    queries, keys, offsets = map(_rows, (queries, keys, offsets))
    similarities, sums = [], []
    for _, _, _, tap in _read_taps(window, grid, keys, offsets):
        similarities.append(ops.mean(queries * tap, axis=-1, keepdims=True))
        sums.append(similarities[-1] * tap)
    return [_map(tensor, grid, dtype) for tensor in (_total(sums), *similarities)]


def _gather_gradients(window, queries, keys, offsets, sums_gradient, similarities_gradient):
    grid, channels, dtype = keys.shape[1:3], keys.shape[-1], keys.dtype
    tensors = (queries, keys, offsets, sums_gradient, similarities_gradient)
    queries, keys, offsets, sums_gradient, similarities_gradient = map(_rows, tensors)
    count, query_gradients, key_gradients, of_weights = ops.shape(keys)[0] * keys.shape[1], [], [], []
    for place, (index, weights, corners, tap) in enumerate(_read_taps(window, grid, keys, offsets)):
        similarity = ops.mean(queries * tap, axis=-1, keepdims=True)
        slope = ops.sum(sums_gradient * tap, axis=-1, keepdims=True) + similarities_gradient[..., place : place + 1]
        slope = slope / channels
        query_gradients.append(slope * tap)
        tap_gradient = similarity * sums_gradient + slope * queries
        of_weights.append([ops.sum(tap_gradient * corner, axis=-1) for corner in corners])
        for rows, weight in zip(index, weights, strict=True):
            values = ops.reshape(tap_gradient * weight, (-1, channels))
            key_gradients.append(add_rows(values, ops.reshape(rows, (-1,)), count))
    # Ordered as the weights are: by corner, then by tap.
    of_weights = ops.stack([of_tap[corner] for corner in range(4) for of_tap in of_weights], axis=-1)
    gradients = (_total(query_gradients), ops.reshape(_total(key_gradients), ops.shape(keys)))
    offset_gradient = offset_gradients(of_weights, offsets, grid, *window)
    return *(_map(gradient, grid, dtype) for gradient in gradients), _map(offset_gradient, grid, offsets.dtype)


def _read_taps(window, grid, keys, offsets):
    """Of each tap the index and the weights of its four corners, what stands there, and what it reads."""
    places, weights = bilinear_corners(offsets, grid, *window)
    count, channels, taps = keys.shape[1], keys.shape[2], window[0] ** 2
    rows = ops.reshape(keys, (-1, channels))
    starts = ops.reshape(ops.arange(ops.shape(keys)[0], dtype="int32") * count, (-1, 1, 1))
    places, weights = places + starts, ops.cast(weights, keys.dtype)
    for tap in range(taps):
        corners = range(tap, 4 * taps, taps)
        index = [places[:, :, corner] for corner in corners]
        shares = [weights[:, :, corner : corner + 1] for corner in corners]
        read = [take_rows(rows, places_of_corner) for places_of_corner in index]
        yield index, shares, read, _total([share * corner for share, corner in zip(shares, read, strict=True)])
