"""Spatio-temporal focal modulation (section 3.1 and Figure 3 of the Video-FocalNet paper)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.ops.autodiff.formulation import choose
from keras_video_focalnet.ops.autodiff.fusion import region_pays, xla_region
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.temporal import temporal_conv
from keras_video_focalnet.utils.checks import check_integer, check_size
from keras_video_focalnet.utils.deprecation import rename_keys, renamed_arguments

RENAMED = {"dim": "embed_dim"}
ARGUMENTS = ("embed_dim", "grid_size", "focal_level", "focal_window", "focal_factor")
ARGUMENTS += ("use_postln", "normalize_modulator", "drop_rate")


def _product(query, spatial, temporal):
    """Modulates the query by both modulators (Video-FocalNet, Eq. 9)."""
    return query * spatial * temporal


@saved_as("SpatioTemporalFocalModulation")
@renamed_arguments(RENAMED, attributes=False)
class SpatioTemporalFocalModulation(keras.layers.Layer):
    """Modulates every token by the context around it, in space and in time (Video-FocalNet paper, Eq. 4-9).

    Two branches in parallel gather context over ever wider focal windows: one within a frame by depth-wise
    convolutions, one along time by convolutions that are full in channels. Each sums its levels by learned gates and
    mixes channels into a *modulator*; the query is multiplied by both.

    Args:
        embed_dim: Channels, an integer of at least 1.
        grid_size: `(height, width)` of the tokens of a frame, or one integer for both.
        focal_level: The number of focal levels L, an integer of at least 0; 2 by default. The mean over everything
            comes on top.
        focal_window: The window of the first level, an odd integer; 3 by default.
        focal_factor: What each further level adds to the window, an even integer; 2 by default.
        use_postln: Whether a layer norm stands before the output projection; False by default. It is
            `use_postln_in_modulation` of the block and the model.
        normalize_modulator: Whether both gated sums are divided by L + 1; False by default.
        drop_rate: The probability of dropout after the output projection, a number in [0, 1); 0 by default.
        quantized: Which layers inside are quantized, as `get_config` describes it for a layer after `quantize`, or
            None, the default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, embed_dim)`, floating.

    Output shape: three tensors of the input's shape: the modulated tokens, the spatial and the temporal modulator.

    Raises:
        ValueError: An argument is out of its range, or the input does not fit `grid_size` or `embed_dim`.

    Example:
    >>> tokens = np.zeros((1, 8, 14 * 14, 32), "float32")
    >>> modulated, spatial, temporal = SpatioTemporalFocalModulation(32, grid_size=14)(tokens)
    >>> modulated.shape
    (1, 8, 196, 32)
    """

    def __init__(
        self,
        embed_dim: int,
        grid_size: int | tuple[int, int],
        focal_level: int = 2,
        focal_window: int = 3,
        focal_factor: int = 2,
        use_postln: bool = False,
        normalize_modulator: bool = False,
        drop_rate: float = 0.0,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.quantized = quantized
        embed_dim = check_integer("embed_dim", embed_dim, minimum=1)
        focal_level = check_integer("focal_level", focal_level, minimum=0)
        focal_window = check_integer("focal_window", focal_window, minimum=1)
        focal_factor = check_integer("focal_factor", focal_factor, minimum=0)
        if focal_level and (focal_window % 2 == 0 or (focal_level > 1 and focal_factor % 2)):
            raise ValueError(
                f"Every focal window must be odd, so focal_window odd and focal_factor even; received "
                f"focal_window={focal_window!r}, focal_factor={focal_factor!r}."
            )
        self.embed_dim = embed_dim
        self.grid_size = check_size("grid_size", grid_size)
        self.focal_level = focal_level
        self.focal_window = focal_window
        self.focal_factor = focal_factor
        self.use_postln = use_postln
        self.normalize_modulator = normalize_modulator
        self.drop_rate = drop_rate
        self.windows = tuple(focal_window + focal_factor * level for level in range(focal_level))

        normal, uniform = initializers.NumpyNormal, initializers.NumpyFanInUniform
        gates = focal_level + 1
        self.f = self._dense((embed_dim, embed_dim, gates), "f", normal())
        self.f_temporal = self._dense((embed_dim, gates), "f_temporal", normal())
        self.h = self._dense(embed_dim, "h", uniform(embed_dim), uniform(embed_dim))
        self.h_temporal = self._dense(embed_dim, "h_temporal", uniform(embed_dim), uniform(embed_dim))
        self.proj = self._dense(embed_dim, "proj", normal())
        self.ln = None
        if use_postln:
            self.ln = FusedLayerNormalization(dtype=self.dtype_policy, name="ln")
        self.dropout = ReplayableDropout(drop_rate, dtype=self.dtype_policy, name="dropout")

    def _dense(self, units, name, kernel, bias="zeros"):
        return FusedDense(units, kernel_initializer=kernel, bias_initializer=bias, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        if input_shape[-1] != self.embed_dim:
            raise ValueError(
                f"The input has {input_shape[-1]} channels but embed_dim={self.embed_dim}; make the two equal."
            )
        self.spatial_kernels = [
            self.add_weight(
                name=f"spatial_kernel_{level}",
                shape=(window, window, self.embed_dim, 1),
                initializer=initializers.NumpyFanInUniform(window * window),
            )
            for level, window in enumerate(self.windows)
        ]
        self.temporal_kernels = [
            self.add_weight(
                name=f"temporal_kernel_{level}",
                shape=(window, 1, self.embed_dim, self.embed_dim),
                initializer=initializers.NumpyFanInUniform(window * self.embed_dim),
            )
            for level, window in enumerate(self.windows)
        ]
        for layer in (self.f, self.f_temporal, self.h, self.h_temporal, self.proj, self.ln, self.dropout):
            if layer is not None:
                layer.build(input_shape)
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any, training: bool = False, keep_mask: Any = None) -> tuple[Any, Any, Any]:
        check_called_on(self, inputs)
        formulations = {"inline": lambda function: function, "region": xla_region}
        formulation = choose("modulation", formulations, "region" if region_pays(inputs) else "inline")
        return formulation(lambda x: self._modulate(x, training, keep_mask))(inputs)

    def _modulate(self, inputs, training, keep_mask):
        frames = ops.shape(inputs)[1]
        tokens = self.grid_size[0] * self.grid_size[1]

        query, context, gates = map(self._cast, self.f(inputs))
        context = ops.reshape(context, (-1, *self.grid_size, self.embed_dim))
        gates = ops.reshape(gates, (-1, *self.grid_size, self.focal_level + 1))
        spatial = self.h(self._aggregate(context, gates, self.spatial_kernels, depthwise_conv2d, axes=(1, 2)))
        spatial = ops.reshape(self._cast(spatial), (-1, frames, tokens, self.embed_dim))

        context, gates = map(self._cast, self.f_temporal(inputs))
        temporal = self.h_temporal(self._aggregate(context, gates, self.temporal_kernels, temporal_conv, axes=1))
        temporal = self._cast(temporal)

        modulated = _product(query, spatial, temporal)
        if self.ln is not None:
            modulated = self.ln(modulated)
        return self._cast(self.dropout(self.proj(modulated), training=training, keep_mask=keep_mask)), spatial, temporal

    def gates(self, inputs: Any) -> Any:
        """Computes the gates of both branches for what the layer is called on, `(batch, frames, height * width, 2 *
        (focal_level + 1))`: those of space first, of each branch the levels in order and then the mean.
        """
        *_, spatial = self.f(inputs)
        _, temporal = self.f_temporal(inputs)
        return ops.concatenate([self._cast(spatial), self._cast(temporal)], axis=-1)

    def _cast(self, x):
        """Casts to the layer's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def _aggregate(self, context, gates, kernels, convolve, axes):
        """Computes hierarchical contextualization and gated aggregation of one branch (Video-FocalNet, Eq. 6-8)."""
        contexts = []
        for kernel in kernels:
            context = gelu(convolve(context, kernel))
            contexts.append(context)
        # The published code passes the average of the last level through GELU once more.
        contexts.append(gelu(ops.mean(context, axis=axes, keepdims=True)))
        total = gated_sum(contexts, gates)
        return total / (self.focal_level + 1) if self.normalize_modulator else total

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[tuple[int | None, ...], ...]:
        return (tuple(input_shape),) * 3

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        projections = 6 * self.embed_dim + 2 * (self.focal_level + 1)
        convolutions = sum(window * window + window * self.embed_dim for window in self.windows)
        return math.prod(input_shape) * (projections + convolutions)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpatioTemporalFocalModulation":
        return super().from_config(rename_keys(config, RENAMED))

    def get_config(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in ARGUMENTS}
        return {**super().get_config(), **arguments, "quantized": quantized_layers(self)}
