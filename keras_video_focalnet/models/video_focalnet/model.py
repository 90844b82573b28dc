"""Video-FocalNet (Wasim et al., ICCV 2023): the whole architecture, top to bottom as in the paper's Figure 2."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_video_focalnet.layers import FocalBlock, FusedLayerNormalization, PatchEmbedding, ReplayableDropout
from keras_video_focalnet.layers.focal_block import check_rematerialize, replace_removed_choice
from keras_video_focalnet.layers.focal_modulation import check_fusion, with_named_fusion
from keras_video_focalnet.layers.initializers import NumpyNormal
from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.classifier import VideoClassifier, check_labels
from keras_video_focalnet.models.head import POOLINGS, classify_or_pool
from keras_video_focalnet.models.inputs import clip_shape, enter
from keras_video_focalnet.models.maps import GATES, MODULATOR, TOKENS, LayerMap
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, NORM, STEM, TRANSITION, LayerRole
from keras_video_focalnet.models.video_focalnet.entries import BUILDERS
from keras_video_focalnet.models.video_focalnet.weights import (
    DESIGNS,
    TEMPORAL_INITS,
    check_published,
    inflate,
    layer_slots,
)
from keras_video_focalnet.utils.checks import check_choice, check_each, check_integer, check_number

STAGES = 4
_IN_STAGE = re.compile(r"stage(\d+)_(block\d+|downsample)")
_TEMPORAL_BLOCK = re.compile(r"temporal_block\d+")
DEFAULT_SHAPE = (8, 224, 224, 3)


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class VideoFocalNet(VideoClassifier):
    """Video-FocalNet as a functional model: four stages of focal blocks after a patch embedding each (paper Figure 2).

    Every block is one layer, `stage{S}_block{B}` (from 0), that gives its tokens and its modulators, by default a
    spatial and a temporal one, each `(batch, frames, height * width, channels)`. `feature_taps(model)` names them all.

    `design` is one of the five that the paper compares (section 3.1.3 and Figure 4):

    - `"parallel"` (e), the proposed one: a spatial and a temporal branch side by side in every block.
    - `"spatial"` (a): the spatial branch alone (Eq. 10) on each frame; the pooling averages the frames' features.
    - `"factorized_3d"` (b): one branch, of which each level is a 2-D depth-wise convolution within the frame and then a
      1-D point-wise one over time. The paper leaves open what lies between the two and what the last level averages:
      here nothing, and the whole clip.
    - `"factorized_encoder"` (c): the blocks of all four stages are spatial, and a temporal encoder is stacked on them:
      `depths[3]` blocks `temporal_block{B}` of the last stage's channels and focal levels, with a temporal branch
      alone, whose convolutions are depth-wise, as the paper says of this design. It leaves open how many blocks that
      encoder has and whether places are pooled before it: here each place of the last stage is a sequence of its own.
    - `"divided"` (d): a spatial and then a temporal modulation in every block, each behind a norm and beside a
      shortcut. The paper alternates them after divided space-time attention (Bertasius et al. 2021), which has both in
      one block, and leaves open which comes first.

    Args:
        embed_dim: int, channels of the first stage; each further stage doubles them.
        depths: four ints, blocks per stage.
        focal_levels: int or four, focal levels L.
        focal_windows: odd int or four, the window of the first level.
        focal_factor: even int or four, what each further level adds to the window.
        mlp_ratio: float, hidden units of a block's MLP over its channels.
        patch_size: int, side of a patch in the stem.
        tubelet_size: int, frames that a patch spans in the stem.
        use_conv_embed: bool, overlapping patches (see `PatchEmbedding`).
        use_layerscale: bool, scale the branches of every block.
        layerscale_value: float, that scale at the start.
        use_postln: bool, layer norms after modulation and MLP instead of before.
        use_postln_in_modulation: bool, a layer norm before the modulation's output projection.
        normalize_modulator: bool, divide the gated sums by L + 1.
        drop_rate: float, dropout after the stem and in the blocks.
        drop_path_rate: float, stochastic depth of the last block; it rises linearly from 0.
        drop_path_per: `"frame"` (as the reference) or `"clip"`.
        design: `"parallel"`, `"spatial"`, `"factorized_3d"`, `"factorized_encoder"` or `"divided"`, see above.
        fusion: how the two modulators of `"parallel"` become one (section 4.3, Figure 6a): `"multiply"`, as the paper
            proposes, `"average"`, or `"projection"`, a learned linear layer of both. Other designs fuse none.
        rematerialize: bool, or four of them, one a stage: compute again in the backward pass what a block computed,
            instead of keeping it, so that training takes less memory and more time, see `FocalBlock`.
        include_top: bool, the classifier.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default `(8, 224, 224, 3)`; frames may be None.
        pooling: without the classifier, None gives the final norm's `(batch, frames, height, width, channels)`, `"avg"`
            and `"max"` reduce it over space, then over frames, to `(batch, channels)`.
        classes: int, classes of the classifier.
        classifier_activation: activation of the classifier; None gives logits. Scores are float32 under every policy.
        include_preprocessing: bool; True takes pixels of 0 to 255 in any dtype and normalizes them with the ImageNet
            mean and standard deviation in float32; False takes what `preprocess_input` gives.
        labels: class names, as a list, the name of a data set or a file, or None; kept in the configuration.
        dtype: dtype policy of all layers but preprocessing and scores, default the global one.
        name: str.
        trainable: bool.

    Raises:
        ValueError: for a shape, an option or a combination that does not fit; the message names the remedy.

    Example:
    >>> model = VideoFocalNet(embed_dim=16, depths=(1, 1, 2, 1), input_shape=(8, 64, 64, 3), classes=9)
    >>> model.predict(np.zeros((1, 8, 64, 64, 3), "uint8"), verbose=0).shape
    (1, 9)
    """

    load_options = {"temporal_init": "identity"}
    small_arguments = {"embed_dim": 8, "depths": (1, 1, 1, 1), "input_shape": (2, 32, 48, 3)}

    def __init__(
        self,
        embed_dim=96,
        depths=(2, 2, 6, 2),
        focal_levels=2,
        focal_windows=3,
        focal_factor=2,
        mlp_ratio=4.0,
        patch_size=4,
        tubelet_size=1,
        use_conv_embed=False,
        use_layerscale=False,
        layerscale_value=1e-4,
        use_postln=False,
        use_postln_in_modulation=False,
        normalize_modulator=False,
        drop_rate=0.0,
        drop_path_rate=0.1,
        drop_path_per="frame",
        design="parallel",
        fusion="multiply",
        rematerialize=False,
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=400,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="video_focalnet",
        trainable=True,
    ):
        # === Arguments ===
        embed_dim = check_integer("embed_dim", embed_dim, 1)
        depths = _each_stage(check_integer, "depths", depths, minimum=1)
        focal_levels = _each_stage(check_integer, "focal_levels", focal_levels, minimum=0)
        focal_windows = _each_stage(check_integer, "focal_windows", focal_windows, minimum=1)
        focal_factor = _each_stage(check_integer, "focal_factor", focal_factor, minimum=0)
        mlp_ratio = check_number("mlp_ratio", mlp_ratio, above=0)
        patch_size = check_integer("patch_size", patch_size, 1)
        tubelet_size = check_integer("tubelet_size", tubelet_size, 1)
        drop_rate = check_number("drop_rate", drop_rate, minimum=0, below=1)
        drop_path_rate = check_number("drop_path_rate", drop_path_rate, minimum=0, below=1)
        check_choice("drop_path_per", drop_path_per, ("frame", "clip"))
        check_fusion(fusion, check_choice("design", design, DESIGNS))
        rematerialize = _each_stage(check_rematerialize, "rematerialize", rematerialize)
        check_choice("pooling", pooling, POOLINGS)
        if include_top:
            classes = check_integer("classes", classes, 1)
            check_labels(labels, classes)
        shape = self.check_shape(locals())
        policy = keras.dtype_policies.get(dtype)

        # === Layers and functional model ===
        clip, x = enter(input_tensor, shape, self.preprocessing, include_preprocessing, policy)
        embed = PatchEmbedding(
            embed_dim, shape[1:3], patch_size, tubelet_size, use_conv_embed, dtype=policy, name="patch_embed"
        )
        x = embed(x)
        if drop_rate:
            x = ReplayableDropout(drop_rate, dtype=policy, name="embed_dropout")(x)

        of_stages = "spatial" if design == "factorized_encoder" else design
        further = depths[-1] if design == "factorized_encoder" else 0
        drop_path_rates = _linear_rise(drop_path_rate, sum(depths) + further)
        for stage in range(STAGES):
            # One after the other: a file may claim any number of blocks, and building them is what is bounded.
            for block in range(depths[stage] + (further if stage == STAGES - 1 else 0)):
                is_temporal = block >= depths[stage]
                place = f"temporal_block{block - depths[stage]}" if is_temporal else f"stage{stage}_block{block}"
                x, *_ = FocalBlock(
                    embed_dim * 2**stage,
                    embed.output_grid,
                    mlp_ratio=mlp_ratio,
                    focal_level=focal_levels[stage],
                    focal_window=focal_windows[stage],
                    focal_factor=focal_factor[stage],
                    use_postln=use_postln,
                    use_postln_in_modulation=use_postln_in_modulation,
                    normalize_modulator=normalize_modulator,
                    use_layerscale=use_layerscale,
                    layerscale_value=layerscale_value,
                    drop_rate=drop_rate,
                    drop_path_rate=next(drop_path_rates),
                    drop_path_per=drop_path_per,
                    design="temporal" if is_temporal else of_stages,
                    fusion=fusion,
                    temporal_depthwise=is_temporal,
                    rematerialize=rematerialize[stage],
                    dtype=policy,
                    name=place,
                )(x)
            if stage < STAGES - 1:
                channels, place = embed_dim * 2 ** (stage + 1), f"stage{stage}_downsample"
                embed = PatchEmbedding(
                    channels, embed.output_grid, 2, use_conv_embed=use_conv_embed, dtype=policy, name=place
                )
                x = embed(x)
        features = FusedLayerNormalization(dtype=policy, name="norm")(x)

        ending = include_top, pooling, classes, classifier_activation, policy
        x = classify_or_pool(features, embed.output_grid, *ending, kernel_initializer=NumpyNormal())

        # === Config ===
        super().__init__(clip, x, arguments=locals(), features=features, grid=embed.output_grid)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> VideoFocalNet:
        """Build a model from what `get_config` gave; an option of earlier versions is replaced by today's."""
        return super().from_config(replace_removed_choice(with_named_fusion(config)), custom_objects)

    @classmethod
    def role(cls, layer: keras.layers.Layer) -> LayerRole | None:
        """What a layer is to the network: `patch_embed`, `stage0_block0`, `stage0_downsample`, ..., `norm`, `head`; the
        temporal encoder of the design `"factorized_encoder"` is a fifth stage.
        """
        name = layer.name
        if _TEMPORAL_BLOCK.fullmatch(name) and isinstance(layer, FocalBlock):
            return LayerRole(BLOCK, STAGES)
        place = _IN_STAGE.fullmatch(name)
        if place is not None:
            kind = TRANSITION if place[2] == "downsample" else BLOCK
            return LayerRole(kind, int(place[1])) if kind == TRANSITION or isinstance(layer, FocalBlock) else None
        kinds = {"patch_embed": STEM, "norm": NORM, "head": CLASSIFIER}
        return LayerRole(kinds[name]) if name in kinds else None

    @classmethod
    def layer_taps(cls, layer: keras.layers.Layer) -> dict[str, Any]:
        """A block's tokens and its modulators, each `(batch, frames, height * width, channels)`: `spatial_modulator`,
        `temporal_modulator` or both, or `spatio_temporal_modulator` of the design `"factorized_3d"`.
        """
        if not isinstance(layer, FocalBlock):
            return {}
        names = (layer.name, *(f"{layer.name}/{modulator}" for modulator in layer.modulators))
        return dict(zip(names, layer.output, strict=True))

    @classmethod
    def layer_maps(cls, layer: keras.layers.Layer) -> dict[str, LayerMap]:
        """A block's modulators (the paper's Figure 7), the gates of its focal levels (Eq. 7), and its tokens."""
        if not isinstance(layer, FocalBlock):
            return {}
        tokens, *modulators = layer.output
        places = {"grid": layer.grid_size}
        branches = [name.removesuffix("_modulator") for name in layer.modulators]
        maps = {
            name: LayerMap(MODULATOR, (tensor,), **places) for name, tensor in zip(branches, modulators, strict=True)
        }
        maps[GATES] = LayerMap(GATES, (layer.input,), compute=layer.gates, names=layer.levels, **places)
        return {**maps, TOKENS: LayerMap(TOKENS, (tokens,), **places)}

    layer_slots = staticmethod(layer_slots)
    check_published = staticmethod(check_published)
    complete_state = staticmethod(inflate)

    @classmethod
    def check_load_options(cls, **options) -> None:
        """Check `temporal_init`, see `complete_state`."""
        super().check_load_options(**options)
        check_choice("temporal_init", options.get("temporal_init", "identity"), TEMPORAL_INITS)

    @classmethod
    def check_shape(cls, arguments: Mapping[str, Any]) -> tuple[int | None, int, int, int]:
        """Find the shape of a clip, whose frames the tubelet must divide."""
        tubelet_size = check_integer("tubelet_size", arguments["tubelet_size"], 1)
        given = arguments["input_tensor"], arguments["input_shape"]
        return clip_shape(*given, DEFAULT_SHAPE, cls.least_size, tubelet_size=tubelet_size)


_each_stage = functools.partial(check_each, count=STAGES, unit="stage")


def _linear_rise(rate: float, blocks: int) -> Iterator[float]:
    """Stochastic depth of each block: from 0 to `rate`, evenly."""
    return (rate * block / max(blocks - 1, 1) for block in range(blocks))


@builder(VideoFocalNet, BUILDERS, embed_dim=96, depths=(2, 2, 6, 2), drop_path_rate=0.2, name="video_focalnet_t")
def VideoFocalNetT(*args, **kwargs) -> VideoFocalNet:
    """Video-FocalNet-Tiny: 49.6 M parameters, 63 GMAC a clip of 8x224x224 (Video-FocalNets paper, section 3.2)."""
    return VideoFocalNetT.build(*args, **kwargs)


@builder(VideoFocalNet, BUILDERS, embed_dim=96, depths=(2, 2, 18, 2), drop_path_rate=0.3, name="video_focalnet_s")
def VideoFocalNetS(*args, **kwargs) -> VideoFocalNet:
    """Video-FocalNet-Small: 88.7 M parameters, 124 GMAC a clip of 8x224x224 (Video-FocalNets paper, section 3.2)."""
    return VideoFocalNetS.build(*args, **kwargs)


@builder(VideoFocalNet, BUILDERS, embed_dim=128, depths=(2, 2, 18, 2), drop_path_rate=0.5, name="video_focalnet_b")
def VideoFocalNetB(*args, **kwargs) -> VideoFocalNet:
    """Video-FocalNet-Base: 157.4 M parameters, 221 GMAC a clip of 8x224x224 (Video-FocalNets paper, section 3.2)."""
    return VideoFocalNetB.build(*args, **kwargs)


@builder(VideoFocalNet, BUILDERS, embed_dim=16, depths=(1, 1, 2, 1), drop_path_rate=0.0, name="video_focalnet_nano")
def VideoFocalNetNano(*args, **kwargs) -> VideoFocalNet:
    """Video-FocalNet-Nano: a small configuration of ours, whose camera-motion weights ship in the package."""
    return VideoFocalNetNano.build(*args, **kwargs)
