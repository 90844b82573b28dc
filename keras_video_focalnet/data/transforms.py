"""Transforms of clips, in NumPy and Pillow: one random draw for all frames, so that motion stays what it was.

Every transform is called as `transform(clip, rng)` with a uint8 clip `(frames, height, width, 3)` and a
`numpy.random.Generator`, and returns a uint8 clip. Those of colour are in `data/color.py`, RandAugment is in
`data/rand_augment.py`, and Keras's own image layers are wrapped by `data/image_layers.py`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_video_focalnet.data.clip import CROP_FRACTION, resize_and_crop
from keras_video_focalnet.data.clip_transform import ClipTransform, check_clip, draw_box
from keras_video_focalnet.data.color import ColorJitter, RandomGray
from keras_video_focalnet.data.rand_augment import RandAugment
from keras_video_focalnet.utils.checks import (
    check_fraction,
    check_range,
    check_resize_rule,
    check_size,
)


@dataclasses.dataclass(frozen=True)
class Compose:
    """Applies transforms one after the other.

    Args:
        transforms: Callables `(clip, rng) -> clip`.

    Raises:
        TypeError: One of them cannot be called.

    Example:
        >>> clip = np.zeros((8, 64, 96, 3), np.uint8)
        >>> chain = Compose([RandomResizedCrop(32), RandomFlip()])
        >>> chain(clip, np.random.default_rng(0)).shape
        (8, 32, 32, 3)
    """

    transforms: tuple[Callable, ...]

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"transforms must be callables (clip, rng) -> clip, received {transform!r} among them.")

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            clip = transform(clip, rng)
        return clip


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(ClipTransform):
    """Cuts out a random part of the picture and resizes it (Szegedy et al. 2015; the Video-FocalNet paper, section 4).

    Where ten draws give no part that fits into the picture, the largest central part within the aspect range is taken.

    Args:
        size: Height and width of the result in pixels, an integer or `(height, width)`.
        area: Least and greatest fraction of the picture's area.
        aspect: Least and greatest width through height of the part.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> clip = np.zeros((8, 256, 340, 3), np.uint8)
        >>> RandomResizedCrop(224)(clip, np.random.default_rng(0)).shape
        (8, 224, 224, 3)
    """

    size: int | tuple[int, int]
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        check_size("size", self.size, "pixels")
        check_range("area", self.area, maximum=1)
        check_range("aspect", self.aspect)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = clip.shape[1:3]
        box = draw_box(rng, height, width, self.area, self.aspect)
        if box is None:
            rows, columns = min(height, round(width / self.aspect[0])), min(width, round(height * self.aspect[1]))
            box = (height - rows) // 2, (width - columns) // 2, rows, columns
        top, left, rows, columns = box
        return _resize(clip[:, top : top + rows, left : left + columns], *check_size("size", self.size, "pixels"))


@dataclasses.dataclass(frozen=True)
class ScaleJitter:
    """Resizes the clip by a random factor, both sides alike (the Video-FocalNet paper's Table 1).

    Before a crop of fixed size it changes how large things appear. Before `RandomResizedCrop`, which takes a part of
    whatever it gets, it changes no more than how sharp they are.

    Args:
        minimum: Least factor, above 0.
        maximum: Greatest factor.

    Raises:
        ValueError: They are no such range.

    Example:
        >>> clip = np.zeros((8, 60, 80, 3), np.uint8)
        >>> ScaleJitter()(clip, np.random.default_rng(0)).shape
        (8, 67, 90, 3)
    """

    minimum: float = 0.75
    maximum: float = 1.33

    def __post_init__(self):
        check_range("(minimum, maximum)", (self.minimum, self.maximum))

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_clip(clip)
        factor = rng.uniform(self.minimum, self.maximum)
        return _resize(clip, *(max(1, round(side * factor)) for side in clip.shape[1:3]))


@dataclasses.dataclass(frozen=True)
class RandomFlip(ClipTransform):
    """Mirrors the clip left to right. Not for classes that tell left from right.

    Args:
        probability: Chance that a clip is mirrored, 0 to 1.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: `probability` is out of its range.

    Example:
        >>> clip = np.arange(12, dtype=np.uint8).reshape(1, 1, 4, 3)
        >>> RandomFlip(probability=1.0)(clip, np.random.default_rng(0))[0, 0, :, 0]
        array([9, 6, 3, 0], dtype=uint8)
    """

    probability: float = 0.5

    def __post_init__(self):
        check_fraction("probability", self.probability)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.probability:
            return clip
        return np.ascontiguousarray(clip[:, :, ::-1])


@dataclasses.dataclass(frozen=True)
class RandomErasing(ClipTransform):
    """Covers a random box with noise, the same box and the same noise in all frames (Zhong et al. 2020).

    Args:
        probability: Chance that a clip is changed, 0 to 1.
        area: Least and greatest fraction of the picture's area.
        aspect: Least and greatest width through height of the box.
        per_frame: Whether every frame gets a draw of its own.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> clip = np.zeros((8, 32, 32, 3), np.uint8)
        >>> covered = RandomErasing(probability=1.0)(clip, np.random.default_rng(0)).any(-1)
        >>> covered[0].sum() > 0, (covered == covered[0]).all()
        (np.True_, np.True_)
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self):
        check_fraction("probability", self.probability)
        check_range("area", self.area, maximum=1)
        check_range("aspect", self.aspect)

    def apply(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.probability:
            return clip
        box = draw_box(rng, *clip.shape[1:3], self.area, self.aspect)
        if box is None:
            return clip
        top, left, rows, columns = box
        clip = clip.copy()
        clip[:, top : top + rows, left : left + columns] = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        return clip


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """Prepares a clip as the reference does in test mode, and as `read_clip` does: resized, its centre cropped.

    Args:
        size: Height and width of the result in pixels, an integer or `(height, width)`.
        crop_fraction: The part of the resized frame's tighter side that is cropped, above 0 to 1; 224/256 by default.
        interpolation: `"bilinear"` (default) or `"bicubic"`.

    Raises:
        ValueError: `size` is none, or another argument does not fit.

    Example:
        >>> clip = np.zeros((8, 256, 340, 3), np.uint8)
        >>> CenterCrop(224)(clip).shape
        (8, 224, 224, 3)
    """

    size: int | tuple[int, int]
    crop_fraction: float = CROP_FRACTION
    interpolation: str = "bilinear"

    def __post_init__(self):
        check_size("size", self.size, "pixels")
        check_resize_rule(self.crop_fraction, self.interpolation)

    def __call__(self, clip: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        check_clip(clip)
        return np.stack([self.crop(frame) for frame in clip])

    def crop(self, frame: np.ndarray) -> np.ndarray:
        """Resize and crop one frame, uint8 `(H, W, 3)`."""
        size = check_size("size", self.size, "pixels")
        return resize_and_crop(frame, *size, self.crop_fraction, self.interpolation)


def training_transforms(
    size: int | tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    color_jitter: float = 0.8,
    gray: float = 0.2,
    scale_jitter: tuple[float, float] | None = None,
    rand_augment: tuple[int, float] | None = None,
    erasing: float = 0.0,
    per_frame: bool = False,
    rand_augment_probability: float = 1.0,
    rand_augment_spread: float = 0.0,
) -> Compose:
    """The chain of transforms that a clip goes through in training.

    Scale and crop come first, so that the rest has fewer pixels to change: scale jitter, random resized crop, flip,
    colour jitter, grey, RandAugment, erasing. What has no chance is left out.

    Args:
        size: Height and width of the clip in pixels, an integer or `(height, width)`.
        area: Least and greatest fraction of the picture that the random crop takes.
        flip: Chance to mirror left to right; 0 where classes tell left from right (Something-Something, Diving48).
        color_jitter: Chance of brightness 0.4, contrast 0.4, saturation 0.2, hue 0.1.
        gray: Chance to lose the colour.
        scale_jitter: `(least, greatest)` factor, `(0.75, 1.33)` in the Video-FocalNet paper's Table 1, or None: see
            `ScaleJitter` for what it does before the crop.
        rand_augment: `(count, magnitude)` of `RandAugment`, or None.
        erasing: Chance to cover a box.
        per_frame: Whether every frame gets draws of its own, of everything but the scale.
        rand_augment_probability: Chance of each operation of `RandAugment`.
        rand_augment_spread: Standard deviation of the operations' magnitude.

    Returns:
        A `Compose`.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> clip = np.zeros((8, 256, 340, 3), np.uint8)
        >>> chain = training_transforms(224, rand_augment=(2, 9), erasing=0.25)
        >>> chain(clip, np.random.default_rng(0)).shape
        (8, 224, 224, 3)
    """
    transforms = [] if scale_jitter is None else [ScaleJitter(*scale_jitter)]
    transforms.append(RandomResizedCrop(check_size("size", size, "pixels"), area, per_frame=per_frame))
    chances = [(RandomFlip, flip), (ColorJitter, color_jitter), (RandomGray, gray)]
    transforms += [kind(probability=chance, per_frame=per_frame) for kind, chance in chances if chance]
    if rand_augment is not None:
        how = rand_augment_probability, rand_augment_spread
        transforms.append(RandAugment(*rand_augment, *how, per_frame=per_frame))
    if erasing:
        transforms.append(RandomErasing(erasing, per_frame=per_frame))
    return Compose(transforms)


def _resize(clip, height, width):
    """Every frame at another size; what shrinks is averaged."""
    from PIL import Image

    pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in clip)
    return np.stack([np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)) for picture in pictures])
