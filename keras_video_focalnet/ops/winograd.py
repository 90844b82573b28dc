"""Minimal filtering of a sequence: fewer products than outputs times taps (Winograd 1980; Lavin and Gray 2016)."""

import functools
from fractions import Fraction

import numpy as np

# Products for each tile, by window. With 6 a tile of three taps gives 4 outputs, which directly take 12 products; with
# 8 a tile of five taps gives 4 outputs, which directly take 20. More products would save more still, but need points so
# far apart that rounding errors show.
PRODUCTS = {3: 6, 5: 8}
_POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))


def _powers(products, count):
    """Values at the points, and at infinity, of the monomials below degree `count`: `(products, count)`."""
    rows = [[Fraction(point) ** power for power in range(count)] for point in _POINTS[: products - 1]]
    return [*rows, [Fraction(int(power == count - 1)) for power in range(count)]]


def _inverse(matrix):
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(r for r in range(i, size) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(size):
            if r != i:
                rows[r] = [value - rows[r][i] * other for value, other in zip(rows[r], rows[i], strict=True)]
    return [row[size:] for row in rows]


def tile_transforms(window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three matrices of one tile for a window of 3 or 5 taps, exact to float64.

    A polynomial product is found from its values at points; its transpose is a filter: outputs = A @ ((G @ filter) * (B
    @ inputs)), where a tile of `products` inputs gives `products - window + 1` outputs. A is `(outputs, products)`, G
    `(products, window)` and B `(products, products)`.
    """
    products = PRODUCTS[window]
    inverse = _inverse(_powers(products, products))
    a = np.array(_powers(products, products - window + 1), float).T
    g, b = np.array(_powers(products, window), float), np.array(inverse, float).T
    # B gets integers only, which are exact in float32: what divides them goes into G.
    scale = np.array([max(value.denominator for value in column) for column in zip(*inverse, strict=True)], float)
    return a, g / scale[:, None], b * scale[:, None]


@functools.cache
def sequence_transforms(
    window: int, length: int, before: int = 0, after: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The transforms of a sequence of `length`, in float64, of which `before` places at the start and `after` at the
    end are read but give no outputs; beyond its ends it is zero.

    That of inputs is `(products * tiles, length)`, with rows ordered by product, then tile; that of the filter
    `(products, window)`; that of outputs `(length - before - after, products * tiles)`.
    """
    a, g, b = tile_transforms(window)
    outputs, products = a.shape
    given, length = length, length - before - after
    tiles = -(-length // outputs)
    input_transform, output_transform = np.zeros((products, tiles, given)), np.zeros((length, products, tiles))
    for tile in range(tiles):
        first = before + tile * outputs - window // 2
        for place in range(max(0, first), min(given, first + products)):
            input_transform[:, tile, place] = b[:, place - first]
        rows = slice(tile * outputs, min(length, (tile + 1) * outputs))
        output_transform[rows, :, tile] = a[: rows.stop - rows.start]
    return input_transform.reshape(products * tiles, given), g, output_transform.reshape(length, products * tiles)
