"""`video-focalnet predict` on folders, patterns and lists of paths: tables, interrupts, damage, a full disk."""

import csv
import json
import os

import pytest
from click.testing import CliRunner

from keras_video_focalnet.cli.main import main
from tests.clips import encode, numbered_frames
from tests.colours import COLOURS

pytestmark = pytest.mark.slow_on("tensorflow", "jax")


def invoke(*arguments, **options):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], **options)


def files_of(result):
    return [row["file"] for row in json.loads(result.stdout)]


@pytest.fixture
def library(folder, tmp_path):
    """Videos in folders: `a/red.mp4`, `a/b/green.mp4`, `blue.mp4`, and a text beside them."""
    library = tmp_path / "library"
    (library / "a" / "b").mkdir(parents=True)
    for name in ("a/red", "a/b/green", "blue"):
        (library / f"{name}.mp4").write_bytes((folder / f"{name.rpartition('/')[2]}.mp4").read_bytes())
    (library / "notes.txt").write_text("none")
    return library


def test_folders_patterns_and_files_each_once(library, colours):
    result = invoke(library / "blue.mp4", library, library / "**/*.mp4", "--weights", colours, "--json")
    assert result.exit_code == 0, result.output
    assert files_of(result) == [str(library / name) for name in ("blue.mp4", "a/b/green.mp4", "a/red.mp4")]
    result = invoke(library / "a" / "*", "--weights", colours, "--json")
    assert files_of(result) == [str(library / "a" / "red.mp4")]


def test_a_folder_of_pictures_is_one_video(tmp_path, colours):
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for number in range(5):
        Image.new("RGB", (48, 32), COLOURS["green"]).save(tmp_path / "frames" / f"img_{number:05}.png")
    result = invoke(tmp_path / "frames", "--weights", colours, "--json")
    assert files_of(result) == [str(tmp_path / "frames")]
    assert json.loads(result.stdout)[0]["predictions"][0]["label"] == "class 1"


def test_paths_on_standard_input(library, colours):
    lines = f"{library}/blue.mp4\n\n{library}/a\r\n{library}/*.mp4\n"
    result = invoke("-", "--weights", colours, "--json", input=lines)
    # A line is a path and no pattern.
    assert result.exit_code == 1
    assert files_of(result) == [str(library / name) for name in ("blue.mp4", "a/b/green.mp4", "a/red.mp4")]
    assert f"{library}/*.mp4 does not exist" in result.stderr
    result = invoke("-", "--weights", colours, "--json", input="")
    assert (result.exit_code, files_of(result)) == (1, [])
    assert "standard input names no video" in result.stderr


def test_arguments_that_name_no_video(library, tmp_path, colours):
    (tmp_path / "empty").mkdir()
    result = invoke(tmp_path / "empty", library / "*.avi", library / "blue.mp4", "--weights", colours, "--json")
    assert (result.exit_code, len(files_of(result))) == (1, 1)
    errors = result.stderr.splitlines()
    assert "holds no video" in errors[0] and "matches no file" in errors[1] and errors[2] == "2 of 3 cannot be read."


def test_csv(folder, library, colours, tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("of before")
    result = invoke(library, folder / "page.mp4", "--weights", colours, "--csv", path, "--top", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "rank", "label", "score", "error"]
    assert [(row["path"], row["rank"]) for row in rows[:2]] == [(f"{library}/a/b/green.mp4", rank) for rank in "12"]
    assert rows[0]["label"] == "class 1" and float(rows[0]["score"]) > 0.99
    assert len(rows) == 7 and rows[6]["path"] == str(folder / "page.mp4") and "is not a video" in rows[6]["error"]
    result = invoke(library, "--weights", colours, "--csv", tmp_path / "nowhere" / "a.csv")
    assert result.exit_code == 2 and "no such folder" in result.stderr


def test_an_interrupt_keeps_what_is_done(library, colours, tmp_path, monkeypatch):
    from keras_video_focalnet.cli import predict

    def interrupted(network, path, *others):
        if path.endswith("red.mp4"):
            raise KeyboardInterrupt
        return classify(network, path, *others)

    classify = predict.classify
    monkeypatch.setattr(predict, "classify", interrupted)
    result = invoke(library, "--weights", colours, "--json", "--csv", tmp_path / "a.csv", "--top", "1")
    assert result.exit_code == 130
    assert files_of(result) == [f"{library}/a/b/green.mp4"]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2
    assert result.stderr == "Interrupted: 1 of 3 videos are classified.\n"


def test_damaged_videos_are_counted(tmp_path, colours):
    path = encode(tmp_path / "damaged.mp4", numbered_frames(60), options={"g": "5", "crf": "20"})
    data = bytearray(path.read_bytes())
    place = len(data) // 3
    data[place : place + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        result = invoke(path, "--weights", colours, "--csv", tmp_path / "a.csv")
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("1 video is damaged and was read in spite of it.\n")


def test_a_full_disk_leaves_the_former_table(library, colours, tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("of before")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = invoke(library, "--weights", colours, "--csv", path)
    assert result.exit_code == 1 and "No space left on device" in result.stderr
    assert path.read_text() == "of before" and [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a.csv"]
