"""`video-focalnet train`: from a folder of videos to a model that `predict` takes, killed and resumed."""

import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from examples.fine_tune.videos import CLASSES, HELD_OUT, TRAINING, make_videos
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.data.datasets import VideoList, video_list
from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.transforms import CenterCrop
from keras_video_focalnet.models.video_focalnet import model as models
from keras_video_focalnet.training.config import WHAT, settle, write_config
from keras_video_focalnet.training.recipe import RENAMED, get_recipe
from keras_video_focalnet.training.sources import complete_training, find_videos
from keras_video_focalnet.training.train import train as train_in_python
from keras_video_focalnet.utils.deprecation import rename_keys
from keras_video_focalnet.weights.safetensors_file import read_safetensors

DATA_OPTIONS = ("val_split", "train_rows", "val_rows", "multi_label", "balanced", "class_weights")
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


@pytest.mark.slow_on("tensorflow", "jax")
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

    again = train(videos, out, *SMALL, "--resume", "--set", "learning_rate=0.5")
    assert again.exit_code == 1
    assert f"learning_rate is 0.5, but the run in {out} was begun with 0.002" in again.output

    # The folder alone says what is to be gone on with, and nothing of it changes.
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = CliRunner().invoke(main, ["train", "--resume", "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert f"try it: video-focalnet predict --weights {out / 'model.keras'} VIDEO" in again.output
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    same = ("config.json", "best.safetensors", "labels.txt", "metrics.csv", "summary.json")
    assert [after[name] for name in same] == [before[name] for name in same]


@pytest.mark.slow
def test_python_gives_the_weights_and_the_folder_of_the_command(videos, tmp_path):
    changes = {"epochs": 1, "mix_probability": 1.0, "num_frames": 4, "size": 32}
    small = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    small += ["--batch-size", "4", "--workers", "0", "--seed", "3", "--weights", "none"]
    result = train(videos, tmp_path / "command", *small, "--distribute", "none")
    assert result.exit_code == 0, result.output
    recipe = get_recipe("finetune", **changes)
    options = {"batch_size": 4, "workers": 0, "seed": 3, "weights": "none", "progress": False}
    train_in_python("nano", videos / "train", videos / "val", recipe, out=tmp_path / "names", **options)
    listed = video_list(videos / "train")
    data = ClipDataset(listed, 4, 4, size=32, training=True, seed=3)
    keras.utils.set_random_seed(3)
    own = {"classes": 4, "labels": listed.class_names, "input_shape": (4, 32, 32, 3), "classifier_activation": None}
    model = models.VideoFocalNetNano(weights=None, **own)
    validation = ClipDataset(video_list(videos / "val"), 4, 4, size=32)
    # The data set was not told of the recipe, which is applied all the same.
    train_in_python(model, data, validation, recipe, out=tmp_path / "objects", progress=False)
    files = {path.name for path in (tmp_path / "command").iterdir()}
    for other in ("names", "objects"):
        assert {path.name for path in (tmp_path / other).iterdir()} == files
        for name in ("best.safetensors", "checkpoints/step-00000002.safetensors"):
            wanted, given = (read_safetensors(tmp_path / run / name) for run in ("command", other))
            assert wanted.keys() == given.keys()
            for key, array in wanted.items():
                np.testing.assert_array_equal(given[key], array, err_msg=f"{other} {name} {key}")


def test_what_of_the_clips_contradicts_the_recipe_or_the_model_is_an_error(videos, tmp_path):
    listed = video_list(videos / "train")
    model = keras.Sequential([keras.Input((8, 64, 64, 3)), keras.layers.GlobalAveragePooling3D()])
    model.add(keras.layers.Dense(4))

    def run(message, network=model, recipe="finetune", validation=None, source=listed, extra=None, **options):
        if options:
            source = ClipDataset(listed, 4, training=True, **{"size": 64, **options})
        with pytest.raises(ValueError, match=message):
            train_in_python(network, source, validation, recipe, out=tmp_path / "run", **(extra or {}))
        assert not (tmp_path / "run" / "checkpoints").exists()

    run(r"the clips are \(8, 32, 32, 3\) .* and the model takes \(8, 64, 64, 3\)", size=32)
    run("but the recipe asks for .*; set label_smoothing, .* of the recipe, and leave mixing out", mixing=Mixing(4))
    run("the clips have sampling=.'dense', 2. but the recipe has stride=None", sampling=("dense", 2))
    run("the recipe has drop_path_rate=0.1 but the model has no", recipe=get_recipe("finetune", drop_path_rate=0.1))
    run("batch_size is for videos by name or in a VideoList", size=64, extra={"batch_size": 8})
    run("weights is for a model that is built by its name", extra={"weights": "none"})
    nine = keras.Sequential([keras.Input((8, 64, 64, 3)), keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(9)])
    run("the model has 9 classes but the videos have 4 .fast_left, .*; build it with classes=", network=nine)
    one = VideoList([record for record in listed if record.label == 0], listed.class_names)
    run("the training videos are all of one class, 'fast_left'", source=one)
    other = VideoList(listed.records, [name.upper() for name in listed.class_names])
    run("classes of the validation videos .FAST_LEFT, .* are not those of the training videos", validation=other)
    reordered = VideoList(listed.records, listed.class_names[::-1])
    network = models.VideoFocalNetNano(weights=None, classes=4, labels=reordered.class_names)
    run("the model's labels .slow_right, .* are not the classes of the videos", network=network)


def test_a_transform_of_ones_own_is_used_and_told(videos):
    listed, recipe = video_list(videos / "train"), get_recipe("finetune")
    model = keras.Sequential([keras.Input((8, 64, 64, 3)), keras.layers.GlobalAveragePooling3D()])
    model.add(keras.layers.Dense(4))
    own = ClipDataset(listed, 4, size=64, training=True, transform=CenterCrop(64))
    with pytest.warns(UserWarning, match="have a transform of their own, which is used in place of the recipe's"):
        completed = complete_training(own, model, recipe, seed=0)
    assert (completed.transform, completed.mixing) == (CenterCrop(64), recipe.mixing(4))
    assert completed.broken is own.broken
    passed = ClipDataset(listed, 4, size=64, training=True, transform=recipe.transforms(64), mixing=recipe.mixing(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete_training(passed, model, recipe, seed=0)


SCRIPT = """
import sys
from keras_video_focalnet import get_recipe, train

print("begun", flush=True)
recipe = get_recipe("finetune", epochs=1, num_frames=4, size=32)
train("nano", *sys.argv[1:3], recipe, out=sys.argv[3], batch_size=4, workers=2, weights="none")
"""


@pytest.mark.slow
def test_a_script_without_a_guard_trains_with_workers(videos, tmp_path):
    (tmp_path / "ft.py").write_text(SCRIPT)
    command = [sys.executable, "ft.py", videos / "train", videos / "val", "run"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "begun\n"), ended.stderr
    assert (tmp_path / "run" / "model.keras").is_file()


SEVERAL = ["--multi-label", "--val-split", "0.25", "--class-weights", "balanced", "--weights", "none"]


@pytest.mark.slow_on("tensorflow", "jax")
def test_several_labels_become_a_model_that_predicts_each_alone(videos, tmp_path):
    rows = [f"{path},{path.parent.name.replace('_', '|')}" for path in sorted((videos / "train").rglob("*.mp4"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    out = tmp_path / "run"
    small = ["--set", "epochs=1", "--set", "num_frames=4", "--set", "size=32", "--batch-size", "4", "--workers", "0"]
    arguments = ["train", "--data", str(tmp_path / "list.csv"), "--out", str(out), *SEVERAL, *small]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert (out / "labels.txt").read_text().split() == ["fast", "left", "right", "slow"]
    (row,) = csv.DictReader((out / "metrics.csv").open())
    assert {"loss", "average_precision", "roc_auc", "val_loss", "val_average_precision", "val_roc_auc"} <= row.keys()
    assert 0 <= float(row["val_average_precision"]) <= 1
    assert (out / "curves.png").is_file()
    model = keras.saving.load_model(out / "model.keras")
    assert keras.activations.serialize(model.layers[-1].activation) == "sigmoid"
    video = str(next((videos / "val").rglob("*.mp4")))
    answer = CliRunner().invoke(main, ["predict", "--weights", str(out / "model.keras"), video, "--json"])
    predictions = {answer["label"]: answer["score"] for answer in json.loads(answer.stdout)[0]["predictions"]}
    clip = read_clip(video, 4, 32, crop_fraction=model.preprocessing.crop_fraction)
    scores = model.predict(clip[None], verbose=0)[0]
    assert predictions == pytest.approx(dict(zip(["fast", "left", "right", "slow"], scores, strict=True)), abs=1e-4)
    config = json.loads((out / "config.json").read_text())
    assert [config[name] for name in DATA_OPTIONS] == [0.25, None, None, True, None, "balanced"]


def options(**changes):
    """What `find_videos` takes for a configuration."""
    return WHAT | changes, None, None


def test_a_part_of_the_training_videos_validates(videos):
    training, validation = find_videos(*options(data=videos / "train", val_split=0.5))
    listed = video_list(videos / "train")
    assert (training.records, validation.records) == tuple(part.records for part in listed.split(0.5, seed=0))
    # Each class gives half of its videos.
    for part in (training, validation):
        assert np.bincount([record.label for record in part]).tolist() == [len(listed) // 8] * 4


def test_rows_of_a_list_train_and_validate(videos, tmp_path):
    paths = sorted((videos / "train").rglob("*.mp4"))
    rows = [f"{path},{path.parent.name},{'dev' if n % 2 else 'train'}" for n, path in enumerate(paths)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    training, validation = find_videos(*options(data=tmp_path / "list.csv", train_rows="train", val_rows="dev"))
    assert [record.path for record in training] == [str(path) for path in paths[::2]]
    assert [record.path for record in validation] == [str(path) for path in paths[1::2]]
    assert validation.class_names == training.class_names


def test_what_is_passed_over_is_told_on_the_error_stream(tmp_path):
    for name in ("train/run/1.mp4", "train/jump/1.mp4", "train/run/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    arguments = ["--data", tmp_path / "train", "--val", tmp_path / "none", "--out", tmp_path / "run"]
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    warning = f"Warning: {tmp_path / 'train'}: 1 file that is no video is passed over (1 with .txt).\n"
    assert result.stderr.startswith(warning)
    assert (result.exit_code, result.stdout) == (1, "")


def test_help_has_no_escape_in_it():
    result = CliRunner().invoke(main, ["train", "--help"])
    assert "\\b" not in result.output
    assert "    video-focalnet train --resume --out OUT\n" in result.output


def test_nothing_is_missing_but_data():
    result = CliRunner().invoke(main, ["train", "--out", "run"])
    assert result.exit_code == 2
    assert "Missing option '--data'; with --resume it is that of the run in --out." in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val-split", "0.2"], "--val-split holds videos of --data out; leave out --val."),
        (["--val-split", "1"], "is not in the range 0<x<1"),
        (["--balanced", "--class-weights", "balanced"], "would correct twice; leave out one of them"),
        (["--balanced", "--multi-label"], "with --multi-label use --class-weights balanced"),
        (["--class-weights", "some"], "is not 'balanced'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(videos, tmp_path, options, message):
    result = train(videos, tmp_path / "run", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epochs"], "--set epochs has no value; write --set epochs=VALUE"),
        (["--set", "epoch=3"], "a recipe has no attribute 'epoch'"),
        (["--recipe", "k4000"], "--recipe k4000 is not known"),
        (["--data", "no_such_folder"], "no_such_folder does not exist"),
        (["--distribute", "nowhere"], "--distribute must be one of"),
        (["--multi-label"], "is a folder of classes, with one label a video and no splits; pass a list file"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(videos, tmp_path, options, message):
    result = train(videos, tmp_path / "run", *options)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_old_names_of_the_recipe_work_and_are_announced(tmp_path):
    with pytest.warns(DeprecationWarning, match="^base_rate is an old name, .* use learning_rate"):
        _, recipe = settle({"set": ["base_rate = 0.5"]}, tmp_path, resume=False)
    assert recipe == get_recipe("finetune", learning_rate=0.5)


def test_a_configuration_with_the_old_names_is_resumed(tmp_path):
    path, recipe = tmp_path / "config.json", get_recipe("finetune", learning_rate=0.5)
    old_names = {new: old for old, new in RENAMED.items()}
    old_values = rename_keys(dataclasses.asdict(recipe), old_names)
    old = {"recipe": "finetune", "set": ["base_rate=0.5"], "class_names": ["a"], "values": old_values, "seed": 0}
    path.write_text(json.dumps(old))
    for given in ({}, {"set": ["base_rate=0.5"]}, {"recipe": "finetune", "set": ["learning_rate=0.5"], "seed": 0}):
        config, settled = settle(given, tmp_path, resume=True)
        assert settled == recipe
        assert (config["recipe"], config["batch_size"], config["val_split"]) == ("finetune", 8, None)
        write_config(tmp_path, config, settled, ["a"])
    with pytest.raises(ValueError, match="learning_rate is 0.25, but the run in .* was begun with 0.5"):
        settle({"set": ["base_rate=0.25"]}, tmp_path, resume=True)
    with pytest.raises(ValueError, match="val_split is 0.5, but the run in .* was begun without it; leave it out"):
        settle({"val_split": 0.5}, tmp_path, resume=True)
    with pytest.raises(ValueError, match="class_names is .'b'., but the run in .* was begun with .'a'."):
        write_config(tmp_path, config, recipe, ["b"])
    longer, settled = settle({"set": ["epochs=30"], "workers": 5}, tmp_path, resume=True)
    assert settled == dataclasses.replace(recipe, epochs=30)
    write_config(tmp_path, longer, settled, ["a"])
    again, settled = settle({}, tmp_path, resume=True)
    assert (again["workers"], settled.epochs) == (5, 30)


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
    command = [sys.executable, "-m", "keras_video_focalnet.cli.main", "train"]
    data = ["--data", "train", "--val", "val", "--set", "epochs=6", "--batch-size", "4", "--workers", "1"]
    environment = os.environ | {"TF_DETERMINISTIC_OPS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    data += ["--save-every", "1"]
    subprocess.run([*command, *data, "--out", "unbroken"], check=True, **run)
    checkpoints, rng, total = tmp_path / "killed" / "checkpoints", random.Random(0), 6 * 8
    for target in sorted(rng.sample(range(2, total - 2), 5)):
        process = subprocess.Popen([*command, *data, "--out", "killed", "--resume"], **run)
        data = []  # From now on the folder says it.
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
