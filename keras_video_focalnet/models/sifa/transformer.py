"""SIFA-Transformer (Long et al., CVPR 2022): a Swin Transformer whose blocks look at other frames."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_video_focalnet.layers import FusedLayerNormalization, PatchEmbedding, PatchMerging
from keras_video_focalnet.layers.initializers import NumpyNormal
from keras_video_focalnet.layers.window_attention import fit_window
from keras_video_focalnet.models import maps
from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.classifier import VideoClassifier, check_labels
from keras_video_focalnet.models.head import POOLINGS, classify_or_pool
from keras_video_focalnet.models.inputs import clip_shape, enter
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, NORM, STEM, TRANSITION, LayerRole
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.models.sifa.entries import TRANSFORMER_BUILDERS
from keras_video_focalnet.models.sifa.shapes import TUBELET, check_tubelets
from keras_video_focalnet.models.sifa.transformer_block import SIFATransformerBlock
from keras_video_focalnet.models.sifa.weights import complete_transformer, transformer_slots, unused_of_transformer
from keras_video_focalnet.utils.checks import check_choice, check_each, check_integer, check_number, fail

STAGES = 4
_IN_STAGE = re.compile(r"stage(\d+)_(block\d+|downsample)")
DEFAULT_SHAPE = (16, 224, 224, 3)


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class SIFATransformer(VideoClassifier):
    """SIFA-Transformer as a functional model: tubelets, then four stages of blocks with a patch merging between.

    Every tubelet of 4 frames is an image to the window attention. In blocks whose windows are not shifted, each place
    then attends to a window of the next tubelet; in the others a convolution over tubelets stands there instead.

    Every block is one layer, `stage{S}_block{B}` (from 0). `feature_taps(model)` names the output of each, and
    `{block}/similarities` of those that attend to the next tubelet.

    Args:
        embed_dim: int, channels of the first stage; each further stage doubles them.
        depths: four ints, blocks per stage.
        num_heads: four ints, heads of the window attention per stage.
        window_size: int, side of its windows; a stage whose grid is no larger has one window as wide as its smaller
            side, and no shift.
        patch_size: int, side of a patch in the stem.
        kernel_size: odd int, side of the inter-frame attention's window.
        dilation: int, distance of its taps.
        mlp_ratio: float, hidden units of a block's MLP over its channels.
        drop_rate: float, dropout before the classifier, drawn for each tubelet.
        drop_path_rate: float, stochastic depth of the last block; it rises linearly from 0.
        include_top: bool, the classifier.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default `(16, 224, 224, 3)`; frames are a multiple of 4 and at least
            8, or None; windows must fill the grid of every stage.
        pooling: without the classifier, None gives the final norm's `(batch, frames, height, width, channels)`, `"avg"`
            and `"max"` reduce it over space, then over tubelets, to `(batch, channels)`.
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
    >>> small = {"embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8)}
    >>> model = SIFATransformer(**small, window_size=4, input_shape=(8, 64, 64, 3), classes=9)
    >>> model.predict(np.zeros((1, 8, 64, 64, 3), "uint8"), verbose=0).shape
    (1, 9)
    """

    preprocessing = Preprocessing(frames=16, crop_fraction=1.0)
    classifier_tensors = ("fc.weight", "fc.bias")
    least_frames = 2 * TUBELET
    exclusions = {"other_shapes": "its windows must fill the grid of every stage, so not every size will do"}
    small_arguments = {
        **{"embed_dim": 8, "depths": (2, 2, 1, 1), "num_heads": (1, 2, 2, 4), "window_size": 4},
        "input_shape": (8, 64, 128, 3),
    }

    def __init__(
        self,
        embed_dim=96,
        depths=(2, 2, 18, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        patch_size=4,
        kernel_size=3,
        dilation=1,
        mlp_ratio=4.0,
        drop_rate=0.5,
        drop_path_rate=0.3,
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=400,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="sifa_transformer",
        trainable=True,
    ):
        # === Arguments ===
        embed_dim = check_integer("embed_dim", embed_dim, 1)
        depths = _each_stage(check_integer, "depths", depths, minimum=1)
        num_heads = _each_stage(check_integer, "num_heads", num_heads, minimum=1)
        window_size = check_integer("window_size", window_size, 1)
        patch_size = check_integer("patch_size", patch_size, 1)
        mlp_ratio = check_number("mlp_ratio", mlp_ratio, above=0)
        drop_rate = check_number("drop_rate", drop_rate, minimum=0, below=1)
        drop_path_rate = check_number("drop_path_rate", drop_path_rate, minimum=0, below=1)
        check_choice("pooling", pooling, POOLINGS)
        if include_top:
            classes = check_integer("classes", classes, 1)
            check_labels(labels, classes)
        shape = self.check_shape(locals())
        policy = keras.dtype_policies.get(dtype)

        # === Layers and functional model ===
        clip, x = enter(input_tensor, shape, self.preprocessing, include_preprocessing, policy)
        embed = PatchEmbedding(
            embed_dim, shape[1:3], patch_size, TUBELET, use_norm=False, dtype=policy, name="patch_embed"
        )
        x, grid = embed(x), embed.output_grid
        rates, number = sum(depths) - 1, 0
        for stage in range(STAGES):
            for block in range(depths[stage]):
                window, shift = fit_window(grid, window_size, block)
                layer = SIFATransformerBlock(
                    num_heads[stage],
                    grid,
                    window,
                    shift,
                    kernel_size=kernel_size,
                    dilation=dilation,
                    mlp_ratio=mlp_ratio,
                    drop_path_rate=drop_path_rate * number / max(rates, 1),
                    dtype=policy,
                    name=f"stage{stage}_block{block}",
                )
                x, number = layer(x) if shift else layer(x)[0], number + 1
            if stage < STAGES - 1:
                merging = PatchMerging(grid, dtype=policy, name=f"stage{stage}_downsample")
                x, grid = merging(x), merging.output_grid
        features = FusedLayerNormalization(dtype=policy, name="norm")(x)

        ending = include_top, pooling, classes, classifier_activation, policy
        options = {"drop_rate": drop_rate, "kernel_initializer": NumpyNormal()}
        outputs = classify_or_pool(features, grid, *ending, **options)

        # === Config ===
        super().__init__(clip, outputs, arguments=locals(), features=features, grid=grid)

    @classmethod
    def role(cls, layer: keras.layers.Layer) -> LayerRole | None:
        """What a layer is to the network: `patch_embed`, `stage0_block0`, `stage0_downsample`, ..., `norm`, `head`."""
        name = layer.name
        place = _IN_STAGE.fullmatch(name)
        if place is not None:
            kind, expected = (TRANSITION, PatchMerging) if place[2] == "downsample" else (BLOCK, SIFATransformerBlock)
            return LayerRole(kind, int(place[1])) if isinstance(layer, expected) else None
        kinds = {"patch_embed": STEM, "norm": NORM, "head": CLASSIFIER}
        return LayerRole(kinds[name]) if name in kinds else None

    @classmethod
    def layer_taps(cls, layer: keras.layers.Layer) -> dict[str, Any]:
        """A block's tokens, `(batch, frames, height * width, channels)`, and its similarities where it attends."""
        if not isinstance(layer, SIFATransformerBlock):
            return {}
        if layer.shift_size:
            return {layer.name: layer.output}
        return dict(zip((layer.name, f"{layer.name}/similarities"), layer.output, strict=True))

    @classmethod
    def layer_maps(cls, layer: keras.layers.Layer) -> dict[str, maps.LayerMap]:
        """A block's similarities to the taps of the next tubelet where it attends, and its tokens."""
        if not isinstance(layer, SIFATransformerBlock):
            return {}
        output, *similarities = keras.tree.flatten(layer.output)
        found = {maps.TOKENS: maps.LayerMap(maps.TOKENS, (output,), layer.grid_size)}
        if similarities:
            seen = maps.LayerMap(maps.ATTENTION, tuple(similarities), layer.grid_size, of_pairs=True)
            found = {maps.ATTENTION: seen, **found}
        return found

    layer_slots = staticmethod(transformer_slots)
    complete_state = staticmethod(complete_transformer)
    unused_state = staticmethod(unused_of_transformer)

    @classmethod
    def check_shape(cls, arguments: Mapping[str, Any]) -> tuple[int | None, int, int, int]:
        """Find the shape of a clip, which has at least two tubelets and which patches and windows fill."""
        given = arguments["input_tensor"], arguments["input_shape"]
        shape = clip_shape(*given, DEFAULT_SHAPE, cls.least_size, tubelet_size=TUBELET)
        check_tubelets(shape, cls.least_frames)
        patch = check_integer("patch_size", arguments["patch_size"], 1)
        window = check_integer("window_size", arguments["window_size"], 1)
        _check_grids(shape, patch, window)
        return shape


_each_stage = functools.partial(check_each, count=STAGES, unit="stage")


def _check_grids(shape, patch_size, window_size):
    """Check that patches divide a frame, mergings the grid of each stage, and windows fill it."""
    sides = shape[1:3]
    unit = patch_size * 2 ** (STAGES - 1)
    if any(side % unit for side in sides):
        raise fail(
            "Height and width in input_shape",
            f"multiples of {unit}, which are {STAGES} stages of patches of {patch_size} pixels",
            sides,
            "resize the frames",
        )
    for stage in range(STAGES):
        grid = tuple(side // (patch_size * 2**stage) for side in sides)
        window = min(window_size, *grid)
        if any(side % window for side in grid):
            raise fail(
                "window_size",
                f"such that windows fill the grid {grid} of stage {stage}, of which no side is padded",
                window_size,
                f"choose another window_size, or frames whose sides are multiples of {unit * window_size}",
            )


# What the four sizes have in common: the third stage is deep.
_DEPTHS = (2, 2, 18, 2)


@builder(
    SIFATransformer,
    TRANSFORMER_BUILDERS,
    embed_dim=96,
    depths=_DEPTHS,
    num_heads=(3, 6, 12, 24),
    drop_path_rate=0.3,
    name="sifa_transformer_s",
)
def SIFATransformerS(*args, **kwargs) -> SIFATransformer:
    """SIFA-Transformer on Swin-S: 53.3 M parameters, 39.0 GMAC a clip of 16x224x224."""
    return SIFATransformerS.build(*args, **kwargs)


@builder(
    SIFATransformer,
    TRANSFORMER_BUILDERS,
    embed_dim=128,
    depths=_DEPTHS,
    num_heads=(4, 8, 16, 32),
    drop_path_rate=0.5,
    name="sifa_transformer_b",
)
def SIFATransformerB(*args, **kwargs) -> SIFATransformer:
    """SIFA-Transformer on Swin-B: 94.5 M parameters, 68.9 GMAC a clip of 16x224x224."""
    return SIFATransformerB.build(*args, **kwargs)


@builder(
    SIFATransformer,
    TRANSFORMER_BUILDERS,
    embed_dim=192,
    depths=_DEPTHS,
    num_heads=(6, 12, 24, 48),
    drop_path_rate=0.5,
    name="sifa_transformer_l",
)
def SIFATransformerL(*args, **kwargs) -> SIFATransformer:
    """SIFA-Transformer on Swin-L: 212.1 M parameters, 153.7 GMAC a clip of 16x224x224; only the paper's code has it."""
    return SIFATransformerL.build(*args, **kwargs)


@builder(
    SIFATransformer,
    TRANSFORMER_BUILDERS,
    embed_dim=16,
    depths=(2, 2, 2, 1),
    num_heads=(1, 2, 4, 8),
    window_size=4,
    drop_path_rate=0.0,
    name="sifa_transformer_nano",
)
def SIFATransformerNano(*args, **kwargs) -> SIFATransformer:
    """SIFA-Transformer-Nano: a small configuration of ours, trained on camera motion."""
    return SIFATransformerNano.build(*args, **kwargs)
