"""The block of Vita-CLIP's vision tower: a transformer's, whose tokens also attend to prompts."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import FusedDense, FusedLayerNormalization, TokenAttention
from keras_video_focalnet.layers.held import held_unless
from keras_video_focalnet.layers.initializers import NumpyFanInUniform, NumpyNormal, NumpyUniform, xavier_uniform
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_number, hidden_units

# What trains: prompts alone, with them the projection of class tokens, or all.
TRAINS = ("prompts", "cls_proj", "all")


@saved_as("PromptedBlock")
@widening
class PromptedBlock(keras.layers.Layer):
    """Attention inside each frame and an MLP, each added to its input, with prompts as further keys and values.

    What becomes of prompts inside a block is never used. So only keys and values are computed of them. There are three
    kinds (Wasim et al., Vita-CLIP, 2023, section 3.2). A *summary* of a frame is its class token after an attention
    over the frames of the clip. *Local* prompts, one for each frame and moved by that frame's class token, are seen by
    all frames of the clip. *Global* prompts are the same for all frames and are handed in.

    Args:
        num_heads: Number of heads, which divides the channels.
        num_frames: Frames that summaries and local prompts are of, 8 by default. A longer clip is cut into as many
            groups, each with its own.
        mlp_ratio: Hidden units of the MLP divided by the channels, 4 by default.
        summary: Whether there are summaries; True by default.
        local: Whether there are local prompts; True by default.
        num_prompts: How many global prompts it is handed, 0 by default.
        patch_size: Side of a patch, of which the range of new prompts depends; 16 by default.
        class_token_only: Whether only the class tokens are computed, the output being `(batch, frames, 1, channels)`;
            False by default.
        trains: `"prompts"` by default: prompts and the summary's attention; `"cls_proj"`: the projection of class
            tokens besides; `"all"`: every weight.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, 1 + patches, channels)`, floating; also global prompts `(prompts, channels)` or None.

    Output shape: that of the tokens.

    Raises:
        ValueError: An argument is out of its range, or the channels are no multiple of `num_heads`.

    Example:
    >>> PromptedBlock(2)(np.ones((1, 8, 17, 32), "float32")).shape
    (1, 8, 17, 32)
    """

    def __init__(
        self,
        num_heads: int,
        num_frames: int = 8,
        mlp_ratio: float = 4.0,
        summary: bool = True,
        local: bool = True,
        num_prompts: int = 0,
        patch_size: int = 16,
        class_token_only: bool = False,
        trains: str = "prompts",
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_frames = check_integer("num_frames", num_frames, minimum=1)
        self.mlp_ratio = check_number("mlp_ratio", mlp_ratio, above=0)
        self.summary = check_choice("summary", summary, (True, False))
        self.local = check_choice("local", local, (True, False))
        self.num_prompts = check_integer("num_prompts", num_prompts, minimum=0)
        self.patch_size = check_integer("patch_size", patch_size, minimum=1)
        self.class_token_only = check_choice("class_token_only", class_token_only, (True, False))
        self.trains = check_choice("trains", trains, TRAINS)
        self.quantized = quantized
        options, all_train = {"dtype": self.dtype_policy}, trains == "all"
        norm = held_unless(all_train, FusedLayerNormalization)
        self.norm1 = norm(**options, name="norm1")
        self.attention = TokenAttention(num_heads, trains=all_train, **options, name="attention")
        self.norm2 = norm(**options, name="norm2")
        self.summary_norm = self.summary_attention = None
        if summary:
            self.summary_norm = FusedLayerNormalization(**options, name="summary_norm")
            self.summary_attention = TokenAttention(num_heads, **options, name="summary_attention")

    def build(self, inputs_shape: Sequence[int | None], global_prompts_shape: Sequence[int] | None = None) -> None:
        channels, options = inputs_shape[-1], {"dtype": self.dtype_policy}
        hidden, all_train = hidden_units(self.mlp_ratio, channels, whole=round), self.trains == "all"
        dense = held_unless(all_train, FusedDense)
        small = {"bias_initializer": NumpyNormal(1e-6)}
        draw = {"kernel_initializer": xavier_uniform(channels, hidden), **small}
        self.fc1 = dense(hidden, activate="quick_gelu", **draw, **options, name="fc1")
        draw = {"kernel_initializer": xavier_uniform(hidden, channels), **small}
        self.fc2 = dense(channels, **draw, **options, name="fc2")
        for layer in (self.norm1, self.attention, self.norm2, self.fc1):
            layer.build(inputs_shape)
        self.fc2.build((*inputs_shape[:-1], hidden))
        self.cls_proj = self.local_prompts = None
        if self.summary or self.local:
            draw = {name: NumpyFanInUniform(channels) for name in ("kernel_initializer", "bias_initializer")}
            kind = held_unless(self.trains != "prompts", FusedDense)
            self.cls_proj = kind(channels, **draw, **options, name="cls_proj")
            self.cls_proj.build((None, self.num_frames, channels))
        if self.summary:
            self.summary_norm.build((None, self.num_frames, channels))
            self.summary_attention.build((None, self.num_frames, channels))
        if self.local:
            draw = NumpyUniform(math.sqrt(6.0 / (3 * self.patch_size**2 + channels)))
            self.local_prompts = self.add_weight(
                name="local_prompts", shape=(1, self.num_frames, channels), initializer=draw
            )
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any, global_prompts: Any = None) -> Any:
        x = self.norm1(inputs)
        kept = inputs[:, :, :1] if self.class_token_only else inputs
        queries = self.attention.queries(x[:, :, :1] if self.class_token_only else x)
        keys, values = self._keys_and_values(x, inputs, global_prompts)
        x = kept + self._cast(self.attention.attend(queries, keys, values))
        return x + self._cast(self.fc2(self.fc1(self.norm2(x))))

    def class_attention(self, inputs: Any, global_prompts: Any = None) -> Any:
        """Computes how the class token of each frame shares its attention among the frame's patches.

        Args:
            inputs: What the block is called on.
            global_prompts: As in the call.

        Returns:
            Tensor `(batch, frames, patches, 1)`, the mean over heads of at least 0; what the class token attends to
            itself and to prompts is missing from a sum of 1.
        """
        x = self.norm1(inputs)
        keys, _ = self._keys_and_values(x, inputs, global_prompts)
        shares = self.attention.shares(self.attention.queries(x[:, :, :1]), keys)
        batch, frames, tokens = ops.shape(inputs)[:3]
        # The frame's own tokens stand before prompts, and the class token before patches.
        of_patches = ops.mean(shares, axis=1)[:, 0, 1:tokens]
        return ops.reshape(of_patches, (batch, frames, tokens - 1, 1))

    def _keys_and_values(self, x, inputs, global_prompts):
        """Keys and values of the tokens, whose norm is `x`, and after them those of prompts."""
        parts = [self.attention.keys_and_values(x), *self._of_clips(inputs)]
        if global_prompts is not None:
            keys_and_values = self.attention.keys_and_values(self.norm1(ops.expand_dims(global_prompts, (0, 1))))
            parts.append([_for_all_frames(part, inputs) for part in keys_and_values])
        return [ops.concatenate(each, axis=2) if len(each) > 1 else each[0] for each in zip(*parts, strict=True)]

    def _of_clips(self, inputs):
        """Keys and values of the summary and the local prompts of every frame, as pairs."""
        prompts = list(self.prompts_of_clips(inputs).values())
        if not prompts:
            return []
        batch, frames, _, channels = ops.shape(inputs)
        group = self.num_frames
        # Both kinds side by side, so that one product projects them.
        keys_and_values = self.attention.keys_and_values(self.norm1(ops.concatenate(prompts, axis=2)))
        pairs = []
        if self.local:
            # Every frame of a group sees those of all.
            own = [ops.reshape(part[:, :, :1], (-1, 1, group, channels)) for part in keys_and_values]
            shape = (batch, frames, group, channels)
            pairs.append([ops.reshape(_repeated(part, group), shape) for part in own])
        if self.summary:
            pairs.append([ops.reshape(part[:, :, -1:], (batch, frames, 1, channels)) for part in keys_and_values])
        return pairs

    def prompts_of_clips(self, inputs: Any) -> dict[str, Any]:
        """Computes the prompts that depend on the clip (Wasim et al. 2023, section 3.2): one of each kind a frame.

        Returns:
            Dict with those of `"local"` and `"summary"` that the block has, `(groups, num_frames, 1, channels)` each.
        """
        if self.cls_proj is None:
            return {}
        channels, group = inputs.shape[-1], self.num_frames
        # Four axes throughout, and frames on the second: phones' GPUs add no tensors of different ranks, and LiteRT's
        # converter takes leading ones off a constant.
        u = self.cls_proj(ops.reshape(inputs[:, :, :1], (-1, group, 1, channels)))
        prompts = {}
        if self.local:
            local = ops.reshape(ops.convert_to_tensor(self.local_prompts), (1, group, 1, channels))
            prompts["local"] = u + ops.cast(local, u.dtype)
        if self.summary:
            tokens = ops.reshape(self.summary_norm(u), (-1, 1, group, channels))
            prompts["summary"] = u + self._cast(ops.reshape(self.summary_attention(tokens), ops.shape(u)))
        return prompts

    def _cast(self, x):
        """Casts to the block's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], global_prompts_shape: Sequence[int] | None = None
    ) -> tuple[int | None, ...]:
        return (*inputs_shape[:2], 1, inputs_shape[3]) if self.class_token_only else tuple(inputs_shape)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call as the block is defined, with all tokens and with prompts as tokens,
        given the static shape of its input.
        """
        batch, frames, tokens, channels = input_shape
        in_mlp = tokens + self.num_prompts
        seen = in_mlp + (self.num_frames if self.local else 0) + (1 if self.summary else 0)
        count = 4 * seen * channels**2 + 2 * seen**2 * channels + 2 * in_mlp * channels * self.fc1.units
        if self.cls_proj is not None:
            count += channels**2
        if self.summary:
            count += 4 * channels**2 + 2 * self.num_frames * channels
        return batch * frames * count

    def get_config(self) -> dict[str, Any]:
        arguments = (
            "num_heads",
            "num_frames",
            "mlp_ratio",
            "summary",
            "local",
            "num_prompts",
            "patch_size",
            "class_token_only",
            "trains",
        )
        config = {name: getattr(self, name) for name in arguments}
        return {**super().get_config(), **config, "quantized": quantized_layers(self)}


def _repeated(part, count):
    """Tokens `(batch, 1, tokens, channels)` for each of `count` frames, by an operation that phones' GPUs have, and of
    no more than three parts each time, since processors' delegates take no more than a few.
    """
    if count <= 3:
        return ops.concatenate([part] * count, axis=1) if count > 1 else part
    half = _repeated(part, count // 2)
    return ops.concatenate([half, half, *[part] * (count % 2)], axis=1)


def _for_all_frames(part, inputs):
    """What is the same for all frames, `(1, 1, prompts, channels)`, for each frame of each clip."""
    part, batch = _repeated(part, inputs.shape[1]), inputs.shape[0]
    # A size is a tensor while `torch.jit` traces, and any other may stand in its place when the graph runs.
    if not ops.is_tensor(batch) and batch == 1:
        return part
    return ops.broadcast_to(part, (ops.shape(inputs)[0], *part.shape[1:]))
