"""How to train, as data: the paper's Table 1 for each data set, and a recipe to fine-tune with."""

import dataclasses
import math
import re
import types
import typing

import keras

from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.transforms import training_transforms
from keras_video_focalnet.labels import find_data_set
from keras_video_focalnet.layers.validation import choice
from keras_video_focalnet.models.arguments import whole
from keras_video_focalnet.training.freezing import freeze_stages
from keras_video_focalnet.training.optimizers import (
    STEM_AND_CLASSIFIER,
    LayerwiseAdamW,
    Muon,
    TorchSGD,
    layerwise_multipliers,
)
from keras_video_focalnet.training.schedule import WarmupCosine

CROSS_ENTROPY = "cross_entropy"
SHARES = ("momentum", "ema_momentum", "switch", "mix_probability", "flip", "color_jitter", "gray", "erasing")
NOT_NEGATIVE = ("base_rate", "warmup_rate", "min_rate", "weight_decay", "mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults are those of Kinetics-400 (paper Table 1, section 4.1; golden README).

    Everything is a plain value: `dataclasses.replace` changes some, `dataclasses.asdict` gives what JSON can hold.

    Attributes:
        rule: `"sgd"` (`TorchSGD`), `"adamw"` (`LayerwiseAdamW`) or `"muon"` (`Muon`).
        epochs: int >= 1.
        warmup_epochs: float from 0 to `epochs`, over which the rate rises from `warmup_rate` to `base_rate`; see
            `WarmupCosine`.
        base_rate: float, the highest learning rate.
        warmup_rate: float, the first rate.
        min_rate: float, the last rate.
        rate_batch: int or None, the batch that the three rates are for; with another one they are scaled in proportion.
            None: they hold for every batch.
        momentum: float in [0, 1], Nesterov's, of `"sgd"`.
        layer_decay: float in (0, 1], of `"adamw"`: see `layerwise_multipliers`.
        weight_decay: float, of matrices and kernels.
        clip_norm: float or None, what the gradient's global norm is clipped to.
        gradient_accumulation_steps: int or None, batches an update, 2 or more; a batch for the rates is all of them.
        use_ema: bool, whether the optimizer keeps moving averages of the weights; they are the trained weights.
        ema_momentum: float in [0, 1].
        drop_path_rate: float or None, stochastic depth to build the model with; None: what the builder has, which is
            0.2, 0.3 and 0.5 for T, S and B as in the published runs (the paper's table says 0.1).
        frozen_stages: int from 0 to 4 or None, see `freeze_stages`; 4 is a linear probe, None freezes nothing.
        label_smoothing: float in [0, 1).
        mixup: float >= 0, alpha of MixUp.
        cutmix: float >= 0, alpha of CutMix.
        switch: float in [0, 1], chance of CutMix instead of MixUp.
        mix_probability: float in [0, 1], chance that a batch is mixed.
        num_frames: int, frames in a clip; None: as many as the model takes.
        size: int, height and width of a clip in pixels; None: as the model takes.
        stride: int or None; None takes a frame of each of equal segments of the video, an int takes frames that are so
            far apart.
        area: least and greatest share of the picture that the random crop takes.
        flip: float in [0, 1], chance to mirror a clip left to right.
        color_jitter: float in [0, 1], chance to change the colours.
        gray: float in [0, 1], chance to lose the colours.
        scale_jitter: least and greatest factor of the size before the crop, or None.
        rand_augment: `(count, magnitude)` of RandAugment, or None.
        erasing: float in [0, 1], chance to cover a box.

    Raises:
        ValueError: a value is outside its range.

    Example:
    >>> recipe("k400", epochs=30).set("warmup_epochs", "5").warmup_epochs
    5.0
    """

    rule: str = "sgd"
    epochs: int = 120
    warmup_epochs: float = 20.0
    base_rate: float = 0.1
    warmup_rate: float = 0.001
    min_rate: float = 0.001
    rate_batch: int | None = 512
    momentum: float = 0.9
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
    switch: float = 0.5
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

    def __post_init__(self):
        choice("rule", self.rule, ("sgd", "adamw", "muon"))
        whole("epochs", self.epochs, 1)
        if self.rate_batch is not None:
            whole("rate_batch", self.rate_batch, 1)
        for name in SHARES:
            self._check(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in NOT_NEGATIVE:
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._check("layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1")
        self._check("drop_path_rate", self.drop_path_rate is None or 0 <= self.drop_path_rate < 1, "None or in [0, 1)")
        self._check("frozen_stages", self.frozen_stages is None or self.frozen_stages in range(5), "None or 0 to 4")
        steps = self.gradient_accumulation_steps
        self._check("gradient_accumulation_steps", steps is None or steps >= 2, "None or 2 or more")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must be from 0 to epochs={self.epochs}, received {self.warmup_epochs!r}; shorten the "
                "warm-up too."
            )

    def _check(self, name, right, what):
        if not right:
            raise ValueError(f"{name} must be {what}, received {getattr(self, name)!r}.")

    @property
    def sampling(self):
        """Which frames make a clip, as `ClipDataset` takes it: None, or `("dense", stride)`."""
        return None if self.stride is None else ("dense", self.stride)

    def transforms(self, size):
        """Make the transforms of a training clip.

        Args:
            size: int or `(height, width)`, pixels.

        Returns:
            Function `(clip, rng) -> clip`, see `training_transforms`.
        """
        names = ("area", "flip", "color_jitter", "gray", "scale_jitter", "rand_augment", "erasing")
        return training_transforms(size, **{name: getattr(self, name) for name in names})

    def mixing(self, classes):
        """Make the mixing of a training batch, which also turns labels into smoothed targets.

        Args:
            classes: int.

        Returns:
            A `Mixing`.
        """
        return Mixing(classes, self.mixup, self.cutmix, self.switch, self.mix_probability, self.label_smoothing)

    def optimizer(self, model, steps_per_epoch, batch_size):
        """Make the optimizer with its schedule.

        Args:
            model: the model to train; a layer that computes in float16 calls for loss scaling.
            steps_per_epoch: int, batches in an epoch.
            batch_size: int, clips in a batch, of all processes together.

        Returns:
            A Keras optimizer.
        """
        clips = batch_size * (self.gradient_accumulation_steps or 1)
        scale = 1.0 if self.rate_batch is None else clips / self.rate_batch
        schedule = WarmupCosine(
            self.base_rate * scale,
            total_steps=self.epochs * steps_per_epoch,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            warmup_rate=self.warmup_rate * scale,
            min_rate=self.min_rate * scale,
        )
        common = {
            "weight_decay": self.weight_decay,
            "global_clipnorm": self.clip_norm,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        if self.rule == "sgd":
            optimizer = TorchSGD(schedule, momentum=self.momentum, nesterov=True, **common)
        elif self.rule == "muon":
            # By its place: a softmax may stand behind it, and it may have any name.
            classifier = next(layer for layer in reversed(model.layers) if layer.trainable_weights).name
            excluded = [*STEM_AND_CLASSIFIER, rf"(^|/){re.escape(classifier)}/"]
            optimizer = Muon(schedule, exclude_layers=excluded, **common)
        else:
            optimizer = LayerwiseAdamW(schedule, multipliers=layerwise_multipliers(model, self.layer_decay), **common)
        # Keras sees the policy of the model, which need not be that of its layers.
        in_half = any(layer.compute_dtype == "float16" for layer in model.layers)
        return keras.optimizers.LossScaleOptimizer(optimizer) if in_half else optimizer

    def compile(self, model, steps_per_epoch, batch_size, jit_compile="auto"):
        """Freeze what the recipe freezes, and compile a classifier: for targets `(batch, classes)`, top-1 and top-5.

        The optimizer's state is made here, for the weights that are trainable now; compile again after a change.

        Args:
            model: a built model from clips to `(batch, classes)`, logits or softmax.
            steps_per_epoch: int, batches in an epoch.
            batch_size: int, clips in a batch, of all processes together.
            jit_compile: of `keras.Model.compile`.

        Raises:
            ValueError: the model ends in no classifier.

        Example:
        >>> model = VideoFocalNetNano(weights=None, classes=4)
        >>> recipe("finetune").compile(model, steps_per_epoch=100, batch_size=8)
        >>> type(model.optimizer).__name__
        'LayerwiseAdamW'
        """
        from_logits = _gives_logits(model)
        if self.frozen_stages is not None:
            freeze_stages(model, self.frozen_stages)
        top5 = keras.metrics.TopKCategoricalAccuracy(min(5, model.output_shape[-1]), name="top5")
        model.compile(
            optimizer=self.optimizer(model, steps_per_epoch, batch_size),
            loss=keras.losses.CategoricalCrossentropy(from_logits=from_logits),
            weighted_metrics=[
                keras.metrics.CategoricalAccuracy(name="top1"),
                top5,
                # The loss itself is a mean over all rows, those of weight 0 too.
                keras.metrics.CategoricalCrossentropy(name=CROSS_ENTROPY, from_logits=from_logits),
            ],
            jit_compile=jit_compile,
        )
        # Variables made in the first step would have TensorFlow trace that step twice (Nano: 17 s in place of 10).
        model.optimizer.build(model.trainable_variables)

    def set(self, name, text):
        """Change a value that is given as text, as on a command line.

        Args:
            name: str, one of the attributes.
            text: str; for a pair `"0.5,1"`, for nothing `"none"` where that is allowed.

        Returns:
            The changed recipe.

        Raises:
            ValueError: there is no such attribute, or the text is no such value.

        Example:
        >>> recipe("finetune").set("area", "0.3,1").area
        (0.3, 1.0)
        """
        _check_names([name])
        return dataclasses.replace(self, **{name: _parse(name, typing.get_type_hints(Recipe)[name], text)})


_DATA_SETS = {
    "k400": Recipe(),
    "k600": Recipe(),
    # No flip (Table 1, section 4.1), in the first two of which classes tell left from right.
    "ssv2": Recipe(flip=0.0),
    "diving48": Recipe(flip=0.0),
    "activitynet": Recipe(flip=0.0),
}
# Of ours, for some hundred to some ten thousand videos and few epochs. A flip turns left into right, a small crop slow
# into fast, and classes may differ in just that; mixing wants long training.
_FINE_TUNING = Recipe(
    rule="adamw",
    epochs=20,
    warmup_epochs=0.5,
    base_rate=2e-3,
    warmup_rate=1e-6,
    min_rate=1e-6,
    rate_batch=None,
    layer_decay=0.75,
    weight_decay=0.05,
    mix_probability=0.0,
    num_frames=None,
    size=None,
    area=(0.5, 1.0),
    flip=0.0,
    scale_jitter=None,
)
RECIPES = {**_DATA_SETS, "finetune": _FINE_TUNING}


def recipe(name, **changes):
    """Find a recipe.

    `"k400"`, `"k600"`, `"ssv2"`, `"diving48"` and `"activitynet"` are the paper's (Table 1): the first two start from
    ImageNet weights, the others from Kinetics-400's (section 4.1). `"finetune"` is for videos of your own.

    Args:
        name: str, one of these or another name of the data set, see `find_data_set`.
        **changes: attributes of `Recipe` to change.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: there is no such recipe or attribute, or a value is outside its range.

    Example:
    >>> recipe("Something-Something-v2").flip, recipe("finetune", epochs=6).epochs
    (0.0, 6)
    """
    key = name if name in RECIPES else find_data_set(name)
    if key not in RECIPES:
        raise ValueError(f"recipe={name!r} is not known; use one of {', '.join(map(repr, RECIPES))}.")
    _check_names(changes)
    return dataclasses.replace(RECIPES[key], **changes)


def _check_names(names):
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in names:
        if name not in known:
            raise ValueError(f"a recipe has no attribute {name!r}; it has {', '.join(known)}.")


def _parse(name, kind, text):
    """A value of that type from text."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if types.NoneType in kinds and text.strip().lower() == "none":
        return None
    try:
        return _value(kinds[0], text.strip())
    except ValueError:
        described = [_described(item) for item in kinds]
        raise ValueError(f"{name} must be {' or '.join(described)}, received {text!r}.") from None


def _value(kind, text):
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


def _described(kind):
    plain = {int: "an integer", float: "a number", bool: "true or false", str: "a name", types.NoneType: "none"}
    return plain.get(kind, "two numbers, such as 0.5,1")


def _gives_logits(model):
    """Whether the scores of a classifier are logits; otherwise they are a softmax."""
    activation = getattr(model.layers[-1], "activation", None)
    if activation not in (keras.activations.linear, keras.activations.softmax):
        raise ValueError(
            f"the model {model.name!r} ends in the layer {model.layers[-1].name!r}, which is no classifier with a "
            "softmax or without an activation; build it with include_top=True, or add a keras.layers.Dense(classes)."
        )
    return activation is keras.activations.linear
