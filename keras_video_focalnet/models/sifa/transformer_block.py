"""The block of SIFA-Transformer: a Swin Transformer's, with a view of other frames between its two halves."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import (
    FusedDense,
    FusedLayerNormalization,
    InterFrameAttention,
    StochasticDepth,
    WindowAttention,
)
from keras_video_focalnet.layers.initializers import NumpyFanInUniform
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.temporal import temporal_conv
from keras_video_focalnet.utils.checks import check_size, hidden_units


@saved_as("SIFATransformerBlock")
@widening
class SIFATransformerBlock(keras.layers.Layer):
    """Window attention, a look at other frames, and an MLP, each added to its input.

    Layer norms stand before the attention and the MLP. Where windows are not shifted, the look is inter-frame attention
    without offsets on the tokens themselves, behind which stands a layer norm; where they are, it is a convolution over
    three frames.

    Args:
        num_heads: Number of heads of the window attention, which divides the channels.
        grid_size: `(height, width)` of the tokens of a frame, or one integer for both.
        window_size: Side of a window of the window attention.
        shift_size: How far windows are shifted; 0 by default.
        kernel_size: Odd side of the inter-frame attention's window, 3 by default.
        dilation: Distance of neighbouring taps of it, 1 by default.
        mlp_ratio: Hidden units of the MLP divided by the channels, 4 by default.
        drop_path_rate: The probability of stochastic depth, a number in [0, 1), drawn for each frame; 0 by default.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: that of the input; where windows are not shifted also the similarities, `(batch, frames - 1, height *
        width, kernel_size**2)`.

    Raises:
        ValueError: An argument is out of its range, or the input does not fit `grid_size` or `num_heads`.

    Example:
    >>> output, similarities = SIFATransformerBlock(2, grid_size=14, window_size=7)(np.ones((1, 4, 196, 8), "float32"))
    >>> output.shape, similarities.shape
    ((1, 4, 196, 8), (1, 3, 196, 9))
    """

    def __init__(
        self,
        num_heads: int,
        grid_size: int | tuple[int, int],
        window_size: int,
        shift_size: int = 0,
        kernel_size: int = 3,
        dilation: int = 1,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.grid_size = check_size("grid_size", grid_size)
        self.window_size = window_size
        self.shift_size = shift_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.mlp_ratio = mlp_ratio
        self.drop_path_rate = drop_path_rate
        self.quantized = quantized

        options = {"dtype": self.dtype_policy}
        self.norm1 = FusedLayerNormalization(**options, name="norm1")
        self.attention = WindowAttention(
            num_heads, self.grid_size, window_size, shift_size, **options, name="attention"
        )
        self.inter_frame = self.inter_frame_norm = None
        if shift_size == 0:
            self.inter_frame = InterFrameAttention(self.grid_size, kernel_size, dilation, **options, name="inter_frame")
            # A block begins as one of an image.
            self.inter_frame_norm = FusedLayerNormalization(
                gamma_initializer="zeros", **options, name="inter_frame_norm"
            )
        self.norm2 = FusedLayerNormalization(**options, name="norm2")
        self.drop_path_1 = StochasticDepth(drop_path_rate, **options, name="drop_path_1")
        self.drop_path_2 = StochasticDepth(drop_path_rate, **options, name="drop_path_2")

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        channels, options = input_shape[-1], {"dtype": self.dtype_policy}
        hidden = hidden_units(self.mlp_ratio, channels)
        self.fc1 = FusedDense(hidden, activate=True, **_draws(channels), **options, name="fc1")
        self.fc2 = FusedDense(channels, **_draws(hidden), **options, name="fc2")
        for layer in (self.norm1, self.attention, self.inter_frame_norm, self.norm2, self.fc1):
            if layer is not None:
                layer.build(input_shape)
        self.fc2.build((*input_shape[:-1], hidden))
        self.temporal_kernel = None
        if self.inter_frame is None:
            draw = NumpyFanInUniform(3 * channels)
            shape = (3, 1, channels, channels)
            self.temporal_kernel = self.add_weight(name="temporal_kernel", shape=shape, initializer=draw)
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        check_called_on(self, inputs)
        x, similarities = inputs, None
        x = x + self._cast(self.drop_path_1(self.attention(self.norm1(x)), training=training))
        if self.inter_frame is None:
            x = x + temporal_conv(x, ops.cast(self.temporal_kernel, x.dtype))
        else:
            attended, similarities = self.inter_frame(x)
            x = x + self._cast(self.inter_frame_norm(attended))
        x = x + self._cast(self.drop_path_2(self.fc2(self.fc1(self.norm2(x))), training=training))
        return x if similarities is None else (x, similarities)

    def _cast(self, x):
        """Casts to the block's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        if self.shift_size:
            return tuple(input_shape)
        batch, frames, places, _ = input_shape
        following = None if frames is None else frames - 1
        return tuple(input_shape), (batch, following, places, self.kernel_size**2)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        tokens, channels = math.prod(input_shape), input_shape[-1]
        between = 3 * tokens * channels if self.inter_frame is None else self.inter_frame.count_macs(input_shape)
        return self.attention.count_macs(input_shape) + between + 2 * tokens * self.fc1.units

    def get_config(self) -> dict[str, Any]:
        arguments = ("num_heads", "grid_size", "window_size", "shift_size", "kernel_size", "dilation", "mlp_ratio")
        config = {name: getattr(self, name) for name in (*arguments, "drop_path_rate")}
        return {**super().get_config(), **config, "quantized": quantized_layers(self)}


def _draws(fan_in):
    return {"kernel_initializer": NumpyFanInUniform(fan_in), "bias_initializer": NumpyFanInUniform(fan_in)}
