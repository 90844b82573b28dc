"""SIFA-Net (Long et al., CVPR 2022): a ResNet whose blocks attend to the next frame, with two branches at its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import DenseHeads, ReplayableDropout
from keras_video_focalnet.models import maps
from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.classifier import VideoClassifier, check_labels
from keras_video_focalnet.models.head import POOLINGS
from keras_video_focalnet.models.inputs import clip_shape, enter, exact_dtype
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, STEM, LayerRole
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.models.sifa.bottleneck import ATTENTION, CONTEXT, PLAIN, SIFABottleneck, TubeletStem
from keras_video_focalnet.models.sifa.branches import LargerOfPairs, SideBySide
from keras_video_focalnet.models.sifa.entries import NET_BUILDERS
from keras_video_focalnet.models.sifa.shapes import TUBELET, check_tubelets
from keras_video_focalnet.models.sifa.weights import complete_net, net_slots, unused_of_net
from keras_video_focalnet.utils.checks import check_choice, check_each, check_integer, check_number

STAGES = 4
_BLOCK_NAME = re.compile(r"stage(\d+)_(dual_)?block(\d+)")
DEFAULT_SHAPE = (16, 224, 224, 3)
# The second branch has half of them, of which one attends to the next.
_LEAST_TUBELETS = 4


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class SIFANet(VideoClassifier):
    """SIFA-Net as a functional model: a stem, three stages of bottlenecks, and two branches of the fourth.

    The stem merges 4 frames. From the second stage on, blocks that add the context of the clip alternate with blocks
    that attend to the next frame. The last branch works on half the frames at the third stage's resolution. Each branch
    has a classifier of its own; scores are the mean of their softmaxes, and in training the loss is the sum of both.

    Every block is one layer, `stage{S}_block{B}` (from 0), those of the second branch `stage3_dual_block{B}`.
    `feature_taps(model)` names the output of each, and of those that attend `{block}/offsets` and
    `{block}/similarities`.

    Args:
        width: int, width of the first stage's bottlenecks and channels of the stem; each further stage doubles it.
        depths: four ints, blocks per stage; both branches of the fourth have as many.
        kernel_size: odd int or four, the side of the attention's window; that of the first stage is not used.
        dilation: int or four, the distance of its taps.
        drop_rate: float, dropout before the classifiers.
        include_top: bool, the classifiers.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default `(16, 224, 224, 3)`; frames are a multiple of 4 and at least
            16, or None.
        pooling: without the classifiers, None gives both branches' channels side by side on the finer grid and the
            finer time, `(batch, frames, height, width, channels)`; `"avg"` and `"max"` reduce each branch to `(batch,
            channels)` and join them.
        classes: int, classes of the classifiers.
        classifier_activation: `"softmax"`, `"sigmoid"`, or None for logits, see `DenseHeads`. Scores are float32 under
            every policy.
        include_preprocessing: bool; True takes pixels of 0 to 255 in any dtype and normalizes them with the ImageNet
            mean and standard deviation in float32; False takes what `preprocess_input` gives.
        labels: class names, as a list, the name of a data set or a file, or None; kept in the configuration.
        dtype: dtype policy of all layers but preprocessing and scores, default the global one.
        name: str.
        trainable: bool.

    Raises:
        ValueError: for a shape, an option or a combination that does not fit; the message names the remedy.

    Example:
    >>> model = SIFANet(width=4, depths=(1, 2, 2, 1), input_shape=(16, 64, 64, 3), classes=9)
    >>> model.predict(np.zeros((1, 16, 64, 64, 3), "uint8"), verbose=0).shape
    (1, 9)
    """

    preprocessing = Preprocessing(frames=16, crop_fraction=1.0)
    classifier_tensors = ("fc.weight", "fc.bias", "fc_dual.weight", "fc_dual.bias")
    least_frames = TUBELET * _LEAST_TUBELETS
    small_arguments = {"width": 8, "depths": (1, 2, 2, 2), "input_shape": (16, 64, 96, 3)}

    def __init__(
        self,
        width=64,
        depths=(3, 4, 6, 3),
        kernel_size=3,
        dilation=1,
        drop_rate=0.5,
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=400,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="sifa_net",
        trainable=True,
    ):
        # === Arguments ===
        width = check_integer("width", width, 1)
        depths = _each_stage(check_integer, "depths", depths, minimum=1)
        kernel_size = _each_stage(check_integer, "kernel_size", kernel_size, minimum=1)
        dilation = _each_stage(check_integer, "dilation", dilation, minimum=1)
        drop_rate = check_number("drop_rate", drop_rate, minimum=0, below=1)
        check_choice("pooling", pooling, POOLINGS)
        if include_top:
            classes = check_integer("classes", classes, 1)
            check_labels(labels, classes)
        shape = self.check_shape(locals())
        policy = keras.dtype_policies.get(dtype)

        # === Layers and functional model ===
        clip, x = enter(input_tensor, shape, self.preprocessing, include_preprocessing, policy)
        stem = TubeletStem(width, shape[1:3], TUBELET, dtype=policy, name="stem")
        x, grid = stem(x), stem.output_grid

        def run(stage, x, grid, strides, prefix=""):
            for block in range(depths[stage]):
                layer = SIFABottleneck(
                    width * 2**stage,
                    grid,
                    strides=1 if block else strides,
                    kind=PLAIN if stage == 0 else (ATTENTION if block % 2 else CONTEXT),
                    kernel_size=kernel_size[stage],
                    dilation=dilation[stage],
                    dtype=policy,
                    name=f"stage{stage}_{prefix}block{block}",
                )
                output, grid = layer(x), layer.output_grid
                x = output[0] if layer.kind == ATTENTION else output
            return x, grid

        for stage in range(STAGES - 1):
            x, grid = run(stage, x, grid, strides=2 if stage else 1)
        pairs = LargerOfPairs(dtype=policy, name="larger_of_pairs")(x)
        branches = [run(STAGES - 1, x, grid, strides=2), run(STAGES - 1, pairs, grid, 1, prefix="dual_")]

        features = grid = None
        if include_top:
            pooled = _pooled(branches, ops.mean)
            if drop_rate:
                pooled = ReplayableDropout(drop_rate, dtype=policy, name="head_dropout")(pooled)
            head = DenseHeads(classes, 2, classifier_activation, dtype=exact_dtype(policy), name="head")
            outputs = head(pooled)
        else:
            (coarse, coarse_grid), (fine, grid) = branches
            features = SideBySide(coarse_grid, grid, dtype=policy, name="side_by_side")(coarse, fine)
            if pooling is None:
                frames = features.shape[1] or -1
                outputs = keras.layers.Reshape((frames, *grid, features.shape[-1]), dtype=policy, name="grid")(features)
            else:
                outputs = _pooled(branches, ops.mean if pooling == "avg" else ops.max)

        # === Config ===
        super().__init__(clip, outputs, arguments=locals(), features=features, grid=grid)

    @classmethod
    def role(cls, layer: keras.layers.Layer) -> LayerRole | None:
        """What a layer is to the network: `stem`, `stage0_block0`, ..., `stage3_dual_block0`, ..., `head`."""
        place = _BLOCK_NAME.fullmatch(layer.name)
        if place is not None:
            return LayerRole(BLOCK, int(place[1])) if isinstance(layer, SIFABottleneck) else None
        kinds = {"stem": STEM, "head": CLASSIFIER}
        return LayerRole(kinds[layer.name]) if layer.name in kinds else None

    @classmethod
    def layer_taps(cls, layer: keras.layers.Layer) -> dict[str, Any]:
        """A block's output, `(batch, frames, height * width, channels)`; its offsets and similarities where it attends.

        They are told of every frame but the last, which attends to none.
        """
        if not isinstance(layer, SIFABottleneck):
            return {}
        if layer.kind != ATTENTION:
            return {layer.name: layer.output}
        names = (layer.name, f"{layer.name}/offsets", f"{layer.name}/similarities")
        return dict(zip(names, layer.output, strict=True))

    @classmethod
    def layer_maps(cls, layer: keras.layers.Layer) -> dict[str, maps.LayerMap]:
        """A block's similarities to the taps of the next frame and how far these are displaced, and its output."""
        if not isinstance(layer, SIFABottleneck):
            return {}
        output, *others = keras.tree.flatten(layer.output)
        found, grid = {}, layer.output_grid
        if others:
            offsets, similarities = ((tensor,) for tensor in others)
            found[maps.ATTENTION] = maps.LayerMap(maps.ATTENTION, similarities, grid, of_pairs=True)
            found[maps.OFFSETS] = maps.LayerMap(maps.OFFSETS, offsets, grid, of_pairs=True)
        return {**found, maps.TOKENS: maps.LayerMap(maps.TOKENS, (output,), grid)}

    layer_slots = staticmethod(net_slots)
    complete_state = staticmethod(complete_net)
    unused_state = staticmethod(unused_of_net)

    @classmethod
    def check_shape(cls, arguments: Mapping[str, Any]) -> tuple[int | None, int, int, int]:
        """Find the shape of a clip, of which half the tubelets are at least two."""
        given = arguments["input_tensor"], arguments["input_shape"]
        shape = clip_shape(*given, DEFAULT_SHAPE, cls.least_size, tubelet_size=TUBELET)
        return check_tubelets(shape, cls.least_frames)

    def logits(self, pooled: Any) -> Any:
        """Compute the logits of both heads joined, `(batch, classes)`, from what they read, `(batch, channels)`."""
        head = self.classifier
        if head is None:
            return super().logits(pooled)
        return head.joined(head.logits_of_heads(pooled))


def _each_stage(check, name, value, **limits):
    return check_each(check, name, value, count=STAGES, unit="stage", **limits)


def _pooled(branches, reduce):
    """Both branches reduced over space, then over frames, one after the other."""
    return ops.concatenate([reduce(reduce(x, axis=2), axis=1) for x, _ in branches], axis=-1)


@builder(SIFANet, NET_BUILDERS, depths=(3, 4, 6, 3), name="sifa_net50")
def SIFANet50(*args, **kwargs) -> SIFANet:
    """SIFA-Net on ResNet-50: 43.0 M parameters, 24.0 GMAC a clip of 16x224x224."""
    return SIFANet50.build(*args, **kwargs)


@builder(SIFANet, NET_BUILDERS, depths=(3, 4, 23, 3), name="sifa_net101")
def SIFANet101(*args, **kwargs) -> SIFANet:
    """SIFA-Net on ResNet-101: 63.6 M parameters, 39.2 GMAC a clip of 16x224x224."""
    return SIFANet101.build(*args, **kwargs)


@builder(SIFANet, NET_BUILDERS, width=8, depths=(1, 2, 2, 2), name="sifa_net_nano")
def SIFANetNano(*args, **kwargs) -> SIFANet:
    """SIFA-Net-Nano: a small configuration of ours, trained on camera motion."""
    return SIFANetNano.build(*args, **kwargs)
