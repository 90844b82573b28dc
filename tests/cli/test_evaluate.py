"""`video-focalnet evaluate` on small videos: what it prints, which views it takes, how it ends, how it goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import export
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.evaluation.ledger import LEDGER
from tests.evaluation.stand_in import colour_folder
from tests.evaluation.test_evaluate import done

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")

for package in ("sklearn", "pyarrow", "matplotlib"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("videos") / "videos", each=2)


def colour_model():
    """Takes the brightest of the channels for the class; blue, green, red as folders are sorted."""
    inputs = keras.Input((4, 32, 32, 3))
    mean = keras.layers.Rescaling(1 / 32)(keras.layers.GlobalAveragePooling3D()(inputs))
    turn = keras.layers.Dense(3, use_bias=False, name="turn")
    model = keras.Model(inputs, keras.layers.Softmax()(turn(mean)), name="colours")
    turn.set_weights([np.eye(3)[::-1]])
    return model


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "colours.keras"
    colour_model().save(path)
    return path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_what_it_prints_and_writes(videos, colours, tmp_path):
    (videos / "red" / "page.mp4").write_text("<html>" * 100)
    try:
        result = invoke("--data", videos, "--model", colours, "--views", "2x3", "--out", tmp_path / "out")
    finally:
        (videos / "red" / "page.mp4").unlink()
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 clips x 3 crops of a video, 4 frames of 32 x 32 pixels each, spread over each video")
    figures = dict(line.rsplit(maxsplit=1) for line in lines if line[:3] in ("top", "mea", "ece", "sco", "bro"))
    assert figures["top1"] == figures["mean class accuracy"] == "0.5000"
    assert (figures["scored videos"], figures["broken videos"]) == ("6", "1")
    assert any("page.mp4 is not a video" in line for line in lines)
    assert result.stderr == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.parquet", "report.html", "report.json", LEDGER
    ]  # fmt: skip


def test_json_and_resuming(videos, colours, tmp_path):
    arguments = ("--data", videos, "--model", colours, "--out", tmp_path / "out")
    told = json.loads(invoke(*arguments, "--json").stdout)
    assert told["metrics"]["top1"] == 0.5 and told["protocol"]["views"] == "1x1"
    assert told["model"] == {"name": "colours", "classes": 3, "model": "colours", "weights": str(colours)}
    refused = invoke(*arguments, code=1)
    assert "holds an evaluation; pass" in refused.output and "--resume" in refused.output
    assert invoke(*arguments, "--resume", "--json").stdout == json.dumps(told, indent=2) + "\n"
    assert invoke(*arguments, "--resume", "--views", "4x1", "--seed", "0", code=1).stderr == (
        f"Error: the evaluation in {tmp_path / 'out'} was begun without --seed, now with --seed 0; with --views 1x1, "
        "now with --views 4x1. Resume with what it was begun with, or begin anew with another out.\n"
    )


def test_published_weights_are_evaluated_with_the_views_of_their_paper(videos, tmp_path, monkeypatch):
    from keras_video_focalnet.cli import evaluate

    def load_either(model, weights, class_names, labels):
        return colour_model(), {"model": model, "weights": weights}

    monkeypatch.setattr(evaluate, "load_either", load_either)
    arguments = ("--data", videos, "--model", "base", "--weights")
    invoke(*arguments, "k400", "--out", tmp_path / "k400")
    report = json.loads((tmp_path / "k400" / "report.json").read_text())
    assert report["protocol"]["views"] == "4x3"
    assert report["model"]["reported by the paper"] == "top-1 83.6 % with 4x3 views"
    invoke(*arguments, "ssv2", "--out", tmp_path / "ssv2")
    assert json.loads((tmp_path / "ssv2" / "report.json").read_text())["protocol"]["views"] == "1x3"
    told = json.loads(invoke(*arguments, "ssv2", "--views", "2x1", "--out", tmp_path / "own", "--json").stdout)
    assert told["protocol"]["views"] == "2x1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--views", "4x2"), "views must be clips x crops"),
        (("--data", "nothing"), "nothing does not exist"),
        (("--weights", "none"), "--weights none would classify with random weights"),
        (("--seed", "-1"), "--seed"),
        (("--labels", "nothing.txt"), "no known data set and no file"),
    ],
)
def test_errors(videos, colours, tmp_path, options, message):
    arguments = {"--data": videos, "--out": tmp_path / "out"} | {options[0]: options[1]}
    if options[0] != "--weights":
        arguments["--model"] = colours
    given = [word for pair in arguments.items() for word in pair]
    result = CliRunner().invoke(main, ["evaluate", *map(str, given)])
    assert result.exit_code in (1, 2) and message in result.output, result.output
    assert "Traceback" not in result.output


@pytest.mark.slow_on("jax", "torch")
def test_an_exported_file(videos, colours, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tensorflow")
    export(colour_model(), tmp_path / "colours.onnx")
    arguments = ("--data", videos, "--views", "2x3", "--json")
    ours = json.loads(invoke(*arguments, "--model", colours, "--out", tmp_path / "ours").stdout)
    exported = json.loads(invoke(*arguments, "--model", tmp_path / "colours.onnx", "--out", tmp_path / "file").stdout)
    assert exported["metrics"]["top1"] == ours["metrics"]["top1"] == 0.5
    assert exported["metrics"]["ece"] == pytest.approx(ours["metrics"]["ece"], abs=1e-5)


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_done(colours, tmp_path):
    videos = colour_folder(tmp_path / "videos", each=20)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "keras_video_focalnet", "evaluate", "--data", videos, "--model", colours]
    command = [*map(str, command), "--views", "4x3", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while not done(out) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, errors
    assert "interrupted; what was scored is in" in errors and "Traceback" not in errors
    before = done(out)
    assert 0 < len(before) < 60
    result = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True)
    assert json.loads(result.stdout)["videos"]["scored"] == 60, result.stderr
