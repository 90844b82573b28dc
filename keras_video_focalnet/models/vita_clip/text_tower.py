"""The text tower of CLIP (Radford et al. 2021): a transformer in which a token sees those before it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers import FusedDense, FusedLayerNormalization, TokenAttention
from keras_video_focalnet.layers.held import held_unless
from keras_video_focalnet.layers.initializers import NumpyFanInUniform, NumpyNormal
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.models.vita_clip.tokenizer import CONTEXT_LENGTH, VOCABULARY_SIZE
from keras_video_focalnet.utils.checks import check_choice, check_integer, fail


@saved_as("TextBlock")
@widening
class TextBlock(keras.layers.Layer):
    """Causal attention and an MLP of four times the channels, each behind a layer norm and added to its input.

    Args:
        num_heads: Number of heads, which divides the channels.
        trains: Whether the weights train; False by default.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(texts, tokens, channels)`, floating.

    Example:
    >>> TextBlock(2)(np.ones((3, 10, 8), "float32")).shape
    (3, 10, 8)
    """

    def __init__(
        self, num_heads: int, trains: bool = False, quantized: dict[str, dict[str, Any]] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.trains = check_choice("trains", trains, (True, False))
        self.quantized = quantized
        options = {"dtype": self.dtype_policy}
        norm = held_unless(trains, FusedLayerNormalization)
        self.ln_1, self.ln_2 = norm(**options, name="ln_1"), norm(**options, name="ln_2")
        self.attention = TokenAttention(num_heads, causal=True, joined=True, trains=trains, **options, name="attention")

    def build(self, input_shape: Sequence[int | None]) -> None:
        channels = input_shape[-1]
        dense = held_unless(self.trains, FusedDense)

        def draws(fan_in):
            return {"kernel_initializer": NumpyFanInUniform(fan_in), "bias_initializer": NumpyFanInUniform(fan_in)}

        options = {"dtype": self.dtype_policy}
        self.c_fc = dense(4 * channels, activate="quick_gelu", **draws(channels), **options, name="c_fc")
        self.c_proj = dense(channels, **draws(4 * channels), **options, name="c_proj")
        for layer in (self.ln_1, self.attention, self.ln_2, self.c_fc):
            layer.build(input_shape)
        self.c_proj.build((*input_shape[:-1], 4 * channels))
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = inputs + ops.cast(self.attention(self.ln_1(inputs)), inputs.dtype)
        return x + ops.cast(self.c_proj(self.c_fc(self.ln_2(x))), x.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = {"num_heads": self.num_heads, "trains": self.trains, "quantized": quantized_layers(self)}
        return {**super().get_config(), **config}


@saved_as("TextTower")
@widening
class TextTower(keras.layers.Layer):
    """Gives the feature of each text: what stands at its end token behind the last block, projected.

    Args:
        embed_dim: Channels of a token, an integer of at least 1; 512 by default.
        num_heads: Number of heads, which divides `embed_dim`; 8 by default.
        depth: Number of blocks; 12 by default.
        projection_dim: Channels of a feature; 512 by default.
        trains: Whether the weights train; False by default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: vectors of tokens, `(texts, tokens, embed_dim)`, as `embed` gives them of ids, and where each text
    ends, an integer array `(texts,)`. There are at most 77 tokens; what follows an end changes nothing.

    Output shape: `(texts, projection_dim)`, not normalized.

    Example:
    >>> tower = TextTower(embed_dim=8, num_heads=2, depth=1, projection_dim=4)
    >>> tower.build()
    >>> tower(tower.embed(np.array([[49406, 32976, 49407]])), ends=np.array([2])).shape
    (1, 4)
    """

    def __init__(
        self,
        embed_dim: int = 512,
        num_heads: int = 8,
        depth: int = 12,
        projection_dim: int = 512,
        trains: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embed_dim = check_integer("text_dim", embed_dim, minimum=1)
        self.num_heads = check_integer("text_heads", num_heads, minimum=1)
        if embed_dim % num_heads:
            raise fail("text_heads", f"a divisor of text_dim={embed_dim}", num_heads)
        self.depth = check_integer("text_depth", depth, minimum=1)
        self.projection_dim = check_integer("projection_dim", projection_dim, minimum=1)
        self.trains = check_choice("trains", trains, (True, False))
        options = {"dtype": self.dtype_policy}
        # No architecture knows a block by such a name: these are no steps of the network of a clip.
        self.blocks = [TextBlock(num_heads, trains, **options, name=f"resblock{place}") for place in range(depth)]
        self.ln_final = held_unless(trains, FusedLayerNormalization)(**options, name="ln_final")

    def build(self, input_shape: Any = None) -> None:
        width = self.embed_dim

        def weight(name, shape, stddev):
            draw = NumpyNormal(stddev)
            return self.add_weight(name=name, shape=shape, initializer=draw, trainable=self.trains)

        self.token_embedding = weight("token_embedding", (VOCABULARY_SIZE, width), 1.0)
        self.positional_embedding = weight("positional_embedding", (CONTEXT_LENGTH, width), 0.01)
        self.text_projection = weight("text_projection", (width, self.projection_dim), width**-0.5)
        for layer in (*self.blocks, self.ln_final):
            layer.build((None, CONTEXT_LENGTH, width))
        self.built = True

    def embed(self, ids: np.ndarray) -> Any:
        """Looks up the vectors of ids, `(texts, tokens)`: `(texts, tokens, embed_dim)`."""
        return ops.take(ops.convert_to_tensor(self.token_embedding), ids, axis=0)

    def call(self, inputs: Any, ends: np.ndarray) -> Any:
        texts, tokens, width = inputs.shape
        x = ops.cast(inputs, self.compute_dtype)
        x = x + ops.cast(ops.convert_to_tensor(self.positional_embedding), x.dtype)[:tokens]
        for block in self.blocks:
            x = block(x)
        # Behind the last block only the ends matter.
        places = ops.cast(ends, "int32") + ops.convert_to_tensor(np.arange(texts, dtype="int32") * tokens)
        x = self.ln_final(ops.take(ops.reshape(x, (-1, width)), places, axis=0))
        return ops.matmul(x, ops.cast(ops.convert_to_tensor(self.text_projection), x.dtype))

    def compute_output_shape(self, inputs_shape: Sequence[int | None], **_: Any) -> tuple[int | None, ...]:
        return (inputs_shape[0], self.projection_dim)

    def get_config(self) -> dict[str, Any]:
        arguments = ("embed_dim", "num_heads", "depth", "projection_dim", "trains")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}
