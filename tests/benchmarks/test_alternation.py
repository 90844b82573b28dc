"""The harness of the benchmarks; what it measures is no test's business."""

import inspect
import itertools

import click
import pytest

from benchmarks import alternation, growth, subjects
from benchmarks.memory import chosen_variants
from benchmarks.subjects import CEILINGS, SUBJECTS, Subject, clip_of, heads_of, joined, parse

pytestmark = pytest.mark.backend_free


def test_subjects_take_turns_in_processes_of_their_own():
    results = alternation.alternate("ceiling", [CEILINGS["matrix product torch"]], rounds=2, calls=3, side=8)
    result = results["matrix product torch"]
    assert result["calls"] == 6 and 0 < result["low_s"] <= result["median_s"] <= result["high_s"]
    assert result["peak_bytes"] > 2**20


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"nothing failed: KeyError: 'nothing'"):
        alternation.Worker("inference", Subject("nothing", "torch"))


def test_results_are_written_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(alternation, "RESULTS", tmp_path / "results")
    alternation.write("some", "cpu", [{"median_s": 1.0}], note="x")
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == "some-cpu.json" and '"median_s": 1.0' in file.read_text()
    assert "some-cpu.json" in capsys.readouterr().out


def test_clips_are_in_the_layout_of_the_subject():
    assert clip_of(SUBJECTS["ours jax"], "tiny", 2).shape == (2, 8, 224, 224, 3)
    assert clip_of(SUBJECTS["reference eager"], "tiny", 2).shape == (2, 8, 3, 224, 224)
    assert clip_of(SUBJECTS["ViViT-B 32x224"], "base", 1).shape == (1, 32, 3, 224, 224)


def test_clips_have_as_many_frames_as_the_size_takes():
    assert clip_of(SUBJECTS["ours jax"], "sifa50", 1).shape == (1, 16, 224, 224, 3)
    assert clip_of(SUBJECTS["reference eager"], "sifa-s", 1).shape == (1, 16, 224, 224, 3)
    assert clip_of(SUBJECTS["ours jax"], "sifa50", 1, frames=32).shape == (1, 32, 224, 224, 3)


def test_logits_of_several_heads_are_joined_as_ours():
    torch = pytest.importorskip("torch")
    heads = torch.tensor([[[0.0, 1.0, 5.0]], [[2.0, -1.0, 0.5]]])
    mean = heads.softmax(-1).mean(0)
    assert torch.allclose(joined(tuple(heads)), mean.log())
    assert torch.equal(joined(heads_of(heads[0])), heads[0])


def test_no_option_of_what_is_built_is_one_of_the_process():
    of_the_process = set(inspect.signature(alternation.Worker).parameters) - {"subject", "options"}
    builders = [function for name, function in vars(subjects).items() if name.startswith("build_")]
    assert builders and not any(of_the_process & set(inspect.signature(function).parameters) for function in builders)


def test_an_unknown_subject_is_refused():
    assert [subject.label for subject in parse("ours jax,ours torch")] == ["ours jax", "ours torch"]
    with pytest.raises(click.BadParameter, match="there is no subject 'ours cray'"):
        parse("ours cray")


def test_an_unknown_variant_is_refused():
    assert chosen_variants("none, all") == {"none": False, "all": True}
    with pytest.raises(click.BadParameter, match="'most' is none of: none, stages 0 and 1, all"):
        chosen_variants("all,most")


def test_shapes_take_turns_and_their_tokens_are_compared(monkeypatch):
    class Worker:
        def __init__(self, kind, subject, tasks, threads, **options):
            assert kind == "several" and all(task["name"] == "tiny" for task in tasks)
            # A token takes a microsecond, with one thread two; of the first shape half as much again.
            seconds = [1e-6 * growth.tokens(shape) * (2 if threads == 1 else 1) for shape in tasks]
            self.calls = itertools.cycle([1.5 * seconds[0], *seconds[1:]])
            next(self.calls)

        def time(self, calls):
            return [next(self.calls) for _ in range(calls)]

        def close(self):
            pass

    monkeypatch.setattr(growth, "Worker", Worker)
    rows = growth.measure([SUBJECTS["ours jax"]], threads=(1, 2))
    shapes = growth.shapes()
    assert len(rows) == 2 * len(shapes) and len({growth.named(shape) for shape in shapes}) == len(shapes)
    assert rows[0]["us_a_token"] == pytest.approx(3) and rows[-1]["us_a_token"] == pytest.approx(1)
    for row, threads in zip(growth.spreads(rows), (1, 2), strict=True):
        assert row["threads"] == threads and row["ratio"] == pytest.approx(1.5)
        assert growth.named(row["worst"]) == growth.named(shapes[0])
    assert (
        len(growth.shapes_as_table(rows)[1]) == len(shapes)
        and len(growth.spreads_as_table(growth.spreads(rows))[1]) == 2
    )
