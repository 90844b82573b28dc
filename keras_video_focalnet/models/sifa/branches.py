"""Both branches at the end of SIFA-Net as one grid of features."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.utils.checks import check_size


@saved_as("SideBySide")
class SideBySide(keras.layers.Layer):
    """Joins channels of a branch with more frames and one with a finer grid, on all frames of the one and the grid of
    the other.

    Places of the coarser grid, twice as coarse, and frames of the branch with half of them, are repeated.

    Args:
        coarse_grid: `(height, width)` of the first input.
        fine_grid: `(height, width)` of the second input.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        coarse: `(batch, frames, height * width, channels)`.
        fine: `(batch, frames // 2, height * width, channels)`.

    Returns:
        `(batch, frames, height * width, channels of both)` on the fine grid.

    Example:
    >>> SideBySide((1, 1), (2, 2))(np.ones((1, 4, 1, 3), "float32"), np.ones((1, 2, 4, 5), "float32")).shape
    (1, 4, 4, 8)
    """

    def __init__(self, coarse_grid: tuple[int, int], fine_grid: tuple[int, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.coarse_grid = check_size("coarse_grid", coarse_grid)
        self.fine_grid = check_size("fine_grid", fine_grid)
        rows, columns = (np.arange(side) // 2 for side in self.fine_grid)
        self._places = (rows[:, None] * self.coarse_grid[1] + columns).reshape(-1).astype("int32")
        self._build_at_init()

    def call(self, coarse: Any, fine: Any) -> Any:
        # Of an odd number of frames the second branch has none of the last one: its last is repeated once more.
        pairs = ops.arange(coarse.shape[1] or ops.shape(coarse)[1], dtype="int32") // 2
        frames = ops.minimum(pairs, (fine.shape[1] or ops.shape(fine)[1]) - 1)
        return ops.concatenate([ops.take(coarse, self._places, axis=2), ops.take(fine, frames, axis=1)], axis=-1)

    def compute_output_shape(
        self, coarse_shape: Sequence[int | None], fine_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (*coarse_shape[:2], fine_shape[2], coarse_shape[3] + fine_shape[3])

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Nothing is multiplied."""
        return 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coarse_grid": self.coarse_grid, "fine_grid": self.fine_grid}
