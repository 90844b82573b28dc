"""`video-focalnet train`: from a folder of videos to a model that `predict` takes, killed and resumed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from examples.fine_tune.videos import CLASSES, HELD_OUT, TRAINING, make_videos
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.weights.safetensors_file import read_safetensors

SMALL = ["--set", "epochs=2", "--batch-size", "4", "--workers", "0"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four classes with two training videos and one validation video each."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder / "train", TRAINING[:2], 2, seed=0)
    make_videos(folder / "val", HELD_OUT[:1], 1, seed=1)
    return folder


def train(videos, out, *options):
    arguments = ["--data", videos / "train", "--val", videos / "val", "--out", out, *options]
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


@pytest.mark.slow_on("jax")
def test_a_folder_of_videos_becomes_a_model_that_predicts(videos, tmp_path):
    out = tmp_path / "run"
    result = train(videos, out, *SMALL)
    assert result.exit_code == 0, result.output
    assert (out / "labels.txt").read_text().split() == sorted(CLASSES)
    assert json.loads((out / "config.json").read_text())["class_names"] == sorted(CLASSES)
    assert len(list(csv.DictReader((out / "metrics.csv").open()))) == 2
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    video = videos / "val" / "slow_left" / "000.mp4"
    answer = CliRunner().invoke(main, ["predict", "--weights", str(out / "model.keras"), str(video), "--json"])
    predictions = json.loads(answer.stdout)[0]["predictions"]
    assert {prediction["label"] for prediction in predictions} == set(CLASSES)
    assert sum(prediction["score"] for prediction in predictions) == pytest.approx(1, abs=1e-5)

    again = train(videos, out, *SMALL, "--resume", "--set", "base_rate=0.5")
    assert again.exit_code == 1
    assert "has set=['epochs=2'], not ['epochs=2', 'base_rate=0.5']; resume it as it was begun" in again.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epochs"], "--set epochs has no value; write --set epochs=VALUE"),
        (["--set", "epoch=3"], "a recipe has no attribute 'epoch'"),
        (["--recipe", "k4000"], "recipe='k4000' is not known"),
        (["--data", "no_such_folder"], "no_such_folder does not exist"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(videos, tmp_path, options, message):
    result = train(videos, tmp_path / "run", *options)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_four_new_classes_reach_95_percent_on_held_out_photographs(tmp_path):
    make_videos(tmp_path / "train", TRAINING, 150, seed=0)
    make_videos(tmp_path / "val", HELD_OUT, 50, seed=1)
    result = train(tmp_path, tmp_path / "run", "--batch-size", "16", "--set", "epochs=6")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    print(f"held-out photographs: {max(float(row['val_top1']) for row in rows):.3f}")
    assert max(float(row["val_top1"]) for row in rows) >= 0.95
    assert float(rows[-1]["data_wait_share"]) < 0.2


@pytest.mark.slow
def test_killed_five_times_it_comes_to_the_same_weights(tmp_path):
    make_videos(tmp_path / "train", TRAINING[:4], 8, seed=0)
    make_videos(tmp_path / "val", HELD_OUT[:1], 2, seed=1)
    command = [sys.executable, "-m", "keras_video_focalnet.cli.main", "train", "--save-every", "1"]
    command += ["--data", "train", "--val", "val", "--set", "epochs=6", "--batch-size", "4", "--workers", "1"]
    environment = os.environ | {"TF_DETERMINISTIC_OPS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    subprocess.run([*command, "--out", "unbroken"], check=True, **run)
    checkpoints, rng, total = tmp_path / "killed" / "checkpoints", random.Random(0), 6 * 8
    for target in sorted(rng.sample(range(2, total - 2), 5)):
        process = subprocess.Popen([*command, "--out", "killed", "--resume"], **run)
        while process.poll() is None and _newest(checkpoints) < target:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    subprocess.run([*command, "--out", "killed", "--resume"], check=True, **run)
    last = f"checkpoints/step-{total:08d}.safetensors"
    unbroken, killed = (read_safetensors(tmp_path / name / last) for name in ("unbroken", "killed"))
    assert unbroken.keys() == killed.keys()
    for name, array in unbroken.items():
        np.testing.assert_array_equal(killed[name], array, err_msg=name)


def _newest(folder):
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.safetensors")), default=0)
