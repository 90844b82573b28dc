"""Vita-CLIP (Wasim et al., CVPR 2023): CLIP with prompts, which scores clips against the names of classes."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers import FusedLayerNormalization
from keras_video_focalnet.layers.held import held_unless
from keras_video_focalnet.models.building import builder
from keras_video_focalnet.models.classifier import VideoClassifier
from keras_video_focalnet.models.cloning import take_weights
from keras_video_focalnet.models.head import POOLINGS, classify_or_pool
from keras_video_focalnet.models.inputs import clip_shape, enter, exact_dtype
from keras_video_focalnet.models.network import BLOCK, CLASSIFIER, NORM, STEM, LayerRole
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.models.vita_clip.arguments import (
    PROMPTS,
    check_names,
    check_prompts,
    check_templates,
    check_uses,
)
from keras_video_focalnet.models.vita_clip.class_texts import POSITIONS, check_context, plain_texts
from keras_video_focalnet.models.vita_clip.entries import BUILDERS
from keras_video_focalnet.models.vita_clip.frame_embedding import FrameEmbedding
from keras_video_focalnet.models.vita_clip.head import CONTEXTS, VitaCLIPHead
from keras_video_focalnet.models.vita_clip.maps import layer_maps
from keras_video_focalnet.models.vita_clip.named_weights import options_for_names, places_of, told_names, with_learned
from keras_video_focalnet.models.vita_clip.prompted_block import TRAINS, PromptedBlock
from keras_video_focalnet.models.vita_clip.weights import (
    check_names_of_weights,
    complete_state,
    copy_texts,
    layer_slots,
    unused_state,
)
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_number, fail

# What is done with a clip of more frames than `num_frames`: it is refused, or cut into groups of as many.
LONG_CLIPS = (None, "groups")
# The part of each model before its classifier: beside the models, not in them, since Keras counts what is in them.
_VISION: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_BLOCK = re.compile(r"block(\d+)")
# CLIP's mean and standard deviation of pixels, as parts of 255.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class VitaCLIP(VideoClassifier):
    """Vita-CLIP as a functional model: CLIP's vision tower on every frame with prompts, and CLIP's text tower.

    It is that of Wasim et al., "Vita-CLIP: Video and text adaptive CLIP via Multimodal Prompting", CVPR 2023. A score
    tells how like the clip's feature is to that of a class's name. What comes from CLIP is frozen; prompts, the
    attention of summaries, times, the learned context of the names and the scale train (`trains`). Text features are
    computed once and kept for everything but training, see `text_features`.

    `set_class_names` gives a model for other names. What was learned for each class (`context="class"`) belongs to its
    name: for names among which one is new, and where `templates` are given, that model has `context=None`, which is
    texts of `templates` alone. A context that all classes share goes over.

    Every block is one layer, `block{B}` (from 0). `feature_taps(model)` names the output of each: tokens with the class
    token first, of the last block of a model with a classifier the class tokens alone.

    Args:
        class_names: what the classes are called, as a list, the name of a data set or a file; `labels` does the same.
            Without names, `classes` alone, classes are called by their numbers, which only a learned context makes
            sense of.
        prompts: which of `"summary"`, `"local"` and `"global"` there are.
        num_global_prompts: int, global prompts of a block.
        num_frames: int, frames that prompts and times are of; None: those of `input_shape`.
        long_clips: None refuses clips of other than `num_frames` frames; `"groups"` takes multiples: every `num_frames`
            frames have summaries and local prompts of their own, and times are stretched.
        context: `"class"` learned vectors for each class, `"shared"` the same for all, None none.
        context_tokens: int, how many vectors.
        context_position: `"end"` (before the name), `"middle"` or `"front"` (behind it).
        context_init: words that shared vectors start from, one each, or None.
        templates: without a context alone, texts with `{}` for the name, whose features are averaged.
        trains: `"prompts"`, `"cls_proj"` for the projection of class tokens besides, which the paper's Figure 2 has, or
            `"all"`.
        patch_size: int, side of a patch.
        embed_dim: int, channels of the vision tower.
        depth: int, its blocks.
        num_heads: int, its heads.
        mlp_ratio: float, hidden units of its MLPs over its channels.
        projection_dim: int, channels in which clips and texts are compared.
        text_dim: int, channels of the text tower.
        text_heads: int, its heads.
        text_depth: int, its blocks; None: no text tower, and text features are given with the weights.
        include_top: bool, the projection and comparison with texts.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default `(num_frames or 8, 224, 224, 3)`.
        pooling: without the classifier, None gives the final norm's `(batch, frames, height, width, channels)`, `"avg"`
            and `"max"` reduce it to `(batch, channels)`.
        classes: int, number of classes where there are no names.
        classifier_activation: activation of the classifier; None gives logits. Scores are float32 under every policy.
        include_preprocessing: bool; True takes pixels of 0 to 255 in any dtype and normalizes them with CLIP's mean and
            standard deviation in float32; False takes what `preprocess_input` gives.
        labels: as `class_names`.
        dtype: dtype policy of all layers but preprocessing and scores, default the global one.
        name: str.
        trainable: bool.

    Raises:
        ValueError: for a shape, an option, names or a combination that do not fit; the message names the remedy.

    Example:
    >>> small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "projection_dim": 8, "text_dim": 8, "text_heads": 2}
    >>> model = VitaCLIP(["opening a door", "closing a door"], text_depth=1, input_shape=(4, 32, 32, 3), **small)
    >>> model.predict(np.zeros((1, 4, 32, 32, 3), "uint8"), verbose=0).shape
    (1, 2)
    """

    preprocessing = Preprocessing(
        mean=tuple(255 * mean for mean in _MEAN), std=tuple(255 * std for std in _STD), crop_fraction=1.0
    )
    classifier_tensors = ("text_features",)
    exclusions = {
        "any_frames": "its prompts and times are of a number of frames",
        "multiply_adds": "a frame of a longer clip costs more, since it sees the prompts of more frames",
    }
    small_arguments = {
        **{
            "embed_dim": 16,
            "depth": 3,
            "num_heads": 2,
            "patch_size": 16,
            "projection_dim": 12,
            "num_global_prompts": 3,
        },
        **{"text_dim": 8, "text_heads": 2, "text_depth": 2, "context_tokens": 3, "trains": "all"},
        "input_shape": (4, 32, 48, 3),
    }

    def __init__(
        self,
        class_names=None,
        prompts=PROMPTS,
        num_global_prompts=8,
        num_frames=None,
        long_clips=None,
        context="class",
        context_tokens=8,
        context_position="end",
        context_init=None,
        templates=("{}",),
        trains="prompts",
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4.0,
        projection_dim=512,
        text_dim=512,
        text_heads=8,
        text_depth=12,
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=None,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="vita_clip",
        trainable=True,
    ):
        # === Arguments ===
        prompts = check_prompts(prompts)
        trains = check_choice("trains", trains, TRAINS)
        depth = check_integer("depth", depth, 1)
        text_depth = None if text_depth is None else check_integer("text_depth", text_depth, 1)
        mlp_ratio = check_number("mlp_ratio", mlp_ratio, above=0)
        num_global_prompts = check_integer("num_global_prompts", num_global_prompts, 1)
        check_choice("pooling", pooling, POOLINGS)
        context = check_choice("context", context, CONTEXTS)
        context_tokens, _ = check_context(context_tokens, None)
        check_context(context_tokens, context_init)
        check_choice("context_position", context_position, POSITIONS)
        templates = check_templates(templates)
        if text_depth is None:
            context = None
        if include_top:
            check_uses(context, context_init, templates)
            labels, classes = check_names(class_names, labels, classes, context, text_depth)
            class_names = labels
        shape = self.check_shape(locals())
        num_frames = num_frames or shape[0]
        policy = keras.dtype_policies.get(dtype)

        # === Layers and functional model ===
        clip, x = enter(input_tensor, shape, self.preprocessing, include_preprocessing, policy)
        all_train = trains == "all"
        count = num_global_prompts if "global" in prompts else 0
        sizes = (embed_dim, shape[1:3], patch_size, num_frames, count, depth)
        embed = FrameEmbedding(*sizes, trains=all_train, dtype=policy, name="patch_embed")
        x = embed(x)
        x, global_prompts = x if count else (x, None)
        for place in range(depth):
            block = PromptedBlock(
                num_heads,
                num_frames,
                mlp_ratio=mlp_ratio,
                summary="summary" in prompts,
                local="local" in prompts,
                num_prompts=count,
                patch_size=patch_size,
                class_token_only=include_top and place == depth - 1,
                trains=trains,
                dtype=policy,
                name=f"block{place}",
            )
            x = block(x) if global_prompts is None else block(x, global_prompts[place])
        norm = held_unless(all_train, FusedLayerNormalization)(dtype=policy, name="norm")
        features, grid = None, None
        if include_top:
            pooled = ops.mean(norm(x), axis=(1, 2))
            outputs = VitaCLIPHead(
                classes,
                class_names,
                projection_dim=projection_dim,
                text_dim=text_dim,
                text_heads=text_heads,
                text_depth=text_depth,
                context=context,
                context_tokens=context_tokens,
                context_position=context_position,
                context_init=context_init,
                templates=templates,
                trains=all_train,
                activation=classifier_activation,
                text_dtype=policy,
                dtype=exact_dtype(policy),
                name="head",
            )(pooled)
        else:
            features, grid = norm(x)[:, :, 1:], embed.output_grid
            outputs = classify_or_pool(features, grid, False, pooling, None, None, policy)

        # === Config ===
        super().__init__(clip, outputs, arguments=locals(), features=features, grid=grid)

    @classmethod
    def role(cls, layer: keras.layers.Layer) -> LayerRole | None:
        """What a layer is to the network: `patch_embed`, `block0`, ..., `norm`, `head`."""
        name = layer.name
        place = _BLOCK.fullmatch(name)
        if place is not None:
            return LayerRole(BLOCK, int(place[1])) if isinstance(layer, PromptedBlock) else None
        kinds = {"patch_embed": (STEM, FrameEmbedding), "norm": (NORM, None), "head": (CLASSIFIER, None)}
        return LayerRole(kinds[name][0]) if name in kinds else None

    layer_maps = staticmethod(layer_maps)
    layer_slots = staticmethod(layer_slots)
    complete_state = staticmethod(complete_state)
    unused_state = staticmethod(unused_state)
    check_names = staticmethod(check_names_of_weights)

    @classmethod
    def default_shape(cls, arguments: Mapping[str, Any], shape: Sequence[int | None]) -> Sequence[int | None]:
        """As the contract says; clips have as many frames as prompts are of."""
        return (arguments["num_frames"] or shape[0], *shape[1:])

    @classmethod
    def check_shape(cls, arguments: Mapping[str, Any]) -> tuple[int, int, int, int]:
        """Find the shape of a clip: with as many frames as prompts are of, or a multiple where that is asked for."""
        num_frames = arguments["num_frames"]
        if num_frames is not None:
            num_frames = check_integer("num_frames", num_frames, 1)
        long_clips = check_choice("long_clips", arguments["long_clips"], LONG_CLIPS)
        patch = check_integer("patch_size", arguments["patch_size"], 1)
        default = (num_frames or cls.preprocessing.frames, *cls.preprocessing.size, 3)
        shape = clip_shape(arguments["input_tensor"], arguments["input_shape"], default, max(patch, 16))
        frames = shape[0]
        if frames is None:
            raise fail("The number of frames in input_shape", "known, since prompts and times are of it", frames)
        num_frames = num_frames or frames
        if frames == num_frames:
            return shape
        of_frames = {"summary", "local"} & set(check_prompts(arguments["prompts"]))
        if long_clips is None:
            raise fail(
                "The number of frames in input_shape",
                f"num_frames={num_frames}",
                frames,
                "score views of that many frames and average them, as predict_video and evaluate do, or pass "
                'long_clips="groups"',
            )
        if of_frames and frames % num_frames:
            raise fail(
                "The number of frames in input_shape",
                f"a multiple of num_frames={num_frames}, since groups of as many have prompts of their own",
                frames,
            )
        return shape

    # === Texts ===

    @classmethod
    def check_class_names(cls, names: Sequence[str] | str | os.PathLike) -> tuple[str, ...]:
        """As the contract says: there are names, all different, and none is too long for the text tower."""
        checked, _ = check_names(names, None, None, None, None)
        plain_texts(checked)
        return checked

    @classmethod
    def arguments_for_names(
        cls, names: Sequence[str], state: Mapping[str, Any] | None, labels: Sequence[str] | None
    ) -> dict[str, Any]:
        """As the contract says: with what was learned for these names, else by their texts alone. Where the weights
        are CLIP's, the model is CLIP, which has no prompts.
        """
        return {"class_names": names, **options_for_names(names, state or {}, labels)}

    @property
    def text_features(self) -> Any:
        """The features of the classes' texts, `(classes, projection_dim)`, not normalized, which inference reads.

        They are computed when they are first needed, and again where the text tower or the context has changed.
        """
        self._head.refresh_kept()
        return ops.convert_to_tensor(self._head.kept.features)

    def logits(self, pooled: Any) -> Any:
        """Compute logits, `(batch, classes)`, from what the classifier reads, `(batch, channels)`."""
        return self._head.logits(pooled)

    @property
    def _head(self):
        if self.classifier is None:
            raise ValueError(f"the model {self.name!r} has no classifier; build it with include_top=True.")
        return self.classifier

    def video_features(self, clips: Any, **options: Any) -> Any:
        """Compute the features of clips that are compared with those of texts.

        Args:
            clips: `(batch, frames, height, width, 3)`, as `predict` takes them.
            **options: Further arguments of `keras.Model.predict`, such as `batch_size`.

        Returns:
            float32 array `(batch, projection_dim)`, not normalized.
        """
        head = self._head
        if self not in _VISION:
            _VISION[self] = keras.Model(self.input, self.pooled)
        pooled = _VISION[self].predict(clips, **{"verbose": 0, **options})
        return ops.convert_to_numpy(head.video_features(ops.convert_to_tensor(pooled)))

    def set_class_names(
        self, names: Sequence[str] | str | os.PathLike, templates: Sequence[str] | None = None
    ) -> VitaCLIP:
        """Give a new model with this one's weights that scores clips against other names, without any training.

        Vectors that all classes share stay. Vectors of each class belong to its name: they stay where all names are
        known, in whatever order and spelling. Otherwise, and where `templates` are given, the new model has texts of
        `templates` in their place, `context=None`.

        Args:
            names: What the classes are called, as a list, the name of a data set or a file.
            templates: Texts with `{}` for a name, of which the features are averaged; by default the model's own.

        Returns:
            A model of the same class; this one is left as it is, and no weight is shared.

        Raises:
            ValueError: There are no names, two are the same or one is too long; or the model has no text tower.

        Example:
            >>> small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "projection_dim": 8, "text_dim": 8}
            >>> small |= {"text_heads": 2, "text_depth": 1, "input_shape": (4, 32, 32, 3)}
            >>> model = VitaCLIP(["opening a door", "closing a door"], **small)
            >>> model.set_class_names(["a cat", "a dog", "a horse"]).output_shape
            (None, 3)
        """
        check_text_tower(self, "set_class_names")
        labels, classes = check_names(names, None, None, None, self.text_depth)
        places = places_of(labels, self.labels)
        stays = templates is None and (self._head.shares_context or places is not None)
        changes = {} if templates is None else {"templates": check_templates(templates)}
        if not stays:
            changes |= {"context": None, "context_init": None}
        model = self.rebuild(classes=classes, labels=labels, **changes)
        take_weights(model, (layer for layer in self.layers if layer is not self._head))
        copy_texts(self._head, model.classifier, places if stays else None)
        return model

    def told_names(self, names: Sequence[str] | str | os.PathLike) -> VitaCLIP:
        """As the contract says: of a context of each class, where one of the names is none of the model's own."""
        return told_names(self, names)

    def with_learned(self, state: Mapping[str, Any], labels: Sequence[str] | None) -> VitaCLIP:
        """As the contract says: the contexts that are of the model's names, out of those of all names or in another
        order.
        """
        return with_learned(self, state, labels)

    def with_classifier(self, classes: int, labels: Sequence[str] | str | None = None) -> VitaCLIP:
        """As `VideoClassifier.with_classifier`; the text tower, and a context that all classes share, go over."""
        model = super().with_classifier(classes, labels)
        if self.classifier is not None:
            copy_texts(self.classifier, model.classifier)
        return model

    def quantize(self, *args, **kwargs) -> None:
        """As `keras.Model.quantize`; the text tower is quantized too, and text features are computed by it then."""
        super().quantize(*args, **kwargs)
        # What TensorFlow traced of it computes with the weights of before.
        _VISION.pop(self, None)

    def get_config(self) -> dict[str, Any]:
        """As `VideoClassifier.get_config`; the names of classes stand there as labels alone."""
        return {**super().get_config(), "class_names": None}


def check_text_tower(model: VitaCLIP, function: str) -> None:
    """Check that a model has a text tower, which a function needs."""
    if model._head.textual is None:
        raise ValueError(
            f"{function} needs a text tower, and the model {model.name!r} has none; build it with text_depth and load "
            "weights that have one."
        )


@builder(VitaCLIP, BUILDERS, name="vita_clip_b")
def VitaCLIPB(*args, **kwargs) -> VitaCLIP:
    """Vita-CLIP on CLIP ViT-B/16: 186.9 M parameters for 400 classes, 30.2 M of them train; 149.3 GMAC a clip.

    `class_names` are what the classes are called: `VitaCLIPB(class_names=["opening a door", "closing a door"])`.
    """
    return VitaCLIPB.build(*args, **kwargs)
