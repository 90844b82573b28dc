"""Frame sampling against the reference's indices, and for every length of video."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_video_focalnet.data.sampling import sample_frame_indices
from tests.golden import golden

pytestmark = pytest.mark.backend_free


def test_equals_the_reference_in_every_row():
    rows = json.loads((golden("sampling") / "expected.json").read_text())["test_mode"]
    assert len(rows) == 228
    for row in rows:
        indices = sample_frame_indices(row["total_frames"], row["num_frames"], row["frame_interval"])
        assert indices.tolist() == row["indices"], row


@pytest.mark.parametrize(
    ("total", "frames", "interval", "expected"),
    [
        (100, 8, 1, [6, 18, 31, 43, 56, 68, 81, 93]),
        (3, 8, 1, [0, 0, 0, 1, 1, 2, 2, 2]),
        (8, 8, 2, [0, 1, 2, 3, 3, 4, 5, 6]),
        (5, 16, 8, [0] * 16),
    ],
)
def test_known_rows(total, frames, interval, expected):
    indices = sample_frame_indices(total, frames, interval)
    assert indices.tolist() == expected
    assert indices.dtype == np.int64


lengths = st.integers(1, 10**9)
clips = st.integers(1, 256)


@given(lengths, clips, st.integers(1, 64))
def test_sorted_in_range_and_of_the_right_length(total, frames, interval):
    indices = sample_frame_indices(total, frames, interval)
    assert indices.shape == (frames,)
    assert np.all(np.diff(indices) >= 0)
    assert indices[0] >= 0
    assert indices[-1] < total


@given(lengths, clips)
def test_takes_the_middle_of_each_segment(total, frames):
    segment = total / frames
    middles = (np.arange(frames) + 0.5) * segment
    indices = sample_frame_indices(total, frames)
    assert np.all(indices <= middles + 1e-6)
    assert np.all(indices > middles - 1 - 1e-6)


@given(st.integers(1, 256))
def test_a_video_as_long_as_the_clip_is_taken_whole(frames):
    assert sample_frame_indices(frames, frames).tolist() == list(range(frames))


@pytest.mark.parametrize("name", ["total_frames", "num_frames", "frame_interval"])
@pytest.mark.parametrize("value", [0, -3])
def test_below_one_is_refused_by_name(name, value):
    arguments = {"total_frames": 10} | {name: value}
    with pytest.raises(ValueError, match=rf"{name} must be at least 1, received {value}\."):
        sample_frame_indices(**arguments)


def test_a_fraction_is_refused():
    with pytest.raises(TypeError, match=r"num_frames must be an integer, received 8\.5"):
        sample_frame_indices(10, 8.5)
    assert sample_frame_indices(np.int32(16), np.int64(8)).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
