"""`--classes`: clips are compared with names that the user gives, by the commands that take a model."""

import json
import warnings

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import VideoFocalNetNano, VitaCLIP, open_model, read_clip, zero_shot
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.models.class_names import build_for_names, with_names
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from tests.clip_states import hugging_face_state, openai_state
from tests.models.vita_clip.models import arrays, rendering, training_checkpoint
from tests.small_vita_clip import SIZES, registered

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")

torch = pytest.importorskip("torch")

LEARNED = ("opening a door", "closing a door", "hurling (sport)")
OTHERS = ("a cat", "a dog", "a horse, white")
SHAPE = (4, 32, 32, 3)


@pytest.fixture(scope="module")
def original():
    return rendering(SIZES, LEARNED, num_frames=SHAPE[0], input_size=SHAPE[1:3])


@pytest.fixture(scope="module")
def files(tmp_path_factory, original):
    """A checkpoint in the original's layout, CLIP's part of it, a saved model of it and a list of names."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(training_checkpoint(original), folder / "checkpoint.pth")
    write_safetensors(folder / "clip.safetensors", arrays(hugging_face_state(original)))
    torch.save(openai_state(original), folder / "openai.pth")
    model = VitaCLIP(LEARNED, input_shape=SHAPE, **SIZES)
    model.load_state(read_state_dict(folder / "checkpoint.pth"))
    model.save(folder / "saved.keras")
    (folder / "others.txt").write_text("\n".join(OTHERS))
    (folder / "latin.txt").write_bytes("a cat\ncafé\n".encode("latin-1"))
    (folder / "folder").mkdir()
    return folder


@pytest.fixture(scope="module", autouse=True)
def family(files):
    with registered(files / "clip.safetensors"):
        yield


def invoke(command, *arguments, **options):
    return CliRunner().invoke(main, [command, *map(str, arguments)], **options)


def scores(*arguments):
    """What `predict` says of a file: a dict from labels to scores."""
    result = invoke("predict", *arguments, "--json", "--top", "400")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)
    assert answer["labels"] == "model"
    return {row["label"]: row["score"] for row in answer["predictions"]}


def of(model, path, wanted=None):
    """What a model says of a file in the same form, or given scores by the model's names."""
    wanted = model.predict(read_clip(path, like=model)[None], verbose=0) if wanted is None else wanted
    return pytest.approx(dict(zip(model.labels, map(float, wanted[0]), strict=True)), abs=1e-5)


# === Models that are there ===


def test_a_saved_model_is_told_other_names(folder, files, tmp_path):
    model, path = open_model(files / "saved.keras"), folder / "green.mp4"
    wanted = zero_shot(model, read_clip(path, like=model)[None], OTHERS)
    expected = pytest.approx(dict(zip(OTHERS, map(float, wanted[0]), strict=True)), abs=1e-5)
    (tmp_path / "horse.txt").write_text(OTHERS[2])
    assert scores(path, "--model", files / "saved.keras", "--classes", files / "others.txt") == expected
    names = ("--classes", "a cat, a dog", "--classes", tmp_path / "horse.txt")
    assert scores(path, "--weights", files / "saved.keras", *names) == expected


def test_a_model_that_is_told_its_own_names_keeps_what_it_learned(folder, files):
    model = open_model(files / "saved.keras")
    given = scores(folder / "red.mp4", "--model", files / "saved.keras", "--classes", ",".join(LEARNED))
    assert given == of(model, folder / "red.mp4")
    assert with_names(model, list(LEARNED)) is model


def test_names_in_another_order_and_some_of_them_keep_what_was_learned(folder, files):
    """Of a saved model and of a checkpoint alike, however names are spelled; the scores of all are the same ones."""
    path, model = folder / "green.mp4", open_model(files / "saved.keras")
    options = ("--model", "small-vita-clip", "--weights", files / "checkpoint.pth")
    given = of(model, path)
    assert scores(path, *options, "--classes", ",".join(LEARNED[::-1])) == given
    names, rows = ("CLOSING_a door", LEARNED[0]), [1, 0]
    learned = {name: given.expected[LEARNED[row]] for name, row in zip(names, rows, strict=True)}
    wanted = pytest.approx({name: share / sum(learned.values()) for name, share in learned.items()}, abs=1e-5)
    for other in (with_names(model, names), build_for_names("small-vita-clip", names, files / "checkpoint.pth")):
        assert other.context == "class" and other.labels == names
        learned = keras.ops.convert_to_numpy(model.classifier.ctx)[rows]
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(other.classifier.ctx), learned)
        assert of(other, path).expected == wanted


def told(function, *arguments):
    """What a function warns of."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always", UserWarning)
        function(*arguments)
    return [str(warning.message) for warning in given if warning.category is UserWarning]


def test_what_is_told_of_a_learned_context(files):
    """That it is of other names, once; or that a file of weights does not tell where it stands."""
    checkpoint = ("small-vita-clip", files / "checkpoint.pth")
    saved = open_model(files / "saved.keras")
    lost = (
        "the learned context is of other class names: the names are scored by their texts alone. Pass none but names "
        "that it was trained for, in any order, to score with it."
    )
    others = (LEARNED[0], "a cat")
    assert told(build_for_names, checkpoint[0], others, checkpoint[1]) == [lost] == told(with_names, saved, others)
    (assumed,) = told(build_for_names, checkpoint[0], LEARNED, checkpoint[1])
    assert assumed.startswith("the weights do not tell where the learned context stands, and it is taken to stand befo")
    assert told(with_names, saved, LEARNED[:2]) == []


def test_names_of_a_data_set(folder, files):
    given = scores(folder / "red.mp4", "--model", files / "saved.keras", "--classes", "k400")
    assert sorted(given) == sorted(load_labels("k400"))
    assert sum(given.values()) == pytest.approx(1, abs=1e-4)


# === Models that are built ===


def test_a_checkpoint_is_told_the_names_that_it_learned(folder, files):
    model = VitaCLIP(LEARNED, input_shape=SHAPE, **SIZES)
    model.load_state(read_state_dict(files / "checkpoint.pth"))
    options = ("--model", "small-vita-clip", "--weights", files / "checkpoint.pth")
    assert scores(folder / "blue.mp4", *options, "--classes", ",".join(LEARNED)) == of(model, folder / "blue.mp4")
    other = model.set_class_names(OTHERS)
    given = scores(folder / "blue.mp4", *options, "--classes", files / "others.txt")
    assert given == of(other, folder / "blue.mp4")


def test_a_checkpoint_tells_its_options(files, tmp_path):
    options = {"context": "shared", "context_tokens": 5, "prompts": ("local",), "num_frames": 2}
    model = VitaCLIP(LEARNED, **{**SIZES, "input_shape": (2, 32, 32, 3), **options})
    write_safetensors(tmp_path / "shared.safetensors", model.state())
    with pytest.warns(UserWarning, match="do not tell where the learned context stands"):
        built = build_for_names("small-vita-clip", OTHERS, tmp_path / "shared.safetensors")
    assert {name: getattr(built, name) for name in options} == options and built.labels == OTHERS
    assert built.input_shape == (None, 2, 32, 32, 3)
    clip = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), "uint8")
    wanted = model.set_class_names(OTHERS).predict(clip, verbose=0)
    np.testing.assert_allclose(built.predict(clip, verbose=0), wanted, atol=1e-5)


@pytest.mark.parametrize("weights", [None, "clip", "openai.pth"])
def test_clip_without_training_is_clip_on_every_frame(folder, files, original, weights):
    """With weights of no classes, which are the default then, nothing that begins at random has a part."""
    given = ["--model", "small-vita-clip", "--classes", "a cat,a dog"]
    if weights is not None:
        given += ["--weights", files / weights if "." in weights else weights]
    model = VitaCLIP(("a cat", "a dog"), prompts=(), context=None, input_shape=SHAPE, **SIZES)
    plain = {name: value for name, value in arrays(original.state_dict()).items() if name in model.state()}
    plain["visual.patch_embed.proj.bias"] *= 0
    plain["visual.time_embed"] = np.zeros_like(model.state()["visual.time_embed"])
    model.load_state(plain)
    assert scores(folder / "green.mp4", *given) == of(model, folder / "green.mp4")


# === Other commands ===


def test_a_timeline(folder, files):
    result = invoke("timeline", folder / "turning.mp4", "--model", files / "saved.keras", "--classes", "a,b", "--json")
    assert result.exit_code == 0, result.output
    assert {segment["label"] for segment in json.loads(result.stdout)["segments"]} <= {"a", "b"}


def test_scores_of_a_folder(folder, files, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path, out = folder / "red.mp4", tmp_path / "out.parquet"
    (tmp_path / "list.csv").write_text(f"path\n{path}\n")
    options = ("--model", files / "saved.keras", "--classes", files / "others.txt", "--workers", "0")
    result = invoke("score", tmp_path / "list.csv", "--out", out, *options)
    assert result.exit_code == 0, result.output
    (row,) = parquet.read_table(out).to_pylist()
    assert row["prediction"] in OTHERS
    model = open_model(files / "saved.keras").set_class_names(OTHERS)
    best = max(of(model, path).expected.items(), key=lambda item: item[1])
    assert (row["prediction"], row["score"]) == (best[0], pytest.approx(best[1], abs=1e-5))


def test_an_evaluation(folder, files, tmp_path):
    for package in ("sklearn", "pyarrow", "matplotlib"):
        pytest.importorskip(package)
    lines = [f"{folder / name}.mp4,{label}" for name, label in (("red", "a dog"), ("blue", "a cat"))]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    options = ("--model", files / "saved.keras", "--classes", "a cat,a dog", "--out", tmp_path / "out")
    result = invoke("evaluate", "--data", tmp_path / "list.csv", *options)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["videos"]["scored"] == 2 and 0 <= told["metrics"]["top1"] <= 1


def test_an_export_holds_the_names(files, tmp_path, monkeypatch):
    written = []

    def write(network, out, **options):
        written.append((network.labels, options["labels"]))
        raise ValueError("stops here")

    monkeypatch.setattr("keras_video_focalnet.exporting.export.export", write)
    options = ("--model", files / "saved.keras", "--out", tmp_path / "model.tflite")
    result = invoke("export", *options, "--classes", "a cat,a dog")
    assert result.stderr == "Error: stops here\n" and written == [(("a cat", "a dog"), None)]


# === What it refuses ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "a,A"], "--classes has 'a' twice, at last as 'A', which CLIP reads alike, since case, spaces,"),
        (["--classes", "a,,b"], "--classes must be names that say something, received ''."),
        (["--classes", " "], "--classes must be names that say something, received ''."),
        (
            ["--classes", "x " * 99],
            "… is too long: with its start, its end and what stands around it, it has 101 tokens",
        ),
        (["--classes", "no_such_file.txt"], "'no_such_file.txt' is no known data set and no file; pass a data set"),
        (["--classes", "nofile.csv"], "'nofile.csv' is no known data set and no file; pass a data set (k400, ...)"),
        (["--classes", "./nothing/here"], "'./nothing/here' is no known data set and no file; pass a data set"),
        (["--classes", "folder"], "'folder' is a folder and no text file with one name a line; pass such"),
        (["--classes", "saved.keras"], "'saved.keras' is a model and no text file with one name a line; pass such a"),
        (["--classes", "imagenet"], "'imagenet' is a data set whose class names are not in the package; pass a data"),
        (["--classes", "k400,a cat"], "'k400' is a data set among names; pass --classes k400 besides for its names."),
        (["--classes", "a cat,others.txt"], "'others.txt' is a file among names; pass --classes others.txt besides"),
        (["--classes", "latin.txt"], "'latin.txt' is not text in UTF-8 (invalid continuation byte at byte 9); pass a"),
        (["--classes", "checkpoint.pth"], "'checkpoint.pth' is not text in UTF-8"),
        ([], "--model small-vita-clip without --weights would classify with random weights, which says nothing about"),
        ([], "pass published weights (see `video-focalnet models`) or a file, or --classes to say what the video is"),
        (["--weights", "none"], "--weights none would classify with random weights, which says nothing about"),
        (["--weights", "none"], "or a file, or --classes to say what the video is compared with, without --weights."),
        (["--weights", "none", "--classes", "a,b"], "the video; leave it out for the weights 'clip', or pass"),
        (["--model", "saved.keras", "--labels", "saved.keras"], "--labels 'saved.keras' is a model and no text file"),
        (["--model", "saved.keras", "--labels", "latin.txt"], "--labels 'latin.txt' is not text in UTF-8"),
        (["--model", "saved.keras", "--labels", "none.txt"], "--labels 'none.txt' is no known data set and no file"),
        (["--weights", "checkpoint.pth"], "--classes must say what the clips are compared with"),
        (["--classes", "a,b", "--labels", "k400"], "--classes names the classes already; leave out --labels."),
    ],
)
def test_names_that_do_not_fit(folder, files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    result = invoke("predict", folder / "red.mp4", "--model", "small-vita-clip", *arguments)
    assert result.exit_code != 0 and message in " ".join(result.stderr.split()), result.output
    assert not any(word in result.stderr for word in ("class_names", "open_model", "Traceback"))


def test_one_name_alone(folder, files, monkeypatch):
    """What the score of one name is worth is told in the words of the command, once, and not as Keras tells it."""
    monkeypatch.chdir(files)
    for name, meant in (("a cat", "."), ("k4000", ", did you mean 'k400'?")):
        with pytest.warns(UserWarning) as told:
            given = scores(folder / "red.mp4", "--model", "small-vita-clip", "--classes", name)
        assert given == {name: 1.0}
        (message,) = [str(warning.message) for warning in told if warning.category is UserWarning]
        assert message == (
            f"--classes has {name!r} alone, and the score of a single name is always 1, whatever a video shows; name "
            f"what else it may show{meant}"
        )


def test_names_of_several_values(folder, files, monkeypatch):
    """Names and files one after the other; a folder that is called as one of several names is not in its way."""
    monkeypatch.chdir(files)
    options = ("--model", "saved.keras", "--classes", "others.txt", "--classes", "folder,a bird/a plane")
    assert set(scores(folder / "red.mp4", *options)) == {*OTHERS, "folder", "a bird/a plane"}


def test_labels_do_not_call_scores_by_other_names(folder, files, tmp_path):
    """What clips are compared with is the model's texts; a name that is spelled otherwise is the same."""
    (tmp_path / "same.txt").write_text("Opening_a door\nclosing a door\nhurling (sport)\n")
    (tmp_path / "other.txt").write_text("\n".join(LEARNED[::-1]))
    (tmp_path / "list.csv").write_text(f"path,label\n{folder / 'red.mp4'},closing a door\n")
    model = ("--model", files / "saved.keras", "--labels")
    assert invoke("predict", folder / "red.mp4", *model, tmp_path / "same.txt").exit_code == 0
    for command in (
        ("predict", folder / "red.mp4"),
        ("timeline", folder / "red.mp4"),
        ("evaluate", "--data", tmp_path / "list.csv", "--out", tmp_path / "report"),
        ("score", tmp_path / "list.csv", "--out", tmp_path / "out.parquet"),
        ("export", "--out", tmp_path / "model.tflite"),
    ):
        result = invoke(*command, *model, tmp_path / "other.txt")
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: --labels {tmp_path / 'other.txt'} would call the scores otherwise, and the model 'vita_clip' "
            "compares clips with its class names; pass --classes for scores of these names.\n"
        )


def test_models_that_take_no_names(folder, files, colours, tmp_path):
    VideoFocalNetNano(weights=None, classes=2).save(tmp_path / "nano.keras")
    for model, name in (
        ("nano", "VideoFocalNetNano"),
        (tmp_path / "nano.keras", "the model 'video_focalnet_nano'"),
        (colours, "the model 'colours'"),
    ):
        result = invoke("predict", folder / "red.mp4", "--model", model, "--classes", "a,b")
        assert result.exit_code == 1
        assert result.stderr == (
            "Error: --classes is for models that compare clips with names (VitaCLIPB), and the classes of "
            f"{name} are those that it was trained for; leave it out.\n"
        )


def test_exported_models_have_their_names(folder, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"")
    (tmp_path / "model.tflite.json").write_text("{}")
    commands = (["predict", folder / "red.mp4"], ["timeline", folder / "red.mp4"])
    commands += (["score", folder, "--out", tmp_path / "out.parquet"],)
    for command in commands:
        result = invoke(*command, "--model", tmp_path / "model.tflite", "--classes", "a,b")
        assert result.exit_code == 2
        assert "was exported with its classes; leave out --classes, or export the model anew" in result.stderr
