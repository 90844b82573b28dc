"""How good class scores are: accuracies, confusions and calibration. The metrics are scikit-learn's where it has them.

They need the extra `evaluate`; importing this module needs neither it nor Keras.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.utils.extras import require

# Top-5 says nothing where there are no more classes than that.
_TOP = 5


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """The videos whose highest score lies in one range.

    Attributes:
        above: Bound of the range, which does not belong to it, but for 0.
        to: Bound of the range that belongs to it.
        count: Number of videos; of none the other two are 0.
        confidence: Mean of their highest scores.
        accuracy: Fraction of them that the model answers rightly.
    """

    above: float
    to: float
    count: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is known of the answers to labelled videos; fractions are 0 to 1.

    Attributes:
        answers: int64 array `(videos,)`, the class with the highest score, of equal ones the first.
        top1: Fraction of the videos whose answer is their label.
        top5: Fraction whose label is among the five highest scores; None where there are no more than five classes.
        mean_class_accuracy: Mean of `recall` over the classes that have videos.
        ece: Expected calibration error: by how much confidence and accuracy differ, the mean over the videos' bins.
        confusion: int64 array `(classes, classes)`, counts with a row for each label and a column for each answer.
        precision: float64 array `(classes,)`; 0 where the class is never answered.
        recall: float64 array `(classes,)`, the accuracy on the videos of a class; 0 where it has none.
        f1: float64 array `(classes,)`, the harmonic mean of the two.
        support: int64 array `(classes,)`, the number of videos of each class.
        reliability: The bins from 0 to 1, those without videos too.
    """

    answers: np.ndarray
    top1: float
    top5: float | None
    mean_class_accuracy: float
    ece: float
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    reliability: tuple[ReliabilityBin, ...]


def measure(labels: np.ndarray, scores: np.ndarray, bins: int = 15) -> Measures:
    """Measure the scores of labelled videos.

    Args:
        labels: Integers of shape `(videos,)`, indices of classes.
        scores: Numbers of shape `(videos, classes)`, shares of 1, such as `score_views` gives for each video.
        bins: Integer >= 1, ranges of the highest score in which calibration is looked at, 15 by default.

    Returns:
        `Measures`.

    Raises:
        ValueError: There is no video, a label is no index of a class, scores are not finite, or the shapes do not fit.
        ImportError: scikit-learn is not installed.

    Example:
        >>> measures = measure([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> round(measures.top1, 3), measures.mean_class_accuracy, measures.confusion.tolist()
        (0.667, 0.75, [[1, 0], [1, 1]])
    """
    require("Measuring accuracy", "evaluate", "sklearn")
    from sklearn import metrics

    labels, scores = _checked(labels, scores)
    classes = np.arange(scores.shape[1])
    answers = scores.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, answers, labels=classes, zero_division=0
    )
    top5 = None
    if len(classes) > _TOP:
        # Of equal scores scikit-learn takes the last; mirrored it takes the first, as `argmax` does.
        mirrored = len(classes) - 1 - labels
        top5 = float(metrics.top_k_accuracy_score(mirrored, scores[:, ::-1], k=_TOP, labels=classes))
    confidence = np.clip(scores.max(axis=1), 0, 1)
    reliability = reliability_bins(confidence, answers == labels, bins)
    return Measures(
        answers=answers,
        top1=float(metrics.accuracy_score(labels, answers)),
        top5=top5,
        mean_class_accuracy=float(recall[support > 0].mean()),
        ece=sum(one.count * abs(one.confidence - one.accuracy) for one in reliability) / len(labels),
        confusion=metrics.confusion_matrix(labels, answers, labels=classes),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        reliability=reliability,
    )


def _checked(labels, scores):
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(
            f"scores must be (videos, classes) with a label for each video, received {scores.shape} and labels "
            f"{labels.shape}; pass at least one video."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must be integers from 0 to {scores.shape[1] - 1}, received {labels.dtype} values from "
            f"{labels.min()} to {labels.max()}; pass the index of each video's class."
        )
    if not np.isfinite(scores).all():
        video = int(np.argmin(np.isfinite(scores).all(axis=1)))
        raise ValueError(f"scores holds NaN or infinity for video {video}; compute in float32, and check the weights.")
    return labels.astype(np.int64), scores


def reliability_bins(confidence: np.ndarray, is_right: np.ndarray, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Compare how sure a model is with how often it is right.

    scikit-learn's `calibration_curve` leaves out how many videos a bin has, which the calibration error needs; bounds
    and means are as there.

    Args:
        confidence: Numbers of shape `(videos,)`, 0 to 1: the score of each answer.
        is_right: Booleans of shape `(videos,)`.
        bins: Integer >= 1, ranges of equal width.

    Returns:
        A `ReliabilityBin` for each range, in order.

    Example:
        >>> reliability_bins([0.25, 0.75, 1.0], [False, True, False], bins=2)[1]
        ReliabilityBin(above=0.5, to=1.0, count=2, confidence=0.875, accuracy=0.5)
    """
    bins = check_integer("bins", bins, minimum=1)
    confidence, is_right = np.asarray(confidence, np.float64), np.asarray(is_right, np.float64)
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(places, minlength=bins)
    means = [np.bincount(places, values, bins) / np.maximum(counts, 1) for values in (confidence, is_right)]
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), *(m.tolist() for m in means), strict=True)
    return tuple(ReliabilityBin(*row) for row in rows)


def worst_confusions(confusion: np.ndarray, most: int = 20) -> list[tuple[int, int, int]]:
    """List the pairs of classes that are mistaken for one another most often.

    Args:
        confusion: Counts of shape `(classes, classes)`, a row for each label and a column for each answer.
        most: Integer >= 1, how many pairs to list at most, 20 by default.

    Returns:
        `(label, answer, count)` of each pair, the most frequent first; of equal ones in the order of the classes.

    Example:
        >>> worst_confusions([[5, 1, 0], [0, 4, 2], [0, 0, 3]])
        [(1, 2, 2), (0, 1, 1)]
    """
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    pairs = [(int(label), int(answer), int(counts[label, answer])) for label, answer in np.argwhere(counts)]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
