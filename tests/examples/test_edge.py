"""The example for devices: it needs a file, ai-edge-litert, NumPy and PyAV, and nothing else."""

import pathlib
import runpy
import subprocess
import venv

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from examples.camera_motion.photographs import HELD_OUT, load_photographs
from tests.clips import encode, marked_frame, quadrants, real_clips

pytest.importorskip("ai_edge_litert")
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "edge"
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="which backend wrote the file makes no difference"
)


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    path = tmp_path_factory.mktemp("edge") / "nano.tflite"
    kvf.export(kvf.VideoFocalNetNano(weights="camera_motion"), path)
    return path


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE / "watch.py"), run_name="watch")


def test_answers_come_while_the_video_runs(nano, example):
    answers = list(example["watch"](example["Classifier"](str(nano), 1), str(real_clips() / "bikes.mp4")))
    moments = [moment for moment, *_ in answers]
    assert len(answers) >= 15 and abs(np.diff(moments).mean() - 0.5) < 0.05 and moments[0] <= 1.0
    labels = kvf.load_exported(nano).labels
    assert all(label in labels and 0 < score <= 1 and took > 0 for _, label, score, took in answers)


def test_each_frame_is_decoded_once_and_kept_at_most_once(nano, example, tmp_path, monkeypatch):
    still = load_photographs(HELD_OUT[:1])[0][:288:4, :384:4]
    path = encode(tmp_path / "still.mp4", np.stack([still] * 60), rate=30)
    decoded, kept = [], []
    names = example["watch"].__globals__
    open_video, shrink = names["av"].open, names["shrink"]

    class Container:
        def __init__(self, *arguments, **options):
            self.container = open_video(*arguments, **options)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

        def decode(self, **streams):
            for frame in self.container.decode(**streams):
                decoded.append(frame.pts)
                yield frame

    monkeypatch.setattr(names["av"], "open", Container)
    monkeypatch.setitem(names, "shrink", lambda *a: kept.append(a[0].pts) or shrink(*a))
    answers = list(example["watch"](example["Classifier"](str(nano), 1), str(path)))
    assert len(decoded) == len(set(decoded)) == 60
    # Eight frames a second of thirty, for two seconds.
    assert len(kept) == len(set(kept)) and len(kept) in (15, 16)
    assert [label for _, label, *_ in answers] == ["static"] * len(answers) and answers


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_what_a_phone_turned_is_upright(example, degrees, tmp_path):
    import av

    frames = np.stack([marked_frame()] * 3)
    path = encode(
        tmp_path / "turned.mp4", frames, prepare=lambda stream: degrees and stream.set_display_rotation(degrees)
    )
    with av.open(str(path)) as container:
        ours = example["shrink"](next(container.decode(video=0)), 64, 48)
    theirs = kvf.read_clip(path, num_frames=1, size=(64, 48))[0]
    assert ours.shape == theirs.shape and quadrants(ours) == quadrants(theirs)


def test_frames_are_shrunk_as_in_training(nano, example):
    import av

    video = str(real_clips() / "bikes.mp4")
    with av.open(video) as container:
        frame = next(container.decode(video=0))
        ours = example["shrink"](frame, 64, 64)
    theirs = kvf.read_clip(video, num_frames=1, size=64, end=1 / 30)[0]
    assert ours.shape == theirs.shape and ours.dtype == np.uint8
    # Another resampling filter, no shift.
    assert np.abs(ours.astype(int) - theirs).mean() < 6


@pytest.mark.slow
def test_it_runs_where_there_is_neither_keras_nor_tensorflow(nano, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = EXAMPLE.parents[1] / "constraints.txt"
    install = [python, "-m", "pip", "install", "-q", "-r", EXAMPLE / "requirements.txt", "-c", constraints]
    subprocess.run([*map(str, install)], check=True)
    listed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "keras" not in listed.lower() and "tensorflow" not in listed.lower() and "ai-edge-litert" in listed
    command = [str(python), str(EXAMPLE / "watch.py"), str(nano), str(real_clips() / "bikes.mp4")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert len(printed.splitlines()) >= 15 and " ms" in printed
    print(printed)
