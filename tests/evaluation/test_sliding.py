"""Windows that slide, averaged scores and the path of classes, each beside its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet import read_clip
from keras_video_focalnet.evaluation import track as track_module
from keras_video_focalnet.evaluation.sliding import MOST_BETWEEN, SlidingWindows
from keras_video_focalnet.evaluation.track import LEAST_SCORE, Cell, MeanScores, Segment, Segments, SwitchingPath, Track

pytestmark = pytest.mark.backend_free


def slide(times, end, length, stride, frames):
    """The windows of frames that hold their own number; which frames were transformed, in order."""
    taken = []

    def transform(picture):
        taken.append(int(picture[0]))
        return picture

    windows = SlidingWindows(length, stride, frames, transform)
    found = []
    for number, time in enumerate(times):
        found += windows.add(time, np.array([number]))
        assert len(windows._open) <= length / stride + 2
    found += windows.finish(end)
    return [(window.start, window.end, window.clip[:, 0].tolist()) for window in found], taken


@settings(max_examples=200)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.02, 0.04, 0.1, 0.5]), min_size=0, max_size=80),
    length=st.sampled_from([0.16, 0.5, 1.0, 1.3]),
    stride=st.sampled_from([0.04, 0.25, 0.5, 2.0]),
    frames=st.integers(1, 8),
)
def test_windows_are_what_is_on_screen_in_the_middles_of_their_segments(gaps, length, stride, frames):
    times = list(itertools.accumulate(gaps, initial=0.0))
    end = times[-1] + 0.04
    found, taken = slide(times, end, length, stride, frames)
    assert taken == sorted(set(taken))

    def on_screen(moment):
        return max(number for number, time in enumerate(times) if time <= moment + 1e-6)

    middles = (np.arange(frames) + 0.5) / frames
    expected = []
    while expected[-1:] != [None]:
        start = len(expected) * stride
        moments = start + length * middles
        expected.append((start, [on_screen(moment) for moment in moments]) if moments[-1] < end - 1e-6 else None)
    expected.pop()
    assert len(found) - len(expected) in (0, 1)
    for (start, stop, clip), (expected_start, expected_clip) in zip(found, expected, strict=False):
        assert (clip, start, stop) == (expected_clip, expected_start, pytest.approx(start + length))
    # The end of the video is seen.
    assert found[-1][1] >= end - 1e-6


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_a_short_video_is_the_clip_that_is_read_of_it(count):
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    found, _ = slide(np.arange(count) / 25, count / 25, 1.0, 0.5, 8)
    (window,) = found
    expected = read_clip(frames, num_frames=8, size=32, crop_fraction=1)[:, 0, 0, 0].tolist()
    assert window == (0.0, count / 25, expected)


def test_a_window_of_as_many_frames_takes_each():
    found, taken = slide(np.arange(40) / 30, 40 / 30, 8 / 30, 4 / 30, 8)
    assert [clip for *_, clip in found] == [list(range(first, first + 8)) for first in range(0, 33, 4)]
    assert taken == list(range(40))


def test_frames_that_no_window_takes_are_left_alone():
    _, taken = slide(np.arange(1000) / 100, 10.0, 1.0, 0.5, 4)
    # All of the first window, which the video might have ended in, and after it one each quarter of a second.
    assert taken[:88] == list(range(88)) and len(taken) < 88 + 4 * 9 + 2


def test_times_that_leap_are_refused():
    with pytest.raises(ValueError, match="times in the file are damaged"):
        slide([0.0, MOST_BETWEEN + 1], MOST_BETWEEN + 2, 1.0, 0.5, 4)


@settings(max_examples=100)
@given(
    length=st.sampled_from([0.3, 1.0, 2.0]),
    stride=st.sampled_from([0.3, 0.5, 1.0, 3.0]),
    count=st.integers(1, 12),
    tail=st.booleans(),
    seed=st.integers(0, 99),
)
def test_cells_are_the_means_of_the_windows_over_them(length, stride, count, tail, seed):
    rng = np.random.default_rng(seed)
    windows = [(number * stride, number * stride + length, rng.random(3)) for number in range(count)]
    end = windows[-1][1]
    if tail:
        end += stride * 0.6
        windows.append((end - length, end, rng.random(3)))
    means = MeanScores(stride)
    cells = [cell for window in windows for cell in means.add(*window)]
    cells += means.finish(end)
    assert len(cells) == int(np.ceil(end / stride - 1e-6))
    for number, cell in enumerate(cells):
        weights = [min(b, (number + 1) * stride) - max(a, number * stride) for a, b, _ in windows]
        weights = np.maximum(weights, 0)
        np.testing.assert_allclose(cell, np.average([scores for *_, scores in windows], axis=0, weights=weights))


def worth(path, scores, penalty, weight=1.0):
    evidence = weight * np.log(np.maximum(scores, LEAST_SCORE))
    return evidence[np.arange(len(path)), path].sum() - penalty * np.count_nonzero(np.diff(path))


@settings(max_examples=150)
@given(
    length=st.integers(1, 7),
    classes=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    weight=st.sampled_from([1.0, 0.5]),
    seed=st.integers(0, 9999),
)
def test_the_path_is_worth_most_of_all(length, classes, penalty, weight, seed):
    scores = np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), length)
    path = SwitchingPath(penalty, weight)
    found = [index for row in scores for index in path.add(row)] + path.finish()
    best = max(
        worth(np.array(other), scores, penalty, weight) for other in itertools.product(range(classes), repeat=length)
    )
    assert worth(np.array(found), scores, penalty, weight) == pytest.approx(best)


def test_no_penalty_takes_the_best_class_of_each_cell():
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    path = SwitchingPath(0.0)
    assert [index for row in scores for index in path.add(row)] + path.finish() == scores.argmax(-1).tolist()


def test_cells_are_decided_soon_and_at_last_in_any_case(monkeypatch):
    monkeypatch.setattr(track_module, "LONGEST_DELAY", 20)
    path, decided = SwitchingPath(3.0), 0
    clear = [np.eye(4)[number // 10 % 4] for number in range(100)]
    for number, row in enumerate(clear):
        decided += len(path.add(row))
        assert number - decided < 3
    # Two classes that are never told apart.
    unclear = np.array([0.5, 0.5, 0.0, 0.0])
    for number in range(200):
        found = path.add(unclear)
        decided += len(found)
        assert 100 + number - decided <= 20
    assert decided + len(path.finish()) == 300


def test_segments_follow_one_another_and_average():
    cells = [Cell(place, place + 1, index, np.array([0.5, place / 10])) for place, index in enumerate([0, 0, 1, 1, 0])]
    segments = Segments(["a", "b"])
    found = [segments.add(cell) for cell in cells] + [segments.finish()]
    assert [segment for segment in found if segment] == [
        Segment(0, 2, "a", 0.5),
        Segment(2, 4, "b", pytest.approx(0.25)),
        Segment(4, 5, "a", 0.5),
    ]
    assert segments.finish() is None


def test_a_track_covers_everything_from_its_origin_on():
    track = Track(1.0, 0.5, 3.0, origin=10.0)
    cells = [cell for number in range(9) for cell in track.add(number / 2, number / 2 + 1, np.eye(2)[number // 5])]
    cells += track.finish(4.9)
    edges = [cells[0].start, *(cell.end for cell in cells)]
    np.testing.assert_allclose(edges, [*np.arange(10.0, 14.9, 0.5), 14.9])
    assert [cell.index for cell in cells] == [0] * 5 + [1] * 5
