"""From class scores to class names."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.labels import data_set_with, load_labels
from keras_video_focalnet.utils.checks import check_integer

# As `decode_predictions` of `keras.applications` takes 1000 classes for those of its default weights, ImageNet.
DEFAULT = "k400"
# By how much probabilities of half precision may leave the range of 0 to 1.
ROUNDING = 1e-2


def decode_predictions(scores: Any, top: int = 5, labels: Any = None) -> list[list[tuple[str, float]]]:
    """Name the highest scores of each clip.

    Args:
        scores: `(batch, classes)`, or `(classes,)` for one clip: an array, nested lists or a tensor of any backend and
            dtype. They are returned unchanged. Of values outside 0 to 1, which are logits and no probabilities, the
            order is right, and a warning says what makes them probabilities.
        top: How many names to return for a clip, 1 or more, 5 by default; all names where there are fewer classes.
        labels: Class names: a model or exported file that the scores are of, whose own names are taken; a data set
            (`"k400"`, `"ssv2"`, ...), a list, or the path of a text file with one name a line. None (the default), and
            a model without names, takes 400 classes for those of Kinetics-400, the builders' default weights. Any other
            number says nothing about the data set, so the names are `"class 0"`, `"class 1"` and so on, and a warning
            says what to pass. `model.decode_predictions(scores)` passes the model.

    Returns:
        A list for each clip, of pairs `(label, score)` in descending order of score. Classes with equal scores are in
        the order of their indices.

    Raises:
        ValueError: `scores` has another rank or holds NaN, `top` is below 1, or `labels` do not fit the classes.

    Example:
        >>> decode_predictions([0.1, 0.7, 0.2], top=2, labels=["cat", "dog", "fox"])
        [[('dog', 0.7), ('fox', 0.2)]]
        >>> decode_predictions(np.eye(400)[[0, 399]], top=1)
        [[('abseiling', 1.0)], [('zumba', 1.0)]]
    """
    return name_scores(scores, top, labels)


def name_scores(scores: Any, top: int, labels: Any, stacklevel: int = 1) -> list[list[tuple[str, float]]]:
    """As `decode_predictions`; warnings blame the code `stacklevel` callers above the function that calls this one."""
    scores = _to_array(scores)
    if scores.ndim == 1:
        scores = scores[None]
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores must have shape (batch, classes) or (classes,), received {scores.shape}; pass the output of a "
            "model with its classifier (include_top=True)."
        )
    top = check_integer("top", top, minimum=1)
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        clip = int(np.argmax(broken))
        raise ValueError(f"scores holds NaN for clip {clip}; check the clip and the weights, or compute in float32.")
    names = _names(getattr(labels, "labels", labels), scores.shape[1], stacklevel + 4)
    if ((scores < -ROUNDING) | (scores > 1 + ROUNDING)).any():
        _warn_of_logits(stacklevel + 3)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(names[index], float(row[index])) for index in order] for row, order in zip(scores, best, strict=True)]


def _names(labels: str | os.PathLike | Sequence[str] | None, classes: int, stacklevel: int) -> list[str]:
    """Load one name a class, or raise an error that says what would fit."""
    if labels is None:
        names = default_names(classes)
        if names is None:
            _warn_without_names(classes, stacklevel)
        return names or numbered(classes)
    return names_of_classes(labels, classes)


def names_of_classes(labels: str | os.PathLike | Sequence[str], classes: int) -> list[str]:
    """Load class names, and raise a `ValueError` where they are not one a class."""
    names = load_labels(labels)
    if len(names) != classes:
        known = data_set_with(classes)
        remedy = f"a list of {classes}" if known is None else f'labels="{known}" or a list of {classes}'
        raise ValueError(f"labels has {len(names)} names but the model has {classes} classes; pass {remedy}.")
    return names


def default_names(classes: int) -> list[str] | None:
    """The names that so many classes have where nobody says any: those of the default weights, or None."""
    return load_labels(DEFAULT) if data_set_with(classes) == DEFAULT else None


def numbered(classes: int) -> list[str]:
    """Names for classes that have none: `"class 0"` and so on."""
    return [f"class {index}" for index in range(classes)]


def _warn_without_names(classes, stacklevel):
    known = data_set_with(classes)
    published = "" if known is None else f', or labels="{known}" if they are the classes of that data set'
    warnings.warn(
        f"labels is None, and {classes} classes may be anybody's, so they are numbered; pass labels=model.labels or a "
        f"list of {classes} names{published}.",
        stacklevel=stacklevel,
    )


def _warn_of_logits(stacklevel):
    warnings.warn(
        "scores has values outside 0 to 1: these are logits and no probabilities, and so are the numbers beside the "
        'names. Pass keras.ops.softmax(scores), or build the model with classifier_activation="softmax".',
        stacklevel=stacklevel,
    )


def _to_array(scores: Any) -> np.ndarray:
    """Convert scores of any kind to a float64 array, which holds every narrower float exactly."""
    if hasattr(scores, "detach"):
        # NumPy cannot read a PyTorch tensor that is bfloat16, on a GPU, or recorded for a gradient.
        scores = scores.detach().cpu().double().numpy()
    return np.asarray(scores).astype(np.float64)
