"""How to train, as plain data: the published recipes by data set, and a recipe to fine-tune with."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

import keras

from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.transforms import Compose, training_transforms
from keras_video_focalnet.models import registry
from keras_video_focalnet.training.freezing import freeze_stages
from keras_video_focalnet.training.losses import build_loss, build_metrics, gives_logits
from keras_video_focalnet.training.optimizers import (
    LayerwiseAdamW,
    Muon,
    TorchSGD,
    layerwise_multipliers,
    muon_exclusions,
)
from keras_video_focalnet.training.schedule import WarmupCosine
from keras_video_focalnet.utils.checks import check_choice, check_fraction, check_integer, check_number
from keras_video_focalnet.utils.deprecation import current_arguments, renamed_arguments

# The current name of each attribute that had another one; also of the keys in the files of earlier runs.
RENAMED = {
    "rule": "optimizer",
    "base_rate": "learning_rate",
    "warmup_rate": "warmup_learning_rate",
    "min_rate": "min_learning_rate",
    "switch": "cutmix_probability",
}

_CHANCES = ("cutmix_probability", "mix_probability", "flip", "color_jitter", "gray", "erasing")
_CHANCES += ("rand_augment_probability",)
_NOT_NEGATIVE = ("learning_rate", "warmup_learning_rate", "min_learning_rate", "weight_decay", "mixup", "cutmix")
_NOT_NEGATIVE += ("rand_augment_spread",)


@renamed_arguments(RENAMED)
@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults are those of Kinetics-400 in the Video-FocalNet paper.

    Every attribute is a plain value: `dataclasses.replace` changes some of them, and `dataclasses.asdict` gives what a
    JSON file can hold.

    Source: Table 1 and section 4.1 of the Video-FocalNet paper (Wasim et al. 2023, arXiv:2307.06947) and its published
    training runs.

    Attributes:
        optimizer: `"sgd"` (`TorchSGD`, the default), `"adamw"` (`LayerwiseAdamW`) or `"muon"` (`Muon`).
        epochs: Epochs of the run, 1 or more; 120 by default.
        warmup_epochs: Epochs, from 0 to `epochs`, over which the learning rate rises from `warmup_learning_rate` to
            `learning_rate`, see `WarmupCosine`; 20 by default.
        learning_rate: The highest learning rate, 0.1 by default.
        warmup_learning_rate: The learning rate at the start of the warm-up, 0.001 by default.
        min_learning_rate: The learning rate at the end of the run, 0.001 by default.
        rate_batch: The batch size that the three learning rates are meant for, 512 by default; with another batch size
            they are scaled in proportion. None uses them as they are with every batch size.
        momentum: Momentum of `"sgd"`, from 0 to 1; 0.9 by default.
        nesterov: Whether that momentum is Nesterov's, True by default.
        layer_decay: For `"adamw"`, the factor of the learning rate from one block to the block below it, above 0 and at
            most 1 (the default, the same rate everywhere); see `layerwise_multipliers`.
        weight_decay: Weight decay of matrices and kernels, 1e-4 by default.
        decay_vectors: Whether vectors and numbers, as the scales and shifts of a norm are, decay too; False by default.
        epsilon: For `"adamw"`, what is added to the root of the mean square of a gradient, above 0; 1e-7 by default.
        clip_norm: What the global norm of the gradient is clipped to, 5 by default; None does not clip.
        gradient_accumulation_steps: How many batches, 2 or more, make one update; None (the default) updates with every
            batch. The learning rates are scaled to the size of all batches of an update together.
        use_ema: Whether the trained weights are moving averages, which the optimizer keeps; False by default.
        ema_momentum: Momentum of these averages, from 0 to 1; 0.999 by default.
        drop_path_rate: Rate of stochastic depth to build the model with, in [0, 1). None (the default) keeps that of
            the builder, which is 0.2, 0.3 and 0.5 for T, S and B as in the published runs, where Table 1 says 0.1.
        frozen_stages: How many stages are frozen, and the stem with them, from 0 to all, see `freeze_stages`; all is a
            linear probe. None (the default) freezes nothing.
        label_smoothing: Fraction of each target that is spread evenly over all classes, in [0, 1); 0.1 by default.
        mixup: Alpha of MixUp, 0 or more; 0.8 by default.
        cutmix: Alpha of CutMix, 0 or more; 1 by default.
        cutmix_probability: Chance of CutMix instead of MixUp, from 0 to 1; 0.5 by default.
        mix_probability: Chance that a batch is mixed at all, from 0 to 1; 1 by default.
        num_frames: Frames in a clip, 8 by default. None takes as many as the model does.
        size: Height and width of a clip in pixels, 224 by default. None takes the size of the model.
        stride: None (the default) takes one frame from each of equal segments of the video; an integer takes frames
            that are so many frames apart.
        area: Smallest and largest fraction of the picture that the random crop covers, (0.08, 1) by default.
        flip: Chance to mirror a clip left to right, from 0 to 1; 0.5 by default.
        color_jitter: Chance to change the colours of a clip, from 0 to 1; 0.8 by default.
        gray: Chance to turn a clip grey, from 0 to 1; 0.2 by default.
        scale_jitter: Smallest and largest factor that scales the picture before the crop, (0.75, 1.33) by default; None
            does not scale.
        rand_augment: `(count, magnitude)` of RandAugment; None (the default) leaves it out.
        rand_augment_probability: Chance of each of its operations to be done, from 0 to 1; 1 by default.
        rand_augment_spread: Standard deviation of its magnitude, 0 or more; 0 by default.
        erasing: Chance to cover a box of the picture, from 0 to 1; 0 by default.

    Raises:
        ValueError: A value is outside its range.

    Example:
    >>> get_recipe("k400", epochs=30).set("warmup_epochs", "5").warmup_epochs
    5.0
    """

    optimizer: str = "sgd"
    epochs: int = 120
    warmup_epochs: float = 20.0
    learning_rate: float = 0.1
    warmup_learning_rate: float = 0.001
    min_learning_rate: float = 0.001
    rate_batch: int | None = 512
    momentum: float = 0.9
    nesterov: bool = True
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    clip_norm: float | None = 5.0
    gradient_accumulation_steps: int | None = None
    use_ema: bool = False
    ema_momentum: float = 0.999
    drop_path_rate: float | None = None
    frozen_stages: int | None = None
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_probability: float = 0.5
    mix_probability: float = 1.0
    num_frames: int | None = 8
    size: int | None = 224
    stride: int | None = None
    area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    color_jitter: float = 0.8
    gray: float = 0.2
    scale_jitter: tuple[float, float] | None = (0.75, 1.33)
    rand_augment: tuple[int, float] | None = None
    erasing: float = 0.0
    decay_vectors: bool = False
    epsilon: float = 1e-7
    rand_augment_probability: float = 1.0
    rand_augment_spread: float = 0.0

    def __post_init__(self):
        check_choice("optimizer", self.optimizer, ("sgd", "adamw", "muon"))
        check_integer("epochs", self.epochs, minimum=1)
        for name in ("momentum", "ema_momentum", *_CHANCES):
            check_fraction(name, getattr(self, name))
        for name in _NOT_NEGATIVE:
            check_number(name, getattr(self, name), minimum=0)
        check_number("label_smoothing", self.label_smoothing, minimum=0, below=1)
        check_number("layer_decay", self.layer_decay, above=0, maximum=1)
        check_number("epsilon", self.epsilon, above=0)
        optional = {
            "rate_batch": (check_integer, {"minimum": 1}),
            "drop_path_rate": (check_number, {"minimum": 0, "below": 1}),
            "frozen_stages": (check_integer, {"minimum": 0}),
            "gradient_accumulation_steps": (check_integer, {"minimum": 2}),
        }
        for name, (check, limits) in optional.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name), **limits)
        remedy = "it must not exceed epochs: shorten the warm-up too"
        check_number("warmup_epochs", self.warmup_epochs, minimum=0, maximum=self.epochs, remedy=remedy)

    @property
    def sampling(self) -> tuple[str, int] | None:
        """Which frames make a clip, as `ClipDataset` takes it: None, or `("dense", stride)`."""
        return None if self.stride is None else ("dense", self.stride)

    def transforms(self, size: int | tuple[int, int]) -> Compose:
        """Make the transforms of a training clip, see `training_transforms`: a function from a uint8 clip `(frames,
        height, width, 3)` and a `numpy.random.Generator` to a uint8 clip of `size`, pixels or `(height, width)`.
        """
        names = ("area", "flip", "color_jitter", "gray", "scale_jitter", "rand_augment", "erasing")
        names += ("rand_augment_probability", "rand_augment_spread")
        return training_transforms(size, **{name: getattr(self, name) for name in names})

    def mixing(self, classes: int, multi_label: bool = False) -> Mixing:
        """Make the mixing of a training batch, which also turns labels into smoothed targets of so many classes."""
        chances = self.cutmix_probability, self.mix_probability
        return Mixing(classes, self.mixup, self.cutmix, *chances, self.label_smoothing, multi_label)

    def build_optimizer(self, model: keras.Model, steps_per_epoch: int, batch_size: int) -> keras.optimizers.Optimizer:
        """Make the Keras optimizer with its schedule; it scales the loss where a layer computes in float16.

        Args:
            model: The model to train.
            steps_per_epoch: Batches in an epoch.
            batch_size: Clips in a batch, of all processes together.
        """
        clips = batch_size * (self.gradient_accumulation_steps or 1)
        scale = 1.0 if self.rate_batch is None else clips / self.rate_batch
        schedule = WarmupCosine(
            self.learning_rate * scale,
            total_steps=self.epochs * steps_per_epoch,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            warmup_learning_rate=self.warmup_learning_rate * scale,
            min_learning_rate=self.min_learning_rate * scale,
        )
        common = {
            "weight_decay": self.weight_decay,
            "decay_vectors": self.decay_vectors,
            "global_clipnorm": self.clip_norm,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        if self.optimizer == "sgd":
            optimizer = TorchSGD(schedule, momentum=self.momentum, nesterov=self.nesterov, **common)
        elif self.optimizer == "muon":
            optimizer = Muon(schedule, exclude_layers=muon_exclusions(model), **common)
        else:
            common |= {"multipliers": layerwise_multipliers(model, self.layer_decay), "epsilon": self.epsilon}
            optimizer = LayerwiseAdamW(schedule, **common)
        # Keras looks at the dtype policy of the model, which need not be that of its layers.
        in_half_precision = any(layer.compute_dtype == "float16" for layer in model.layers)
        return keras.optimizers.LossScaleOptimizer(optimizer) if in_half_precision else optimizer

    def compile(
        self,
        model: keras.Model,
        steps_per_epoch: int,
        batch_size: int,
        jit_compile: bool | str = "auto",
        multi_label: bool = False,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        """Freeze what the recipe freezes, and compile a classifier with its loss and metrics.

        With one label a clip these are the categorical cross-entropy, top-1 and top-5 accuracy. With several they are
        the binary cross-entropy of each label and, averaged over the labels, the average precision (area under the
        curve of precision and recall) and the area under the ROC curve, both by 200 thresholds; a label that no clip
        has counts as 0 in them.

        Targets are float `(batch, classes)`. The optimizer's state is made here, for the weights that are trainable at
        this moment; compile again after changing which they are.

        Args:
            model: A built model from clips to `(batch, classes)`, logits or softmax, with `multi_label` logits or
                sigmoid; another one raises a ValueError.
            steps_per_epoch: Batches in an epoch.
            batch_size: Clips in a batch, of all processes together.
            jit_compile: As `keras.Model.compile` takes it; `"auto"` by default.
            multi_label: Whether a clip can have several labels, False by default.
            class_weights: A weight of each class in the loss of training, see `ClassWeightedCrossentropy`; metrics and
                the loss of validation are without it. None, the default, weighs all alike.

        Example:
        >>> model = VideoFocalNetNano(weights=None, classes=4)
        >>> get_recipe("finetune").compile(model, steps_per_epoch=100, batch_size=8)
        >>> type(model.optimizer).__name__
        'LayerwiseAdamW'
        """
        from_logits = gives_logits(model, multi_label)
        classes = model.output_shape[-1]
        if class_weights is not None and len(class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(class_weights)} weights but the model {classes} classes; pass one each."
            )
        if self.frozen_stages is not None:
            freeze_stages(model, self.frozen_stages)
        model.compile(
            optimizer=self.build_optimizer(model, steps_per_epoch, batch_size),
            loss=build_loss(from_logits, multi_label, class_weights),
            weighted_metrics=build_metrics(classes, from_logits, multi_label),
            jit_compile=jit_compile,
        )
        # Variables made in the first step would have TensorFlow trace that step twice.
        model.optimizer.build(model.trainable_variables)

    def set(self, name: str, text: str) -> "Recipe":
        """Return the recipe with one attribute changed by a text, as on a command line.

        The text is a number, a name, `"true"` or `"false"`, two numbers such as `"0.5,1"`, or `"none"` where that is
        allowed. A ValueError tells that there is no such attribute, or that the text is no such value.

        Example:
        >>> get_recipe("finetune").set("area", "0.3,1").area
        (0.3, 1.0)
        """
        (name,) = current_arguments({name: text}, RENAMED)
        _check_names([name])
        return dataclasses.replace(self, **{name: _parse(name, typing.get_type_hints(Recipe)[name], text)})


FINETUNE = "finetune"

# For some hundred to some ten thousand videos of any kind and few epochs. A flip turns left into right and a small crop
# slow into fast, and the classes may differ in just that; mixing pays only in long training.
_FINE_TUNING: dict[str, Any] = {
    "optimizer": "adamw",
    "epochs": 20,
    "warmup_epochs": 0.5,
    "learning_rate": 2e-3,
    "warmup_learning_rate": 1e-6,
    "min_learning_rate": 1e-6,
    "rate_batch": None,
    "layer_decay": 0.75,
    "weight_decay": 0.05,
    "mix_probability": 0.0,
    "num_frames": None,
    "size": None,
    "area": (0.5, 1.0),
    "flip": 0.0,
    "scale_jitter": None,
}


def get_recipe(name: str, architecture: str | None = None, **changes: Any) -> Recipe:
    """Find a recipe by its name.

    `"finetune"` is for videos of your own and for any architecture. Each family of architectures has the recipes of its
    paper, by data set: `"k400"`, `"k600"`, `"ssv2"`, `"diving48"` and `"activitynet"` are those of the Video-FocalNet
    paper (Table 1), of which the first two start from ImageNet weights and the others from Kinetics-400 weights. A
    name that several families have is the first one's, unless `architecture` says whose is meant.

    Args:
        name: One of these names, or another name of the data set, see `find_data_set`.
        architecture: Any name of a builder, whose family's recipes come first; None, the default, takes the first
            family that has such a recipe.
        **changes: Attributes of `Recipe` to change.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: There is no such recipe or attribute, or a value is outside its range.

    Example:
    >>> get_recipe("Something-Something-v2").flip, get_recipe("finetune", epochs=6).epochs
    (0.0, 6)
    """
    values = _FINE_TUNING if name == FINETUNE else registry.find_recipe(name, architecture)
    if values is None:
        known = dict.fromkeys((FINETUNE, *(key for family in registry.families() for key in family.recipes)))
        raise ValueError(f"recipe={name!r} is not known; use one of {', '.join(map(repr, known))}.")
    changes = current_arguments(changes, RENAMED)
    _check_names(changes)
    return Recipe(**{**values, **changes})


def _check_names(names: typing.Iterable[str]) -> None:
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in names:
        if name not in known:
            raise ValueError(f"a recipe has no attribute {name!r}; it has {', '.join(known)}.")


def _parse(name: str, kind: Any, text: str) -> Any:
    """Read a value of a type, such as `float | None`, from text."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if types.NoneType in kinds and text.strip().lower() == "none":
        return None
    try:
        return _value(kinds[0], text.strip())
    except ValueError:
        expected = " or ".join(map(_description, kinds))
        raise ValueError(f"{name} must be {expected}, received {text!r}.") from None


def _value(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        parts = zip(typing.get_args(kind), text.split(","), strict=True)
        return tuple(_value(item, part.strip()) for item, part in parts)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError
    return value


def _description(kind: Any) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a name", types.NoneType: "none"}
    return names.get(kind, "two numbers, such as 0.5,1")
