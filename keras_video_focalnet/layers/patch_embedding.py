"""Patch embedding: the stem, and the step between two stages (paper 3.2)."""

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.layer_normalization import LayerNormalization
from keras_video_focalnet.layers.validation import check_tokens, grid_of


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class PatchEmbedding(keras.layers.Layer):
    """Project patches of every frame to tokens, then normalize them.

    Patches do not overlap (paper 3.2), and sides that the patch does not divide are floored. With `use_conv_embed` the
    kernel is `2 * patch_size - 1` and the picture is padded by `patch_size // 2` on every side: 7 and 2 in the stem, 3
    and 1 between stages. With a tubelet the patch also spans frames (paper Figure 6b).

    Args:
        embed_dim: int, channels of a token.
        grid_size: `(height, width)` of the input, or one int for both.
        patch_size: int, the side of a patch and the stride.
        tubelet_size: int, frames that a patch spans, and the stride in time.
        use_conv_embed: bool, overlapping patches.
        **kwargs: of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames // tubelet_size, h * w, embed_dim)` with `(h, w)` the attribute `output_grid`.

    Raises:
        ValueError: if the input does not fit `grid_size`, is smaller than a patch, or has a number of frames that the
            tubelet does not divide.

    Example:
    >>> PatchEmbedding(96, grid_size=(224, 224))(np.zeros((1, 8, 224 * 224, 3), "float32")).shape
    (1, 8, 3136, 96)
    """

    def __init__(self, embed_dim, grid_size, patch_size=4, tubelet_size=1, use_conv_embed=False, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("embed_dim", embed_dim), ("patch_size", patch_size), ("tubelet_size", tubelet_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, received {value!r}.")
        self.embed_dim = embed_dim
        self.grid_size = grid_of(grid_size)
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size
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
        self.norm = LayerNormalization(dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        check_tokens(self, input_shape)
        channels = input_shape[3]
        self._check_frames(input_shape[1])
        # A tubelet's kernels stand one above the other, frame by frame: mobile delegates take no rank of 5.
        rows = self.tubelet_size * self.kernel_size
        fan_in = rows * self.kernel_size * channels
        self.kernel = self.add_weight(
            name="kernel",
            shape=(rows, self.kernel_size, channels, self.embed_dim),
            initializer=initializers.Convolution(fan_in),
        )
        self.bias = self.add_weight(name="bias", shape=(self.embed_dim,), initializer=initializers.Convolution(fan_in))
        self.norm.build((None, None, None, self.embed_dim))
        self.built = True

    def call(self, inputs):
        (height, width), channels = self.grid_size, inputs.shape[-1]
        batch, frames = ops.shape(inputs)[:2]
        self._check_frames(frames)
        frames = frames // self.tubelet_size
        # Frames of a tubelet are neighbours in memory, so they stack into one tall picture by a reshape alone.
        # The batch stands in the shape: with -1, frames left over would pass for another clip's.
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
        return self.norm(ops.reshape(tokens, (-1, frames, out_height * out_width, self.embed_dim)))

    def _check_frames(self, frames):
        if isinstance(frames, int) and frames % self.tubelet_size:
            raise ValueError(
                f"The clip has {frames} frames, which tubelet_size={self.tubelet_size} does not divide; pass a "
                f"multiple of {self.tubelet_size} frames."
            )

    def compute_output_shape(self, input_shape):
        frames = None if input_shape[1] is None else input_shape[1] // self.tubelet_size
        return (input_shape[0], frames, self.output_grid[0] * self.output_grid[1], self.embed_dim)

    def count_macs(self, input_shape):
        """Multiply-adds of one call on a static `input_shape` of `(batch, frames, height * width, channels)`."""
        batch, frames, tokens, _ = self.compute_output_shape(input_shape)
        taps = self.tubelet_size * self.kernel_size**2
        return batch * frames * tokens * taps * input_shape[-1] * self.embed_dim

    def get_config(self):
        return {
            **super().get_config(),
            "embed_dim": self.embed_dim,
            "grid_size": self.grid_size,
            "patch_size": self.patch_size,
            "tubelet_size": self.tubelet_size,
            "use_conv_embed": self.use_conv_embed,
        }
