"""Class scores -> names."""

import operator

import numpy as np

from keras_video_focalnet.labels import data_set_of, labels_for, load_labels


def decode_predictions(scores, top=5, labels=None):
    """Name the highest scores of each clip.

    Args:
        scores: `(batch, classes)`, or `(classes,)` for one clip: an array, nested lists or a tensor of any backend and
            dtype. They are given back as they are, probabilities or logits.
        top: Integer >= 1, how many names a clip; all where there are fewer classes.
        labels: Class names: a data set (`"k400"`, `"ssv2"`, ...), a list, or the path of a text file with one name a
            line. None takes the known data set with that many classes.

    Returns:
        For each clip a list of `(label, score)`, the highest score first; of equal scores the first class first.

    Raises:
        ValueError: `scores` has another rank or holds NaN, `top` is below 1, or `labels` do not fit the classes.

    Example:
        >>> decode_predictions([0.1, 0.7, 0.2], top=2, labels=["cat", "dog", "fox"])
        [[('dog', 0.7), ('fox', 0.2)]]
        >>> decode_predictions(np.eye(400)[[0, 399]], top=1)
        [[('abseiling', 1.0)], [('zumba', 1.0)]]
    """
    scores = _to_array(scores)
    if scores.ndim == 1:
        scores = scores[None]
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores must have shape (batch, classes) or (classes,), received {scores.shape}; pass the output of a "
            "model with its classifier (include_top=True)."
        )
    top = operator.index(top)
    if top < 1:
        raise ValueError(f"top must be 1 or more, received {top}.")
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        clip = int(np.argmax(broken))
        raise ValueError(f"scores holds NaN for clip {clip}; check the clip and the weights, or compute in float32.")
    names = _names(labels, scores.shape[1])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(names[index], float(row[index])) for index in order] for row, order in zip(scores, best, strict=True)]


def _names(labels, classes):
    """One name a class, or an error that says what would fit."""
    if labels is None:
        names = labels_for(classes)
        if names is None:
            raise ValueError(
                f"The model has {classes} classes, as no known data set has; pass labels, a list of {classes} names or "
                "the path of a text file with one name a line."
            )
        return names
    names = load_labels(labels)
    if len(names) != classes:
        known = data_set_of(classes)
        remedy = f"a list of {classes}" if known is None else f'labels="{known}" or a list of {classes}'
        raise ValueError(f"labels has {len(names)} names but the model has {classes} classes; pass {remedy}.")
    return names


def _to_array(scores):
    """Scores of any kind as a float64 array, which holds every narrower float exactly."""
    if hasattr(scores, "detach"):
        # PyTorch hands over neither bfloat16, nor what is on a GPU, nor what may need a gradient.
        scores = scores.detach().cpu().double().numpy()
    return np.asarray(scores).astype(np.float64)
