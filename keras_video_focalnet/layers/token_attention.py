"""Attention of tokens to each other, with several heads (Vaswani et al. 2017)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.held import held_unless
from keras_video_focalnet.layers.initializers import NumpyFanInUniform, xavier_uniform
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.attention import attention
from keras_video_focalnet.utils.checks import check_choice, check_integer, fail

# What is added to the logit of a token that must not be seen: far below any logit, and finite in float32.
UNSEEN = -1e30


@saved_as("TokenAttention")
@widening
class TokenAttention(keras.layers.Layer):
    """Lets the tokens of each row attend to each other, and perhaps to further keys and values.

    `queries`, `keys_and_values` and `attend` are the parts of a call, for layers that give it more keys than tokens.

    Args:
        num_heads: Number of heads, which divides the channels.
        causal: Whether a token sees only itself and those before it; False by default. Tokens stand in their order on
            the last axis but one, and so do queries and keys in `attend`, each counted from the first.
        joined: Whether one matrix `in_proj`, `(channels, 3 * channels)`, makes queries, keys and values in this order.
            By default, False, each has a matrix `(channels, channels)` of its own: `q_proj`, `k_proj` and `v_proj`.
            Heads are neighbouring channels of equal number, and `out_proj` follows in both cases.
        trains: Whether the weights train; True by default. Otherwise they never do, see `held`.
        quantized: Which layers inside are quantized, as `get_config` describes it after `quantize`, or None, the
            default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(..., tokens, channels)`, floating.

    Raises:
        ValueError: `num_heads` is no integer of at least 1, `causal`, `joined` or `trains` is no bool, or, where the
            layer is built, the channels are no multiple of `num_heads`.

    Example:
    >>> TokenAttention(2)(np.ones((1, 4, 10, 8), "float32")).shape
    (1, 4, 10, 8)
    """

    def __init__(
        self,
        num_heads: int,
        causal: bool = False,
        joined: bool = False,
        trains: bool = True,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_integer("num_heads", num_heads, minimum=1)
        self.causal = check_choice("causal", causal, (True, False))
        self.joined = check_choice("joined", joined, (True, False))
        self.trains = check_choice("trains", trains, (True, False))
        self.quantized = quantized

    def build(self, input_shape: Sequence[int | None]) -> None:
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise fail("num_heads", f"a divisor of the {channels} channels", self.num_heads)

        def dense(name, units, draw):
            kind = held_unless(self.trains, FusedDense)
            layer = kind(units, kernel_initializer=draw, dtype=self.dtype_policy, name=name)
            layer.build((*input_shape[:-1], channels))
            return layer

        if self.joined:
            self.in_proj = dense("in_proj", (channels,) * 3, xavier_uniform(channels, 3 * channels))
            self.out_proj = dense("out_proj", channels, NumpyFanInUniform(channels))
        else:
            self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
                dense(f"{part}_proj", channels, xavier_uniform(channels, channels)) for part in ("q", "k", "v", "out")
            )
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any) -> Any:
        if self.joined:
            queries, keys, values = self.in_proj(inputs)
        else:
            queries, (keys, values) = self.queries(inputs), self.keys_and_values(inputs)
        return self.attend(queries, keys, values)

    def queries(self, tokens: Any) -> Any:
        """Projects tokens to queries of the same shape; for `joined=False`, where they have a matrix of their own."""
        return self.q_proj(tokens)

    def keys_and_values(self, tokens: Any) -> tuple[Any, Any]:
        """Projects tokens to keys and values of the same shape; for `joined=False`, as `queries`."""
        return self.k_proj(tokens), self.v_proj(tokens)

    def attend(self, queries: Any, keys: Any, values: Any) -> Any:
        """Gives every query what it attends to, `(..., queries, channels)`, of keys and values `(..., keys,
        channels)`.
        """
        bias = None
        if self.causal:
            exact = keras.backend.result_type(self.compute_dtype, "float32")
            unseen = np.triu(np.full((queries.shape[-2], keys.shape[-2]), UNSEEN), 1)
            bias = ops.convert_to_tensor(unseen[None, None].astype(exact))
        heads = map(self._in_heads, (queries, keys, values))
        return self.out_proj(ops.reshape(attention(*heads, bias), ops.shape(queries)))

    def shares(self, queries: Any, keys: Any) -> Any:
        """Computes how queries share their attention among keys, each of one row after the other, as `attend` does
        where no token is hidden.

        Args:
            queries: `(..., queries, channels)`.
            keys: `(..., keys, channels)`.

        Returns:
            Tensor `(rows, heads, queries, keys)` of shares of 1, of at least float32.
        """
        queries, keys = self._in_heads(queries), self._in_heads(keys)
        exact = keras.backend.result_type(queries.dtype, "float32")
        logits = ops.matmul(queries * queries.shape[-1] ** -0.5, ops.transpose(keys, (0, 1, 3, 2)))
        return ops.softmax(ops.cast(logits, exact), axis=-1)

    def _in_heads(self, part):
        """Rows of tokens with the channels of each head apart, `(rows, heads, tokens, depth)`."""
        depth = part.shape[-1] // self.num_heads
        return ops.transpose(ops.reshape(part, (-1, part.shape[-2], self.num_heads, depth)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        return math.prod(input_shape) * (4 * input_shape[-1] + 2 * input_shape[-2])

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in ("num_heads", "causal", "joined", "trains")}
        return {**super().get_config(), **config, "quantized": quantized_layers(self)}
