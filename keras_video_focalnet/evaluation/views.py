"""Several views of one video: clips that cover it together, each cropped at several places, whose scores are averaged.

Reading views needs neither Keras nor a backend, so that data workers can do it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip import Video, read_transformed, resize_and_crop
from keras_video_focalnet.data.clip_rule import ClipRule, clip_rule
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video import resize
from keras_video_focalnet.utils.checks import check_choice, check_integer, fail

CROPS = (1, 3)
"""How many crops of a frame there can be."""
_TEXT = re.compile(r"\s*(\d+)\s*[xX×*]\s*(\d+)\s*")
# By how much a softmax may leave the range of 0 to 1.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Views:
    """How many views of a video there are: `clips` clips, of each of which `crops` crops are taken.

    Every clip covers all of the video: it takes a frame of each of equal segments. One clip takes the frames in the
    middle of the segments; of several, each takes them a little later than the one before, so that all frames together
    are spread evenly. That is the protocol of the Video-FocalNet paper's section 4 (4 x 3 for Kinetics, 1 x 3 for
    Something-Something, Diving-48 and ActivityNet) without its chance: the reference draws the frames of several clips
    at random, see `seed` of `read_views`.

    One crop is the centre of a frame that is resized by the model's own rule. Three crops are of a frame whose tighter
    side is resized to the model's size: left, right and middle, or of a tall frame top, bottom and middle.

    Args:
        clips: Integer >= 1, clips of a video.
        crops: 1 or 3, crops of a clip.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> views = Views.parse("4x3")
        >>> views, str(views), views.count
        (Views(clips=4, crops=3), '4x3', 12)
        >>> views.indices(64, num_frames=4)
        array([[ 2, 18, 34, 50],
               [ 6, 22, 38, 54],
               [10, 26, 42, 58],
               [14, 30, 46, 62]])
    """

    clips: int = 1
    crops: int = 1

    def __post_init__(self):
        object.__setattr__(self, "clips", check_integer("clips", self.clips, minimum=1))
        object.__setattr__(self, "crops", check_choice("crops", check_integer("crops", self.crops), CROPS))

    @classmethod
    def parse(cls, views: Views | str | Sequence[int]) -> Views:
        """Make views of a text such as `"4x3"`, of a pair `(4, 3)`, or of views.

        Raises:
            ValueError: `views` is none of them, or has no clip or another number of crops than 1 or 3.
        """
        if isinstance(views, cls):
            return views
        if isinstance(views, str) and (match := _TEXT.fullmatch(views)):
            views = int(match[1]), int(match[2])
        try:
            clips, crops = views
            return cls(clips, crops)
        except (TypeError, ValueError):
            expected = 'clips x crops with 1 clip or more and 1 or 3 crops, such as "4x3"'
            raise fail("views", expected, views) from None

    def __str__(self):
        return f"{self.clips}x{self.crops}"

    @property
    def count(self) -> int:
        """How many views there are."""
        return self.clips * self.crops

    def indices(self, total_frames: int, num_frames: int, seed: int | Sequence[int] | None = None) -> np.ndarray:
        """The frames of each clip.

        Args:
            total_frames: Integer >= 1, frames in the video.
            num_frames: Integer >= 1, frames in a clip.
            seed: None takes the same frames each time; otherwise each clip draws a frame of every segment at random, as
                the reference does, from `numpy.random.default_rng(seed)`.

        Returns:
            int64 array of shape `(clips, num_frames)`, each value in `[0, total_frames)`.
        """
        if seed is None:
            return sample_frame_indices(total_frames, self.clips * num_frames).reshape(num_frames, self.clips).T
        rng = np.random.default_rng(seed)
        return np.stack([sample_frame_indices(total_frames, num_frames, rng=rng) for _ in range(self.clips)])

    def crop(
        self, picture: np.ndarray, height: int, width: int, crop_fraction: float, interpolation: str = "bilinear"
    ) -> np.ndarray:
        """Resize a picture and crop it at every place.

        Args:
            picture: uint8 array of shape `(rows, columns, 3)`.
            height: Rows of a crop.
            width: Columns of a crop.
            crop_fraction: The part of the resized picture's tighter side that a single crop shows; three show all of
                it.
            interpolation: `"bilinear"` (default) or `"bicubic"`.

        Returns:
            uint8 array of shape `(crops, height, width, 3)`.
        """
        if self.crops == 1:
            return resize_and_crop(picture, height, width, crop_fraction, interpolation)[None]
        rows, columns = picture.shape[:2]
        scale = max(height / rows, width / columns)
        new_rows, new_columns = int(rows * scale + 0.5), int(columns * scale + 0.5)
        boxes = three_boxes(new_rows, new_columns, height, width)
        if columns >= rows:
            # Pillow resizes rows, then columns, so what no crop shows of a very wide picture needs no second pass.
            wide = resize(picture, rows, new_columns, interpolation)
            crops = (resize(wide[:, left:right], new_rows, width, interpolation) for left, _, right, _ in boxes)
        else:
            tall = resize(picture, new_rows, new_columns, interpolation)
            crops = (tall[:, left:right] for left, _, right, _ in boxes)
        return np.stack([crop[top:bottom] for crop, (_, top, _, bottom) in zip(crops, boxes, strict=True)])


def three_boxes(rows: int, columns: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Where three crops of `(height, width)` lie in a picture of `(rows, columns)`, of which one side is as long.

    Returns:
        Three boxes `(left, top, right, bottom)` in the order of the reference: the first, the last and the middle one.

    Example:
        >>> three_boxes(224, 298, 224, 224)
        [(0, 0, 224, 224), (74, 0, 298, 224), (37, 0, 261, 224)]
    """
    down, right = (rows - height) // 2, (columns - width) // 2
    return [(steps * right, steps * down, steps * right + width, steps * down + height) for steps in (0, 2, 1)]


def read_views(
    path: Video,
    like: Any,
    views: Views | str | Sequence[int] = "1x1",
    seed: int | Sequence[int] | None = None,
    start: float | None = None,
    end: float | None = None,
    threads: int | None = None,
    fps: float | None = None,
) -> np.ndarray:
    """Read the views of a video for a model. The video is opened once, and every frame is decoded once.

    A single view is what `read_clip(path, like=model)` reads. `score_views` gives the scores of the views together.

    Args:
        path: A video file or folder of frames, an open `VideoReader`, or frames in memory, as for `read_clip`.
        like: The model that the views are for: a Keras model, an exported file (`load_exported`), or a `ClipRule`.
        views: `Views`, a text such as `"4x3"` (clips x crops) or a pair; by default one clip and one crop.
        seed: Integer >= 0, or several of them such as a seed and the number of the video: the frames are drawn at
            random, as the reference does. None, the default, takes the same frames each time.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        threads: Threads that decode; None for one a core. Several readers side by side want 1.
        fps: Frames a second of a folder of frames or of frames in memory; None for 25.

    Returns:
        uint8 array of shape `(views, frames, height, width, 3)`, red, green, blue, 0 to 255, also for a model that
        takes other values: `score_views` prepares them. All crops of a clip lie together.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no video or has no decodable frame, or another argument is out of its range.

    Example:
        >>> model = VideoFocalNetNano()
        >>> read_views("bikes.mp4", model, "4x3").shape
        (12, 8, 64, 64, 3)
    """
    views = Views.parse(views)
    rule = like if isinstance(like, ClipRule) else clip_rule(like)
    height, width = rule.size

    def indices(total):
        return views.indices(total, rule.num_frames, seed).ravel()

    crop = functools.partial(views.crop, height=height, width=width, **rule.resize_rule)
    pictures = read_transformed(path, indices, crop, start, end, threads, "pyav", fps)
    pictures = pictures.reshape(views.clips, rule.num_frames, *pictures.shape[1:])
    return np.ascontiguousarray(pictures.swapaxes(1, 2)).reshape(views.count, rule.num_frames, height, width, 3)


def score_views(model: Any, clips: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Compute the scores of a video from its views: the mean of theirs.

    Args:
        model: A Keras model that gives one number a class, or an exported file (`load_exported`).
        clips: Pixels of 0 to 255 of shape `(views, frames, height, width, 3)`, as `read_views` gives them.
        batch_size: Integer >= 1, clips that a Keras model takes at once, 32 by default.

    Returns:
        float64 array of shape `(classes,)`: shares of 1, also of a model that gives logits.

    Raises:
        ValueError: The clips are none that the model takes, or the model gives no classes.

    Example:
        >>> model = VideoFocalNetNano()
        >>> scores = score_views(model, read_views("bikes.mp4", model, "2x3"))
        >>> scores.shape, float(scores.sum().round(5))
        ((9,), 1.0)
    """
    return class_scores(model, clips, batch_size).mean(axis=0)


def class_scores(model: Any, clips: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Compute what a model gives for clips as shares of 1, whether it gives scores or logits.

    Args:
        model: As for `score_views`.
        clips: Pixels of 0 to 255 of shape `(clips, frames, height, width, 3)`; a Keras model whose network normalizes
            nothing itself gets them prepared.
        batch_size: As for `score_views`.

    Returns:
        float64 array of shape `(clips, classes)`.

    Raises:
        ValueError: As for `score_views`.
    """
    if hasattr(model, "contract"):
        given = model.predict(clips)
    else:
        prepare = clip_rule(model).prepare
        inputs = clips.astype("float32") if prepare is None else prepare(clips)
        given = model.predict(inputs, batch_size=batch_size, verbose=0)
    scores = np.asarray(given, np.float64)
    if scores.ndim != 2:
        raise ValueError(f"the model gives {scores.shape}, no (clips, classes); pass one with its classifier.")
    logits = gives_logits(model)
    if logits is None:
        logits = scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING
    if logits and getattr(model, "multi_label", False):
        return 1 / (1 + np.exp(-scores))
    if logits:
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def gives_logits(model: Any) -> bool | None:
    """Whether a model's own output is logits; None where only the values tell."""
    if hasattr(model, "contract"):
        return model.contract.outputs[0] == "logits"
    if hasattr(model, "gives_logits"):
        return model.gives_logits
    from keras import activations

    from keras_video_focalnet.models.around import last_operation

    end = last_operation(model)
    if end is not None and hasattr(end, "predict"):
        return gives_logits(end)
    activation = getattr(end, "activation", None)
    if activation is activations.linear:
        return True
    is_known = activation in (activations.softmax, activations.sigmoid) or type(end).__name__ in ("Softmax", "Sigmoid")
    return False if is_known else None


def number_of_classes(model: Any) -> int:
    """How many classes a model or an exported file tells apart.

    Raises:
        ValueError: It gives features, no classes.
    """
    if hasattr(model, "contract"):
        classes = model.contract.classes if "features" not in model.contract.outputs else None
    else:
        has_classifier = getattr(model, "include_top", True)
        shape = model.output_shape
        classes = shape[-1] if has_classifier and isinstance(shape, tuple) and len(shape) == 2 else None
    if classes is None:
        raise ValueError(f"the model {model.name!r} gives no class scores; pass one with its classifier.")
    return classes


def names_of_classes(model: Any) -> tuple[str, ...] | None:
    """The class names of a model or of an exported file; None where it has none."""
    if hasattr(model, "contract"):
        return None if model.labels is None else tuple(model.labels)
    from keras_video_focalnet.models.around import labels_inside

    return labels_inside(model)
