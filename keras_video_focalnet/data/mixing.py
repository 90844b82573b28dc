"""MixUp and CutMix on batches of clips."""

import dataclasses

import numpy as np

from keras_video_focalnet.utils.checks import check_fraction, check_integer, check_number
from keras_video_focalnet.utils.deprecation import renamed_arguments


@renamed_arguments({"switch": "cutmix_probability"})
@dataclasses.dataclass(frozen=True)
class Mixing:
    """MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019) and label smoothing of a batch of clips.

    With chance `probability` a batch is mixed with itself in reverse order, by one `ratio` that is drawn from
    Beta(alpha, alpha). MixUp gives `ratio * clip + (1 - ratio) * partner`, rounded to the nearest integer (halves to
    even). CutMix pastes a box of the partner, the same box in all frames; its sides are `sqrt(1 - ratio)` of those of
    the picture, and its centre is drawn evenly. Where the edge of the picture cuts the box, `ratio` becomes the
    fraction of the picture that the box leaves. Targets are the smoothed labels of both clips, mixed by `ratio`;
    without mixing they are the smoothed labels. Where clips have several labels, each label is a target of its own,
    from 0 to 1, that is mixed and smoothed alone: 1 becomes `1 - label_smoothing / 2`, and 0 `label_smoothing / 2`.

    Args:
        classes: Number of classes, an integer >= 1.
        mixup: Alpha of MixUp, 0 or more; 0 leaves it out. The default, 0.8, is that of Table 1 of the Video-FocalNet
            paper (Wasim et al. 2023).
        cutmix: Alpha of CutMix, 0 or more, 1 by default; 0 leaves it out.
        cutmix_probability: Chance of CutMix instead of MixUp where neither is left out, from 0 to 1; 0.5 by
            default.
        probability: Chance that a batch is mixed at all, from 0 to 1; 1 by default.
        label_smoothing: Fraction of the target that is spread evenly over all classes, or with several labels over yes
            and no of each label; at least 0 and below 1; 0.1 by default.
        multi_label: Whether clips can have several labels, False by default.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clips = rng.integers(0, 256, (2, 8, 32, 32, 3), dtype=np.uint8)
        >>> mixed, targets = Mixing(classes=3)(clips, np.array([0, 2]), rng)
        >>> mixed.shape, targets.shape, targets.sum(-1).tolist()
        ((2, 8, 32, 32, 3), (2, 3), [1.0, 1.0])
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_probability: float = 0.5
    probability: float = 1.0
    label_smoothing: float = 0.1
    multi_label: bool = False

    def __post_init__(self):
        check_integer("classes", self.classes, minimum=1, remedy="pass the number of classes of the model")
        for name in ("mixup", "cutmix"):
            check_number(name, getattr(self, name), minimum=0)
        check_fraction("cutmix_probability", self.cutmix_probability)
        check_fraction("probability", self.probability)
        check_number("label_smoothing", self.label_smoothing, minimum=0, below=1)

    def __call__(
        self, clips: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix clips, and make their targets.

        Args:
            clips: uint8 array `(batch, frames, height, width, 3)`, of any batch size. It is not written to.
            labels: Integer array `(batch,)`, each in `[0, classes)`; with `multi_label` array `(batch, classes)` of 0
                and 1.
            rng: `numpy.random.Generator`; the result is a function of the batch and of it alone.

        Returns:
            `(clips, targets)`: uint8 of the same shape, and float32 `(batch, classes)` whose rows sum to 1; with
            `multi_label` each target lies between 0 and 1.

        Raises:
            ValueError: The clips or the labels are of another shape or type, or a label is out of range.
        """
        shape, dtype = np.shape(clips), getattr(clips, "dtype", None)
        if len(shape) != 5 or shape[-1] != 3 or dtype != np.uint8:
            raise ValueError(
                f"clips must be a uint8 array (batch, frames, height, width, 3), received shape {shape}, dtype {dtype}."
            )
        return self._mixed(clips, self._targets(labels, len(clips)), rng)

    def mix_targets(
        self, clips: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix clips whose labels are targets already, float `(batch, classes)`, each row a share of every class.

        Gives what a call with the labels themselves gives; a row of zeros is left as one, and has no loss.
        """
        if self.multi_label:
            targets = targets * np.float32(1 - self.label_smoothing) + np.float32(self.label_smoothing / 2)
        else:
            spread = targets.sum(axis=-1, keepdims=True) * np.float32(self.label_smoothing / self.classes)
            targets = targets * np.float32(1 - self.label_smoothing) + spread
        return self._mixed(clips, targets.astype(np.float32), rng)

    @property
    def changes_clips(self) -> bool:
        """Whether a batch can be mixed at all, rather than only have its labels smoothed."""
        return self.probability > 0 and bool(self.mixup or self.cutmix)

    def _mixed(self, clips: np.ndarray, targets: np.ndarray, rng: np.random.Generator):
        if rng.random() >= self.probability or not (self.mixup or self.cutmix):
            return clips, targets
        cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.cutmix_probability)
        alpha = self.cutmix if cut else self.mixup
        ratio = rng.beta(alpha, alpha)
        clips, ratio = _paste_box(clips, ratio, rng) if cut else (_blend(clips, ratio), ratio)
        return clips, (ratio * targets + (1 - ratio) * targets[::-1]).astype(np.float32)

    def _targets(self, labels: np.ndarray, batch: int) -> np.ndarray:
        labels = np.asarray(labels)
        if self.multi_label:
            return self._several_targets(labels, batch)
        if labels.shape != (batch,) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels must be ({batch},) integers, one for each clip, received shape {labels.shape}, "
                f"dtype {labels.dtype}."
            )
        if batch and not 0 <= labels.min() <= labels.max() < self.classes:
            raise ValueError(
                f"labels run from {labels.min()} to {labels.max()}, but classes={self.classes} allows 0 to "
                f"{self.classes - 1}; pass the number of classes of the data set."
            )
        targets = np.full((batch, self.classes), self.label_smoothing / self.classes, np.float32)
        targets[np.arange(batch), labels] += 1 - self.label_smoothing
        return targets

    def _several_targets(self, labels: np.ndarray, batch: int) -> np.ndarray:
        if labels.shape != (batch, self.classes) or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"labels must be ({batch}, {self.classes}) of 0 and 1 for multi_label=True, received shape "
                f"{labels.shape}, dtype {labels.dtype}."
            )
        return (labels * (1 - self.label_smoothing) + self.label_smoothing / 2).astype(np.float32)


def _blend(clips: np.ndarray, ratio: float) -> np.ndarray:
    """Mix every clip with its partner by MixUp."""
    mixed = np.empty_like(clips)
    own, other = np.float32(ratio), np.float32(1 - ratio)
    # One clip at a time, because the floats of an entire batch would take four times its memory.
    for clip, partner, result in zip(clips, clips[::-1], mixed, strict=True):
        np.rint(own * clip + other * partner, out=result, casting="unsafe")
    return mixed


def _paste_box(clips: np.ndarray, ratio: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Mix every clip with its partner by CutMix; return also the fraction of itself that each clip keeps."""
    height, width = clips.shape[2:4]
    rows, columns = (round(side * np.sqrt(1 - ratio)) for side in (height, width))
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = np.clip((y - rows // 2, y - rows // 2 + rows), 0, height)
    left, right = np.clip((x - columns // 2, x - columns // 2 + columns), 0, width)
    mixed = clips.copy()
    mixed[:, :, top:bottom, left:right] = clips[::-1, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
