"""Patch embedding: the stem of a network, and the step between two stages."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens, check_tubelets
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_integer, check_size


@saved_as("PatchEmbedding")
@widening
class PatchEmbedding(keras.layers.Layer):
    """Projects patches of every frame to tokens, then normalizes them (Video-FocalNet paper, section 3.2).

    Patches do not overlap, and sides that the patch does not divide are floored. With `use_conv_embed` they overlap:
    the kernel is `2 * patch_size - 1` and the picture is padded by `patch_size // 2` on every side, which is 7 and 2 in
    the stem, 3 and 1 between stages. With a tubelet the patch also spans frames (Wasim et al. 2023, Figure 6b).

    Args:
        embed_dim: Channels of a token, an integer of at least 1.
        grid_size: `(height, width)` of the input, or one integer for both.
        patch_size: The side of a patch and the stride, an integer of at least 1; 4 by default.
        tubelet_size: How many frames a patch spans, and the stride in time, an integer of at least 1; 1 by default.
        use_conv_embed: Whether patches overlap; False by default.
        use_norm: Whether tokens are normalized; True by default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames // tubelet_size, h * w, embed_dim)` with `(h, w)` the attribute `output_grid`.

    Raises:
        ValueError: An argument is out of its range; or the input does not fit `grid_size`, is smaller than a patch, or
            has a number of frames that the tubelet does not divide.

    Example:
    >>> PatchEmbedding(96, grid_size=(224, 224))(np.zeros((1, 8, 224 * 224, 3), "float32")).shape
    (1, 8, 3136, 96)
    """

    def __init__(
        self,
        embed_dim: int,
        grid_size: int | tuple[int, int],
        patch_size: int = 4,
        tubelet_size: int = 1,
        use_conv_embed: bool = False,
        use_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embed_dim = check_integer("embed_dim", embed_dim, minimum=1)
        self.grid_size = check_size("grid_size", grid_size)
        self.patch_size = patch_size = check_integer("patch_size", patch_size, minimum=1)
        self.tubelet_size = check_integer("tubelet_size", tubelet_size, minimum=1)
        self.use_conv_embed = use_conv_embed
        self.kernel_size = 2 * patch_size - 1 if use_conv_embed else patch_size
        self.padding = patch_size // 2 if use_conv_embed else 0
        self.output_grid = tuple(
            (side + 2 * self.padding - self.kernel_size) // patch_size + 1 for side in self.grid_size
        )
        if min(self.output_grid) < 1:
            raise ValueError(
                f"grid_size={self.grid_size} is smaller than one patch of {self.kernel_size}; use a larger input."
            )
        self.use_norm = use_norm
        self.norm = FusedLayerNormalization(dtype=self.dtype_policy, name="norm") if use_norm else None

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        channels = input_shape[3]
        check_tubelets(input_shape[1], self.tubelet_size)
        # The kernels of a tubelet's frames stand one above the other: mobile delegates take no tensor of rank 5.
        rows = self.tubelet_size * self.kernel_size
        fan_in = rows * self.kernel_size * channels
        self.kernel = self.add_weight(
            name="kernel",
            shape=(rows, self.kernel_size, channels, self.embed_dim),
            initializer=initializers.NumpyFanInUniform(fan_in),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.embed_dim,), initializer=initializers.NumpyFanInUniform(fan_in)
        )
        if self.use_norm:
            self.norm.build((None, None, None, self.embed_dim))
        self.built = True

    def call(self, inputs: Any) -> Any:
        check_called_on(self, inputs)
        (height, width), channels = self.grid_size, inputs.shape[-1]
        batch, frames = ops.shape(inputs)[:2]
        check_tubelets(frames, self.tubelet_size)
        frames = frames // self.tubelet_size
        # Frames of a tubelet are neighbours in memory, so a reshape alone stacks them into one tall picture. The batch
        # stands in the shape: with -1, frames left over would be taken for those of another clip.
        tall = ops.reshape(inputs, (batch * frames, self.tubelet_size * height, width, channels))
        tokens = self.bias
        for frame in range(self.tubelet_size):
            picture = tall[:, frame * height : (frame + 1) * height]
            if self.padding:
                sides = (self.padding, self.padding)
                picture = ops.pad(picture, ((0, 0), sides, sides, (0, 0)))
            kernel = self.kernel[frame * self.kernel_size : (frame + 1) * self.kernel_size]
            tokens = tokens + ops.conv(
                picture, kernel, strides=self.patch_size, padding="valid", data_format="channels_last"
            )
        out_height, out_width = self.output_grid
        tokens = ops.reshape(tokens, (-1, frames, out_height * out_width, self.embed_dim))
        return self.norm(tokens) if self.use_norm else tokens

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        frames = None if input_shape[1] is None else input_shape[1] // self.tubelet_size
        return (input_shape[0], frames, self.output_grid[0] * self.output_grid[1], self.embed_dim)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        inputs_to_one_output = self.tubelet_size * self.kernel_size**2 * input_shape[-1]
        return math.prod(self.compute_output_shape(input_shape)) * inputs_to_one_output

    def get_config(self) -> dict[str, Any]:
        arguments = ("embed_dim", "grid_size", "patch_size", "tubelet_size", "use_conv_embed", "use_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}
