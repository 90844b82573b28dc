"""`evaluate_videos` on a model whose answers are known: what it reports, refuses, and names and passes over."""

import importlib
import json
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_video_focalnet import VideoList, VideoRecord, evaluate_videos, read_views, score_views, video_list
from keras_video_focalnet.evaluation.ledger import LEDGER, Ledger, Row
from tests.clips import encode
from tests.evaluation.stand_in import COLOURS, Colours, colour_folder, colour_video

pytestmark = pytest.mark.backend_free
pytest.importorskip("sklearn")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("matplotlib")

FILES = ("report.json", "report.html", "predictions.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("evaluated") / "videos")


def named(folder, *records):
    return VideoList([VideoRecord(str(folder / path), label) for path, label in records], list(COLOURS))


# ---- What is reported


def test_the_report_is_what_scoring_each_video_by_hand_gives(folder, tmp_path):
    model = Colours()
    report = evaluate_videos(model, folder, "2x3", tmp_path / "out", workers=3)
    videos = video_list(folder, class_names=list(COLOURS))
    scores = np.stack([score_views(model, read_views(record.path, model, "2x3")) for record in videos])
    labels = [record.label for record in videos]
    answers = scores.argmax(1)
    assert answers.tolist() == [2, 2, 2, 0, 1, 1, 1, 2, 0, 0, 0, 1]
    assert report["metrics"]["top1"] == report["metrics"]["mean_class_accuracy"] == 0.75
    assert report["metrics"]["top5"] is None and 0 < report["metrics"]["ece"] < 1
    assert report["confusion"] == [[3, 1, 0], [0, 3, 1], [1, 0, 3]]
    assert report["protocol"] == {
        "views": "2x3", "frames": 4, "size": [32, 32], "sampling": "spread", "seed": None
    }  # fmt: skip
    assert report["videos"] == {"scored": 12, "broken": 0, "damaged": 0, "duplicates": 0}
    assert [pair["videos"] for pair in report["worst_confusions"]] == [1, 1, 1]
    assert report["worst_confusions"][0]["files"] == [str(folder / "red" / "3.mp4")]
    assert {error["video"] for error in report["worst_errors"]} == {str(folder / c / "3.mp4") for c in COLOURS}
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    table = parquet.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    np.testing.assert_allclose(table["scores"], scores, atol=1e-6)
    assert (table["label"], table["answer"]) == (labels, answers.tolist())
    assert table["video"] == [record.path for record in videos]
    assert table["label_name"][0] == "blue" and set(table["broken"]) == {None}


def test_a_list_a_folder_and_a_video_list_are_the_same(folder, tmp_path):
    videos = video_list(folder, class_names=list(COLOURS))
    lines = ["path,label", *(f"{os.path.relpath(r.path, folder)},{list(COLOURS)[r.label]}" for r in videos)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    (tmp_path / "numbers.csv").write_text("\n".join(f"{os.path.relpath(r.path, folder)} {r.label}" for r in videos))
    (tmp_path / "rows.csv").write_text(
        "\n".join([lines[0] + ",split", *(f"{line},val" for line in lines[1:]), "x,red,train"])
    )
    reports = [
        evaluate_videos(Colours(), data, **options)
        for data, options in (
            (folder, {}),
            (str(tmp_path / "list.csv"), {"root": folder}),
            (tmp_path / "numbers.csv", {"root": folder}),
            (videos, {}),
            (tmp_path / "rows.csv", {"root": folder, "split": "val"}),
        )
    ]
    assert all(report == reports[0] for report in reports)


def test_a_model_without_names_takes_those_of_the_videos_or_labels(folder, tmp_path):
    nameless = Colours(labels=None)
    report = evaluate_videos(nameless, folder)
    assert report["classes"] == ["blue", "green", "red"] and report["metrics"]["top1"] < 0.75
    assert evaluate_videos(nameless, folder, labels=list(COLOURS))["metrics"]["top1"] == 0.75
    (tmp_path / "numbers.csv").write_text("red/0.mp4 0\ngreen/0.mp4 1\n")
    report = evaluate_videos(nameless, tmp_path / "numbers.csv", root=folder)
    assert report["classes"] == ["class 0", "class 1", "class 2"] and report["metrics"]["top1"] == 1


def test_classes_without_videos_count_for_nothing(folder):
    report = evaluate_videos(Colours(), named(folder, ("red/0.mp4", 0), ("green/0.mp4", 1)))
    assert report["metrics"]["mean_class_accuracy"] == 1
    assert report["per_class"][2] == {"class": "blue", "videos": 0, "precision": 0, "recall": 0, "f1": 0}


def test_groups_are_of_one_shape_whatever_the_workers(folder):
    reports, batches = [], []
    for workers in (1, 5):
        model = Colours()
        reports.append(evaluate_videos(model, folder, "2x1", batch_size=10, workers=workers))
        batches.append(model.batches)
    assert reports[0] == reports[1] and batches == [[10] * 3] * 2


def test_drawn_frames_are_a_function_of_the_seed(folder, tmp_path):
    def scores(seed):
        evaluate_videos(Colours(), folder, "2x1", tmp_path / "out", seed=seed, resume=True)
        return parquet.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()["scores"]

    first = scores(0)
    assert scores(0) == first
    (tmp_path / "out" / LEDGER).unlink()
    assert scores(0) == first
    (tmp_path / "out" / LEDGER).unlink()
    assert scores(1) != first


# ---- What is refused


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no video|empty|holds no"),
        ("a.mp4 3\n", "label 3 is none of the 3 classes; write an integer from 0 to 2"),
        ("a.mp4 -1\n", "label -1 is none"),
        ("path,label\na.mp4,purple\n", "'purple' is none of the 3 that there are"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, lines, message):
    (tmp_path / "list.csv").write_text(lines)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match=message):
        evaluate_videos(Colours(), tmp_path / "list.csv", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_classes_that_do_not_fit(folder, tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\nb.mp4,y\n")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match="3 classes but the videos have 2"):
        evaluate_videos(Colours(labels=None), tmp_path / "list.csv")
    four = VideoList([VideoRecord("a.mp4", 0)], list("wxyz"))
    with pytest.raises(ValueError, match="3 classes but the videos have 4"):
        evaluate_videos(Colours(), four)
    turned = VideoList([VideoRecord("a.mp4", 0)], reversed(COLOURS))
    with pytest.raises(ValueError, match="or in another order; make the list with class_names=model.labels"):
        evaluate_videos(Colours(), turned)
    with pytest.raises(ValueError, match="labels has 2 names but the model has 3 classes"):
        evaluate_videos(Colours(), folder, labels=["x", "y"])
    with pytest.raises(ValueError, match="several labels a video"):
        evaluate_videos(Colours(), VideoList([VideoRecord("a.mp4", (0, 1))], COLOURS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "4x2"}, "views must be clips x crops"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"workers": 0}, "workers must be"),
        ({"seed": -1}, "seed must be .*pass None for frames"),
        ({"data": 3}, "data must be a folder, a list file or a VideoList, received a int"),
    ],
)
def test_bad_arguments(folder, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_videos(Colours(), **{"data": folder, **options})


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        evaluate_videos(Colours(), tmp_path / "nothing")


def test_scores_that_are_no_numbers(folder, monkeypatch):
    model = Colours()
    monkeypatch.setattr(model, "predict", lambda clips: np.full((len(clips), 3), np.nan))
    with pytest.raises(ValueError, match=r"scores of .*\.mp4 that are NaN or infinite"):
        evaluate_videos(model, folder)


def test_a_missing_package_is_told_before_anything_is_read(folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name))
    with pytest.raises(ImportError, match=r"^An evaluation needs pyarrow: pip install '.*\[evaluate\]'\.$"):
        evaluate_videos(Colours(), folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert evaluate_videos(Colours(), folder)["videos"]["scored"] == 12


# ---- What is named and passed over


def test_videos_that_cannot_be_read_are_named(folder, tmp_path):
    (tmp_path / "page.mp4").write_text("<html></html>" * 100)
    (tmp_path / "empty.mp4").touch()
    files = ("page.mp4", "empty.mp4", "missing.mp4")
    good = [VideoRecord(str(folder / "red" / "0.mp4"), 0), VideoRecord(str(folder / "blue" / "0.mp4"), 2)]
    broken = [VideoRecord(str(tmp_path / name), 1) for name in files]
    late = [VideoRecord(str(folder / "red" / "1.mp4"), 0, start=100.0)]
    report = evaluate_videos(Colours(), VideoList(good + broken + late, COLOURS), out=tmp_path / "out")
    assert report["videos"] == {"scored": 2, "broken": 4, "damaged": 0, "duplicates": 0}
    assert report["metrics"]["top1"] == 1
    told = {item["video"]: item["reason"] for item in report["broken"]}
    for name, why in zip(files, ("is not a video", "is an empty file", "does not exist"), strict=True):
        assert why in told[str(tmp_path / name)]
    assert "lies at or after start=100.0" in told[f"{folder / 'red' / '1.mp4'} (100.0 s to the end)"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Videos that cannot be read" in page and "is an empty file" in page
    table = parquet.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    assert [reason is None for reason in table["broken"]] == [True, True, False, False, False, False]
    assert table["scores"][2] is None and table["answer"][2] is None
    with pytest.raises(ValueError, match="none of the 3 videos can be read: .*page.mp4 is not a video"):
        evaluate_videos(Colours(), VideoList(broken, COLOURS))
    with pytest.raises(ValueError, match="can be read; once they can, begin anew with another out: .*page.mp4 is not"):
        evaluate_videos(Colours(), VideoList(broken, COLOURS), out=tmp_path / "none")


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_damaged_videos_are_read_and_named(folder, tmp_path):
    path = colour_video(tmp_path / "damaged.mp4", "green", frames=40)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    records = [VideoRecord(str(folder / "red" / "0.mp4"), 0), VideoRecord(str(path), 1)]
    report = evaluate_videos(Colours(), VideoList(records, COLOURS))
    assert report["videos"]["scored"] == 2
    (told,) = report["damaged"]
    assert told["video"] == str(path) and "packets that were decoded" in told["damage"]
    parts = [VideoRecord(str(path), 1, start=start) for start in (None, 0.1)]
    (told,) = evaluate_videos(Colours(), VideoList(records[:1] + parts, COLOURS))["damaged"]
    assert told["damage"] == "is damaged, in one of its 2 parts or more."


def test_what_is_listed_twice_counts_once(folder, tmp_path):
    red, link = folder / "red" / "0.mp4", tmp_path / "link.mp4"
    link.symlink_to(red)
    records = [VideoRecord(str(path), 0) for path in (red, link, folder / "red" / "1.mp4", red)]
    with pytest.warns(UserWarning, match="2 of 4 videos are listed more than once and count once: .*link.mp4"):
        report = evaluate_videos(Colours(), VideoList(records, COLOURS), out=tmp_path / "out")
    assert report["videos"] == {"scored": 2, "broken": 0, "damaged": 0, "duplicates": 2}
    assert report["duplicates"][0] == {"video": str(link), "same_as": str(red)}
    assert "Videos listed twice" in (tmp_path / "out" / "report.html").read_text()
    parts = [VideoRecord(str(red), 0, end=0.5), VideoRecord(str(red), 1, start=0.5)]
    assert evaluate_videos(Colours(), VideoList(parts, COLOURS))["videos"]["scored"] == 2
    with pytest.raises(ValueError, match="0.mp4 is listed as 'red' and again as 'blue'; remove the line"):
        evaluate_videos(Colours(), VideoList([*records[:1], VideoRecord(str(red), 2)], COLOURS))


def test_names_of_any_bytes(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xff.mp4")
    for folder in ("red", "green", "blue"):
        (tmp_path / "videos" / folder).mkdir(parents=True)
    try:
        colour_video(tmp_path / "videos" / "red" / "x.mp4", "green").rename(tmp_path / "videos" / "red" / name)
    except OSError:
        pytest.skip("this file system takes names of text alone")
    report = evaluate_videos(Colours(), tmp_path / "videos", out=tmp_path / "out")
    assert report["worst_errors"][0]["video"].endswith(name)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert "caf\ufffd" in (tmp_path / "out" / "report.html").read_text()
    (told,) = parquet.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()["video"]
    assert told.endswith("caf\ufffd \ufffd.mp4")


# ---- Stopped and resumed


def test_an_evaluation_is_not_written_over(folder, tmp_path):
    evaluate_videos(Colours(), folder, out=tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds an evaluation; pass resume=True"):
        evaluate_videos(Colours(), folder, out=tmp_path / "out")
    model = Colours()
    evaluate_videos(model, folder, out=tmp_path / "out", resume=True)
    assert model.batches == []
    other = Colours()
    other.name = "other"
    videos = named(folder, ("red/0.mp4", 0))
    for what, arguments in {
        "with views='1x1', now with views='4x1'": (Colours(), folder, "4x1"),
        "with another model, or other weights of it": (other, folder),
        "with another list of videos .paths, order, parts or labels differ.": (Colours(), videos),
    }.items():
        with pytest.raises(ValueError, match=f"out was begun {what}. Resume with what it was begun with, or begin"):
            evaluate_videos(*arguments, out=tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="out was begun with seed=None, now with seed=3. Resume"):
        evaluate_videos(Colours(), folder, out=tmp_path / "out", seed=3, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LEDGER).write_text("this is no database, however long it may be" * 100)
    with pytest.raises(ValueError, match="holds no scores"):
        evaluate_videos(Colours(), folder, out=tmp_path / "other", resume=True)


def test_interrupted_at_any_place_it_goes_on_where_it_stopped(folder, tmp_path, monkeypatch):
    evaluate_videos(Colours(), folder, "2x1", tmp_path / "whole", batch_size=4)
    for stop in range(1, 5):
        model, out = Colours(), tmp_path / f"stopped {stop}"
        predict = model.predict

        def interrupted(clips, model=model, predict=predict, stop=stop):
            if len(model.batches) == stop:
                raise KeyboardInterrupt
            return predict(clips)

        model.predict = interrupted
        with pytest.raises(KeyboardInterrupt):
            evaluate_videos(model, folder, "2x1", out, batch_size=4)
        assert not (out / "report.json").exists()
        model.predict = predict
        evaluate_videos(model, folder, "2x1", out, batch_size=4, resume=True)
        assert len(model.batches) == 6
        for name in FILES:
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def run(folder, out, log, *options, **arguments):
    command = [sys.executable, "-m", "tests.evaluation.stand_in", str(folder), str(out), str(log), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **arguments)


def done(out):
    try:
        with sqlite3.connect(f"file:{out / LEDGER}?mode=ro", uri=True) as data:
            return {number for (number,) in data.execute("SELECT number FROM videos")}
    except sqlite3.OperationalError:
        return set()


@pytest.mark.slow
def test_killed_five_times_it_gives_the_same_report_and_repeats_no_video(tmp_path):
    folder = colour_folder(tmp_path / "videos", each=20)
    paths = [record.path for record in video_list(folder, class_names=list(COLOURS))]
    assert run(folder, tmp_path / "whole", tmp_path / "log").wait() == 0
    rng, out, kills = np.random.default_rng(0), tmp_path / "killed", 0
    while kills < 5:
        before = done(out)
        log = tmp_path / f"log {kills}"
        process = run(folder, out, log, "--resume", "--pause", "0.15")
        wanted = len(before) + 2 + int(rng.integers(6))
        while len(done(out)) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -9, "it ended before it was killed"
        kills += 1
        assert not {paths[number] for number in before} & set(log.read_text().splitlines())
        assert before <= done(out) and not (out / "report.json").exists()
    before = done(out)
    assert 10 <= len(before) < 60
    last = tmp_path / "last"
    assert run(folder, out, last, "--resume").wait() == 0
    assert sorted(last.read_text().splitlines()) == sorted(p for n, p in enumerate(paths) if n not in before)
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "message"), [(20_000, "what was scored before is kept"), (40_000, "File too large")])
def test_a_full_disk_loses_nothing_that_is_written(tmp_path, limit, message):
    """First the scores find no room, then the report does; both go on when there is room."""
    video = colour_video(tmp_path / "video.mp4", "red")
    lines = ["path,label,start,end"]
    # The scores of so many parts take more than 20 kB, and the report with its pictures more than 40.
    lines += [f"{video},red,{part / 10000},{1 + part / 1000}" for part in range(300 if limit < 30_000 else 12)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    out, whole = tmp_path / "out", tmp_path / "whole"
    log = tmp_path / "log"
    process = run(tmp_path / "list.csv", out, log, "--limit", str(limit))
    _, errors = process.communicate()
    assert process.returncode == 1 and message in errors, errors
    assert not (out / "report.json").exists() and not list(out.glob(".*"))
    for target in (out, whole):
        process = run(tmp_path / "list.csv", target, log, "--resume")
        assert process.wait() == 0, process.stderr.read()
    for name in FILES:
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_ledger_keeps_all_of_what_is_added_together_or_nothing(tmp_path):
    path = tmp_path / LEDGER
    with Ledger(path, {"views": "1x1"}) as ledger:
        ledger.add([Row(3, np.float32([1, 2]), None, "damaged")])
        ledger._data.execute("PRAGMA max_page_count = 6")
        with pytest.raises(OSError, match="database or disk is full.*what was scored before is kept"):
            ledger.add([Row(number, np.zeros(5000, np.float32)) for number in range(10, 20)])
        ledger._data.execute("PRAGMA max_page_count = 1000")
        ledger.add([Row(1, None, "broken")])
    with Ledger(path, {"views": "1x1"}) as ledger:
        assert ledger.done() == {1, 3}
        one, three = ledger.rows()
    assert (one.reason, one.scores, three.damage, three.scores.tolist()) == ("broken", None, "damaged", [1, 2])


def test_two_processes_with_one_ledger(tmp_path):
    with Ledger(tmp_path / LEDGER, {}) as first, Ledger(tmp_path / LEDGER, {}) as second:
        first.add([Row(0, np.float32([1]))])
        second.add([Row(0, np.float32([1])), Row(1, np.float32([2]))])
        assert first.done() == {0, 1}


def test_frames_of_a_video_that_is_gone_are_left_out(tmp_path, monkeypatch):
    from keras_video_focalnet.evaluation.pictures import key_frames

    assert key_frames(tmp_path / "gone.mp4") is None
    wide = encode(tmp_path / "wide.mkv", np.zeros((4, 16, 1600, 3), np.uint8), codec="ffv1", pix_fmt="bgr0")
    assert len(key_frames(wide)) < 5000
