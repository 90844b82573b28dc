"""A video with the running answer drawn in."""

import os
import weakref

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.evaluation.overview import Columns
from keras_video_focalnet.evaluation.timeline import Timeline
from keras_video_focalnet.evaluation.track import Segment
from keras_video_focalnet.visualization.annotation import AnswerPainter
from tests.clips import decode_everything, encode

pytestmark = pytest.mark.backend_free
LABELS = ("red", "green", "blue")
COLOURS = {"red": (250, 10, 10), "blue": (10, 10, 250)}


def colour_frames(*stretches):
    """Frames of stretches `(colour, number of frames)`; without Keras, unlike `tests.colours`."""
    pictures = [np.broadcast_to(np.uint8(COLOURS[colour]), (count, 48, 64, 3)) for colour, count in stretches]
    return np.concatenate(pictures)


def colour_video(path, *stretches):
    return encode(path, colour_frames(*stretches), options={"crf": "20"})


def told(end=4.0):
    """Two seconds of red and two of blue, with a score for each half second."""
    segments = tuple(
        Segment(start, start + 2, label, 0.9) for start, label in ((0.0, "red"), (2.0, "blue")) if start < end
    )
    columns = Columns()
    for column in range(8):
        columns.add(np.array([0.9, 0.08, 0.02] if column < 4 else [0.1, 0.2, 0.7]))
    return Timeline(segments, 0.0, end, True, "video.mp4", "colours", LABELS, 1.0, 0.5, 3.0, columns, None)


def test_the_answer_of_each_moment():
    painter = AnswerPainter(told(), (240, 320), top=2)
    assert painter.answer_at(0.0) == ("red", [("red", pytest.approx(0.9)), ("green", pytest.approx(0.08))])
    assert painter.answer_at(1.99)[0] == "red" and painter.answer_at(2.0)[0] == "blue"
    assert [name for name, _ in painter.answer_at(2.0)[1]] == ["blue", "green"]
    # Behind the end as well: a last frame may be shown for longer than the file says.
    assert painter.answer_at(99.0) == painter.answer_at(3.9)


def test_what_is_drawn_into_a_frame():
    frame = np.full((240, 320, 3), 120, np.uint8)
    painter = AnswerPainter(told(), frame.shape[:2])
    painted = painter.paint(1.0, frame)
    assert painted.shape == frame.shape and (frame == 120).all()
    changed = (painted != frame).any(axis=-1)
    height = 6
    assert changed[-height:].all() and not changed[120:-height].any() and not changed[:120, 200:].any()
    # The bar of the first class is longer than that of the second, and text is bright.
    assert painted[:120, :200].max() == 255
    # The strip: the colour of the first segment, that of the second, and a line at a quarter.
    row = painted[-1].astype(int)
    assert (row[10] == row[150]).all() and (row[170] == row[310]).all() and (row[10] != row[170]).any()
    assert (row[79:81] == 255).all()
    np.testing.assert_array_equal(painted[-height:, :70], painter.paint(3.0, frame)[-height:, :70])


@pytest.mark.parametrize("size", [(2, 2), (9, 40), (64, 5), (1080, 1920)])
def test_frames_of_any_size_are_painted(size):
    painted = AnswerPainter(told(), size).paint(3.0, np.zeros((*size, 3), np.uint8))
    assert painted.shape == (*size, 3)


def test_a_video_there_and_back(tmp_path):
    source = colour_video(tmp_path / "video.mp4", ("red", 20), ("blue", 20))
    assert kvf.annotate_video(source, told(), tmp_path / "out.mp4") == 40
    before, after = decode_everything(source), decode_everything(tmp_path / "out.mp4")
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-3)
    for (time, frame), (_, painted) in zip(before, after, strict=True):
        assert painted.shape == frame.shape == (48, 64, 3)
        colour = COLOURS["red" if time < 1.99 else "blue"]
        # Below the panel, which has room for the label alone, and above the strip.
        np.testing.assert_allclose(painted[32, 32].astype(int), colour, atol=30)
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "video.mp4"]


def test_a_part_of_a_video_begins_at_zero(tmp_path):
    source = colour_video(tmp_path / "video.mp4", ("red", 20), ("blue", 20))
    timeline = told()
    part = Timeline(**{**vars(timeline), "start": 1.0, "end": 3.0})
    assert kvf.annotate_video(source, part, tmp_path / "out.mp4") == 20
    assert decode_everything(tmp_path / "out.mp4")[0][0] == 0.0


def test_odd_sides_grow_by_a_pixel(tmp_path):
    frames = colour_frames(("red", 10))[:, :47, :63]
    assert kvf.annotate_video(list(frames), told(), tmp_path / "out.mp4", fps=10) == 10
    assert decode_everything(tmp_path / "out.mp4")[0][1].shape == (48, 64, 3)


def test_wrong_arguments(tmp_path):
    source = colour_video(tmp_path / "video.mp4", ("red", 5))
    with pytest.raises(ValueError, match=r"path must be a file that ends in \.mp4, received '.*out.avi'"):
        kvf.annotate_video(source, told(), tmp_path / "out.avi")
    with pytest.raises(ValueError, match="path must be another file than the video itself"):
        kvf.annotate_video(source, told(), source)
    with pytest.raises(ValueError, match="top must be an integer of at least 1"):
        kvf.annotate_video(source, told(), tmp_path / "out.mp4", top=0)
    with pytest.raises(ValueError, match="no frame lies in the time of the timeline"):
        kvf.annotate_video(iter(()), told(), tmp_path / "out.mp4")
    with pytest.raises(FileNotFoundError):
        kvf.annotate_video(tmp_path / "nothing.mp4", told(), tmp_path / "out.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match="empty.mp4"):
        kvf.annotate_video(tmp_path / "empty.mp4", told(), tmp_path / "out.mp4")
    assert sorted(os.listdir(tmp_path)) == ["empty.mp4", "video.mp4"]


def test_memory_does_not_grow_with_the_video(tmp_path):
    """Frames are read one by one, and none is kept once it is written."""

    class Frame(np.ndarray):
        """An array that can be referred to weakly."""

    given, most = [], 0

    def frames():
        nonlocal most
        for _ in range(60):
            frame = np.zeros((48, 64, 3), np.uint8).view(Frame)
            given.append(weakref.ref(frame))
            yield frame
            del frame
            most = max(most, sum(one() is not None for one in given))

    assert kvf.annotate_video(frames(), told(), tmp_path / "out.mp4", fps=25) == 60
    assert most <= 3
