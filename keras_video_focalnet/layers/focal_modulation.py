"""Spatio-temporal focal modulation (paper 3.1, Figure 3)."""

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.dense import Dense
from keras_video_focalnet.layers.dropout import Dropout
from keras_video_focalnet.layers.layer_normalization import LayerNormalization
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.validation import check_tokens, grid_of
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.formulation import choose
from keras_video_focalnet.ops.fusion import region_pays, xla_region
from keras_video_focalnet.ops.gated_sum import gated_sum
from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.recompute import cheap
from keras_video_focalnet.ops.temporal import temporal_conv


@cheap
def _product(query, spatial, temporal):
    return query * spatial * temporal


@cheap
def _divide(total, by):
    return total / by


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class SpatioTemporalFocalModulation(keras.layers.Layer):
    """Modulate every token by the context around it, in space and in time (paper Eq. 4-9).

    Two branches in parallel gather context over ever wider focal windows: one within a frame by depth-wise
    convolutions, one along time by convolutions that are full in channels. Each sums its levels by learned gates and
    mixes channels into a *modulator*; the query is multiplied by both.

    Args:
        dim: int, channels.
        grid_size: `(height, width)` of the tokens of a frame, or one int for both.
        focal_level: int, the number of focal levels L; the mean over everything comes on top.
        focal_window: odd int, the window of the first level.
        focal_factor: even int, what each further level adds to the window.
        use_postln: bool, a layer norm before the output projection (`use_postln_in_modulation` of the model).
        normalize_modulator: bool, divide both gated sums by L + 1.
        drop_rate: float, dropout after the output projection.
        quantized: which layers inside are quantized, as `get_config` tells of a layer after `quantize`, or None.
        **kwargs: of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, dim)`, floating.

    Returns: three tensors of the input's shape: the modulated tokens, the spatial and the temporal modulator.

    Raises:
        ValueError: if the input does not fit `grid_size` or `dim`, or a window is even.

    Example:
    >>> tokens = np.zeros((1, 8, 14 * 14, 32), "float32")
    >>> modulated, spatial, temporal = SpatioTemporalFocalModulation(32, grid_size=14)(tokens)
    >>> modulated.shape
    (1, 8, 196, 32)
    """

    def __init__(
        self,
        dim,
        grid_size,
        focal_level=2,
        focal_window=3,
        focal_factor=2,
        use_postln=False,
        normalize_modulator=False,
        drop_rate=0.0,
        quantized=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.quantized = quantized
        if focal_level < 0:
            raise ValueError(f"focal_level must be 0 or more, received {focal_level!r}.")
        if focal_level and (focal_window % 2 == 0 or (focal_level > 1 and focal_factor % 2)):
            raise ValueError(
                f"Every focal window must be odd, so focal_window odd and focal_factor even; received "
                f"focal_window={focal_window!r}, focal_factor={focal_factor!r}."
            )
        self.dim = dim
        self.grid_size = grid_of(grid_size)
        self.focal_level = focal_level
        self.focal_window = focal_window
        self.focal_factor = focal_factor
        self.use_postln = use_postln
        self.normalize_modulator = normalize_modulator
        self.drop_rate = drop_rate
        self.windows = tuple(focal_window + focal_factor * level for level in range(focal_level))

        linear, pointwise = initializers.LinearKernel, initializers.Convolution
        gates = focal_level + 1
        self.f = self._dense((dim, dim, gates), "f", linear())
        self.f_temporal = self._dense((dim, gates), "f_temporal", linear())
        self.h = self._dense(dim, "h", pointwise(dim), pointwise(dim))
        self.h_temporal = self._dense(dim, "h_temporal", pointwise(dim), pointwise(dim))
        self.proj = self._dense(dim, "proj", linear())
        self.ln = None
        if use_postln:
            self.ln = LayerNormalization(dtype=self.dtype_policy, name="ln")
        self.dropout = Dropout(drop_rate, dtype=self.dtype_policy, name="dropout")

    def _dense(self, units, name, kernel, bias="zeros"):
        return Dense(units, kernel_initializer=kernel, bias_initializer=bias, dtype=self.dtype_policy, name=name)

    def build(self, input_shape):
        check_tokens(self, input_shape)
        if input_shape[-1] != self.dim:
            raise ValueError(f"The input has {input_shape[-1]} channels but dim={self.dim}; make the two equal.")
        self.spatial_kernels = [
            self.add_weight(
                name=f"spatial_kernel_{level}", shape=(k, k, self.dim, 1), initializer=initializers.Convolution(k * k)
            )
            for level, k in enumerate(self.windows)
        ]
        self.temporal_kernels = [
            self.add_weight(
                name=f"temporal_kernel_{level}",
                shape=(k, 1, self.dim, self.dim),
                initializer=initializers.Convolution(k * self.dim),
            )
            for level, k in enumerate(self.windows)
        ]
        for layer in (self.f, self.f_temporal, self.h, self.h_temporal, self.proj, self.ln, self.dropout):
            if layer is not None:
                layer.build(input_shape)
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs, training=False, kept=None):
        formulations = {"inline": lambda function: function, "region": xla_region}
        compile_or_not = choose("modulation", formulations, "region" if region_pays(inputs) else "inline")
        return compile_or_not(lambda x: self._modulate(x, training, kept))(inputs)

    def _modulate(self, inputs, training, kept):
        frames = ops.shape(inputs)[1]
        tokens = self.grid_size[0] * self.grid_size[1]

        query, context, gates = map(self._cast, self.f(inputs))
        context = ops.reshape(context, (-1, *self.grid_size, self.dim))
        gates = ops.reshape(gates, (-1, *self.grid_size, self.focal_level + 1))
        spatial = self.h(self._aggregate(context, gates, self.spatial_kernels, depthwise_conv2d, axes=(1, 2)))
        spatial = ops.reshape(self._cast(spatial), (-1, frames, tokens, self.dim))

        context, gates = map(self._cast, self.f_temporal(inputs))
        temporal = self.h_temporal(self._aggregate(context, gates, self.temporal_kernels, temporal_conv, axes=1))
        temporal = self._cast(temporal)

        modulated = _product(query, spatial, temporal)
        if self.ln is not None:
            modulated = self.ln(modulated)
        return self._cast(self.dropout(self.proj(modulated), training=training, kept=kept)), spatial, temporal

    def _cast(self, x):
        """Back to the layer's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def _aggregate(self, context, gates, kernels, convolve, axes):
        """Hierarchical contextualization and gated aggregation of one branch (paper Eq. 6-8)."""
        contexts = []
        for kernel in kernels:
            context = gelu(convolve(context, kernel))
            contexts.append(context)
        # The reference passes the average of the last level through GELU once more.
        contexts.append(gelu(ops.mean(context, axis=axes, keepdims=True)))
        total = gated_sum(contexts, gates)
        return _divide(total, by=self.focal_level + 1) if self.normalize_modulator else total

    def compute_output_shape(self, input_shape):
        return (tuple(input_shape),) * 3

    def count_macs(self, input_shape):
        """Multiply-adds of one call on inputs of `input_shape`, a static `(batch, frames, height * width, dim)`."""
        batch, frames, tokens, dim = input_shape
        projections = (2 * dim + self.focal_level + 1) + (dim + self.focal_level + 1) + 3 * dim
        convolutions = sum(k * k + k * dim for k in self.windows)
        return batch * frames * tokens * dim * (projections + convolutions)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "grid_size": self.grid_size,
            "focal_level": self.focal_level,
            "focal_window": self.focal_window,
            "focal_factor": self.focal_factor,
            "use_postln": self.use_postln,
            "normalize_modulator": self.normalize_modulator,
            "drop_rate": self.drop_rate,
            "quantized": quantized_layers(self),
        }
