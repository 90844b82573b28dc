"""Video-FocalNet block (paper Figure 2b)."""

import contextlib
import functools

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.dense import Dense
from keras_video_focalnet.layers.dropout import Dropout
from keras_video_focalnet.layers.focal_modulation import SpatioTemporalFocalModulation
from keras_video_focalnet.layers.layer_normalization import LayerNormalization
from keras_video_focalnet.layers.layer_scale import LayerScale
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.stochastic_depth import StochasticDepth
from keras_video_focalnet.layers.validation import check_tokens, choice, grid_of
from keras_video_focalnet.ops.fusion import compiled_apart
from keras_video_focalnet.ops.gradients import rematerialized
from keras_video_focalnet.ops.recompute import recomputing

REMATERIALIZATIONS = (False, "cheap", True)


@compiled_apart
def _add(shortcut, branch):
    return shortcut + branch


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class FocalBlock(keras.layers.Layer):
    """Spatio-temporal focal modulation, then an MLP, each behind a layer norm and around a shortcut (paper Figure 2b).

    The modulators are outputs of the block, not of a layer inside it: so they stay in the graph of a functional model,
    and `get_layer("stage0_block0").output` gives all three.

    Args:
        dim: int, channels.
        grid_size: `(height, width)` of the tokens of a frame, or one int for both.
        mlp_ratio: float, hidden units of the MLP over `dim`.
        focal_level: int, focal levels L.
        focal_window: odd int, the window of the first level.
        focal_factor: even int, what each further level adds to the window.
        use_postln: bool, layer norms after modulation and MLP instead of before.
        use_postln_in_modulation: bool, a layer norm before the modulation's output projection.
        normalize_modulator: bool, divide both gated sums by L + 1.
        use_layerscale: bool, scale both branches by a learned factor per channel.
        layerscale_value: float, that factor at the start.
        drop_rate: float, dropout in modulation and MLP.
        drop_path_rate: float, stochastic depth.
        drop_path_per: `"frame"` (as the reference) or `"clip"`, see `StochasticDepth`.
        rematerialize: what the backward pass computes again instead of keeping it (Chen et al. 2016): False, nothing;
            `"cheap"`, norms, activations and gated sums, half of what there is, for about a tenth more time; True, all
            but what enters its two halves, modulation and MLP, each with its norm and shortcut, for about a third more
            time. For second derivatives set False.
        quantized: which layers inside are quantized, as `get_config` tells of a block after `quantize`, or None.
        **kwargs: of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, dim)`, floating.

    Returns: three tensors of the input's shape: the block's output, the spatial and the temporal modulator.

    Raises:
        ValueError: if `rematerialize` is something else, or the input does not fit `grid_size`.

    Example:
    >>> output, spatial, temporal = FocalBlock(32, grid_size=14)(np.zeros((1, 8, 14 * 14, 32), "float32"))
    >>> output.shape
    (1, 8, 196, 32)
    """

    def __init__(
        self,
        dim,
        grid_size,
        mlp_ratio=4.0,
        focal_level=2,
        focal_window=3,
        focal_factor=2,
        use_postln=False,
        use_postln_in_modulation=False,
        normalize_modulator=False,
        use_layerscale=False,
        layerscale_value=1e-4,
        drop_rate=0.0,
        drop_path_rate=0.0,
        drop_path_per="frame",
        rematerialize=False,
        quantized=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.quantized = quantized
        self.dim = dim
        self.grid_size = grid_of(grid_size)
        self.mlp_ratio = mlp_ratio
        self.focal_level = focal_level
        self.focal_window = focal_window
        self.focal_factor = focal_factor
        self.use_postln = use_postln
        self.use_postln_in_modulation = use_postln_in_modulation
        self.normalize_modulator = normalize_modulator
        self.use_layerscale = use_layerscale
        self.layerscale_value = layerscale_value
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate
        self.drop_path_per = drop_path_per
        self.rematerialize = choice("rematerialize", rematerialize, REMATERIALIZATIONS)

        dtype = self.dtype_policy
        self.norm1 = LayerNormalization(dtype=dtype, name="norm1")
        self.modulation = SpatioTemporalFocalModulation(
            dim,
            self.grid_size,
            focal_level=focal_level,
            focal_window=focal_window,
            focal_factor=focal_factor,
            use_postln=use_postln_in_modulation,
            normalize_modulator=normalize_modulator,
            drop_rate=drop_rate,
            dtype=dtype,
            name="modulation",
        )
        self.norm2 = LayerNormalization(dtype=dtype, name="norm2")
        hidden, linear = int(dim * mlp_ratio), initializers.LinearKernel
        self.fc1 = Dense(hidden, activate=True, kernel_initializer=linear(), dtype=dtype, name="fc1")
        self.fc2 = Dense(dim, kernel_initializer=linear(), dtype=dtype, name="fc2")
        self.hidden_dropout = Dropout(drop_rate, dtype=dtype, name="hidden_dropout")
        self.dropout = Dropout(drop_rate, dtype=dtype, name="dropout")
        self.gamma_1 = self.gamma_2 = None
        if use_layerscale:
            self.gamma_1 = LayerScale(layerscale_value, dtype=dtype, name="gamma_1")
            self.gamma_2 = LayerScale(layerscale_value, dtype=dtype, name="gamma_2")
        self.drop_path_1 = StochasticDepth(drop_path_rate, drop_path_per, dtype=dtype, name="drop_path_1")
        self.drop_path_2 = StochasticDepth(drop_path_rate, drop_path_per, dtype=dtype, name="drop_path_2")

    def build(self, input_shape):
        check_tokens(self, input_shape)
        hidden_shape = (*input_shape[:-1], self.fc1.units)
        same_shape = (self.norm1, self.modulation, self.norm2, self.fc1, self.dropout, self.gamma_1, self.gamma_2)
        for layer in (*same_shape, self.drop_path_1, self.drop_path_2):
            if layer is not None:
                layer.build(input_shape)
        for layer in (self.hidden_dropout, self.fc2):
            layer.build(hidden_shape)
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs, training=False):
        if not training:
            tokens, *modulators = self._modulate(inputs)
            return self._mix(tokens), *modulators
        # Drawn here: what is computed twice must be the same twice.
        shape = tuple(ops.shape(inputs))
        same_shape = (self.modulation.dropout, self.drop_path_1, self.dropout, self.drop_path_2)
        modulated, path_1, mixed, path_2 = (layer.draw(shape) for layer in same_shape)
        hidden = self.hidden_dropout.draw((*shape[:-1], self.fc1.units))

        modulate = functools.partial(self._modulate, training=training, modulated=modulated, path=path_1)
        mix = functools.partial(self._mix, training=training, mixed=mixed, path=path_2, hidden=hidden)
        if self.rematerialize is True:
            # Each half by itself: what they compute again never lies in memory at the same time. As functions with a
            # name, which TensorFlow asks for where it refuses second derivatives.
            tokens, *modulators = rematerialized(lambda x: modulate(x), inputs)
            (tokens,) = rematerialized(lambda x: (mix(x),), tokens)
            return tokens, *modulators
        with recomputing() if self.rematerialize == "cheap" else contextlib.nullcontext():
            tokens, *modulators = modulate(inputs)
            return mix(tokens), *modulators

    def _modulate(self, inputs, training=False, modulated=None, path=None):
        """The first half, given what its dropouts keep: tokens and both modulators."""
        x = inputs if self.use_postln else self.norm1(inputs)
        x, spatial_modulator, temporal_modulator = self.modulation(x, training=training, kept=modulated)
        if self.use_postln:
            x = self.norm1(x)
        if self.gamma_1 is not None:
            x = self.gamma_1(x)
        tokens = _add(inputs, self._cast(self.drop_path_1(x, training=training, kept=path)))
        return tokens, self._cast(spatial_modulator), self._cast(temporal_modulator)

    def _mix(self, tokens, training=False, mixed=None, path=None, hidden=None):
        """The second half, the MLP, given what its dropouts keep: of its output, the branch and the hidden units."""
        x = tokens if self.use_postln else self.norm2(tokens)
        x = self.hidden_dropout(self.fc1(x), training=training, kept=hidden)
        x = self.dropout(self.fc2(x), training=training, kept=mixed)
        if self.use_postln:
            x = self.norm2(x)
        if self.gamma_2 is not None:
            x = self.gamma_2(x)
        return _add(tokens, self._cast(self.drop_path_2(x, training=training, kept=path)))

    def _cast(self, x):
        """Back to the block's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (tuple(input_shape),) * 3

    def count_macs(self, input_shape):
        """Multiply-adds of one call on inputs of `input_shape`, a static `(batch, frames, height * width, dim)`."""
        batch, frames, tokens, dim = input_shape
        return self.modulation.count_macs(input_shape) + 2 * batch * frames * tokens * dim * self.fc1.units

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "grid_size": self.grid_size,
            "mlp_ratio": self.mlp_ratio,
            "focal_level": self.focal_level,
            "focal_window": self.focal_window,
            "focal_factor": self.focal_factor,
            "use_postln": self.use_postln,
            "use_postln_in_modulation": self.use_postln_in_modulation,
            "normalize_modulator": self.normalize_modulator,
            "use_layerscale": self.use_layerscale,
            "layerscale_value": self.layerscale_value,
            "drop_rate": self.drop_rate,
            "drop_path_rate": self.drop_path_rate,
            "drop_path_per": self.drop_path_per,
            "rematerialize": self.rematerialize,
            "quantized": quantized_layers(self),
        }
