"""What a run trains on: names of videos become data sets, and whatever makes the clips, the recipe is applied whole."""

import numbers
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.data.batch_source import BatchSource
from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.data.datasets import VideoList, video_list
from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.order import MIX
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.transforms import CenterCrop
from keras_video_focalnet.models.network import find_networks
from keras_video_focalnet.models.preprocessing import IMAGENET
from keras_video_focalnet.training.distribution import Distribution
from keras_video_focalnet.training.recipe import Recipe

Videos = BatchSource | VideoList | str | os.PathLike


def find_videos(config: dict[str, Any], training: Videos | None, validation: Videos | float | None) -> tuple[Any, Any]:
    """Read the videos that names, or else the configuration, tell of; what is a list or a data set stays what it is."""
    root, several = config["root"], bool(config["multi_label"])
    if training is None:
        training = config["data"]
    if training is None:
        raise ValueError("training is missing; pass videos (--data): a folder, a list file, a VideoList or a data set.")
    if validation is None:
        validation = config["val_split"] or config["val"] or (config["val_rows"] and config["data"])
    if isinstance(training, (str, os.PathLike)):
        training = video_list(training, root, multi_label=several, split=config["train_rows"])
    if isinstance(validation, numbers.Real):
        if not isinstance(training, VideoList):
            raise ValueError(
                f"validation={validation} holds videos of a folder or a list out, but training is a data set; pass "
                "another for validation."
            )
        training, validation = training.split(float(validation), config["seed"])
    elif isinstance(validation, (str, os.PathLike)):
        names = class_names(training)
        if names is None:
            raise ValueError(f"validation={str(validation)!r} needs training videos with names of classes; pass both.")
        several = bool(getattr(training, "multi_label", False))
        validation = video_list(validation, root, names, several, config["val_rows"])
    _check_classes(training, validation)
    return training, validation


def class_names(videos: BatchSource | VideoList) -> tuple[str, ...] | None:
    """The names of the classes of videos, or None where the source does not tell them."""
    return getattr(getattr(videos, "videos", videos), "class_names", None)


def _check_classes(training, validation):
    names = class_names(training)
    if names is None:
        return
    records = getattr(training, "videos", training)
    labels = {record.label for record in records}
    if not training.multi_label and len(labels) < 2:
        raise ValueError(
            f"the training videos are all of one class, {names[min(labels)]!r}; there is nothing to tell apart: give "
            "videos of two classes or more."
        )
    others = None if validation is None else class_names(validation)
    if others is not None and others != names:
        raise ValueError(
            f"the classes of the validation videos ({_some(others)}) are not those of the training videos "
            f"({_some(names)}), or in another order; pass class_names=training.class_names to video_list."
        )


def check_model(model: keras.Model, recipe: Recipe, training: BatchSource | VideoList) -> None:
    """Raise where the model cannot tell the classes of the videos apart, or is not built as the recipe says."""
    names, labels, classes = class_names(training), getattr(model, "labels", None), model.output_shape[-1]
    if classes == 1 and not getattr(training, "multi_label", False):
        raise ValueError("the model has one class, and nothing to tell apart; build it with two classes or more.")
    if names is not None and classes != len(names):
        raise ValueError(
            f"the model has {classes} classes but the videos have {len(names)} ({_some(names)}); build it with "
            "classes=len(videos.class_names), labels=videos.class_names."
        )
    if names is not None and labels is not None and tuple(labels) != names:
        raise ValueError(
            f"the model's labels ({_some(labels)}) are not the classes of the videos ({_some(names)}), or in another "
            "order; build it with labels=videos.class_names."
        )
    rate = getattr(model, "drop_path_rate", None)
    if recipe.drop_path_rate is not None and rate != recipe.drop_path_rate:
        has = "no stochastic depth" if rate is None else f"drop_path_rate={rate}"
        raise ValueError(
            f"the recipe has drop_path_rate={recipe.drop_path_rate} but the model has {has}; build it so, or change "
            "the recipe."
        )


def _some(names):
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def make_source(
    videos: BatchSource | VideoList,
    model: keras.Model,
    config: dict[str, Any],
    distribution: Distribution,
    **options: Any,
) -> BatchSource:
    """Make the data set of listed videos for a model; `options` are of `ClipDataset`. A source stays what it is."""
    if not isinstance(videos, VideoList):
        return videos
    frames, height, width, _ = _clip_shape(model)
    if None in (frames, height, width):
        raise ValueError(
            f"the model {model.name!r} takes clips of any size; pass a ClipDataset with num_frames= and size=."
        )
    shard = distribution.process_index, distribution.process_count
    options |= {name: config[name] for name in ("batch_size", "seed", "workers", "max_broken")}
    return ClipDataset(videos, num_frames=frames, size=(height, width), shard=shard, **options)


def complete_training(source: BatchSource, model: keras.Model, recipe: Recipe, seed: int) -> BatchSource:
    """Have training batches be what the recipe wants, in all that their source leaves open."""
    mixing = recipe.mixing(model.output_shape[-1], bool(getattr(source, "multi_label", False)))
    if not isinstance(source, ClipDataset):
        mixes = hasattr(source, "mixing") or not (mixing.label_smoothing or mixing.changes_clips)
        return source if mixes else MixedBatches(source, mixing, seed)
    _check_clip(source, model)
    transform = recipe.transforms(source.clip_shape[1:3])
    source = source.completed(transform=transform, mixing=mixing, sampling=recipe.sampling)
    _check_choices(source, transform, mixing, recipe)
    return source


def complete_validation(source: BatchSource, model: keras.Model, recipe: Recipe) -> BatchSource:
    """Have validation clips be sampled as the recipe wants, and resized and cropped by the rule of the model."""
    if not isinstance(source, ClipDataset):
        return source
    _check_clip(source, model)
    rules = [network.preprocessing for network in find_networks(model)] or [IMAGENET]
    crop = CenterCrop(source.clip_shape[1:3], **rules[0].resize_rule)
    return source.completed(transform=crop, sampling=recipe.sampling)


def prepared(source: BatchSource, model: keras.Model) -> BatchSource:
    """Have the clips of a data set be in the range that the model takes, as `read_clip(..., like=model)` gives them.

    Data sets give pixels of 0 to 255, which most models prepare themselves. The clips of another source are as its
    maker wants the model to see them.
    """
    prepare = clip_rule(model).prepare if isinstance(source, ClipDataset) else None
    return source if prepare is None else PreparedBatches(source, prepare)


def _clip_shape(model):
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 5:
        raise ValueError(f"the model {model.name!r} takes {shape}; videos need (batch, frames, height, width, 3).")
    return shape[1:]


def _check_clip(videos, model):
    wanted = _clip_shape(model)
    if any(side not in (None, given) for side, given in zip(wanted, videos.clip_shape, strict=True)):
        raise ValueError(
            f"the clips are {videos.clip_shape} (frames, height, width, channels), and the model takes {wanted}; pass "
            f"num_frames={wanted[0]}, size={wanted[1:3]} to ClipDataset."
        )


def _check_choices(videos, transform, mixing, recipe):
    """The data set's own choices: what a recipe can say it must say, and what it cannot is told."""
    if videos.sampling is not None and tuple(videos.sampling) != recipe.sampling:
        raise ValueError(
            f"the clips have sampling={videos.sampling!r} but the recipe has stride={recipe.stride}; set the stride of "
            "the recipe, and leave sampling out."
        )
    if isinstance(videos.mixing, Mixing) and videos.mixing != mixing:
        raise ValueError(
            f"the clips have {videos.mixing}, but the recipe asks for {mixing}; set label_smoothing, mixup, cutmix, "
            "cutmix_probability and mix_probability of the recipe, and leave mixing out."
        )
    for name, own, wanted in (("transform", videos.transform, transform), ("mixing", videos.mixing, mixing)):
        if own != wanted:
            warnings.warn(
                f"the clips have a {name} of their own, which is used in place of the recipe's.", stacklevel=4
            )


class _Wrapped:
    """A source of batches in whose place another stands; what that does not change is the source's."""

    def __init__(self, source: BatchSource):
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name == "_source":  # A copy is asked for it before it has it.
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)


class PreparedBatches(_Wrapped):
    """The batches of a data set with clips in the range that a model takes, float32."""

    def __init__(self, source: ClipDataset, prepare: Callable[[np.ndarray], np.ndarray]):
        super().__init__(source)
        self._prepare = prepare

    def batches(self, first: int = 0) -> Any:
        """The batches from a number on, which can be read again."""
        return self._source.batches(first).map(lambda batch: (self._prepare(batch[0]), *batch[1:]))


class MixedBatches(_Wrapped):
    """The batches of a source, mixed and with smoothed labels as a recipe says."""

    def __init__(self, source: BatchSource, mixing: Mixing, seed: int):
        super().__init__(source)
        self.mixing = mixing
        self._seed = seed

    def batches(self, first: int = 0) -> Iterator[tuple]:
        """The batches from a number on."""
        for number, (clips, targets, *weights) in enumerate(self._source.batches(first), first):
            if self.mixing.changes_clips and getattr(clips, "dtype", None) != np.uint8:
                raise ValueError(
                    "the recipe mixes clips, which must be NumPy arrays of uint8; give such clips, set "
                    "mix_probability=0 in the recipe, or give the source an attribute `mixing` if it mixes them itself."
                )
            rng = np.random.default_rng([self._seed, MIX, number])
            yield *self.mixing.mix_targets(clips, np.asarray(targets), rng), *weights
