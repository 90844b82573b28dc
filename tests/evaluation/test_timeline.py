"""`timeline` on videos of which it is known what happens when; its files, interrupts and errors."""

import csv
import io
import json
import re

import keras
import numpy as np
import pytest

from examples.camera_motion.long_video import found, write_moves
from examples.camera_motion.photographs import HELD_OUT, load_photographs
from keras_video_focalnet import VideoFocalNetNano, VideoReader, stream_timeline, timeline
from keras_video_focalnet.evaluation import overview
from keras_video_focalnet.evaluation.timeline import TimelineInterrupted
from keras_video_focalnet.evaluation.timeline_files import cue_text
from tests.colours import colour_frames, colour_model, colour_video

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")

NAMES = ["red", "green", "blue"]
HOSTILE = ["<img onerror=alert(1)>.mp4 -->\n\nNOTE x", 'a,"b"\r\n=1+1', "$\\frac{$ \x1b[31m & \ud800"]


@pytest.fixture(scope="module")
def model():
    return colour_model()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Red until 4 s, blue until 9 s, green until 15 s."""
    return colour_video(tmp_path_factory.mktemp("videos") / "video.mp4", ("red", 40), ("blue", 50), ("green", 60))


def spans(segments):
    return [(round(segment.start, 2), round(segment.end, 2), segment.label) for segment in segments]


EXPECTED = [(0.0, 4.0, "red"), (4.0, 9.0, "blue"), (9.0, 15.0, "green")]


def test_segments_of_a_file_and_of_what_else_a_video_may_be(model, video, tmp_path):
    options = {"window": 1, "labels": NAMES}
    result = timeline(model, video, **options)
    assert spans(result.segments) == EXPECTED
    assert all(segment.score > 0.85 for segment in result.segments)
    assert (result.start, result.end, result.complete) == (0.0, pytest.approx(15.0), True)
    frames = colour_frames(("red", 40), ("blue", 50), ("green", 60))
    with VideoReader(video) as reader, open(video, "rb") as stream:
        for other in (reader, stream, frames, list(frames), iter(frames)):
            assert spans(timeline(model, other, fps=10, **options).segments) == EXPECTED
    assert spans(timeline(model, video, window=10, unit="frames", labels=NAMES).segments) == EXPECTED
    assert timeline(model, video, window=10, stride=2, unit="frames", labels=NAMES).stride == pytest.approx(0.2)


def test_a_part_of_a_video(model, video):
    result = timeline(model, video, window=1, labels=NAMES, start=2, end=11)
    assert spans(result.segments) == [(2.0, 4.0, "red"), (4.0, 9.0, "blue"), (9.0, 11.0, "green")]
    assert (result.start, result.end) == (2, 11)


def test_a_video_shorter_than_a_window(model, tmp_path):
    path = colour_video(tmp_path / "short.mp4", ("green", 3))
    result = timeline(model, path, window=5, labels=NAMES)
    assert spans(result.segments) == [(0.0, 0.3, "green")]


def test_the_defaults_are_those_of_the_model(model, video):
    result = timeline(model, video)
    assert (result.window, result.stride) == (0.5, 0.25)
    assert [segment.label for segment in result.segments] == ["class 0", "class 2", "class 1"]


def test_moves_of_a_camera_are_found(tmp_path):
    moves = write_moves(tmp_path / "moves.mp4", 24, load_photographs(HELD_OUT), seed=0, rate=16, size=64)
    network = VideoFocalNetNano(weights="camera_motion")
    result = timeline(network, tmp_path / "moves.mp4", window=1)
    assert len(moves) >= 3
    assert all(found(moves, result.segments, within=1.0)), (moves, result.segments)


def test_each_frame_is_decoded_once(model, video, monkeypatch):
    from keras_video_focalnet.data import video_reader

    decoded = []
    upright = video_reader.upright_rgb
    monkeypatch.setattr(video_reader, "upright_rgb", lambda *args: decoded.append(1) or upright(*args))
    timeline(model, video, window=1, stride=0.1, labels=NAMES)
    assert len(decoded) == 150


def test_batches_change_nothing_and_have_one_size(model, video, monkeypatch):
    sizes = set()
    predict = keras.Model.predict
    monkeypatch.setattr(
        keras.Model, "predict", lambda self, clips, **options: sizes.add(len(clips)) or predict(self, clips, **options)
    )
    results = [timeline(model, video, window=1, labels=NAMES, batch_size=size) for size in (1, 7)]
    assert sizes == {1, 7}
    assert spans(results[0].segments) == spans(results[1].segments)


def test_what_is_kept_to_be_drawn_is_bounded(monkeypatch):
    monkeypatch.setattr(overview, "COLUMNS", 16)
    monkeypatch.setattr(overview, "PICTURES", 8)
    columns, pictures = overview.Columns(), overview.Pictures(1.0)
    for number in range(1000):
        columns.add(np.full(2, number))
        pictures.add(number / 2, np.zeros((100, 200, 3), np.uint8))
        assert len(columns.means) < 16 and len(pictures.taken) < 8
    assert columns.cells == 64 and len(columns.means) == 1000 // columns.cells
    np.testing.assert_allclose(columns.means[0], np.arange(columns.cells).mean())
    gaps = np.diff([seconds for seconds, _ in pictures.taken])
    assert np.ptp(gaps) == 0 and pictures.taken[0][1].shape == (90, 180, 3)
    assert pictures.within(0, 500)[0] == pytest.approx(250, abs=gaps[0])
    assert pictures.within(0.1, 0.2) is None


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files(model, video, tmp_path):
    result = timeline(model, video, window=1, labels=NAMES, out=tmp_path / "new" / "out")
    folder = tmp_path / "new" / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "chapters.vtt",
        "segments.csv",
        "segments.json",
        "timeline.png",
        "track.csv",
    ]
    rows = table(folder / "segments.csv")
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in rows] == EXPECTED
    told = json.loads((folder / "segments.json").read_text())
    assert [(row["start"], row["end"], row["label"]) for row in told["segments"]] == EXPECTED
    assert (told["complete"], told["window"], told["stride"], told["video"]) == (True, 1, 0.5, str(video))
    track = table(folder / "track.csv")
    assert len(track) == 30 and track[0]["start"] == "0.000" and track[-1]["end"] == "15.000"
    assert [row["label"] for row in track] == ["red"] * 8 + ["blue"] * 10 + ["green"] * 12
    cues = (folder / "chapters.vtt").read_text().split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[1].startswith("1\n00:00:00.000 --> 00:00:04.000\nred (")
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert result.complete


def test_names_stay_text(model, tmp_path):
    path = colour_video(tmp_path / "<img onerror=x>$\\a$.mp4", ("red", 20), ("blue", 20), ("green", 20))
    timeline(model, path, window=1, labels=HOSTILE, out=tmp_path / "out")
    text = (tmp_path / "out" / "chapters.vtt").read_text()
    cues = text.rstrip("\n").split("\n\n")
    assert len(cues) == 4 and all(len(cue.split("\n")) == 3 for cue in cues[1:])
    assert not re.search("[<>]", text.replace(" --> ", "", 3)) and "\x1b" not in text
    rows = list(csv.reader(io.StringIO((tmp_path / "out" / "segments.csv").read_text(), newline="")))
    assert len(rows) == 4 and all(len(row) == 4 for row in rows)
    assert len(json.loads((tmp_path / "out" / "segments.json").read_text())["segments"]) == 3
    assert cue_text("\n\r") == "-"


def failing(model, after, error):
    """A model that raises at a batch."""
    predict, calls = model.predict, []

    class Failing(type(model)):
        def predict(self, *args, **options):
            calls.append(1)
            if len(calls) > after:
                raise error
            return predict(*args, **options)

    other = keras.models.clone_model(model)
    other.__class__ = Failing
    return other


def test_an_interrupt_keeps_what_was_seen(model, video, tmp_path):
    with pytest.raises(TimelineInterrupted) as caught:
        timeline(failing(model, 12, KeyboardInterrupt()), video, window=1, labels=NAMES, out=tmp_path, batch_size=1)
    seen = caught.value.timeline
    assert isinstance(caught.value, KeyboardInterrupt) and not seen.complete
    assert spans(seen.segments) == [(0.0, 4.0, "red"), (4.0, 6.5, "blue")]
    told = json.loads((tmp_path / "segments.json").read_text())
    assert (told["complete"], told["end"], len(told["segments"])) == (False, 6.5, 2)
    assert len((tmp_path / "track.csv").read_text().splitlines()) == 14
    # Nothing was seen, so that nothing is written.
    with pytest.raises(KeyboardInterrupt):
        timeline(failing(model, 0, KeyboardInterrupt()), video, window=1, labels=NAMES, out=tmp_path / "none")
    assert list((tmp_path / "none").iterdir()) == []


def test_an_error_on_the_way_keeps_what_was_seen(model, tmp_path):
    def frames():
        yield from colour_frames(("red", 40))
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        timeline(model, frames(), window=1, labels=NAMES, fps=10, out=tmp_path, batch_size=1)
    told = json.loads((tmp_path / "segments.json").read_text())
    assert not told["complete"] and told["segments"][0]["label"] == "red"


def test_a_full_disk_leaves_the_former_files(model, video, tmp_path, monkeypatch):
    import os

    (tmp_path / "segments.csv").write_text("of before")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        timeline(model, video, window=1, labels=NAMES, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["segments.csv"]
    assert (tmp_path / "segments.csv").read_text() == "of before"


def test_without_matplotlib_the_picture_alone_is_missing(model, video, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    with pytest.warns(UserWarning, match=r"timeline.png is not drawn. .* needs matplotlib: pip install"):
        timeline(model, video, window=1, labels=NAMES, out=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_segments_come_as_they_close(model):
    shown = []

    def camera():
        while True:
            for colour in NAMES:
                for frame in colour_frames((colour, 30)):
                    shown.append(colour)
                    yield frame

    segments = stream_timeline(model, camera(), window=1, labels=NAMES, fps=10)
    for number in range(5):
        segment = next(segments)
        assert (segment.label, segment.start) == (NAMES[number % 3], pytest.approx(3 * number, abs=0.5))
        # It closes within four windows after its end.
        assert len(shown) / 10 <= segment.end + 4
    segments.close()


def test_segments_of_a_stream_are_those_of_the_whole(model, video):
    options = {"window": 1, "labels": NAMES}
    told = []
    result = timeline(model, video, **options, on_segment=told.append)
    assert tuple(told) == result.segments
    assert spans(stream_timeline(model, video, **options)) == spans(result.segments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be a number above 0, received 0"),
        ({"stride": -1}, "stride must be a number above 0, received -1"),
        ({"window": 100, "stride": 0.1}, "window must be at most 256 strides"),
        ({"unit": "hours"}, "unit must be one of"),
        ({"penalty": -1}, "penalty must be a number of at least 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"labels": ["a"]}, "labels has 1 names but the model has 3 classes"),
        ({"start": 3, "end": 2}, "end must lie after start"),
        ({"start": 99}, "no frame lies between start and end"),
    ],
)
def test_bad_arguments(model, video, options, message):
    with pytest.raises(ValueError, match=message):
        timeline(model, video, **options)


def test_models_and_videos_that_do_not_fit(model, video, tmp_path):
    inputs = keras.Input((4, 32, 32, 3))
    with pytest.raises(ValueError, match="gives no class scores"):
        timeline(keras.Model(inputs, keras.layers.GlobalAveragePooling3D(keepdims=True)(inputs)), video)
    with pytest.raises(FileNotFoundError):
        timeline(model, tmp_path / "nothing.mp4", out=tmp_path / "out")
    with pytest.raises(ValueError, match="the frames: no frame lies"):
        timeline(model, iter([]))


@pytest.mark.slow
def test_exported_files(tmp_path):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tensorflow")
    from keras_video_focalnet import export, load_exported

    network = VideoFocalNetNano(weights="camera_motion")
    export(network, tmp_path / "nano.tflite")
    write_moves(tmp_path / "moves.mp4", 15, load_photographs(HELD_OUT), seed=1, rate=16, size=64)
    results = [timeline(each, tmp_path / "moves.mp4") for each in (network, load_exported(tmp_path / "nano.tflite"))]
    assert spans(results[0].segments) == spans(results[1].segments)
    assert results[1].labels == results[0].labels
