"""The step between two stages of a Swin Transformer."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.initializers import NumpyFanInUniform
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_size


@saved_as("PatchMerging")
@widening
class PatchMerging(keras.layers.Layer):
    """Makes one token of each square of two by two, with twice the channels (Swin Transformer, Liu et al. 2021).

    The four tokens are joined column by column, normalized, and projected without a bias.

    Args:
        grid_size: `(height, width)` of the tokens of a frame, both even, or one integer for both.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames, height * width // 4, 2 * channels)`; `(height // 2, width // 2)` is the attribute
        `output_grid`.

    Raises:
        ValueError: A side of the grid is odd, or the input does not fit `grid_size`.

    Example:
    >>> PatchMerging(grid_size=14)(np.ones((1, 4, 196, 8), "float32")).shape
    (1, 4, 49, 16)
    """

    def __init__(self, grid_size: int | tuple[int, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.grid_size = check_size("grid_size", grid_size)
        if any(side % 2 for side in self.grid_size):
            raise ValueError(
                f"grid_size must have an even height and width, received {self.grid_size}; choose frames whose sides "
                "the patch and all mergings divide."
            )
        self.output_grid = tuple(side // 2 for side in self.grid_size)
        self.norm = FusedLayerNormalization(dtype=self.dtype_policy, name="norm")

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        channels = input_shape[-1]
        self.norm.build((None, None, None, 4 * channels))
        self.kernel = self.add_weight(
            name="kernel", shape=(4 * channels, 2 * channels), initializer=NumpyFanInUniform(4 * channels)
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        check_called_on(self, inputs)
        (height, width), channels = self.grid_size, inputs.shape[-1]
        batch, frames = ops.shape(inputs)[:2]
        # Two rows and two columns get axes of their own: processors' delegates take no slice with a stride.
        x = ops.reshape(inputs, (-1, 2, width // 2, 2 * channels))
        parts = (slice(channels), slice(channels, 2 * channels))
        joined = ops.concatenate([x[:, row : row + 1, :, part] for part in parts for row in (0, 1)], axis=-1)
        joined = ops.reshape(joined, (batch, frames, height * width // 4, 4 * channels))
        return ops.matmul(self.norm(joined), self.kernel)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        batch, frames, places, channels = input_shape
        return (batch, frames, places // 4, 2 * channels)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        return 2 * math.prod(input_shape) * input_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid_size": self.grid_size}
