"""Metrics against scikit-learn's and against counting, on random scores."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_video_focalnet.evaluation.metrics import measure, reliability_bins, worst_confusions

pytestmark = [pytest.mark.backend_free, pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")]
metrics = pytest.importorskip("sklearn.metrics")


@st.composite
def scored(draw, least_classes=2):
    """Labels and scores of some videos; labels are often right, and classes may have no video."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    videos, classes = draw(st.integers(1, 60)), draw(st.integers(least_classes, 20))
    scores = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.05, 0.3, 1.0, 10.0]))), size=videos)
    labels = np.where(rng.random(videos) < 0.5, scores.argmax(1), rng.integers(classes, size=videos))
    return labels, scores


@given(scored())
def test_accuracies_are_those_of_scikit_learn(sample):
    labels, scores = sample
    measures, answers = measure(labels, scores), scores.argmax(1)
    assert measures.top1 == pytest.approx(metrics.accuracy_score(labels, answers))
    if set(answers) <= set(labels):  # It warns of other answers, and counts alike.
        assert measures.mean_class_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, answers))
    by_hand = [np.mean(answers[labels == label] == label) for label in np.unique(labels)]
    assert measures.mean_class_accuracy == pytest.approx(np.mean(by_hand))
    np.testing.assert_array_equal(
        measures.confusion, metrics.confusion_matrix(labels, answers, labels=range(scores.shape[1]))
    )
    assert measures.confusion.sum() == len(labels) and measures.confusion.trace() == (answers == labels).sum()


@given(scored(least_classes=6))
def test_top_5_is_that_of_scikit_learn(sample):
    labels, scores = sample
    # Of equal scores scikit-learn takes others.
    assume(all(len(set(row)) == len(row) for row in scores.tolist()))
    wanted = metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(scores.shape[1]))
    assert measure(labels, scores).top5 == pytest.approx(wanted)


def test_top_5_of_equal_scores_counts_the_first_as_the_answer_does():
    measures = measure([0, 4, 5], np.full((3, 6), 1 / 6))
    assert (measures.top1, measures.top5) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


@given(scored())
def test_the_table_of_classes_is_that_of_scikit_learn(sample):
    labels, scores = sample
    measures = measure(labels, scores)
    report = metrics.classification_report(
        labels, measures.answers, labels=range(scores.shape[1]), output_dict=True, zero_division=0
    )
    for label in range(scores.shape[1]):
        row = report[str(label)]
        assert measures.precision[label] == pytest.approx(row["precision"])
        assert measures.recall[label] == pytest.approx(row["recall"])
        assert measures.f1[label] == pytest.approx(row["f1-score"])
        assert measures.support[label] == row["support"]


@given(scored(), st.integers(1, 30))
def test_calibration_is_that_of_scikit_learn(sample, bins):
    from sklearn.calibration import calibration_curve

    labels, scores = sample
    confidence, right = np.clip(scores.max(1), 0, 1), scores.argmax(1) == labels
    found = reliability_bins(confidence, right, bins)
    filled = [one for one in found if one.count]
    if len(set(right)) == 2:
        accuracy, sureness = calibration_curve(right, confidence, n_bins=bins)
        np.testing.assert_allclose([one.accuracy for one in filled], accuracy, atol=1e-12)
        np.testing.assert_allclose([one.confidence for one in filled], sureness, atol=1e-12)
    assert sum(one.count for one in found) == len(labels) and len(found) == bins
    error = 0.0
    for one in found:
        inside = (confidence > one.above) & (confidence <= one.to)
        assert one.count == inside.sum()
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert measure(labels, scores, bins).ece == pytest.approx(error, abs=1e-12)


def test_calibration_of_extremes():
    perfect = measure([0, 1], np.eye(2))
    assert perfect.ece == 0 and perfect.reliability[-1].count == 2
    assert measure([1, 0], np.eye(2)).ece == 1
    assert reliability_bins([0.0], [True])[0].count == 1


@given(scored())
def test_worst_confusions_are_the_errors_in_falling_order(sample):
    confusion = measure(*sample).confusion
    pairs = worst_confusions(confusion, most=10**6)
    counts = [count for _, _, count in pairs]
    assert counts == sorted(counts, reverse=True) and all(label != answer for label, answer, _ in pairs)
    assert sum(counts) == confusion.sum() - confusion.trace()
    assert worst_confusions(confusion, most=3) == pairs[:3]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], np.zeros((0, 3)), "at least one video"),
        ([0, 1], [[0.5, 0.5]], "a label for each video"),
        ([2], [[0.5, 0.5]], "from 0 to 1, received int64 values from 2 to 2"),
        ([-1], [[0.5, 0.5]], "values from -1"),
        ([0.5], [[0.5, 0.5]], "float64 values"),
        ([0, 0], [[0.5, 0.5], [np.nan, 0.5]], "NaN or infinity for video 1"),
    ],
)
def test_what_cannot_be_measured(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, scores)


def test_a_missing_package_is_told_in_one_line(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    wanted = r"^Measuring accuracy needs scikit-learn: pip install 'keras-video-focalnet\[evaluate\]'\.$"
    with pytest.raises(ImportError, match=wanted):
        measure([0], [[1.0, 0.0]])


def test_importing_it_imports_none_of_its_packages():
    code = "import sys, keras_video_focalnet.evaluation.metrics, keras_video_focalnet.evaluation.views\n"
    code += "print({'sklearn', 'pandas', 'pyarrow', 'matplotlib', 'keras', 'torch', 'rich'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "set()\n", result.stderr
