"""What a training run leaves goes wherever weights are asked for, and brings its labels, classes and sizes along."""

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import (
    VideoFocalNetNano,
    VideoFocalNetT,
    export,
    list_models,
    load_best,
    load_weights,
    open_model,
    read_clip,
    train,
)
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.models.opening import describe_model
from keras_video_focalnet.training.checkpoint import CheckpointFolder
from keras_video_focalnet.training.state import averaged_weights, capture
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.run_folder import FACTS, find_weights, read_run
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from tests.clips import encode

pytestmark = pytest.mark.slow_on("tensorflow", "jax")

LABELS = ["up", "down", "left"]
SHAPE = (4, 32, 32, 3)
# What holds the same weights after one epoch.
KINDS = (".", "model.keras", "best.safetensors", "checkpoints/step-00000002.safetensors", "checkpoints")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and the model that it trained, whose classifier answers far from evenly."""
    folder = tmp_path_factory.mktemp("run")
    model = VideoFocalNetNano(weights=None, labels=LABELS, classes=3, input_shape=SHAPE, drop_path_rate=0.2)
    generator = np.random.default_rng(0)
    model.classifier.set_weights([generator.normal(size=shape) for shape in ((128, 3), (3,))])
    model.compile("adamw", "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    checkpoints = CheckpointFolder(folder / "checkpoints")
    for step in (1, 2):
        checkpoints.save(step, capture(model), {"run": {}})
    write_safetensors(
        folder / "best.safetensors", {f"{n:05d}": array for n, array in enumerate(averaged_weights(model))}
    )
    model.save(folder / "model.keras")
    values = {"num_frames": SHAPE[0], "size": SHAPE[1]}
    config = {"model": "nano", "class_names": LABELS, "multi_label": None, "values": values}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, model


def state_equals(model, expected):
    expected = expected.state()
    state = model.state()
    return state.keys() == expected.keys() and all(np.array_equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error::UserWarning")
def test_builders_and_load_weights_take_it(run, kind):
    folder, trained = run
    model = VideoFocalNetNano(weights=folder / kind)
    assert model.labels == tuple(LABELS)
    assert model.output_shape == (None, 3)
    assert model.input_shape[1:3] == SHAPE[:2]
    assert state_equals(model, trained)


@pytest.mark.filterwarnings("error::UserWarning")
def test_builders_take_what_best_weights_say(run, tmp_path):
    """Also where nothing lies beside them."""
    trained = VideoFocalNetNano(
        weights=None, labels=LABELS, classes=3, input_shape=(2, 48, 32, 3), rematerialize=True, name="mine",
        normalize_modulator=not run[1].normalize_modulator, classifier_activation=None, include_preprocessing=False,
    )  # fmt: skip
    facts = describe_model(trained, LABELS, True)
    assert facts["builder"] == "nano"
    weights = {f"{n:05d}": array for n, array in enumerate(trained.get_weights())}
    write_safetensors(tmp_path / "lone.safetensors", weights, {FACTS: json.dumps(facts)})
    model = VideoFocalNetNano(weights=tmp_path / "lone.safetensors")
    assert (model.input_shape, model.labels) == ((None, 2, 48, 32, 3), tuple(LABELS))
    assert (model.classifier_activation, model.rematerialize) == ("sigmoid", trained.rematerialize)
    assert model.normalize_modulator == trained.normalize_modulator
    # What is asked for is given, and the rest is the builder's own.
    assert (model.include_preprocessing, model.name) == (True, "video_focalnet_nano")
    asked = VideoFocalNetNano(weights=tmp_path / "lone.safetensors", classifier_activation=None, rematerialize=False)
    assert asked.gives_logits and not any(asked.rematerialize)
    assert VideoFocalNetNano(weights=tmp_path / "lone.safetensors", include_top=False).labels is None
    whole = open_model(tmp_path / "lone.safetensors")
    assert (whole.include_preprocessing, whole.name, whole.classifier_activation) == (False, "mine", "sigmoid")
    with pytest.raises(WeightsFileError, match=r"lone.safetensors: a run saved \d+ arrays in it and the model has"):
        VideoFocalNetT(weights=tmp_path / "lone.safetensors", input_shape=(2, 32, 32, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registered_name": "builtins>eval"}, "which is not known here; import the package that has it"),
        ({"registered_name": "Dense"}, "which is not known here"),
        ({"config": 3}, "describes no model"),
        ({"depths": [1, 1, 9000, 1]}, "of far more numbers than the file holds"),
        ({"embed_dim": 24}, "its arrays are not those of the model that its run trained"),
    ],
)
def test_what_best_weights_say_is_not_trusted(run, tmp_path, changes, message):
    facts = describe_model(run[1], LABELS, False)
    told = facts["architecture"]
    for name, value in changes.items():
        (told if name in told else told["config"])[name] = value
    weights = {f"{n:05d}": array for n, array in enumerate(run[1].get_weights()[:-3])}
    write_safetensors(tmp_path / "lone.safetensors", weights, {FACTS: json.dumps(facts)})
    with pytest.raises(ValueError, match=message):
        open_model(tmp_path / "lone.safetensors")


@pytest.mark.parametrize("kind", KINDS[2:4])
@pytest.mark.filterwarnings("error::UserWarning")
def test_other_models_take_it(run, kind):
    folder, trained = run
    # A model that is built already, of another size and with random layers of other kinds.
    other = VideoFocalNetNano(weights=None, classes=3, input_shape=(2, 32, 32, 3), drop_path_rate=0.0)
    assert load_weights(other, os.fspath(folder / kind)) == []
    assert state_equals(other, trained)
    body = VideoFocalNetNano(weights=folder / kind, include_top=False)
    assert np.array_equal(body.weights[-1], trained.weights[-3])


@pytest.mark.filterwarnings("ignore:.*the classifier keeps its random weights")
@pytest.mark.parametrize("kind", KINDS[2:4])
def test_another_number_of_classes_keeps_the_body(run, kind):
    folder, trained = run
    model = VideoFocalNetNano(weights=folder / kind, classes=5)
    assert model.labels is None
    assert np.array_equal(model.weights[-3], trained.weights[-3])


def test_the_best_that_is_there_is_taken(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    for kind in KINDS[1:4]:
        assert find_weights(folder) == folder / kind
        (folder / kind).unlink()
    assert find_weights(folder).name == "step-00000001.safetensors"
    (folder / "checkpoints" / "step-00000001.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"is a folder without model.keras, best.safetensors or checkpoints"):
        VideoFocalNetNano(weights=folder)


def test_best_weights_of_another_model(run, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    write_safetensors(tmp_path / "best.safetensors", {f"{n:05d}": w for n, w in enumerate(model.get_weights())})
    with pytest.raises(WeightsFileError, match=r"best.safetensors: a run saved 2 arrays in it and the model has \d+"):
        VideoFocalNetNano(weights=tmp_path / "best.safetensors")


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"class_names": 3}', "\0", '{"class_names": ["a"]}'])
def test_a_configuration_that_says_nothing_or_wrong(run, tmp_path, content):
    shutil.copy(run[0] / "best.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(content)
    if "a" in json.dumps(read_run(tmp_path).get("class_names")) and read_run(tmp_path):
        with pytest.raises(WeightsFileError, match="its labels are 1 names, but the classifier has 3 classes"):
            VideoFocalNetNano(weights=tmp_path)
        return
    assert VideoFocalNetNano(weights=tmp_path).labels is None


def test_exported_files_and_misspelled_names_say_what_to_do(run, tmp_path, monkeypatch):
    (tmp_path / "nano.onnx").touch()
    with pytest.raises(WeightsFileError, match=r"exported model, which only runs: load_exported\("):
        VideoFocalNetNano(weights=tmp_path / "nano.onnx")
    with pytest.raises(FileNotFoundError, match=r"there is no such file, did you mean 'best.safetensors'\?"):
        VideoFocalNetNano(weights=run[0] / "bset.safetensors")
    with pytest.raises(ValueError, match=r"path='nano' names a builder, and no file; pass .* VideoFocalNetNano\(\)"):
        open_model("nano")
    with pytest.raises(ValueError, match=r"config\.json' is a text file, and no model; pass the folder"):
        open_model(run[0] / "config.json")
    with pytest.raises(ValueError, match=r"architecture='nan' is not known, did you mean 'nano'\?"):
        train("nan", "videos", out=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="out='nope' holds no best.safetensors: .* pass the folder"):
        load_best(VideoFocalNetNano(weights="camera_motion"), "nope")
    monkeypatch.chdir(run[0].parent)
    with pytest.raises(ValueError, match=rf"did you mean '{run[0].name}'\?"):
        VideoFocalNetNano(weights=f"{run[0].name}n")
    with pytest.raises(ValueError, match=r"did you mean 'camera_motion'\? Use one of 'camera_motion'"):
        VideoFocalNetNano(weights="camera_moton")
    with pytest.raises(ValueError, match=r"architecture='tinny' is not known, did you mean 'tiny'\?"):
        list_models("tinny")


@pytest.mark.parametrize(
    "address",
    ["http://me:s3cret@127.0.0.1:9/x.keras", "HTTPS://me:s3cret@h/x", "hf://me:s3cret@x/y", "https:/me:s3cret@h/x"],
)
def test_an_address_where_a_file_is_wanted(address, tmp_path):
    functions = (
        open_model,
        lambda path: train(path, "videos", out=tmp_path / "run"),
        lambda path: read_clip("video.mp4", like=path),
        lambda path: export(path, tmp_path / "x.onnx"),
        lambda path: VideoFocalNetNano(weights=path) if ":/m" in path or "hf" in path else open_model(path),
    )
    for function in functions:
        with pytest.raises((ValueError, FileNotFoundError), match="is an address|names no repository") as caught:
            function(address)
        assert "s3cret" not in str(caught.value)


def command(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(1).integers(0, 255, (8, 48, 64, 3), "uint8")
    return encode(tmp_path_factory.mktemp("video") / "noise.mp4", frames)


def test_predict_takes_it(run, video):
    answers = []
    for option, kind in zip(["--model", "--weights", "--model", "--weights"], KINDS, strict=False):
        result = command("predict", video, option, run[0] / kind, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        (answer,) = json.loads(result.stdout)
        assert answer["labels"] == "model"
        answers.append({row["label"]: row["score"] for row in answer["predictions"]})
    assert set(answers[0]) == set(LABELS)
    for answer in answers[1:]:
        assert answer == pytest.approx(answers[0], rel=1e-4)


def test_the_run_tells_the_model_and_its_activation(run, video, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    (folder / "model.keras").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"multi_label": True}
    (folder / "config.json").write_text(json.dumps(config))
    result = command("predict", video, "--model", "base", "--weights", folder, "--json")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)
    assert answer["model"] == "nano"
    assert sum(row["score"] for row in answer["predictions"]) != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nano.onnx"], "--weights nano.onnx is an exported model, which only runs"),
        (["--weights", "missing.keras"], "--weights missing.keras: there is no such file"),
        (["--weights", "empty/."], "--weights empty is a folder without model.keras"),
        (["--model", "empty", "--weights", "k400"], "--model empty has weights of its own; leave out --weights k400"),
        (["--model", "tinny"], "'tinny' is not one of 'tiny', "),
        (["--model", "tinny"], "did you mean 'tiny'?"),
        (["--weights", "camera_moton"], "--weights camera_moton is not published for VideoFocalNetNano, did you mean"),
    ],
)
def test_messages_speak_of_options(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("nano.onnx").touch()
    Path("empty").mkdir()
    result = command("predict", "a.mp4", *arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.split())
    assert "weights=" not in result.stderr


@pytest.mark.parametrize("arguments", [["export", "--out", "a.onnx"], ["predict", "a.mp4"]])
def test_messages_name_the_option_that_was_typed(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    result = command(*arguments, "--model", "empty")
    assert "--model empty is a folder without model.keras" in " ".join(result.stderr.split())


def test_export_takes_it(run, monkeypatch, tmp_path):
    exported = []

    def write(network, out, **options):
        exported.append(network)
        raise ValueError("that is enough")

    monkeypatch.setattr("keras_video_focalnet.exporting.export.export", write)
    for options in (["--model", run[0]], ["--model", "base", "--weights", run[0] / "best.safetensors"]):
        result = command("export", *options, "--out", tmp_path / "nano.tflite")
        assert result.stderr == "Error: that is enough\n"
    for network in exported:
        assert network.labels == tuple(LABELS)
        assert state_equals(network, run[1])


@pytest.mark.parametrize("options", [["--model", "RUN"], ["--weights", "RUN"], ["--model", "base", "--weights", "RUN"]])
def test_training_begins_from_it(run, monkeypatch, tmp_path, options):
    begun = []
    run_training = "keras_video_focalnet.training.train.run_training"
    monkeypatch.setattr(run_training, lambda given, *_: begun.append(given))
    options = [run[0] if option == "RUN" else option for option in options]
    result = command("train", "--data", tmp_path, "--out", tmp_path / "next", *options)
    assert result.exit_code == 0, result.output
    (config,) = begun
    assert (config["model"], config["weights"]) == ("nano", str(run[0]))
