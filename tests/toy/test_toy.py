"""An architecture in one folder outside the package does all that ours do, by functions and by the command line."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_video_focalnet as kvf
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.models import registry
from keras_video_focalnet.training.run import Run
from keras_video_focalnet.weights.download import BASE_URL_VARIABLE, HOME_VARIABLE
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from tests.clips import encode
from tests.models.conformance_case import call, same, same_state, scattered
from tests.toy import FAMILY, SHAPE
from tests.toy.network import Toy, ToyLarge, ToySmall

ROOT = Path(__file__).parents[2]
CLASSES = ("dark", "light")


@pytest.fixture(autouse=True, scope="module")
def _registered():
    registry.register(FAMILY)
    yield
    registry.unregister(FAMILY.name)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three training videos and one validation video of each class."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 1)):
        for index, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                frames = rng.integers(120 * index, 120 * index + 136, (12, 48, 64, 3), dtype="uint8")
                encode(folder / part / name / f"{number}.mp4", frames)
    return folder


@pytest.fixture(scope="module")
def video(videos):
    return videos / "val" / "light" / "0.mp4"


@pytest.fixture(scope="module")
def model():
    return scattered(ToySmall(weights=None, labels=["circle", "square", "star"]))


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """The model's weights as PyTorch would save a network that has them, under the name that the entry tells."""
    import torch

    state = {name: torch.from_numpy(array) for name, array in model.state().items()}
    state |= {f"backbone.bn{number}.num_batches_tracked": torch.tensor(7) for number in (1, 2)}
    path = tmp_path_factory.mktemp("published") / "toy_small_shapes.pth"
    torch.save({"model": state}, path)
    return path


def invoke(*arguments, code=0, **environment):
    result = CliRunner().invoke(main, [*map(str, arguments)], env=environment)
    assert result.exit_code == code, result.output
    return result


def scores(result):
    return {answer["label"]: answer["score"] for answer in json.loads(result.stdout)[0]["predictions"]}


def test_it_is_small_and_the_package_does_not_know_its_name():
    modules = [path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")]
    assert sum(len(path.read_text().splitlines()) for path in modules) <= 150
    for path in (ROOT / "keras_video_focalnet").rglob("*.py"):
        assert not re.search(r"(?<![a-z])toy", path.read_text(), re.IGNORECASE), path


def test_the_page_shows_it_as_it_is():
    sources = [path.read_text() for path in Path(__file__).parent.glob("*.py")]
    page = (ROOT / "docs" / "add_an_architecture.md").read_text()
    table, network, conformance = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert any(table in source for source in sources) and any(network in source for source in sources)
    names = {}
    exec(conformance, names)
    assert "roles" in names["CHECKS"] and names["FAMILY"] is FAMILY


def test_the_registry_lists_it():
    assert kvf.list_models("toy-small") == ["shapes"] and "ToySmall/shapes" in kvf.list_models()
    row = next(row for row in json.loads(invoke("models", "--json").stdout) if row["model"] == "toy_small")
    assert (row["family"], row["weights"], row["classes"]) == ("Toy", "shapes", 3)
    assert "toy_small" in invoke("models").stdout
    assert "'toy_large'" in invoke("train", "--model", "toy_larg", "--data", "x", "--out", "y", code=2).output
    assert kvf.get_recipe("shapes").optimizer == kvf.get_recipe("shapes", "toy_large").optimizer == "muon"


@pytest.mark.slow_on("tensorflow", "jax")
def test_its_name_as_an_outside_package_gives_it(model, video, tmp_path):
    """An installed package is found by its entry point, in a process that imports nothing of it."""
    information = tmp_path / "toy-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\ntoy = tests.toy.registered\n")
    model.save(tmp_path / "model.keras")
    code = "import sys; from keras_video_focalnet.cli.main import main\nmain(sys.argv[1:], standalone_mode=False)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    listed = subprocess.run([sys.executable, "-c", code, "models"], **options)
    assert "toy_small" in listed.stdout, listed.stderr
    arguments = ["predict", "--weights", "model.keras", str(video), "--json"]
    answered = subprocess.run([sys.executable, "-c", code, *arguments], **options)
    assert answered.returncode == 0, answered.stderr
    ours = scores(invoke("predict", "--weights", tmp_path / "model.keras", video, "--json"))
    assert scores(answered) == pytest.approx(ours, abs=1e-6)


def test_layers_by_their_roles(model):
    names = ["eye", "motion_0_0", "shrink", "motion_1_0", "motion_1_1", "verdict"]
    large = ToyLarge(weights=None)
    assert kvf.layerwise_multipliers(large, 0.5) == dict(zip(names, [0.0625, 0.125, 0.25, 0.25, 0.5, 1.0], strict=True))
    kvf.freeze_stages(large, 1)
    assert [layer.name for layer in large.layers if layer.trainable_weights] == names[3:]
    kvf.linear_probe(large)
    assert [weight.path for weight in large.trainable_weights] == ["verdict/kernel", "verdict/bias"]
    taps = kvf.feature_taps(model)
    assert {name: tap.shape for name, tap in taps.items()} == {
        "motion_0_0": (None, 6, 560, 8),
        "motion_1_0": (None, 6, 140, 16),
    }
    eye, motion, shrink, second = 560 * 9 * 3 * 8, 560 * 3 * 8 * 8, 140 * 9 * 8 * 16, 140 * 3 * 16 * 16
    assert kvf.count_macs(model) == 6 * (eye + motion + shrink + second) + 16 * 3
    new = model.with_classifier(2, labels=CLASSES)
    assert (type(new), new.output_shape, new.labels) == (Toy, (None, 2), CLASSES)
    np.testing.assert_array_equal(new.get_layer("motion_0_0").kernel, model.get_layer("motion_0_0").kernel)


def test_pth_there_and_back(model, checkpoint, tmp_path):
    import torch

    loaded = ToySmall(weights=checkpoint)
    same_state(loaded.state(), model.state())
    torch.save({name: torch.from_numpy(array) for name, array in loaded.state().items()}, tmp_path / "back.pth")
    there, back = (torch.load(path) for path in (checkpoint, tmp_path / "back.pth"))
    for name, tensor in there["model"].items():
        assert "num_batches" in name or torch.equal(tensor, back[name]), name
    with pytest.raises(ValueError, match="tensor 'motion.1.1.weight' is missing"):
        ToyLarge(weights=checkpoint, width=8)


def test_published_weights_are_fetched_and_named(model, checkpoint, video, tmp_path):
    environment = {BASE_URL_VARIABLE: checkpoint.parent.as_uri() + "/", HOME_VARIABLE: str(tmp_path)}
    result = invoke("predict", "--model", "toy_small", video, "--json", **environment)
    clip = kvf.read_clip(video, num_frames=SHAPE[0], size=SHAPE[1:3], crop_fraction=1.0)
    (answer,) = call(model, clip[None])
    assert scores(result) == pytest.approx(dict(zip(model.labels, map(float, answer), strict=True)), abs=1e-6)
    assert json.loads(result.stdout)[0]["labels"] == "model"
    refused = invoke("predict", "--model", "toy_large", video, code=1)
    assert "--model toy_large without --weights would classify with random weights" in refused.output


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(".tflite", marks=pytest.mark.slow_on("jax", "torch")),
        pytest.param(".onnx", marks=pytest.mark.slow_on("jax", "torch")),
    ],
)
def test_a_model_without_preprocessing_of_its_own_gets_that_of_its_contract(model, video, tmp_path, ending):
    """In `predict` and in an exported file, with the toy's mean and standard deviation, not with ImageNet's."""
    bare = ToySmall(weights=None, include_preprocessing=False, labels=model.labels)
    bare.set_weights(model.get_weights())
    for name, network in (("with", model), ("bare", bare)):
        network.save(tmp_path / f"{name}.keras")
    expected = scores(invoke("predict", "--weights", tmp_path / "with.keras", video, "--json"))
    assert scores(invoke("predict", "--weights", tmp_path / "bare.keras", video, "--json")) == pytest.approx(
        expected, abs=1e-5
    )
    # The toy shows frames to their edges, which is a rule of its contract too.
    edges, centre = (
        kvf.read_clip(video, num_frames=SHAPE[0], size=SHAPE[1:3], crop_fraction=fraction)[None]
        for fraction in (1.0, 224 / 256)
    )
    assert sorted(expected.values()) == pytest.approx(sorted(call(model, edges)[0]), abs=1e-5)
    assert np.abs(call(model, edges) - call(model, centre)).max() > 1e-4
    clip = edges
    assert np.abs(call(bare, kvf.preprocess_input(clip)) - call(model, clip)).max() > 1e-3
    same(call(bare, kvf.preprocess_input(clip, preprocessing=bare.preprocessing)), call(model, clip), 1e-5)

    file = tmp_path / f"bare{ending}"
    arguments = ("--weights", tmp_path / "bare.keras", "--out", file, "--compare-on", video, "--json")
    report = json.loads(invoke("export", "--model", "toy_small", *arguments).stdout)
    assert report["difference"] < 1e-4
    assert scores(invoke("predict", "--model", file, video, "--json")) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow_on("tensorflow", "jax")
def test_training_interrupted_and_resumed(videos, video, checkpoint, tmp_path, monkeypatch):
    """From a checkpoint, with its first stage frozen and rates by depth, it comes to the same model, which predicts."""
    settings = ("--set", "epochs=2", "--set", "frozen_stages=1", "--batch-size", 2, "--workers", 0)
    data = ("--data", videos / "train", "--val", videos / "val", "--model", "toy_small", "--weights", checkpoint)

    def train(out, *options, code=0):
        return invoke("train", *data, *settings, "--out", tmp_path / out, *options, code=code)

    def end_of_step(self, batch, logs=None):
        if self.step == 1:
            signal.raise_signal(signal.SIGTERM)
        return counted(self, batch, logs)

    counted = Run.on_train_batch_end
    with monkeypatch.context() as context:
        context.setattr(Run, "on_train_batch_end", end_of_step)
        broken = train("broken", code=128 + signal.SIGTERM)
    assert "SIGTERM came at step 2, and the run is saved" in broken.output
    train("broken", "--resume")
    train("unbroken")
    ends = [read_safetensors(tmp_path / out / "best.safetensors") for out in ("broken", "unbroken")]
    assert ends[0].keys() == ends[1].keys()
    for name, array in ends[0].items():
        np.testing.assert_allclose(array, ends[1][name], rtol=1e-5, atol=1e-6)
    with (tmp_path / "broken" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]

    trained = keras.saving.load_model(tmp_path / "broken" / "model.keras")
    assert (type(trained), trained.labels) == (Toy, CLASSES)
    state, before = trained.state(), ToySmall(weights=checkpoint).state()
    changed = {name.rsplit(".", 1)[0] for name in state if name[:2] != "fc" and (state[name] != before[name]).any()}
    assert changed == {"motion.1.0"}
    answer = scores(invoke("predict", "--weights", tmp_path / "broken" / "model.keras", video, "--json"))
    assert set(answer) == set(CLASSES) and sum(answer.values()) == pytest.approx(1, abs=1e-5)

    refused = invoke("train", *data, "--out", tmp_path / "other", "--set", "drop_path_rate=0.1", code=1)
    assert "does not fit the model toy_small: ToySmall has no argument 'drop_path_rate'" in refused.output
