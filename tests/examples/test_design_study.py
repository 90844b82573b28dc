"""The study of designs: its tasks, its first weights, its table, and a small study from end to end."""

import itertools
import json
import pathlib

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from examples.design_study import study, tasks
from examples.design_study.variants import VARIANTS

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--seeds", "1", "--steps", "2", "--scenes", "4", "--unseen", "1")


@pytest.mark.backend_free
def test_two_moves_come_one_after_the_other():
    for order in tasks.ORDERS:
        path = tasks.draw_two_moves(order, np.random.default_rng(3))
        amounts = {"pan": path.x, "tilt": path.y}
        kinds = [move.partition(" ")[0] for move in order]
        for kind, half in zip(kinds, (slice(0, 7), slice(9, 16)), strict=True):
            other = amounts[kinds[0] if kind == kinds[1] else kinds[1]]
            assert np.ptp(amounts[kind][half]) > 2 * np.ptp(other[half]), order
        signs = {"left": -1, "right": 1, "up": -1, "down": 1}
        for move in order:
            kind, _, where = move.partition(" ")
            assert np.sign(amounts[kind][-1] - amounts[kind][0]) == signs[where]
        # Nothing jumps where one move ends and the other begins.
        assert max(np.abs(np.diff(path.x)).max(), np.abs(np.diff(path.y)).max()) < 0.4 / 5


@pytest.mark.backend_free
@pytest.mark.parametrize("task", tasks.TASKS)
def test_clips_are_a_function_of_the_seed(task):
    classes = len(tasks.TASKS[task][0])
    pictures = tasks.unseen_pictures()
    first, again, other = (tasks.make_clips(task, pictures, 2, seed) for seed in (4, 4, 5))
    assert first.clips.shape == (2 * classes, 16, 32, 32, 3) and first.clips.dtype == np.uint8
    assert first.labels.tolist() == 2 * list(range(classes))
    np.testing.assert_array_equal(first.clips, again.clips)
    assert not np.array_equal(first.clips, other.clips)


@pytest.fixture(scope="module")
def document():
    return json.loads(study.RESULTS.read_text())


@pytest.mark.backend_free
def test_the_committed_study_is_whole(document):
    done = [(run["task"], run["model"], run["seed"]) for run in document["runs"]]
    assert sorted(done) == sorted(itertools.product(tasks.TASKS, VARIANTS, range(study.SEEDS)))
    sizes = {(run["steps"], run["scenes"], run["unseen"], run["backend"]) for run in document["runs"]}
    assert sizes == {(study.STEPS, study.SCENES, study.UNSEEN, "torch")} and document["recipe"] == study.RECIPE
    assert document["wall_s"] < 3600


@pytest.mark.backend_free
def test_what_the_page_says_was_measured(document):
    page = (ROOT / "docs" / "design_study.md").read_text()
    assert study.table(document) in page and study.table_of_differences(document) in page
    assert f"took {document['wall_s'] / 60:.0f} minutes" in page
    models = {name: [run for run in document["runs"] if run["model"] == name] for name in VARIANTS}
    a, b, c, d, e, average, projection, tubelets, net, _ = models
    assert e == study.PROPOSED
    camera, order, alone = study.COLUMNS

    def above(name, column, other=e):
        return np.array(study.differences(models, name, *column, other=other))

    def is_level(name, column):
        points = above(name, column)
        return abs(points.mean()) < 2.5 * points.std(ddof=1)

    assert all((above(name, column) < 0).all() for name in (a, c) for column in (camera, order))
    assert all(is_level(name, column) for name in (b, d, average, tubelets) for column in (camera, order))
    assert is_level(projection, camera) and (above(projection, order) > 0).all()
    differences = above(b, camera), above(b, order), above(projection, order), above(d, camera, b)
    assert [round(each.mean(), 1) for each in differences] == [-0.7, 0.8, 1.3, 0.9] and (differences[-1] > 0).all()
    shares = {
        name: [models[of][0][what] / models[other][0][what] for what in ("parameters", "macs")]
        for name, of, other in (("d", e, d), ("b", b, e))
    }
    assert np.round(shares["d"], 2).tolist() == [0.92, 0.93] and np.round(shares["b"], 2).tolist() == [0.92, 0.92]
    mean = {name: np.mean(list(study.figures(runs, *alone).values())) for name, runs in models.items()}
    assert all(mean[name] > 99 for name in (b, d, e, average, projection, tubelets))
    assert round(mean[c]) == 59 and round(mean[net]) == 70 and abs(mean[a] - 50) < 3


@pytest.mark.backend_free
def test_a_study_that_is_done_is_not_run_again(tmp_path, monkeypatch):
    out = tmp_path / "results.json"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    runs = [
        {"task": task, "model": model, "seed": 0, "steps": 2, "scenes": 4, "unseen": 1, "backend": "torch"}
        | {"frames": 8, "parameters": 1000, "macs": 2000, "cpu_s": 3.0, "accuracy": accuracy, "order": accuracy / 2}
        for model, accuracy in (("(d) divided", 0.5), (study.PROPOSED, 0.75))
        for task in tasks.TASKS
    ]
    document = {"wall_s": 1, "recipe": study.RECIPE, "runs": runs}
    out.write_text(json.dumps(document))
    monkeypatch.setattr(study, "run", None)
    arguments = ["--only", "(d) divided", "--only", study.PROPOSED, *SMALL, "--out", str(out)]
    printed = CliRunner().invoke(study.main, arguments, catch_exceptions=False).output
    assert "| (d) divided | 8 | 0.00 | 0.0 | 50.0 | 50.0 | 25.0 | 3 |" in printed
    assert "| (d) divided | -25.0 | -25.0 | -12.5 |" in printed
    for wrong, message in (
        (["--steps", "3", "--out", str(out)], "has runs of another size"),
        (["--only", "(f)", "--out", str(out)], "pass one of"),
        (["--scenes", "3", "--out", str(out)], "--scenes"),
        (["--table", "--out", str(tmp_path / "none.json")], "has no runs"),
    ):
        result = CliRunner().invoke(study.main, wrong)
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
    assert json.loads(out.read_text()) == document


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", VARIANTS)
def test_first_weights_see_the_order_of_frames(name):
    """Reversed clips give other scores before any training, as the design allows."""
    variant = VARIANTS[name]
    model = variant.build(classes=9, seed=0)
    clips = tasks.make_clips("camera motion", tasks.unseen_pictures(), 1, 0).clips[:, :: 16 // variant.frames]
    forward, backward = (keras.ops.convert_to_numpy(model(part)) for part in (clips, clips[:, ::-1].copy()))
    difference = np.abs(forward - backward).max() / np.abs(forward).max()
    assert difference < 1e-3 if name == "(a) spatial" else difference > 1e-3


@pytest.mark.slow
def test_a_small_study(tmp_path):
    out = tmp_path / "results.json"
    arguments = [
        "--only",
        "SIFA-Net",
        "--seeds",
        "1",
        "--steps",
        "2",
        "--scenes",
        "4",
        "--unseen",
        "1",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(study.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    runs = json.loads(out.read_text())["runs"]
    assert sorted(run["task"] for run in runs) == sorted(tasks.TASKS)
    assert all(0 <= run["accuracy"] <= 1 for run in runs) and study.table({"runs": runs}) in result.output


@pytest.mark.slow
def test_a_training_is_repeated_to_the_bit():
    first, again = (study.run("order of two moves", "(e) parallel, multiply, patches", 1, 3, 8, 4) for _ in range(2))
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}
    assert 0 <= first["order"] <= 1
