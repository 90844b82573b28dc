"""MixUp and CutMix on batches of clips."""

import dataclasses

import numpy as np

from keras_video_focalnet.data.clip_transform import check_share
from keras_video_focalnet.data.sampling import _positive


@dataclasses.dataclass(frozen=True)
class Mixing:
    """MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019) and label smoothing of a batch of clips.

    With chance `probability` a batch is mixed, with one draw: clip i with clip -i of the batch reversed. MixUp gives
    `share * clip + (1 - share) * partner`, rounded to the nearest whole number (halves to even). CutMix pastes a box of
    the partner, the same box in all frames; its sides are `sqrt(1 - share)` of the picture's about a centre drawn
    evenly, and where the picture's edge cuts it, `share` is corrected to what it truly covers. `share` is drawn from
    Beta(alpha, alpha). Targets are the smoothed labels of both, mixed by `share`; without mixing they are the smoothed
    labels.

    Args:
        classes: Number of classes, an integer >= 1.
        mixup: Alpha of MixUp, 0 or more; 0 leaves it out. The paper's Table 1 has 0.8.
        cutmix: Alpha of CutMix, 0 or more; 0 leaves it out.
        switch: Chance of CutMix instead of MixUp where both are in, 0 to 1.
        probability: Chance that a batch is mixed at all, 0 to 1.
        label_smoothing: Share of the target that is spread evenly over all classes, at least 0 and below 1.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `classes` is no integer.

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
    switch: float = 0.5
    probability: float = 1.0
    label_smoothing: float = 0.1

    def __post_init__(self):
        _positive("classes", self.classes, "Pass the number of classes of the model")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be an alpha of 0 or more, received {getattr(self, name)!r}.")
        check_share("switch", self.switch)
        check_share("probability", self.probability)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, received {self.label_smoothing!r}.")

    def __call__(self, clips, labels, rng):
        """Mixed clips and their targets.

        Args:
            clips: uint8 array `(batch, frames, height, width, 3)`, of any batch size. It is not written to.
            labels: Integer array `(batch,)`, each in `[0, classes)`.
            rng: `numpy.random.Generator`; the result is a function of the batch and of it alone.

        Returns:
            `(clips, targets)`: uint8 of the same shape, and float32 `(batch, classes)` whose rows sum to 1.

        Raises:
            ValueError: The clips or the labels are of another shape or type, or a label is out of range.
        """
        _check_clips(clips)
        targets = self._targets(labels, len(clips))
        if rng.random() >= self.probability or not (self.mixup or self.cutmix):
            return clips, targets
        cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        share = rng.beta(alpha, alpha)
        clips, share = _paste_box(clips, share, rng) if cut else (_blend(clips, share), share)
        return clips, (share * targets + (1 - share) * targets[::-1]).astype(np.float32)

    def _targets(self, labels, batch):
        labels = np.asarray(labels)
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


def _check_clips(clips):
    shape, dtype = np.shape(clips), getattr(clips, "dtype", None)
    if len(shape) != 5 or shape[-1] != 3 or dtype != np.uint8:
        raise ValueError(
            f"clips must be a uint8 array (batch, frames, height, width, 3), received shape {shape}, dtype {dtype}."
        )


def _blend(clips, share):
    """MixUp of every clip with its partner."""
    mixed = np.empty_like(clips)
    own, other = np.float32(share), np.float32(1 - share)
    # Clip by clip: the floats of a whole batch would be four times its memory.
    for clip, partner, result in zip(clips, clips[::-1], mixed, strict=True):
        np.rint(own * clip + other * partner, out=result, casting="unsafe")
    return mixed


def _paste_box(clips, share, rng):
    """CutMix of every clip with its partner, and the share of its own that each keeps."""
    height, width = clips.shape[2:4]
    rows, columns = (round(side * np.sqrt(1 - share)) for side in (height, width))
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = np.clip((y - rows // 2, y - rows // 2 + rows), 0, height)
    left, right = np.clip((x - columns // 2, x - columns // 2 + columns), 0, width)
    mixed = clips.copy()
    mixed[:, :, top:bottom, left:right] = clips[::-1, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
