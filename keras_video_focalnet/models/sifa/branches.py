"""How the second branch at the end of SIFA-Net begins, and both as one grid of features."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.utils.checks import check_size


@saved_as("LargerOfPairs")
class LargerOfPairs(keras.layers.Layer):
    """Takes of every two frames the larger value, at each place and in each channel; the last of an odd number is left.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames // 2, height * width, channels)`.

    Example:
    >>> LargerOfPairs()(np.ones((1, 5, 4, 3), "float32")).shape
    (1, 2, 4, 3)
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        (frames, places, channels), batch = inputs.shape[1:], ops.shape(inputs)[0]
        if frames is None:
            return ops.maximum(inputs[:, :-1:2], inputs[:, 1::2])
        # The frames of a pair side by side: processors' delegates take no slice with a stride.
        x = inputs[:, : frames - 1] if frames % 2 else inputs
        x = ops.reshape(x, (batch, frames // 2, 2 * places, channels))
        return ops.maximum(x[:, :, :places], x[:, :, places:])

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        frames = None if input_shape[1] is None else input_shape[1] // 2
        return (input_shape[0], frames, *input_shape[2:])

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Nothing is multiplied."""
        return 0

    def get_config(self) -> dict[str, Any]:
        # Keras asks for this method of a layer that is given a dtype policy.
        return super().get_config()


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
        self._build_at_init()

    def call(self, coarse: Any, fine: Any) -> Any:
        (rows, columns), (height, width), channels = self.coarse_grid, self.fine_grid, coarse.shape[-1]
        batch, frames = ops.shape(coarse)[:2]
        x = _each_twice(ops.reshape(coarse, (-1, columns, channels)))[:, :width]
        x = _each_twice(ops.reshape(x, (-1, rows, width * channels)))[:, :height]
        x = ops.reshape(x, (batch, frames, height * width, channels))
        return ops.concatenate([x, self._for_all_frames(fine, coarse.shape[1] or frames)], axis=-1)

    def _for_all_frames(self, fine, frames):
        """Of an odd number of frames the second branch has none of the last one: its last is repeated once more."""
        places, channels = fine.shape[2:]
        if not isinstance(frames, int) or fine.shape[1] is None:
            pairs = ops.minimum(ops.arange(frames, dtype="int32") // 2, ops.shape(fine)[1] - 1)
            return ops.take(fine, pairs, axis=1)
        x = _each_twice(ops.reshape(fine, (-1, fine.shape[1], places * channels)))
        if frames % 2:
            x = ops.concatenate([x, x[:, -1:]], axis=1)
        return ops.reshape(x, (-1, frames, places, channels))

    def compute_output_shape(
        self, coarse_shape: Sequence[int | None], fine_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (*coarse_shape[:2], fine_shape[2], coarse_shape[3] + fine_shape[3])

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Nothing is multiplied."""
        return 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coarse_grid": self.coarse_grid, "fine_grid": self.fine_grid}


def _each_twice(x):
    """Repeats every row of `(batch, rows, channels)`, without an index, as phones' GPUs read by none."""
    return ops.reshape(ops.concatenate([x, x], axis=-1), (-1, 2 * x.shape[1], x.shape[2]))
