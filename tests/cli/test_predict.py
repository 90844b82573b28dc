"""`video-focalnet predict` on real clips and broken files, with small models made here."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import VideoFocalNet, VideoFocalNetNano, preprocess_input, read_clip
from keras_video_focalnet.cli import networks
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.labels import load_labels
from tests.clips import encode, numbered_frames, real_clips
from tests.colours import COLOURS, colour_model


def invoke(*arguments, **options):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], **options)


@pytest.mark.slow_on("jax", "tensorflow")
def test_tables(folder, colours):
    files = [folder / f"{name}.mp4" for name in COLOURS]
    result = invoke(*files, "--weights", colours, "--top", "2", env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    firsts = [line for line in lines if line.startswith("│    1 ")]
    # Models without names of their own and of no known data set have numbers.
    assert [line.split("│")[2].strip() for line in firsts] == ["class 0", "class 1", "class 2"]
    assert all(float(line.split("│")[3]) > 0.99 for line in firsts)
    assert sum(line.startswith("│    2 ") for line in lines) == 3
    for file in files:
        assert str(file) in result.stdout
    assert result.stdout.count(f"colours, {colours}") == 3


@pytest.mark.slow_on("jax", "tensorflow")
def test_json(folder, colours):
    file = folder / "green.mp4"
    result = invoke(file, "--weights", colours, "--json", "--top", "1")
    assert result.exit_code == 0
    (answer,) = json.loads(result.stdout)
    assert answer.pop("predictions") == [{"label": "class 1", "score": pytest.approx(0.9994, abs=5e-4)}]
    assert answer == {"file": str(file), "model": "colours", "weights": colours, "labels": "none"}


def test_start_and_end(folder, colours):
    def first(*options):
        (answer,) = json.loads(invoke(folder / "turning.mp4", "--weights", colours, "--json", *options).stdout)
        return answer["predictions"][0]["label"]

    assert first("--end", "1.9") == "class 0"
    assert first("--start", "2.1") == "class 2"
    assert first("--start", "0.5", "--end", "1.5") == "class 0"


def test_broken_files_among_good_ones(folder, colours):
    files = [folder / name for name in ("page.mp4", "red.mp4", "missing.mp4", "empty.mp4", "blue.mp4")]
    for options in ([], ["--json"]):
        result = invoke(*files, "--weights", colours, *options, env={"COLUMNS": "300"})
        assert result.exit_code == 1
        errors = result.stderr.splitlines()
        assert len(errors) == 4
        assert errors[0].startswith(f"Error: {files[0]} is not a video")
        assert errors[1].startswith(f"Error: {files[2]} does not exist")
        assert errors[2].startswith(f"Error: {files[3]} is an empty file")
        assert errors[3] == "3 of 5 cannot be read."
    assert [row["file"] for row in json.loads(result.stdout)] == [str(files[1]), str(files[4])]


def test_only_broken_files_give_an_empty_list(folder, colours):
    result = invoke(folder / "page.mp4", "--weights", colours, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == []


def test_start_beyond_the_end_names_the_file(folder, colours):
    result = invoke(folder / "red.mp4", "--weights", colours, "--start", "9")
    assert result.exit_code == 1
    assert "red.mp4 lies at or after start=9.0" in result.stderr


def test_brackets_in_names_are_no_markup(folder, colours, tmp_path):
    path = tmp_path / "[bold]clip[red].mp4"
    path.write_bytes((folder / "red.mp4").read_bytes())
    result = invoke(path, "--weights", colours, env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert "[bold]clip[red].mp4" in result.stdout


@pytest.mark.slow_on("tensorflow", "jax")
def test_logits_are_shown_as_shares(folder, tmp_path):
    path = tmp_path / "logits.keras"
    colour_model("linear").save(path)
    (answer,) = json.loads(invoke(folder / "blue.mp4", "--weights", path, "--json").stdout)
    scores = [row["score"] for row in answer["predictions"]]
    assert answer["predictions"][0]["label"] == "class 2"
    assert sum(scores) == pytest.approx(1)
    assert min(scores) > 0


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_known_number_of_classes_has_no_names_by_itself(folder, tmp_path):
    path = tmp_path / "nine.keras"
    colour_model(channels=9).save(path)
    (answer,) = json.loads(invoke(folder / "blue.mp4", "--weights", path, "--json").stdout)
    assert (answer["predictions"][0]["label"], answer["labels"]) == ("class 2", "none")
    result = invoke(folder / "blue.mp4", "--weights", path, "--json", "--labels", "camera_motion")
    (answer,) = json.loads(result.stdout)
    assert (answer["predictions"][0]["label"], answer["labels"]) == (load_labels("camera_motion")[2], "given")
    result = invoke(folder / "blue.mp4", "--weights", path, "--labels", "k400")
    assert result.exit_code == 1
    assert result.stderr == "Error: --labels k400: it has 400 names but the model has 9 classes.\n"


def spread(network):
    """Untrained scores are all but equal: spread them, so that their order is beyond rounding."""
    head = network.get_layer("head")
    head.set_weights([head.get_weights()[0] * 50, head.get_weights()[1]])
    return network


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_saved_nano_answers_as_it_does_in_python(tmp_path):
    clips = real_clips()
    labels = [f"name {index}" for index in range(400)]
    network = spread(VideoFocalNetNano(weights=None, classes=400, labels=labels))
    path = tmp_path / "nano.keras"
    network.save(path)
    files = [clips / "bikes.mp4", clips / "bigbuckbunny.mp4"]
    result = invoke(*files, "--weights", path, "--json", "--top", "3")
    assert result.exit_code == 0, result.output
    for file, answer in zip(files, json.loads(result.stdout), strict=True):
        scores = network.predict(read_clip(file, size=64)[None].astype("float32"), verbose=0)[0]
        best = np.argsort(-scores)[:3]
        # The model's own names win over those of the data set that has as many.
        assert [row["label"] for row in answer["predictions"]] == [labels[index] for index in best]
        np.testing.assert_allclose([row["score"] for row in answer["predictions"]], scores[best], rtol=1e-4)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_model_without_preprocessing_gets_normalized_pixels(folder, tmp_path):
    shape = (2, 32, 32, 3)
    network = VideoFocalNet(embed_dim=2, depths=(1, 1, 1, 1), input_shape=shape, classes=9, include_preprocessing=False)
    spread(network).save(tmp_path / "small.keras")
    result = invoke(folder / "turning.mp4", "--weights", tmp_path / "small.keras", "--json", "--top", "9")
    (answer,) = json.loads(result.stdout)
    clip = read_clip(folder / "turning.mp4", num_frames=2, size=32)[None]
    scores = network.predict(preprocess_input(clip), verbose=0)[0]
    assert np.ptp(scores) > 1e-3
    for row in answer["predictions"]:
        assert row["score"] == pytest.approx(scores[int(row["label"].removeprefix("class "))], rel=1e-4)


@pytest.fixture(scope="module")
def small_network():
    options = {"input_shape": (2, 32, 32, 3), "classes": 9, "labels": "camera_motion"}
    return VideoFocalNet(embed_dim=2, depths=(1, 1, 1, 1), **options)


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    ("options", "builder", "weights"),
    [
        ([], "VideoFocalNetNano", "camera_motion"),
        (["--model", "tiny"], "VideoFocalNetT", "k400"),
        (["--model", "small"], "VideoFocalNetS", "k400"),
        (["--model", "base", "--weights", "ssv2"], "VideoFocalNetB", "ssv2"),
        (["--model", "base", "--weights", "my.pth"], "VideoFocalNetB", "my.pth"),
        (["--weights", "https://127.0.0.1/model.keras"], "VideoFocalNetNano", "https://127.0.0.1/model.keras"),
    ],
)
def test_options_choose_builder_and_weights(folder, monkeypatch, tmp_path, small_network, options, builder, weights):
    from keras_video_focalnet.models import registry
    from keras_video_focalnet.models.video_focalnet import model as video_focalnet

    def build(weights):
        built.append(weights)
        return small_network

    built = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.pth").touch()
    monkeypatch.setattr(video_focalnet, builder, build)
    result = invoke(folder / "red.mp4", "--json", *options)
    assert result.exit_code == 0, result.output
    assert built == [weights]
    (answer,) = json.loads(result.stdout)
    size = registry.find_builder(builder).short_name
    assert (answer["model"], answer["weights"]) == (size, weights)
    assert {row["label"] for row in answer["predictions"]} < set(load_labels("camera_motion"))


def saved(folder, kind):
    path = folder / f"{kind}.keras"
    if kind == "image":
        inputs = keras.Input((32, 32, 3))
        keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    elif kind == "no_classifier":
        VideoFocalNet(embed_dim=2, depths=(1, 1, 1, 1), input_shape=(2, 32, 32, 3), include_top=False).save(path)
    elif kind == "damaged":
        path.write_bytes(b"no zip at all")
    return path


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("image", r"image.keras is a model from .* to .*; pass one that takes (batch, frames, height, width, 3)"),
        ("no_classifier", "and gives (batch, classes)"),
        ("missing", "there is no such file"),
        ("damaged", "damaged.keras"),
    ],
)
def test_models_that_do_not_fit(folder, tmp_path, kind, message):
    result = invoke(folder / "red.mp4", "--weights", saved(tmp_path, kind))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message.rpartition(".*")[2] in result.stderr
    assert result.stdout == ""


def test_random_weights_are_refused(folder):
    result = invoke(folder / "red.mp4", "--weights", "none")
    assert result.exit_code == 1
    assert "random weights, which says nothing about the video; pass published weights" in result.stderr


def test_unknown_weights_list_those_that_exist(folder):
    result = invoke(folder / "red.mp4", "--weights", "k4000")
    assert result.exit_code == 1
    assert "--weights k4000 is not published for VideoFocalNetNano. Use one of 'camera_motion'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'FILE...'"),
        (["a.mp4", "--model", "huge"], "'huge' is not one of 'tiny', 'small', 'base', 'nano'"),
        (["a.mp4", "--top", "0"], "0 is not in the range x>=1"),
        (["a.mp4", "--start", "-1"], "is not in the range x>=0"),
        (["a.mp4", "--start", "3", "--end", "2"], "--end must lie after --start, received --start 3 --end 2"),
    ],
)
def test_wrong_usage(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_backend_says_what_to_install(folder, monkeypatch):
    from keras_video_focalnet.utils import backend

    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(backend, "is_installed", lambda name: False)
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(folder))
    result = invoke(folder / "red.mp4")
    assert result.exit_code == 1
    assert "pip install 'keras-video-focalnet[tensorflow]'" in result.stderr


@pytest.mark.slow_on("jax")
def test_in_a_process_of_its_own_nothing_but_the_answer_is_printed(folder, colours):
    command = [sys.executable, "-c", "from keras_video_focalnet.cli.main import main; main()"]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [*command, "predict", str(folder / "blue.mp4"), "--weights", colours, "--top", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment | {"PYTHONIOENCODING": "ascii", "COLUMNS": "300", "PYTHONWARNINGS": "ignore"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "class 2" in result.stdout
    assert result.stdout.isascii()


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_long_video_name_and_ten_answers_fit_80_columns(tmp_path):
    path = encode(tmp_path / f"{'long' * 30}.mp4", numbered_frames(8))
    inputs = keras.Input((2, 32, 32, 3))
    scores = keras.layers.Dense(174, "softmax")(keras.layers.GlobalAveragePooling3D()(inputs))
    keras.Model(inputs, scores).save(tmp_path / "ssv2.keras")
    result = invoke(path, "--weights", tmp_path / "ssv2.keras", "--top", "10", env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    # The path stays in one piece, to be copied; the table fits.
    file, _, *table = result.stdout.splitlines()
    assert file == str(path)
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html></html>", "an HTML page"), (b"", "an empty file"), (b"PK\x03\x04" + bytes(99), "cannot be loaded")],
)
def test_files_that_are_no_model(folder, tmp_path, content, message):
    path = tmp_path / "page.keras"
    path.write_bytes(content)
    result = invoke(folder / "red.mp4", "--weights", path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path}: ")
    assert message in result.stderr


@pytest.mark.parametrize("kind", ["cloned", "wrapped"])
@pytest.mark.parametrize("preprocessing", [True, False])
def test_layers_tell_whether_pixels_are_normalized_inside(kind, preprocessing):
    shape = (2, 32, 32, 3)
    network = VideoFocalNet(2, (1, 1, 1, 1), input_shape=shape, classes=9, include_preprocessing=preprocessing)
    if kind == "cloned":
        network = keras.models.clone_model(network)
    else:
        network = keras.Sequential([keras.Input(shape), keras.Sequential([network])])
    assert (networks.clip_rule(network).prepare is None) is preprocessing


@pytest.mark.slow_on("tensorflow", "jax")
def test_assumed_names_are_said_to_be(folder, tmp_path, colours):
    labels = [f"name {index}" for index in range(9)]
    network = VideoFocalNet(2, (1, 1, 1, 1), input_shape=(2, 32, 32, 3), classes=9, labels=labels)
    network.save(tmp_path / "model.keras")
    colour_model(channels=400).save(tmp_path / "assumed.keras")
    for path, named_by in (
        (tmp_path / "model.keras", "model"),
        (tmp_path / "assumed.keras", "assumed"),
        (colours, "none"),
    ):
        (answer,) = json.loads(invoke(folder / "blue.mp4", "--weights", path, "--json").stdout)
        assert answer["labels"] == named_by
        table = invoke(folder / "blue.mp4", "--weights", path, env={"COLUMNS": "300"}).stdout
        assert ("its classes are numbered" in table) is (named_by == "none")
        assert ("assumed from their number" in table) is (named_by == "assumed")
        assert answer["predictions"][0]["label"].startswith("class ") is (named_by == "none")
