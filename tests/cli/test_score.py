"""`video-focalnet score` and `prepare` on folders and lists, with small models made here."""

import csv
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_video_focalnet import VideoReader, export, load_exported, prepare_videos, score_videos
from keras_video_focalnet.cli.main import main
from tests.clips import encode, real_clips
from tests.exporting.small_model import small

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")

pq = pytest.importorskip("pyarrow.parquet")
COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos in folders named by their colours, one broken, one cut off."""
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for number in range(3):
            frames = np.broadcast_to(np.uint8(colour), (10 + number, 48, 64, 3))
            encode(folder / name / f"{number}.mp4", frames, options={"crf": "20"})
    (folder / "red" / "page.mp4").write_text("<html></html>" * 100)
    return folder


@pytest.fixture(scope="module")
def model():
    return small()


def read(path):
    return pq.read_table(path).to_pylist()


def by_hand(model, path):
    return keras.ops.convert_to_numpy(model.predict(model.read(path)[None], verbose=0))[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_scores_are_those_of_a_plain_loop(folder, model, tmp_path, workers):
    if workers:
        pytest.importorskip("grain")
    report = score_videos(folder, model, tmp_path / "out.parquet", csv=True, workers=workers, batch_size=4)
    rows = read(tmp_path / "out.parquet")
    assert [row["path"] for row in rows] == sorted(str(path) for path in folder.rglob("*.mp4"))
    assert report.videos == 10 and report.done == 9 and list(report.broken) == [str(folder / "red" / "page.mp4")]
    for row in rows:
        assert row["label"] == row["path"].split("/")[-2]
        if row["broken"]:
            assert "is not a video" in row["broken"] and row["scores"] is None and row["prediction"] is None
            continue
        np.testing.assert_allclose(row["scores"], by_hand(model, row["path"]), atol=1e-6)
        assert row["prediction"] == model.labels[np.argmax(row["scores"])] and row["score"] == max(row["scores"])
    with open(tmp_path / "out.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["walk"]) for line in lines if line["walk"]] == [
        row["scores"][1] for row in rows if row["scores"]
    ]


def test_views_are_averaged_and_the_highest_kept(folder, model, tmp_path):
    from keras_video_focalnet.evaluation.views import read_views, score_views

    score_videos(folder / "red", model, tmp_path / "out.parquet", views="2x3", top=2, workers=0)
    row = read(tmp_path / "out.parquet")[0]
    wanted = score_views(model, read_views(row["path"], model, "2x3"))
    order = np.argsort(-wanted)[:2]
    assert row["top_labels"] == [model.labels[index] for index in order] and "scores" not in row
    np.testing.assert_allclose(row["top_scores"], wanted[order], atol=1e-6)


def test_features_are_what_the_classifier_reads(folder, model, tmp_path):
    score_videos(folder / "blue", model, tmp_path / "out.parquet", features=True, workers=0)
    for row in read(tmp_path / "out.parquet"):
        logits = np.array(row["features"]) @ keras.ops.convert_to_numpy(model.classifier.kernel)
        logits = logits + keras.ops.convert_to_numpy(model.classifier.bias)
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(shares / shares.sum(), by_hand(model, row["path"]), atol=1e-5)
    headless = model.rebuild(include_top=False, pooling=None, classes=None, labels=None)
    score_videos(folder / "blue", headless, tmp_path / "grid.parquet", features=True, workers=0)
    clip = headless.read(folder / "blue" / "0.mp4")[None]
    grid = keras.ops.convert_to_numpy(headless.predict(clip, verbose=0))[0]
    wanted = grid.mean(axis=(1, 2)).mean(axis=0)
    np.testing.assert_allclose(read(tmp_path / "grid.parquet")[0]["features"], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="gives no class scores"):
        score_videos(folder / "blue", headless, tmp_path / "scores.parquet", workers=0)


@pytest.mark.slow
def test_exported_files(folder, model, tmp_path):
    pytest.importorskip("onnxruntime")
    export(model, tmp_path / "small.onnx")
    exported = load_exported(tmp_path / "small.onnx")
    score_videos(folder / "green", exported, tmp_path / "out.parquet", workers=0)
    for row in read(tmp_path / "out.parquet"):
        np.testing.assert_allclose(row["scores"], by_hand(model, row["path"]), atol=1e-5)
    with pytest.raises(ValueError, match="no features; export a model that was built with include_top=False"):
        score_videos(folder, exported, tmp_path / "features.parquet", features=True)


def test_another_model_than_the_one_that_began_is_refused(folder, model, tmp_path):
    score_videos(folder / "red", model, tmp_path / "out.parquet", workers=0)
    before = (tmp_path / "out.parquet").read_bytes()
    other = small()
    other.classifier.bias.assign(other.classifier.bias + 1)
    with pytest.raises(ValueError, match="was begun with other weights of the model. Pass .* or remove"):
        score_videos(folder / "red", other, tmp_path / "out.parquet", workers=0)
    with pytest.raises(ValueError, match="was begun with another list of videos .*differ.. Pass"):
        score_videos(folder / "blue", model, tmp_path / "out.parquet", workers=0)
    # One of the same weights for other clips, and the table of another command.
    larger = small(input_shape=(4, 64, 64, 3))
    larger.set_weights(model.get_weights())
    with pytest.raises(ValueError, match=r"was begun with size=\[32, 32\], now with size=\[64, 64\]. Pass"):
        score_videos(folder / "red", larger, tmp_path / "out.parquet", workers=0)
    with pytest.raises(ValueError, match="is of another command, or of another version of this one; pass another out"):
        prepare_videos(folder / "red", tmp_path / "small", short_side=32, preset="ultrafast", workers=0)
        score_videos(folder / "red", model, tmp_path / "small" / "prepared.parquet", workers=0)
    assert score_videos(folder / "red", model, tmp_path / "out.parquet", workers=0).done == 3
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_other_options_than_those_that_began_are_told_as_they_are_given(folder, tmp_path):
    model = tmp_path / "small.keras"
    small().save(model)
    options = ["--model", str(model), "--out", str(tmp_path / "out.parquet"), "--workers", "0"]

    def told(*arguments):
        result = CliRunner().invoke(main, ["score", str(folder / "red"), *options, *arguments])
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        beginning = f"Error: {tmp_path / 'out.parquet'} was begun "
        assert result.stderr.startswith(beginning) and len(result.stderr.splitlines()) == 1
        clauses, _, remedy = result.stderr.removeprefix(beginning).partition(". ")
        assert remedy.startswith("Pass what it was begun with to go on, or another out, or remove ")
        return clauses

    assert CliRunner().invoke(main, ["score", str(folder / "red"), *options]).exit_code == 0
    assert told("--features") == "without --features, now with --features"
    assert told("--top", "2") == "without --top, now with --top 2"
    assert told("--top", "2", "--views", "2x1").endswith("; with --views 1x1, now with --views 2x1")
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcde"))
    assert told("--labels", str(names)) == "with other names of classes"
    (tmp_path / "out.parquet").unlink()
    assert CliRunner().invoke(main, ["score", str(folder / "red"), *options, "--features"]).exit_code == 0
    assert told() == "with --features, now without --features"


def test_bad_arguments(folder, model, tmp_path):
    for options, message in (
        ({"top": 6}, "top must be an integer from 1 to 5"),
        ({"views": "4x2"}, "views must be clips x crops"),
        ({"workers": -1}, "workers must be"),
        ({"top": 2, "features": True}, "top=2 is of scores; leave it out with features=True"),
        ({"out": tmp_path / "out.csv", "csv": True}, r"pass a name such as '.*out\.parquet', and csv=True"),
        ({"labels": ["a"]}, "labels has 1 names but the model has 5 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            score_videos(folder, model, **{"out": tmp_path / "out.parquet", **options})
    assert not list(tmp_path.iterdir())


def test_a_videos_score_does_not_depend_on_its_batch(folder, model, tmp_path):
    score_videos(folder, model, tmp_path / "all.parquet", workers=0, batch_size=4)
    every = {row["path"]: row["scores"] for row in read(tmp_path / "all.parquet")}
    score_videos([folder / "blue" / "1.mp4"], model, tmp_path / "one.parquet", workers=0, batch_size=4)
    (row,) = read(tmp_path / "one.parquet")
    assert row["scores"] == every[row["path"]]


def invoke(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_the_command_scores(folder, model, tmp_path):
    model.save(tmp_path / "small.keras")
    result = invoke("score", folder, "--out", tmp_path / "o.parquet", "--csv", "--weights", tmp_path / "small.keras",
                    "--workers", 0)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'o.parquet'}: 9 of 10 videos are scored\n"
    assert "1 cannot be read:\n" in result.stderr and "page.mp4 is not a video" in result.stderr
    assert (tmp_path / "o.csv").exists()
    result = invoke("score", tmp_path, "--out", tmp_path / "p.parquet", "--weights", tmp_path / "small.keras")
    assert result.exit_code == 1 and result.stderr.startswith(f"Error: {tmp_path} holds no video")
    result = invoke("score", folder, "--out", "x.parquet", "--ray", "--address", "auto")
    assert result.exit_code == 2 and "leave out one of them" in result.stderr


@pytest.mark.backend_free
def test_prepare_keeps_folders_times_and_lists(folder, tmp_path):
    clip = real_clips() / "bikes.mp4"
    lists = tmp_path / "train.csv", tmp_path / "val.csv"
    lists[0].write_text(f"path,label\n{clip},ride\n{folder}/red/0.mp4,red\n{folder}/red/page.mp4,red\n")
    lists[1].write_text(f"path,label,start,end\n{clip},ride,1.5,4\n")
    options = {"short_side": 64, "preset": "ultrafast", "workers": 0}
    report = prepare_videos(lists, tmp_path / "small", **options)
    assert report.done == 2 and list(report.broken) == [f"{folder}/red/page.mp4"]
    rows = list(csv.DictReader((tmp_path / "small" / "train.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["ride", "red"]
    (part,) = csv.DictReader((tmp_path / "small" / "val.csv").read_text().splitlines())
    assert part == {"path": rows[0]["path"], "label": "ride", "start": "1.5", "end": "4.0"}
    with VideoReader(clip) as before, VideoReader(tmp_path / "small" / rows[0]["path"]) as after:
        assert after.size == (64, 152)
        np.testing.assert_allclose(after.times, before.times, atol=1e-4)
        small, large = after.read([0, 100, 249]).astype(int), before.read([0, 100, 249]).astype(int)
        # The colours are those of the original.
        assert np.abs(small.mean(axis=(1, 2)) - large.mean(axis=(1, 2))).max() < 2
    with VideoReader(tmp_path / "small" / rows[1]["path"]) as after:
        # Not enlarged.
        assert after.size == (48, 64)
        assert np.abs(after.read([5])[0, 24, 32].astype(int) - COLOURS["red"]).max() < 12
    table = read(tmp_path / "small" / "prepared.parquet")
    assert [row["frames"] for row in table] == [250, 10, None]
    # Again, nothing is done.
    stamp = (tmp_path / "small" / rows[0]["path"]).stat().st_mtime_ns
    assert prepare_videos(lists, tmp_path / "small", **options) == report
    assert (tmp_path / "small" / rows[0]["path"]).stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="was begun with crf=23, now with crf=30"):
        prepare_videos(lists, tmp_path / "small", crf=30, **options)


@pytest.mark.backend_free
def test_prepare_a_folder_of_classes_by_its_command(folder, tmp_path):
    pytest.importorskip("grain")
    result = invoke("prepare", folder, "--out", tmp_path / "small", "--short-side", 32, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'small' / 'prepared.parquet'}: 9 of 10 videos are prepared\n"
    made = sorted(str(path.relative_to(tmp_path / "small")) for path in (tmp_path / "small").rglob("*.mp4"))
    assert made == sorted(f"{name}/{number}.mp4" for name in COLOURS for number in range(3))
    for options, message in (
        (["--short-side", 33], "must be an even number of pixels"),
        (["--preset", "slowest"], "preset must be one of"),
    ):
        result = invoke("prepare", folder, "--out", tmp_path / "other", *options)
        assert result.exit_code == 1 and message in result.stderr
    result = invoke("prepare", folder, "--out", folder)
    assert result.exit_code == 1 and "is the folder that the videos lie in" in result.stderr


@pytest.mark.backend_free
def test_a_small_video_that_cannot_be_written_is_no_fault_of_the_video(folder, tmp_path):
    (tmp_path / "small").mkdir()
    # A file lies where the folder of a class is to be.
    (tmp_path / "small" / "red").touch()
    with pytest.raises(OSError, match=r"red/0\.mp4 cannot be written"):
        prepare_videos(folder, tmp_path / "small", short_side=32, preset="ultrafast", workers=0)
    (tmp_path / "small" / "red").unlink()
    # A process that was killed while it wrote leaves such a file, which goes.
    (tmp_path / "small" / "red").mkdir()
    (tmp_path / "small" / "red" / f".0.mp4.123.{'0f' * 16}.tmp").touch()
    report = prepare_videos(folder, tmp_path / "small", short_side=32, preset="ultrafast", workers=0)
    assert report.done == 9
    assert sorted(path.name for path in (tmp_path / "small" / "red").iterdir()) == ["0.mp4", "1.mp4", "2.mp4"]


@pytest.mark.backend_free
def test_the_package_stays_light_and_names_the_extra():
    source = (
        "import sys, json; sys.modules['pyarrow'] = None\n"
        "import keras_video_focalnet.cli.main, keras_video_focalnet as k\n"
        "loaded = sorted({'keras', 'ray', 'grain', 'av', 'rich'} & set(sys.modules))\n"
        "try: k.prepare_videos(['a.mp4'], 'nowhere')\n"
        "except ImportError as error: print(json.dumps([loaded, str(error)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded, message = json.loads(done.stdout)
    assert loaded == []
    assert message == "Preparing videos needs pyarrow: pip install 'keras-video-focalnet[score]'."
