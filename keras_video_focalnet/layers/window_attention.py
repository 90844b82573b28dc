"""Self-attention inside windows of every frame, which may be shifted (Swin Transformer, Liu et al. 2021)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.initializers import NumpyFanInUniform
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.relative_position_bias import RelativePositionBias
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.attention import attention
from keras_video_focalnet.utils.checks import check_integer, check_size, fail

# What is added to the logit of two tokens that only the shift brought into one window.
APART = -100.0


@saved_as("WindowAttention")
@widening
class WindowAttention(keras.layers.Layer):
    """Lets the tokens of each window of a frame attend to each other, with a bias for their relative position.

    The grid is rolled by the shift, so that windows span the borders of those of the block before; tokens from opposite
    ends of the grid that the roll brings together do not see each other.

    Args:
        num_heads: Number of heads, which divides the channels.
        grid_size: `(height, width)` of the tokens of a frame, or one integer for both.
        window_size: Side of a window, which divides the grid's sides.
        shift_size: How far windows are shifted, an integer from 0 to `window_size - 1`; 0 by default.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(batch, frames, height * width, channels)`, floating.

    Raises:
        ValueError: An argument is out of its range, windows do not fit the grid, or the input does not fit `grid_size`
            or `num_heads`.

    Example:
    >>> WindowAttention(2, grid_size=14, window_size=7, shift_size=3)(np.ones((1, 4, 196, 8), "float32")).shape
    (1, 4, 196, 8)
    """

    def __init__(
        self,
        num_heads: int,
        grid_size: int | tuple[int, int],
        window_size: int,
        shift_size: int = 0,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_integer("num_heads", num_heads, minimum=1)
        self.grid_size = check_size("grid_size", grid_size)
        self.window_size = check_integer("window_size", window_size, minimum=1)
        check_windows(self.grid_size, self.window_size)
        self.shift_size = check_integer("shift_size", shift_size, 0, self.window_size - 1)
        self.quantized = quantized
        self.position_bias = RelativePositionBias(
            (window_size, window_size), num_heads, dtype=self.dtype_policy, name="position_bias"
        )
        self._mask = region_mask(self.grid_size, self.window_size, self.shift_size) if self.shift_size else None

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        channels, window = input_shape[-1], self.window_size**2
        if channels % self.num_heads:
            raise fail("num_heads", f"a divisor of the {channels} channels", self.num_heads)
        draw = {"kernel_initializer": NumpyFanInUniform(channels), "bias_initializer": NumpyFanInUniform(channels)}
        self.qkv = FusedDense((channels,) * 3, **draw, dtype=self.dtype_policy, name="qkv")
        draw = {"kernel_initializer": NumpyFanInUniform(channels), "bias_initializer": NumpyFanInUniform(channels)}
        self.proj = FusedDense(channels, **draw, dtype=self.dtype_policy, name="proj")
        self.qkv.build((None, window, channels))
        self.position_bias.build((None, self.num_heads, window, window))
        self.proj.build((None, 1, window, channels))
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any) -> Any:
        check_called_on(self, inputs)
        (height, width), channels = self.grid_size, inputs.shape[-1]
        batch, frames = ops.shape(inputs)[:2]
        x = ops.reshape(inputs, (-1, height, width, channels))
        x = self._attend(into_windows(_rolled(x, self.shift_size), self.window_size))
        x = _rolled(out_of_windows(x, self.grid_size, self.window_size), -self.shift_size)
        return ops.reshape(x, (batch, frames, height * width, channels))

    def _attend(self, x):
        """Attention of `(batch * windows, tokens, channels)` in each window."""
        tokens, channels = x.shape[1:]
        heads, depth = self.num_heads, channels // self.num_heads
        queries, keys, values = (
            ops.transpose(ops.reshape(part, (-1, tokens, heads, depth)), (0, 2, 1, 3)) for part in self.qkv(x)
        )
        exact = keras.backend.result_type(self.compute_dtype, "float32")
        bias = ops.cast(self.position_bias.bias(), exact)
        if self._mask is not None:
            bias = bias + ops.convert_to_tensor(self._mask[:, None].astype(exact))
        attended = attention(queries, keys, values, bias)
        return self.proj(ops.expand_dims(attended, 1))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        return math.prod(input_shape) * (4 * input_shape[-1] + 2 * self.window_size**2)

    def get_config(self) -> dict[str, Any]:
        arguments = ("num_heads", "grid_size", "window_size", "shift_size")
        config = {**super().get_config(), **{name: getattr(self, name) for name in arguments}}
        return {**config, "quantized": quantized_layers(self)}


def fit_window(grid_size: tuple[int, int], window_size: int, block: int) -> tuple[int, int]:
    """The window and the shift of a stage's block, counted from 0: every other block is shifted by half a window.

    Where the grid's smaller side is no longer than the wanted window, the window becomes that side and none is shifted.
    """
    smaller = min(grid_size)
    if smaller <= window_size:
        return smaller, 0
    return window_size, (window_size // 2 if block % 2 else 0)


def check_windows(grid_size: tuple[int, int], window_size: int) -> None:
    """Checks that windows fill a grid."""
    if any(side % window_size for side in grid_size):
        raise ValueError(
            f"window_size must divide the height and width of the grid, {grid_size}, received {window_size}; choose "
            "another window, or frames of other sides."
        )


def into_windows(x: Any, window_size: int) -> Any:
    """Cuts `(batch, height, width, channels)` into `(batch * windows, tokens, channels)`, all in row-major order."""
    width, channels = x.shape[2:]
    x = ops.reshape(x, (-1, window_size, width // window_size, window_size * channels))
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, window_size**2, channels))


def out_of_windows(x: Any, grid_size: tuple[int, int], window_size: int) -> Any:
    """Puts what `into_windows` cut together again."""
    (height, width), channels = grid_size, x.shape[-1]
    x = ops.reshape(x, (-1, width // window_size, window_size, window_size * channels))
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, height, width, channels))


def region_mask(grid_size: tuple[int, int], window_size: int, shift: int) -> np.ndarray:
    """What is added to the logits in each window of a shifted grid, `(windows, tokens, tokens)`: 0 or `APART`."""
    height, width = grid_size
    rows, columns = (
        np.searchsorted([side - window_size, side - shift], np.arange(side), side="right") for side in (height, width)
    )
    regions = (3 * rows[:, None] + columns).reshape(height // window_size, window_size, -1, window_size)
    regions = regions.transpose(0, 2, 1, 3).reshape(-1, window_size**2)
    return np.where(regions[:, :, None] == regions[:, None], 0.0, APART)


def _rolled(x, shift):
    """The grid with its first `shift` rows and columns moved to its end."""
    if shift == 0:
        return x
    x = ops.concatenate([x[:, shift:], x[:, :shift]], axis=1)
    return ops.concatenate([x[:, :, shift:], x[:, :, :shift]], axis=2)
