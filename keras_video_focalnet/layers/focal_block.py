"""The block of Video-FocalNet (its paper's Figure 2b)."""

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import initializers
from keras_video_focalnet.layers.focal_modulation import (
    ARGUMENTS,
    MODULATORS,
    RENAMED,
    SpatioTemporalFocalModulation,
    check_fusion,
    with_named_fusion,
)
from keras_video_focalnet.layers.fused_dense import FusedDense, composes
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.layer_scale import LayerScale
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.stochastic_depth import StochasticDepth
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.autodiff.fusion import compiled_apart
from keras_video_focalnet.ops.autodiff.rematerialization import rematerialized
from keras_video_focalnet.ops.mlp import mlp
from keras_video_focalnet.utils.checks import check_choice, check_size, hidden_units
from keras_video_focalnet.utils.deprecation import rename_keys, renamed_arguments

DESIGNS = (*MODULATORS, "divided")
# Those that the block has beside the modulation's.
_FURTHER_ARGUMENTS = ("mlp_ratio", "use_postln_in_modulation", "use_layerscale", "layerscale_value")
_FURTHER_ARGUMENTS += ("drop_path_rate", "drop_path_per", "rematerialize")
REMOVED = "cheap"  # A choice of `rematerialize` of version 0.1.0.


def check_rematerialize(name: str, value: Any) -> bool:
    """Checks the argument `rematerialize` of a block, which must be a bool."""
    if isinstance(value, str) and value == REMOVED:
        raise ValueError(
            'rematerialize="cheap" was removed; pass True, which takes less memory still, or let a model rematerialize '
            "its first stages alone, rematerialize=(True, True, False, False), which takes about as long."
        )
    return check_choice(name, value, (False, True))


def replace_removed_choice(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replaces a removed choice of `rematerialize` in the configuration of a block or model by True, and warns."""
    saved = config.get("rematerialize", False)
    stages = list(saved) if isinstance(saved, (list, tuple)) else [saved]
    if REMOVED not in stages:
        return config
    warnings.warn(
        'The configuration has rematerialize="cheap", which was removed; it is loaded as True. Training takes less '
        "memory and more time; what is computed is the same.",
        stacklevel=3,
    )
    stages = [True if stage == REMOVED else stage for stage in stages]
    return {**config, "rematerialize": stages[0] if isinstance(saved, str) else stages}


@compiled_apart
def _add(shortcut, branch):
    return shortcut + branch


@saved_as("FocalBlock")
@renamed_arguments(RENAMED, attributes=False)
@widening
class FocalBlock(keras.layers.Layer):
    """Spatio-temporal focal modulation and then an MLP, each behind a layer norm and beside a shortcut.

    It is the block of Figure 2b of the Video-FocalNet paper (Wasim et al., ICCV 2023). The modulators are outputs of
    the block and not of a layer inside it: so they stay in the graph of a functional model, and
    `get_layer("stage0_block0").output` gives all of them. `design` makes it a block of the other designs that the paper
    compares with (section 3.1.3 and Figure 4).

    Args:
        embed_dim: Channels, an integer of at least 1.
        grid_size: `(height, width)` of the tokens of a frame, or one integer for both.
        mlp_ratio: Hidden units of the MLP divided by `embed_dim`, a float; 4 by default.
        focal_level: The number of focal levels L, an integer of at least 0; 2 by default.
        focal_window: The window of the first level, an odd integer; 3 by default.
        focal_factor: What each further level adds to the window, an even integer; 2 by default.
        use_postln: Whether the layer norms stand after modulation and MLP instead of before; False by default.
        use_postln_in_modulation: Whether a layer norm stands before the modulation's output projection; False by
            default.
        normalize_modulator: Whether both gated sums are divided by L + 1; False by default.
        use_layerscale: Whether both branches are scaled by a learned factor for each channel; False by default.
        layerscale_value: That factor at the start, a float; 1e-4 by default.
        drop_rate: The probability of dropout in modulation and MLP, a number in [0, 1); 0 by default.
        drop_path_rate: The probability of stochastic depth, a number in [0, 1); 0 by default.
        drop_path_per: `"frame"`, the default, or `"clip"`; see `StochasticDepth`.
        design: As in `SpatioTemporalFocalModulation`, `"parallel"` by default; or `"divided"`, where a spatial and then
            a temporal modulation follow each other, each behind a layer norm and beside a shortcut.
        fusion: As in `SpatioTemporalFocalModulation`, `"multiply"` by default.
        temporal_depthwise: Whether the convolutions along time are depth-wise too; False by default.
        rematerialize: Whether only what enters the block's two halves, modulation and MLP, each with its norm and
            shortcut, is kept for the backward pass, and the rest is computed again (Chen et al. 2016), for about a
            third more time; False by default. For second derivatives set False, and
            compute inside `force(gradients="automatic")` of `keras_video_focalnet.ops.autodiff.formulation`.
        quantized: Which layers inside are quantized, as `get_config` describes it for a block after `quantize`, or
            None, the default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height * width, embed_dim)`, floating.

    Output shape: tensors of the input's shape: the block's output and what `modulators` names, by default the spatial
    and the temporal modulator.

    Attributes:
        modulators: Tuple of the names of the modulators that the block gives.

    Raises:
        ValueError: An argument is out of its range, or the input does not fit `grid_size` or `embed_dim`.

    Example:
    >>> output, spatial, temporal = FocalBlock(32, grid_size=14)(np.zeros((1, 8, 14 * 14, 32), "float32"))
    >>> output.shape
    (1, 8, 196, 32)
    """

    def __init__(
        self,
        embed_dim: int,
        grid_size: int | tuple[int, int],
        mlp_ratio: float = 4.0,
        focal_level: int = 2,
        focal_window: int = 3,
        focal_factor: int = 2,
        use_postln: bool = False,
        use_postln_in_modulation: bool = False,
        normalize_modulator: bool = False,
        use_layerscale: bool = False,
        layerscale_value: float = 1e-4,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        drop_path_per: str = "frame",
        rematerialize: bool = False,
        design: str = "parallel",
        fusion: str = "multiply",
        temporal_depthwise: bool = False,
        quantized: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.quantized = quantized
        self.embed_dim = embed_dim
        self.grid_size = check_size("grid_size", grid_size)
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
        self.rematerialize = check_rematerialize("rematerialize", rematerialize)
        self.design = check_choice("design", design, DESIGNS)
        self.fusion = check_fusion(fusion, design)
        self.temporal_depthwise = temporal_depthwise
        first, second = ("spatial", "temporal") if design == "divided" else (design, None)

        dtype = self.dtype_policy
        self.norm1 = FusedLayerNormalization(dtype=dtype, name="norm1")
        arguments = {name: getattr(self, name) for name in ARGUMENTS} | {"use_postln": use_postln_in_modulation}
        arguments |= {"design": first, "dtype": dtype}
        self.modulation = SpatioTemporalFocalModulation(**arguments, name="modulation")
        self.norm2 = FusedLayerNormalization(dtype=dtype, name="norm2")
        hidden, normal = hidden_units(mlp_ratio, embed_dim), initializers.NumpyNormal
        self.fc1 = FusedDense(hidden, activate=True, kernel_initializer=normal(), dtype=dtype, name="fc1")
        self.fc2 = FusedDense(embed_dim, kernel_initializer=normal(), dtype=dtype, name="fc2")
        self.hidden_dropout = ReplayableDropout(drop_rate, dtype=dtype, name="hidden_dropout")
        self.dropout = ReplayableDropout(drop_rate, dtype=dtype, name="dropout")
        self.gamma_1 = self.gamma_2 = None
        if use_layerscale:
            self.gamma_1 = LayerScale(layerscale_value, dtype=dtype, name="gamma_1")
            self.gamma_2 = LayerScale(layerscale_value, dtype=dtype, name="gamma_2")
        self.drop_path_1 = StochasticDepth(drop_path_rate, drop_path_per, dtype=dtype, name="drop_path_1")
        self.drop_path_2 = StochasticDepth(drop_path_rate, drop_path_per, dtype=dtype, name="drop_path_2")
        self.modulators = self.modulation.modulators
        self.norm1_temporal = self.modulation_temporal = self.gamma_1_temporal = self.drop_path_1_temporal = None
        if second:
            self.norm1_temporal = FusedLayerNormalization(dtype=dtype, name="norm1_temporal")
            arguments |= {"design": second, "name": "modulation_temporal"}
            self.modulation_temporal = SpatioTemporalFocalModulation(**arguments)
            if use_layerscale:
                self.gamma_1_temporal = LayerScale(layerscale_value, dtype=dtype, name="gamma_1_temporal")
            path = {"dtype": dtype, "name": "drop_path_1_temporal"}
            self.drop_path_1_temporal = StochasticDepth(drop_path_rate, drop_path_per, **path)
            self.modulators += self.modulation_temporal.modulators

    def build(self, input_shape: Sequence[int | None]) -> None:
        check_tokens(self, input_shape)
        hidden_shape = (*input_shape[:-1], self.fc1.units)
        same_shape = (self.norm1, self.modulation, self.norm2, self.fc1, self.dropout, self.gamma_1, self.gamma_2)
        for layers in self._modulations()[1:]:
            same_shape += layers
        for layer in (*same_shape, self.drop_path_1, self.drop_path_2):
            if layer is not None:
                layer.build(input_shape)
        for layer in (self.hidden_dropout, self.fc2):
            layer.build(hidden_shape)
        quantize_layers(self, self.quantized)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> tuple[Any, ...]:
        check_called_on(self, inputs)
        shape = tuple(ops.shape(inputs)) if training else ()

        def draw(layer, shape=shape):
            return layer.draw_mask(shape) if training else None

        # All masks are drawn here: a part that is computed twice must drop the same both times.
        parts = []
        for layers in self._modulations():
            _, modulation, _, drop_path = layers
            masks = {"modulation_mask": draw(modulation.dropout), "path_mask": draw(drop_path)}
            parts.append(functools.partial(self._modulate, *layers, training=training, **masks))
        masks = {"mlp_mask": draw(self.dropout), "path_mask": draw(self.drop_path_2)}
        masks["hidden_mask"] = draw(self.hidden_dropout, (*shape[:-1], self.fc1.units))
        parts.append(functools.partial(self._mix, training=training, **masks))

        tokens, modulators = inputs, []
        for part in parts:
            if training and self.rematerialize:
                # Each part by itself, so that what they compute again never lies in memory at the same time. TensorFlow
                # asks a function for its name where it refuses second derivatives, and a partial has none.
                tokens, *found = rematerialized(lambda x, part=part: part(x), tokens)
            else:
                tokens, *found = part(tokens)
            modulators += found
        return tokens, *modulators

    @property
    def levels(self) -> tuple[str, ...]:
        """What the gates weight, in order: of each branch the windows of the focal levels, then the mean of all."""
        of_each = (*(f"window {window}" for window in self.modulation.windows), "mean")
        branches = [name.removesuffix("_modulator") for name in self.modulation.modulators]
        return tuple(f"{branch} {level}" for branch in branches for level in of_each)

    def gates(self, inputs: Any) -> Any:
        """Computes the gates by which the block weights its focal levels (Video-FocalNet, Eq. 7).

        Args:
            inputs: What the block is called on.

        Returns:
            Tensor `(batch, frames, height * width, len(levels))` in the order of `levels`. Of the design `"divided"`
            they are those of its first modulation.
        """
        return self.modulation.gates(inputs if self.use_postln else self.norm1(inputs))

    def _modulations(self):
        """The norm, modulation, layer scale and stochastic depth of each modulation, in their order."""
        first = (self.norm1, self.modulation, self.gamma_1, self.drop_path_1)
        if self.modulation_temporal is None:
            return [first]
        return [
            first,
            (self.norm1_temporal, self.modulation_temporal, self.gamma_1_temporal, self.drop_path_1_temporal),
        ]

    def _modulate(
        self, norm, modulation, gamma, drop_path, inputs, training=False, modulation_mask=None, path_mask=None
    ):
        """Computes a modulation with its norm and shortcut, given what its dropouts keep: tokens and modulators."""
        x = inputs if self.use_postln else norm(inputs)
        x, *modulators = modulation(x, training=training, keep_mask=modulation_mask)
        if self.use_postln:
            x = norm(x)
        if gamma is not None:
            x = gamma(x)
        tokens = _add(inputs, self._cast(drop_path(x, training=training, keep_mask=path_mask)))
        return tokens, *map(self._cast, modulators)

    def _mix(self, tokens, training=False, hidden_mask=None, mlp_mask=None, path_mask=None):
        """Computes the MLP with its norm and shortcut, given what its dropouts keep."""
        x = tokens if self.use_postln else self.norm2(tokens)
        dense = (self.fc1, self.fc2)
        if training and not self.drop_rate and composes(dense, x, self.compute_dtype):
            x = mlp(self._cast(x), *(layer.weights_of_product() for layer in dense))
        else:
            x = self.fc2(self.hidden_dropout(self.fc1(x), training=training, keep_mask=hidden_mask))
        x = self.dropout(x, training=training, keep_mask=mlp_mask)
        if self.use_postln:
            x = self.norm2(x)
        if self.gamma_2 is not None:
            x = self.gamma_2(x)
        return (_add(tokens, self._cast(self.drop_path_2(x, training=training, keep_mask=path_mask))),)

    def _cast(self, x):
        """Casts to the block's own dtype: a layer inside may have another policy."""
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[tuple[int | None, ...], ...]:
        return (tuple(input_shape),) * (1 + len(self.modulators))

    def count_macs(self, input_shape: Sequence[int]) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input."""
        modulations = sum(modulation.count_macs(input_shape) for _, modulation, *_ in self._modulations())
        return modulations + 2 * math.prod(input_shape) * self.fc1.units

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FocalBlock":
        return super().from_config(rename_keys(replace_removed_choice(with_named_fusion(config)), RENAMED))

    def get_config(self) -> dict[str, Any]:
        arguments = {name: getattr(self, name) for name in (*ARGUMENTS, *_FURTHER_ARGUMENTS)}
        return {**super().get_config(), **arguments, "quantized": quantized_layers(self)}
