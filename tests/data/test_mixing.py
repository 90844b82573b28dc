"""MixUp and CutMix on batches of clips: pixels, targets, and that both tell the same share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_video_focalnet.data.mixing import Mixing

pytestmark = pytest.mark.backend_free


def rng(seed=0):
    return np.random.default_rng(seed)


def batch(size=4, frames=2, side=16):
    """Clips of one value each, so that a pixel tells whose it is: 0, 50, 100, ..."""
    clips = np.empty((size, frames, side, side, 3), np.uint8)
    clips[:] = (50 * np.arange(size)).reshape(-1, 1, 1, 1, 1)
    return clips, np.arange(size)


def test_mixup_mixes_pixels_and_targets_alike():
    clips, labels = batch()
    mixing = Mixing(classes=4, cutmix=0, label_smoothing=0)
    for seed in range(20):
        mixed, targets = mixing(clips, labels, rng(seed))
        share = targets[0, 0]
        assert targets.dtype == np.float32
        assert targets[0] == pytest.approx([share, 0, 0, 1 - share])
        assert targets[1] == pytest.approx([0, share, 1 - share, 0])
        values = mixed[:, 0, 0, 0, 0]
        assert values == pytest.approx([150 * (1 - share), 100 - 50 * share, 50 + 50 * share, 150 * share], abs=0.51)
        assert (mixed == values.reshape(-1, 1, 1, 1, 1)).all()


def test_mixup_rounds_to_the_nearest(monkeypatch):
    generator = rng()
    clips = generator.integers(0, 256, (2, 2, 8, 8, 3), dtype=np.uint8)
    mixed, targets = Mixing(classes=2, cutmix=0, label_smoothing=0)(clips, np.array([0, 1]), generator)
    exact = targets[0, 0].astype(float) * clips[0] + targets[0, 1].astype(float) * clips[1]
    assert np.abs(mixed[0] - exact).max() <= 0.5 + 1e-4


def test_cutmix_pastes_one_box_in_all_frames_and_counts_it():
    clips, labels = batch(size=3, frames=4, side=40)
    mixing = Mixing(classes=3, mixup=0, label_smoothing=0)
    shares = []
    for seed in range(60):
        mixed, targets = mixing(clips, labels, rng(seed))
        foreign = mixed[0, ..., 0] == 100
        assert (foreign | (mixed[0, ..., 0] == 0)).all()
        assert (foreign == foreign[0]).all()
        rows, columns = foreign[0].any(1), foreign[0].any(0)
        assert (foreign[0] == rows[:, None] & columns[None]).all()
        assert (np.abs(np.diff(rows.astype(int))).sum() <= 2) and (np.abs(np.diff(columns.astype(int))).sum() <= 2)
        assert targets[0] == pytest.approx([1 - foreign.mean(), 0, foreign.mean()])
        # The one in the middle of an odd batch is its own partner.
        assert (mixed[1] == 50).all()
        assert targets[1].tolist() == [0, 1, 0]
        shares.append(targets[0, 0])
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_several_labels_are_mixed_and_smoothed_each_alone():
    clips, _ = batch()
    labels = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]])
    mixing = Mixing(classes=3, cutmix=0, label_smoothing=0.2, multi_label=True)
    smooth = np.where(labels == 1, 0.9, 0.1)
    for seed in range(20):
        mixed, targets = mixing(clips, labels, rng(seed))
        share = 1 - mixed[0, 0, 0, 0, 0] / 150
        np.testing.assert_allclose(targets, share * smooth + (1 - share) * smooth[::-1], atol=0.01)
        assert targets.dtype == np.float32
    _, plain = Mixing(classes=3, probability=0, label_smoothing=0, multi_label=True)(clips, labels, rng())
    np.testing.assert_array_equal(plain, labels)


@pytest.mark.parametrize("labels", [np.arange(4), np.eye(4)[:, :2], np.full((4, 3), 2), np.full((4, 3), 0.5)])
def test_several_labels_of_another_form_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels must be \(4, 3\) of 0 and 1 for multi_label=True, received shape"):
        Mixing(classes=3, multi_label=True)(batch()[0], labels, rng())


def test_shares_are_of_the_beta_distribution():
    clips, labels = batch(2, 1, 1)
    generator = rng()
    mixing = Mixing(classes=2, mixup=0.8, cutmix=0, label_smoothing=0)
    shares = np.array([mixing(clips, labels, generator)[1][0, 0] for _ in range(4000)])
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 2.6), abs=0.005)


def kind(mixed):
    """What was done to a batch of 0 and 50."""
    values = set(np.unique(mixed).tolist())
    if (mixed[0] == 0).all() and (mixed[1] == 50).all():
        return "none"
    return "cutmix" if values <= {0, 50} else "mixup"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"mixup": 0.5, "cutmix": 0.5}),
        ({"cutmix_probability": 0.2}, {"mixup": 0.8, "cutmix": 0.2}),
        ({"probability": 0.5}, {"none": 0.5, "mixup": 0.25, "cutmix": 0.25}),
        ({"cutmix": 0}, {"mixup": 1.0}),
        ({"mixup": 0}, {"cutmix": 1.0}),
        ({"mixup": 0, "cutmix": 0}, {"none": 1.0}),
        ({"probability": 0}, {"none": 1.0}),
    ],
    ids=str,
)
def test_how_often_each_is_done(options, expected):
    clips, labels = batch(2, 1, 12)
    generator = rng(3)
    mixing = Mixing(classes=2, **{"mixup": 4.0, "cutmix": 4.0} | options)
    kinds = [kind(mixing(clips, labels, generator)[0]) for _ in range(800)]
    for name in ("none", "mixup", "cutmix"):
        # Of strong mixing a few look like none: a share near 0 or 1, a box outside.
        assert kinds.count(name) / 800 == pytest.approx(expected.get(name, 0), abs=0.06), name


def test_targets_are_smoothed():
    clips, labels = batch(3)
    mixed, targets = Mixing(classes=4, probability=0)(clips, labels, rng())
    assert mixed is clips
    assert targets == pytest.approx(np.eye(4)[:3] * 0.9 + 0.025)
    _, targets = Mixing(classes=4, cutmix=0)(clips, labels, rng())
    share = (targets[0, 0] - 0.025) / 0.9
    assert targets[0] == pytest.approx([0.9 * share + 0.025, 0.025, 0.9 * (1 - share) + 0.025, 0.025])


@given(st.integers(0, 7), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_any_batch(size, frames, height, width, seed):
    generator = rng(seed)
    clips = generator.integers(0, 256, (size, frames, height, width, 3), dtype=np.uint8)
    before = clips.copy()
    labels = generator.integers(0, 5, size)
    mixed, targets = Mixing(classes=5)(clips, labels, generator)
    assert mixed.shape == clips.shape
    assert mixed.dtype == np.uint8
    assert (clips == before).all()
    assert targets.shape == (size, 5)
    assert targets.sum(-1) == pytest.approx(np.ones(size), abs=1e-6)
    if size == 1:
        assert (mixed == clips).all()


def test_is_a_function_of_the_generator():
    clips, labels = batch()
    first, again, other = (Mixing(classes=4)(clips, labels, rng(seed)) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, r"classes must be an integer of at least 1, received 0"),
        ({"mixup": -1}, r"mixup must be a number of at least 0, received -1"),
        ({"cutmix": float("nan")}, r"cutmix must be a number of at least 0, received nan"),
        ({"cutmix_probability": 2}, r"cutmix_probability must be a number in \[0, 1\], received 2"),
        ({"probability": -0.1}, r"probability must be a number in \[0, 1\], received -0\.1"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be a number in \[0, 1\), received 1\.0"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**{"classes": 4} | arguments)


@pytest.mark.parametrize(
    ("clips", "labels", "message"),
    [
        (batch()[0], np.array([0, 1, 2, 4]), r"labels run from 0 to 4, but classes=4 allows 0 to 3"),
        (batch()[0], np.array([0, 1, 2]), r"labels must be \(4,\) integers, .* received shape \(3,\)"),
        (batch()[0], np.eye(4), r"labels must be \(4,\) integers, .* received shape \(4, 4\)"),
        (batch()[0][0], np.array([0, 1]), r"clips must be a uint8 array .* received shape \(2, 16, 16, 3\)"),
        (batch()[0] / 255, np.arange(4), r"clips must be a uint8 array .* dtype float64"),
    ],
)
def test_bad_batches_are_refused(clips, labels, message):
    with pytest.raises(ValueError, match=message):
        Mixing(classes=4)(clips, labels, rng())
