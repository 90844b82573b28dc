"""A run's folder is all that is needed: whatever it trained opens from any of its files, in any working folder."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_video_focalnet as kvf
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.cli.networks import scores_of
from keras_video_focalnet.models.around import labels_inside
from keras_video_focalnet.training.config import check_places, read_config, settle
from keras_video_focalnet.training.sources import complete_training, complete_validation, prepared
from tests.clips import encode

SHAPE = (4, 32, 32, 3)
NAMES = ("down", "moving", "right")
RECIPE = kvf.get_recipe("finetune", epochs=1, warmup_epochs=0.0, color_jitter=0.0, layer_decay=1.0)


def network(**options):
    keras.utils.set_random_seed(0)
    small = {"embed_dim": 8, "depths": (1, 1, 1, 1), "input_shape": SHAPE, "classes": 3, "drop_path_rate": 0.0}
    # Without a shape of its own, and unlike what is taken by default.
    small |= {"normalize_modulator": True, "classifier_activation": None}
    return kvf.VideoFocalNet(**small | options)


def around():
    """A model of a user's own around ours, which gives logits."""
    body = network(include_top=False, pooling="avg")
    clip = keras.Input(SHAPE)
    return keras.Model(clip, keras.layers.Dense(3, name="mine")(body(clip)), name="own")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos, each with two labels or, in folders, with one."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(4):
        name = ("down", "right")[number % 2]
        (folder / "train" / name).mkdir(parents=True, exist_ok=True)
        path = folder / "train" / name / f"{number}.mp4"
        encode(path, rng.integers(0, 256, (6, 40, 48, 3), "uint8"))
        lines.append(f"{path.relative_to(folder)},{name}|moving")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def train(model, videos, out, **options):
    listed = kvf.video_list(videos / "list.csv", multi_label=True)
    return kvf.train(model, listed, recipe=RECIPE, out=out, batch_size=2, workers=0, progress=False, **options)


@pytest.fixture(scope="module")
def runs(videos, tmp_path_factory):
    """The folders of a run of a model of ours and of one of a user's own, of several labels a clip."""
    folder = tmp_path_factory.mktemp("runs")
    train(network(), videos, folder / "ours")
    train(around(), videos, folder / "own")
    shutil.copy(folder / "ours" / "best.safetensors", folder / "lone.safetensors")
    return folder


@pytest.fixture(scope="module")
def clip(videos):
    return kvf.read_clip(videos / "train" / "down" / "0.mp4", 4, 32)


def answer(model, clip):
    return model.predict(clip[None], verbose=0)


KINDS = ("ours/model.keras", "ours/best.safetensors", "ours/checkpoints", "lone.safetensors")


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_a_run_opens_as_the_model_that_it_trained(runs, clip, kind):
    expected = kvf.open_model(runs / "ours")
    model = kvf.open_model(runs / kind)
    assert isinstance(model, kvf.VideoFocalNet)
    assert (model.input_shape[1:], model.labels, model.normalize_modulator) == (SHAPE, NAMES, True)
    assert model.classifier.activation is keras.activations.sigmoid
    np.testing.assert_allclose(answer(model, clip), answer(expected, clip), rtol=1e-4)
    assert answer(model, clip).sum() > 1.2


@pytest.mark.slow_on("tensorflow", "jax")
def test_ones_own_model_has_the_scores_and_names_of_its_run(runs, clip):
    whole = keras.saving.load_model(runs / "own" / "model.keras")
    model = kvf.open_model(runs / "own")
    assert labels_inside(model) == NAMES and labels_inside(whole) is None
    scores = 1 / (1 + np.exp(-answer(whole, clip)))
    np.testing.assert_allclose(answer(model, clip), scores, rtol=1e-4)
    # Of a class of the user's own, which is left as it is, the logits are known to be of several labels.
    whole.multi_label = True
    for network in (model, whole):
        np.testing.assert_allclose(scores_of(network, clip[None]), scores, rtol=1e-4)
    assert kvf.read_clip(clip, like=runs / "own").shape == SHAPE
    with pytest.raises(ValueError, match="holds weights and does not say of which model; pass the .keras file"):
        kvf.open_model(runs / "own" / "best.safetensors")


@pytest.mark.slow_on("tensorflow", "jax")
def test_commands_name_the_classes_of_ones_own_model(runs, videos):
    arguments = ["predict", "--model", runs / "own", videos / "train" / "down" / "0.mp4", "--json"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    assert told["labels"] == "model" and {row["label"] for row in told["predictions"]} == set(NAMES)
    assert sum(row["score"] for row in told["predictions"]) > 1.2


def test_names_are_looked_for_through_a_softmax(clip):
    model = network(labels=NAMES)
    entry = keras.Input(SHAPE)
    for scores in (
        keras.Model(entry, keras.layers.Softmax()(model(entry))),
        keras.Model(model.input, keras.layers.Activation("sigmoid")(model.output)),
        keras.Sequential([keras.Input(SHAPE), model, keras.layers.Softmax()]),
    ):
        assert labels_inside(scores) == NAMES
    assert labels_inside(keras.Model(entry, keras.layers.Dense(3)(model(entry)))) is None


@pytest.mark.slow_on("tensorflow", "jax")
def test_what_the_run_was_stands_in_its_configuration(runs):
    config = json.loads((runs / "ours" / "config.json").read_text())
    assert (config["multi_label"], config["input_shape"], config["class_names"]) == (True, list(SHAPE), list(NAMES))
    assert config["builder"] is None and config["architecture"]["config"]["embed_dim"] == 8
    config = json.loads((runs / "own" / "config.json").read_text())
    assert (config["multi_label"], config["architecture"]) == (True, None)


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize("kind", ["ours", "own", "ours/best.safetensors"])
def test_a_run_is_trained_on(runs, videos, tmp_path, kind):
    train(runs / kind, videos, tmp_path / "next")
    config = json.loads((tmp_path / "next" / "config.json").read_text())
    assert (config["model"], config["weights"]) == (str(runs / kind), None)
    assert kvf.open_model(tmp_path / "next").input_shape[1:] == SHAPE
    with pytest.raises(ValueError, match="has weights of its own; leave out weights='none'"):
        train(runs / kind, videos, tmp_path / "other", weights="none")


@pytest.mark.slow_on("tensorflow", "jax")
def test_where_a_run_makes_no_sense_it_is_said_what_to_write(runs, tmp_path):
    for path in (runs / "ours", runs / "own" / "model.keras", runs / "lone.safetensors"):
        with pytest.raises(ValueError, match=r"what training left: open_model\(.*export\("):
            kvf.load_exported(path)
        with pytest.raises(ValueError, match=r"pass its labels.txt, or open_model\(.*\)\.labels"):
            kvf.decode_predictions([0.1, 0.2, 0.7], labels=str(path))
        with pytest.raises(ValueError, match=r"model must be a Keras model, .* model = open_model\("):
            kvf.freeze_stages(path, 1)
    with pytest.raises(ValueError, match=r"path must end in '.onnx'"):
        kvf.export(runs / "ours", tmp_path / "nano.pb", format="onnx")
    with pytest.raises(FileNotFoundError, match="model='nowhere': there is no such file"):
        kvf.export("nowhere", tmp_path / "nano.onnx")


@pytest.mark.parametrize("training", [True, False])
def test_clips_are_in_the_range_that_the_model_takes(videos, training):
    listed = kvf.video_list(videos / "train", class_names=NAMES)
    source = kvf.ClipDataset(listed, 2, 4, 32, training=training)
    bare, whole = network(include_preprocessing=False), network()
    complete = (lambda given, model: complete_training(given, model, RECIPE, 0)) if training else (
        lambda given, model: complete_validation(given, model, RECIPE)
    )  # fmt: skip
    pixels, clips = (prepared(complete(source, model), model) for model in (whole, bare))
    entry = keras.Input(SHAPE)
    own = prepared(source, keras.Model(entry, keras.layers.Dense(3)(network(include_preprocessing=False)(entry))))
    assert isinstance(pixels, kvf.ClipDataset) and not isinstance(own, kvf.ClipDataset)
    assert (clips.batch_size, len(clips), clips.multi_label) == (2, 2, False)
    batches = clips.batches()
    for _ in range(2):
        given, wanted = next(iter(batches)), next(iter(pixels.batches()))
        assert given[0].dtype == np.float32
        np.testing.assert_array_equal(given[0], kvf.preprocess_input(wanted[0]))
        np.testing.assert_array_equal(given[1], wanted[1])


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_model_that_does_not_normalize_learns_what_one_that_does_learns(videos, tmp_path):
    answers = []
    for name, options in (("whole", {}), ("bare", {"include_preprocessing": False})):
        train(network(**options), videos, tmp_path / name)
        model = kvf.open_model(tmp_path / name)
        answers.append(answer(model, model.read(videos / "train" / "down" / "0.mp4")))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3)


def test_paths_mean_the_same_in_any_working_folder(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(videos)
    config, _ = settle({"data": "train", "root": "~", "model": "nano", "weights": "my.pth"}, tmp_path / "run", False)
    assert config["data"] == str(videos / "train")
    assert config["root"] == os.path.expanduser("~")
    assert (config["model"], config["weights"]) == ("nano", str(videos / "my.pth"))
    for name in ("none", "camera_motion", "https://127.0.0.1/a.pth"):
        assert settle({"model": "nano", "weights": name}, tmp_path, False)[0]["weights"] == name


def begun(folder, **values):
    """The folder of a run that was begun with some values."""
    folder.mkdir()
    config, recipe = settle({"model": "nano", "recipe": RECIPE}, folder, False)
    config |= {**values, "class_names": ["a"], "values": {}}
    (folder / "config.json").write_text(json.dumps(config | {"values": dataclasses.asdict(recipe)}))
    return folder


def test_a_run_with_relative_paths_is_resumed_from_its_own_place_too(tmp_path, monkeypatch):
    run = begun(tmp_path / "run", data="train", val="val")
    (tmp_path / "train").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "train")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given in ({}, {"data": "../train"}, {"data": tmp_path / "link"}):
        config, _ = settle(given, run, True)
        assert os.path.samefile(config["data"], tmp_path / "train")
    check_places(config, ["data"], run)
    Path("train").mkdir()
    with pytest.raises(ValueError, match="data is .*elsewhere.* but the run in .* was begun with"):
        settle({"data": "train"}, begun(tmp_path / "other", data=str(tmp_path / "train")), True)
    # What is gone may lie elsewhere now.
    with pytest.raises(FileNotFoundError, match=rf"val is not there, .* run in {run} .*pass validation= \(--val\)"):
        check_places(config, ["val"], run)
    assert settle({"val": "train"}, run, True)[0]["val"] == str(tmp_path / "elsewhere" / "train")


def test_no_run_is_told_as_such(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="out='nope' holds no run to go on with; pass the folder of one"):
        kvf.train(out="nope", resume=True)
    result = CliRunner().invoke(main, ["train", "--out", "nope", "--resume"])
    assert result.exit_code == 2 and "--out nope holds no run to go on with" in " ".join(result.output.split())


@pytest.mark.slow_on("tensorflow", "jax")
def test_what_a_run_left_that_came_to_nothing_is_no_obstacle(videos, tmp_path):
    out = begun(tmp_path / "run", data="other")
    (out / "broken.csv").write_text("path,reason,batch\ngone.mp4,it is gone,0\n")
    train(network(), videos, out)
    assert read_config(out)["class_names"] == list(NAMES)
    assert not (out / "broken.csv").exists()
    with pytest.raises(ValueError, match="class_names is .* but the run in .* was begun with .'a'."):
        train(network(), videos, begun(tmp_path / "again", batch_size=2), resume=True)
