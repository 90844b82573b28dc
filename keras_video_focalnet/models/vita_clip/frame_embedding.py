"""The stem of Vita-CLIP's vision tower: the patches of every frame as tokens, with a class token and positions."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers import FusedLayerNormalization, PatchEmbedding
from keras_video_focalnet.layers.held import held_unless
from keras_video_focalnet.layers.initializers import NumpyNormal, NumpyUniform
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_size


@saved_as("FrameEmbedding")
@widening
class FrameEmbedding(keras.layers.Layer):
    """Projects patches to tokens, puts a class token before those of each frame, adds places and times, normalizes.

    It also holds the global prompts of all blocks, as the reference's tower does (Wasim et al., Vita-CLIP, 2023,
    section 3.2).

    Args:
        embed_dim: Channels of a token, an integer of at least 1.
        grid_size: `(height, width)` of a frame in pixels, or one integer for both.
        patch_size: Side of a patch in pixels, 16 by default.
        num_frames: For how many frames there are times, 8 by default. A clip of another length takes the times of the
            frames nearest below.
        num_prompts: Global prompts of a block, 0 by default.
        depth: Number of blocks, 0 by default.
        trains: Whether what comes from CLIP trains too; False by default, so that only times and prompts do.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, channels)`, floating.

    Output shape: `(batch, frames, 1 + patches, embed_dim)`; with prompts also these, `(depth, num_prompts, embed_dim)`.

    Raises:
        ValueError: An argument is out of its range, or the input does not fit `grid_size`.

    Example:
    >>> FrameEmbedding(32, grid_size=64)(np.ones((1, 8, 64 * 64, 3), "float32")).shape
    (1, 8, 17, 32)
    """

    def __init__(
        self,
        embed_dim: int,
        grid_size: int | tuple[int, int],
        patch_size: int = 16,
        num_frames: int = 8,
        num_prompts: int = 0,
        depth: int = 0,
        trains: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embed_dim = check_integer("embed_dim", embed_dim, minimum=1)
        self.grid_size = check_size("grid_size", grid_size)
        self.patch_size = check_integer("patch_size", patch_size, minimum=1)
        self.num_frames = check_integer("num_frames", num_frames, minimum=1)
        self.num_prompts = check_integer("num_prompts", num_prompts, minimum=0)
        self.depth = check_integer("depth", depth, minimum=0)
        self.trains = check_choice("trains", trains, (True, False))
        options = {"dtype": self.dtype_policy}
        self.patches = held_unless(trains, PatchEmbedding)(
            embed_dim, self.grid_size, patch_size, use_norm=False, **options, name="patches"
        )
        self.output_grid = self.patches.output_grid
        self.ln_pre = held_unless(trains, FusedLayerNormalization)(**options, name="ln_pre")

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        places = 1 + math.prod(self.output_grid)

        def weight(name, shape, trainable, draw=None):
            draw = draw or NumpyNormal()
            return self.add_weight(name=name, shape=shape, initializer=draw, trainable=trainable)

        self.cls_token = weight("cls_token", (self.embed_dim,), self.trains)
        self.pos_embed = weight("pos_embed", (places, self.embed_dim), self.trains)
        self.time_embed = weight("time_embed", (self.num_frames, self.embed_dim), True)
        self.global_prompts = None
        if self.num_prompts and self.depth:
            draw = NumpyUniform(math.sqrt(6.0 / (3 * self.patch_size**2 + self.embed_dim)))
            shape = (self.depth, self.num_prompts, self.embed_dim)
            self.global_prompts = weight("global_prompts", shape, True, draw)
        self.patches.build(input_shape)
        self.ln_pre.build((None, None, places, self.embed_dim))
        self.built = True

    def call(self, inputs: Any) -> Any:
        patches = self.patches(inputs)
        frames = inputs.shape[1]
        # The class token stands in the table of places, to which a row of zeros makes room.
        places = ops.expand_dims(ops.convert_to_tensor(self.pos_embed), (0, 1))
        first = places[:, :, :1] + ops.convert_to_tensor(self.cls_token)
        tokens = ops.pad(patches, ((0, 0), (0, 0), (1, 0), (0, 0)))
        tokens = tokens + ops.concatenate([first, places[:, :, 1:]], axis=2)
        times = ops.convert_to_tensor(self.time_embed)
        if frames != self.num_frames:
            times = ops.take(times, np.arange(frames) * self.num_frames // frames, axis=0)
        tokens = self.ln_pre(tokens + ops.expand_dims(times, (0, 2)))
        if self.global_prompts is None:
            return tokens
        return tokens, ops.cast(ops.convert_to_tensor(self.global_prompts), tokens.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        tokens = (*input_shape[:2], 1 + math.prod(self.output_grid), self.embed_dim)
        if self.num_prompts and self.depth:
            return tokens, (self.depth, self.num_prompts, self.embed_dim)
        return tokens

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        return self.patches.count_macs(input_shape)

    def get_config(self) -> dict[str, Any]:
        arguments = ("embed_dim", "grid_size", "patch_size", "num_frames", "num_prompts", "depth", "trains")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}
