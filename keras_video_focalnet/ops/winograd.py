"""Minimal filtering of a sequence: fewer products than outputs times taps (Winograd 1980; Lavin and Gray 2016)."""

import functools
from fractions import Fraction

import numpy as np

# Products a tile by window. With 6 a tile of three taps gives 4 outputs of 12 direct products, with 8 one of five taps
# gives 4 of 20. More products would save more still, but their points lie so far apart that rounding errors show.
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


def tile_transforms(window):
    """The three matrices of one tile, exact to float64.

    A polynomial product is found from its values at points; its transpose is a filter: outputs = A @ ((G @ filter) *
    (B @ inputs)), where a tile of `products` inputs gives `products - window + 1` outputs.

    Args:
        window: taps of the filter, 3 or 5.

    Returns:
        A `(outputs, products)`, G `(products, window)` and B `(products, products)`, float64.
    """
    products = PRODUCTS[window]
    inverse = _inverse(_powers(products, products))
    a = np.array(_powers(products, products - window + 1), float).T
    g, b = np.array(_powers(products, window), float), np.array(inverse, float).T
    # Whole numbers in B: what is divided out of the inputs goes into the filter.
    scale = np.array([max(value.denominator for value in column) for column in zip(*inverse, strict=True)], float)
    return a, g / scale[:, None], b * scale[:, None]


@functools.cache
def sequence_transforms(window, length):
    """The transforms of a whole sequence, zero padding included.

    Args:
        window: taps of the filter, 3 or 5.
        length: of the sequence.

    Returns:
        inputs `(products * tiles, length)`, ordered by product, then tile; filter `(products, window)`; outputs
        `(length, products * tiles)`; float64.
    """
    a, g, b = tile_transforms(window)
    outputs, products = a.shape
    tiles = -(-length // outputs)
    inputs, back = np.zeros((products, tiles, length)), np.zeros((length, products, tiles))
    for tile in range(tiles):
        first = tile * outputs - window // 2
        for place in range(max(0, first), min(length, first + products)):
            inputs[:, tile, place] = b[:, place - first]
        rows = slice(tile * outputs, min(length, (tile + 1) * outputs))
        back[rows, :, tile] = a[: rows.stop - rows.start]
    whole = products * tiles
    return inputs.reshape(whole, length), g, back.reshape(length, whole)
