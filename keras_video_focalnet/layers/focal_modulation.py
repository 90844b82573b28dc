"""Spatio-temporal focal modulation (section 3.1 and Figure 3 of the Video-FocalNet paper), and its other designs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.fused_dense import FusedDense, composes
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.autodiff.formulation import choose
from keras_video_focalnet.ops.autodiff.fusion import region_pays, xla_region
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.modulator import DEPTHWISE, TEMPORAL, aggregate, modulator, product, projected_product
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_size
from keras_video_focalnet.utils.deprecation import rename_keys, renamed_arguments

RENAMED = {"dim": "embed_dim"}
ARGUMENTS = ("embed_dim", "grid_size", "focal_level", "focal_window", "focal_factor")
ARGUMENTS += ("use_postln", "normalize_modulator", "drop_rate", "design", "fusion", "temporal_depthwise")

# The modulators of each design, in the order in which a layer gives them.
MODULATORS = {
    "parallel": ("spatial_modulator", "temporal_modulator"),
    "spatial": ("spatial_modulator",),
    "temporal": ("temporal_modulator",),
    "factorized_3d": ("spatio_temporal_modulator",),
}
FUSIONS = ("multiply", "average", "projection")


def check_fusion(fusion: str, design: str) -> str:
    """Checks the argument `fusion`, which says something where a design has two modulators side by side."""
    if check_choice("fusion", fusion, FUSIONS) != "multiply" and design != "parallel":
        raise ValueError(
            f'fusion must be "multiply" with design="{design}", which has no two modulators side by side, received '
            f'{fusion!r}; leave fusion out, or pass design="parallel".'
        )
    return fusion


def with_named_fusion(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Puts the name of a fusion back into a configuration that Keras read from a whole `.h5` file: where a text is the
    name of one of its functions, such as `multiply`, Keras gives the function.
    """
    fusion = config.get("fusion")
    return {**config, "fusion": fusion.__name__} if callable(fusion) else config


@saved_as("SpatioTemporalFocalModulation")
@renamed_arguments(RENAMED, attributes=False)
@widening
class SpatioTemporalFocalModulation(keras.layers.Layer):
    """Modulates every token by the context around it, in space and in time (Video-FocalNet paper, Eq. 4-9).

    Two branches in parallel gather context over ever wider focal windows: one within a frame by depth-wise
    convolutions, one along time by convolutions that are full in channels. Each sums its levels by learned gates and
    mixes channels into a *modulator*; the query is multiplied by both. That is the paper's design (Figure 3); `design`
    and `fusion` are those that it compares with (sections 3.1.3 and 4.3).

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
        design: Which branches there are. `"parallel"`, the default: both. `"spatial"` or `"temporal"`: one of them
            alone. `"factorized_3d"`: a single branch, of which each level is a depth-wise convolution within the frame
            and then one along time that is full in channels, with one GELU after both, and whose last context is the
            mean over all places and frames.
        fusion: How two branches' modulators become one, by which the query is multiplied. `"multiply"`, the default:
            their product. `"average"`: their mean. `"projection"`: a learned linear layer from the channels of both,
            concatenated, to `embed_dim`. A single branch takes `"multiply"` alone.
        temporal_depthwise: Whether the convolutions along time are depth-wise too; False by default.
        quantized: Which layers inside are quantized, as `get_config` describes it for a layer after `quantize`, or
            None, the default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, embed_dim)`, floating.

    Output shape: tensors of the input's shape: the modulated tokens and what `modulators` names, by default the spatial
    and the temporal modulator.

    Attributes:
        modulators: Tuple of the names of the modulators that the layer gives.

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
        design: str = "parallel",
        fusion: str = "multiply",
        temporal_depthwise: bool = False,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.quantized = quantized
        embed_dim = check_integer("embed_dim", embed_dim, minimum=1)
        self.design = check_choice("design", design, MODULATORS)
        self.fusion = check_fusion(fusion, design)
        self.temporal_depthwise = temporal_depthwise
        self.modulators = MODULATORS[design]
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
        parallel, temporal = design == "parallel", design == "temporal"
        gates = focal_level + 1
        self.f = self.f_temporal = self.h = self.h_temporal = self.h_mean_temporal = self.proj_spatio_temporal = None
        if not temporal:
            self.f = self._dense((embed_dim, embed_dim, gates), "f", normal())
        if parallel or temporal:
            # The query comes from the first branch that there is.
            units = (embed_dim, gates) if parallel else (embed_dim, embed_dim, gates)
            self.f_temporal = self._dense(units, "f_temporal", normal())
        if not temporal:
            self.h = self._dense(embed_dim, "h", uniform(embed_dim), uniform(embed_dim))
        if parallel or temporal:
            # Weights of a product would fit a mean: by the name, those of one are never taken for the other's.
            name = "h_mean_temporal" if fusion == "average" else "h_temporal"
            setattr(self, name, self._dense(embed_dim, name, uniform(embed_dim), uniform(embed_dim)))
        if fusion == "projection":
            self.proj_spatio_temporal = self._dense(embed_dim, "proj_spatio_temporal", normal())
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
        spatial = () if self.design == "temporal" else self.windows
        temporal = () if self.design == "spatial" else self.windows
        filters = 1 if self.temporal_depthwise else self.embed_dim
        self.spatial_kernels = [
            self.add_weight(
                name=f"spatial_kernel_{level}",
                shape=(window, window, self.embed_dim, 1),
                initializer=initializers.NumpyFanInUniform(window * window),
            )
            for level, window in enumerate(spatial)
        ]
        self.temporal_kernels = [
            self.add_weight(
                name=f"temporal_kernel_{level}",
                shape=(window, 1, self.embed_dim, filters),
                initializer=initializers.NumpyFanInUniform(window * filters),
            )
            for level, window in enumerate(temporal)
        ]
        for layer in (*self._dense_layers(), self.ln, self.dropout):
            if layer is not None:
                layer.build(input_shape)
        if self.proj_spatio_temporal is not None:
            self.proj_spatio_temporal.build((*input_shape[:-1], 2 * self.embed_dim))
        quantize_layers(self, self.quantized)
        self.built = True

    def _dense_layers(self):
        """The dense layers that there are and that take tokens of `embed_dim` channels."""
        layers = (self.f, self.f_temporal, self.h, self.h_temporal, self.h_mean_temporal, self.proj)
        return [layer for layer in layers if layer is not None]

    def call(self, inputs: Any, training: bool = False, keep_mask: Any = None) -> tuple[Any, ...]:
        check_called_on(self, inputs)
        formulations = {"inline": lambda function: function, "region": xla_region}
        formulation = choose("modulation", formulations, "region" if region_pays(inputs) else "inline")
        return formulation(lambda x: self._modulate(x, training, keep_mask))(inputs)

    def _modulate(self, inputs, training, keep_mask):
        shape = (-1, ops.shape(inputs)[1], self.grid_size[0] * self.grid_size[1], self.embed_dim)
        modulators = []
        if self.f is not None:
            query, context, gates = map(self._cast, self.f(inputs))
            over = self._over_space_and_time if self.design == "factorized_3d" else self._over_space
            modulators.append(over(context, gates, shape, training))
        if self.f_temporal is not None:
            *queries, context, gates = map(self._cast, self.f_temporal(inputs))
            query = queries[0] if queries else query
            modulators.append(self._over_time(context, gates, training))

        factors = [query, *self._fused(modulators)]
        if training and self.ln is None and composes([self.proj], query, self.compute_dtype):
            modulated = projected_product(factors, self.proj.weights_of_product())
        else:
            modulated = product(*factors)
            modulated = self.proj(modulated if self.ln is None else self.ln(modulated))
        modulated = self.dropout(modulated, training=training, keep_mask=keep_mask)
        return self._cast(modulated), *modulators

    def _over_space(self, context, gates, shape, training):
        context = ops.reshape(context, (-1, *self.grid_size, self.embed_dim))
        gates = ops.reshape(gates, (-1, *self.grid_size, self.focal_level + 1))
        spatial = self._modulator(context, gates, self.spatial_kernels, DEPTHWISE, (1, 2), self.h, training)
        return ops.reshape(spatial, shape)

    def _over_time(self, context, gates, training):
        h = self.h_temporal or self.h_mean_temporal
        convolution = DEPTHWISE if self.temporal_depthwise else TEMPORAL
        return self._modulator(context, gates, self.temporal_kernels, convolution, 1, h, training)

    def _modulator(self, context, gates, kernels, convolution, axes, h, training):
        """Computes the modulator of one branch (Video-FocalNet, Eq. 6-9)."""
        if training and composes([h], context, self.compute_dtype):
            factor = 1 / (self.focal_level + 1) if self.normalize_modulator else 1
            return modulator(context, gates, kernels, h.weights_of_product(), convolution, axes, factor)
        return self._cast(h(self._aggregate(context, gates, kernels, convolution.convolve, axes)))

    def _over_space_and_time(self, context, gates, shape, training):
        def convolve(context, kernels):
            frames = ops.reshape(context, (-1, *self.grid_size, self.embed_dim))
            convolve_time = (DEPTHWISE if self.temporal_depthwise else TEMPORAL).convolve
            return convolve_time(ops.reshape(depthwise_conv2d(frames, kernels[0]), shape), kernels[1])

        kernels = list(zip(self.spatial_kernels, self.temporal_kernels, strict=True))
        return self._cast(self.h(self._aggregate(context, gates, kernels, convolve, axes=(1, 2))))

    def _fused(self, modulators):
        """What the query is multiplied by: the modulators, or the one that they become."""
        if self.fusion == "average":
            spatial, temporal = modulators
            return [(spatial + temporal) * 0.5]
        if self.fusion == "projection":
            return [self._cast(self.proj_spatio_temporal(ops.concatenate(modulators, axis=-1)))]
        return modulators

    def gates(self, inputs: Any) -> Any:
        """Computes the gates of each branch for what the layer is called on, `(batch, frames, height * width, gates)`:
        `focal_level + 1` a branch, those of space first, of each branch the levels in order and then the mean.
        """
        gates = [self._cast(layer(inputs)[-1]) for layer in (self.f, self.f_temporal) if layer is not None]
        return ops.concatenate(gates, axis=-1)

    def _cast(self, x):
        """Casts to the layer's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def _aggregate(self, context, gates, kernels, convolve, axes):
        total = aggregate(context, gates, kernels, convolve, axes)
        return total / (self.focal_level + 1) if self.normalize_modulator else total

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[tuple[int | None, ...], ...]:
        return (tuple(input_shape),) * (1 + len(self.modulators))

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        factors = sum(layer.units for layer in self._dense_layers())
        if self.proj_spatio_temporal is not None:
            factors += 2 * self.embed_dim
        if self.design != "temporal":
            factors += sum(window * window for window in self.windows)
        if self.design != "spatial":
            factors += sum(self.windows) * (1 if self.temporal_depthwise else self.embed_dim)
        return math.prod(input_shape) * factors

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpatioTemporalFocalModulation":
        return super().from_config(rename_keys(with_named_fusion(config), RENAMED))

    def get_config(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in ARGUMENTS}
        return {**super().get_config(), **arguments, "quantized": quantized_layers(self)}
