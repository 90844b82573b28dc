"""The stem and the blocks of SIFA-Net: a ResNet's, with a view of the whole clip or of the next frame."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import FusedDense, InterFrameAttention, UnbiasedBatchNormalization
from keras_video_focalnet.layers.initializers import NumpyFanInUniform, NumpyFanOutNormal
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens, check_tubelets
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.convolution import convolution, pointwise
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_size

# A block has this many times its width in channels.
EXPANSION = 4
# Hidden units of the context are the channels divided by this.
REDUCTION = 16
# What a block knows beside its place: nothing, the whole clip, or the next frame.
PLAIN, CONTEXT, ATTENTION = "plain", "context", "attention"


@saved_as("TubeletStem")
@widening
class TubeletStem(keras.layers.Layer):
    """Merges frames and shrinks them: a convolution over tubelets, a batch normalization, a ReLU and a maximum.

    The window is `tubelet_size` frames of 7x7 pixels and moves by as many frames and 2 pixels; the maximum of 3x3 moves
    by 2 again.

    Args:
        filters: Channels, an integer of at least 1.
        grid_size: `(height, width)` of the input, or one integer for both.
        tubelet_size: Frames of a tubelet, an integer of at least 1; 4 by default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames // tubelet_size, h * w, filters)` with `(h, w)` the attribute `output_grid`.

    Raises:
        ValueError: Frames are no multiple of `tubelet_size`, or an argument or a shape does not fit.

    Example:
    >>> TubeletStem(8, grid_size=32)(np.ones((1, 8, 1024, 3), "float32")).shape
    (1, 2, 64, 8)
    """

    def __init__(self, filters: int, grid_size: int | tuple[int, int], tubelet_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = check_integer("filters", filters, minimum=1)
        self.grid_size = check_size("grid_size", grid_size)
        self.tubelet_size = check_integer("tubelet_size", tubelet_size, minimum=1)
        self.convolved_grid = _halved(self.grid_size)
        self.output_grid = _halved(self.convolved_grid)
        self.norm = UnbiasedBatchNormalization(dtype=self.dtype_policy, name="norm")

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        check_tubelets(input_shape[1], self.tubelet_size)
        draw = NumpyFanOutNormal(self.filters * self.tubelet_size * 49)
        shape = (7, 7, self.tubelet_size * input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=draw)
        self.norm.build((None, None, None, self.filters))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        check_called_on(self, inputs)
        (height, width), channels, size = self.grid_size, inputs.shape[-1], self.tubelet_size
        batch, frames = ops.shape(inputs)[:2]
        check_tubelets(frames, size)
        # A tubelet's frames become channels of one picture.
        x = ops.reshape(inputs, (-1, size, height * width, channels))
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, height, width, size * channels))
        x = ops.relu(self.norm(convolution(x, self.kernel, strides=2), training=training))
        # What follows a ReLU is no less than the zeros around it.
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = ops.max_pool(x, 3, strides=2, padding="valid", data_format="channels_last")
        return ops.reshape(x, (batch, frames // size, math.prod(self.output_grid), self.filters))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        frames = None if input_shape[1] is None else input_shape[1] // self.tubelet_size
        return (input_shape[0], frames, math.prod(self.output_grid), self.filters)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        tubelets = input_shape[0] * (input_shape[1] // self.tubelet_size)
        return tubelets * math.prod(self.convolved_grid) * math.prod(self.kernel.shape)

    def get_config(self) -> dict[str, Any]:
        arguments = ("filters", "grid_size", "tubelet_size")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}


@saved_as("SIFABottleneck")
@widening
class SIFABottleneck(keras.layers.Layer):
    """A bottleneck of convolutions on every frame, which may add the context of the clip or attend to the next frame.

    1x1 to `width` channels, 3x3 with the stride, 1x1 to four times the width; a batch normalization follows each, and a
    ReLU each but the last. The shortcut is the input, or where the size or the channels change, its projection; the
    ReLU follows their sum.

    - `"context"` adds, before that ReLU, one vector a clip: two dense layers of the mean of the branch.
    - `"attention"` adds, before the last convolution, inter-frame attention. Its offsets are a convolution of the
      features, each gated by how much it differs from the frame before.

    Args:
        width: Channels inside, an integer of at least 1.
        grid_size: `(height, width)` of the input, or one integer for both.
        strides: Stride of the 3x3 convolution, 1 (the default) or 2; with `"attention"` 1.
        kind: `"plain"` (the default), `"context"` or `"attention"`.
        kernel_size: Odd side of the attention's window, 3 by default.
        dilation: Distance of neighbouring taps of it, 1 by default.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames, h * w, 4 * width)` with `(h, w)` the attribute `output_grid`; of `"attention"` also
        the offsets, `(batch, frames - 1, h * w, 2 * kernel_size**2)`, and the similarities, `(batch, frames - 1, h *
        w, kernel_size**2)`.

    Raises:
        ValueError: An argument is out of its range.

    Example:
    >>> output, offsets, similarities = SIFABottleneck(4, 7, kind="attention")(np.ones((1, 4, 49, 16), "float32"))
    >>> output.shape, offsets.shape, similarities.shape
    ((1, 4, 49, 16), (1, 3, 49, 18), (1, 3, 49, 9))
    """

    def __init__(
        self,
        width: int,
        grid_size: int | tuple[int, int],
        strides: int = 1,
        kind: str = PLAIN,
        kernel_size: int = 3,
        dilation: int = 1,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = check_integer("width", width, minimum=1)
        self.grid_size = check_size("grid_size", grid_size)
        self.kind = check_choice("kind", kind, (PLAIN, CONTEXT, ATTENTION))
        self.strides = check_integer("strides", strides, 1, 1 if kind == ATTENTION else 2)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.quantized = quantized
        self.output_grid = _halved(self.grid_size) if strides == 2 else self.grid_size
        self.channels = EXPANSION * width

        options = {"dtype": self.dtype_policy}
        self.bn1 = UnbiasedBatchNormalization(**options, name="bn1")
        self.bn2 = UnbiasedBatchNormalization(**options, name="bn2")
        # A block begins as its shortcut.
        self.bn3 = UnbiasedBatchNormalization(gamma_initializer="zeros", **options, name="bn3")
        self.attention = self.fc1 = self.fc2 = None
        if kind == ATTENTION:
            self.attention = InterFrameAttention(self.grid_size, kernel_size, dilation, **options, name="attention")
        elif kind == CONTEXT:
            hidden = max(self.channels // REDUCTION, 1)
            self.fc1 = FusedDense(hidden, **_draws(self.channels), **options, name="fc1")
            self.fc2 = FusedDense(self.channels, **_draws(hidden), **options, name="fc2")

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        inputs, width = input_shape[-1], self.width
        self.conv1 = self._kernel("conv1", 1, inputs, width)
        self.conv2 = self._kernel("conv2", 3, width, width)
        self.conv3 = self._kernel("conv3", 1, width, self.channels)
        self.bn1.build((None, None, None, width))
        self.bn2.build((None, None, None, width))
        self.bn3.build((None, None, None, self.channels))
        self.projection = self.projection_bn = self.conv_offset = None
        if self.strides > 1 or inputs != self.channels:
            self.projection = self._kernel("projection", 1, inputs, self.channels)
            self.projection_bn = UnbiasedBatchNormalization(dtype=self.dtype_policy, name="projection_bn")
            self.projection_bn.build((None, None, None, self.channels))
        if self.kind == ATTENTION:
            self.conv_offset = self._kernel("conv_offset", 3, width, 2 * self.kernel_size**2)
        if self.kind == CONTEXT:
            self.fc1.build((None, 1, 1, self.channels))
            self.fc2.build((None, 1, 1, self.fc1.units))
        quantize_layers(self, self.quantized)
        self.built = True

    def _kernel(self, name, side, inputs, outputs):
        draw = NumpyFanOutNormal(outputs * side**2)
        return self.add_weight(name=name, shape=(side, side, inputs, outputs), initializer=draw)

    def call(self, inputs: Any, training: bool = False) -> Any:
        check_called_on(self, inputs)
        batch, frames = ops.shape(inputs)[:2]
        x = shortcut = ops.reshape(inputs, (-1, *self.grid_size, inputs.shape[-1]))
        x = ops.relu(self.bn1(pointwise(x, self.conv1), training=training))
        x = ops.relu(self.bn2(convolution(x, self.conv2, strides=self.strides), training=training))
        offsets = similarities = None
        if self.kind == ATTENTION:
            tokens = ops.reshape(x, (batch, frames, math.prod(self.grid_size), self.width))
            offsets = self._offsets(tokens, batch, frames)
            attended, similarities = self.attention(tokens, offsets)
            x = x + ops.reshape(attended, (-1, *self.grid_size, self.width))
        x = self.bn3(pointwise(x, self.conv3), training=training)
        if self.projection is not None:
            shortcut = self.projection_bn(pointwise(shortcut, self.projection, self.strides), training=training)
        total = ops.reshape(x + shortcut, (batch, frames, math.prod(self.output_grid), self.channels))
        if self.kind == CONTEXT:
            branch = ops.reshape(x, (batch, frames, math.prod(self.output_grid), self.channels))
            # With all axes throughout, as phones' GPUs add no tensors of two ranks.
            total = total + self.fc2(ops.relu(self.fc1(ops.mean(branch, axis=(1, 2), keepdims=True))))
        output = ops.relu(total)
        return output if offsets is None else (output, offsets, similarities)

    def _offsets(self, tokens, batch, frames):
        """How far the taps in every frame but the first are displaced."""
        before, now = tokens[:, :-1], tokens[:, 1:]
        moving = ops.sigmoid(now - before) * now + now
        maps = ops.reshape(moving, (-1, *self.grid_size, self.width))
        shape = (batch, frames - 1, math.prod(self.grid_size), 2 * self.kernel_size**2)
        return ops.reshape(convolution(maps, self.conv_offset), shape)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        batch, frames = input_shape[:2]
        places = math.prod(self.output_grid)
        output = (batch, frames, places, self.channels)
        if self.kind != ATTENTION:
            return output
        following, taps = None if frames is None else frames - 1, self.kernel_size**2
        return output, (batch, following, places, 2 * taps), (batch, following, places, taps)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input.

        What concerns neighbouring frames is counted for every frame, as in the paper's code.
        """
        batch, frames, places, inputs = input_shape
        outputs = math.prod(self.output_grid)
        per_frame = places * math.prod(self.conv1.shape)
        kernels = [kernel for kernel in (self.conv2, self.conv3, self.projection) if kernel is not None]
        per_frame += outputs * sum(math.prod(kernel.shape) for kernel in kernels)
        if self.kind == ATTENTION:
            per_frame += outputs * math.prod(self.conv_offset.shape)
            per_frame += self.attention.count_macs((1, 1, outputs, self.width), with_offsets=True)
        context = 2 * self.channels * self.fc1.units if self.kind == CONTEXT else 0
        return batch * (frames * per_frame + context)

    def get_config(self) -> dict[str, Any]:
        arguments = ("width", "grid_size", "strides", "kind", "kernel_size", "dilation")
        config = {**super().get_config(), **{name: getattr(self, name) for name in arguments}}
        return {**config, "quantized": quantized_layers(self)}


def _draws(fan_in):
    return {"kernel_initializer": NumpyFanInUniform(fan_in), "bias_initializer": NumpyFanInUniform(fan_in)}


def _halved(grid):
    return tuple(-(-side // 2) for side in grid)
