"""The report of all benchmarks, with made up results, and the page that is rendered from real ones."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from benchmarks import alternation, rendering, report
from benchmarks.short_form import PARTS

pytestmark = pytest.mark.backend_free

COMMITTED, PAGE = alternation.RESULTS, report.PAGE
MACHINES = {
    "AMD EPYC (avx2, avx512f, avx512_vnni)": 0.5,
    "Intel(R) Xeon(R) Processor (avx2, avx512f, avx512_vnni, avx512_bf16, amx_tile)": 0.25,
}
LABELS = ["AMD EPYC (avx512_vnni), 2 cores", "Intel Xeon Processor (avx512_vnni, avx512_bf16, amx_tile), 2 cores"]
# A figure with a unit, or with a decimal point: what nobody should have typed.
FIGURE = re.compile(r"\d\.\d|\d ?%|\d (s|ms|GB|MB|GFLOP/?s?)\b")


class Products:
    """Matrix products that take what `slow` says, by how often they were asked for; the last one from then on."""

    slow = (1.0,)

    def __init__(self):
        self.asked = 0

    def seconds(self):
        factor = self.slow[min(self.asked, len(self.slow) - 1)]
        self.asked += 1
        return [factor * (0.050 + 0.001 * (number % 4)) for number in range(12)]

    def close(self):
        pass


def inference_part(seconds):
    """A part of one clip of Tiny, that takes so long in a TensorFlow graph."""

    def measure():
        rows = []
        for subject, median in (("reference eager", 2 * seconds), ("ours tensorflow graph", seconds)):
            times = {"median_s": median, "low_s": median, "high_s": median, "calls": 3, "first_call_s": 2.0}
            shares = {"ratio": 2 * seconds / median, "share_of_limit": 0.5}
            rows.append({"size": "tiny", "batch": 1, "subject": subject, **times, "peak_bytes": 10**9, **shares})
        return {"rows": rows, "ceiling_flops": 2e11}

    return measure


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the committed results and a page, on an idle machine whose parts are made up."""
    results = tmp_path / "results"
    shutil.copytree(COMMITTED, results, ignore=shutil.ignore_patterns("report"))
    shutil.copy(PAGE, tmp_path / "README.md")
    monkeypatch.setattr(alternation, "RESULTS", results)
    monkeypatch.setattr(report, "PAGE", tmp_path / "README.md")
    monkeypatch.setattr(report, "MatrixProduct", Products)
    monkeypatch.setattr(report.os, "getloadavg", lambda: (0.1, 2.0, 2.0))
    monkeypatch.setattr(Products, "slow", (1.0,))
    be(monkeypatch, *MACHINES)
    return tmp_path


def be(monkeypatch, cpu, *_):
    """Run on another machine, with a part that takes its time there and one that takes twice as long."""
    told = {"cpu": cpu, "cores": 2, "python": "3.11", "versions": {"keras": "3.15.1", "torch": "2.13.0"}}
    monkeypatch.setattr(alternation, "machine", lambda: told)
    parts = {"inference": inference_part(MACHINES[cpu]), "larger-inference": lambda: {"rows": []}}
    monkeypatch.setattr(report, "PARTS", parts)


def run(*arguments):
    return CliRunner().invoke(report.main, arguments)


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_is_what_its_results_say():
    assert PAGE.read_text() == rendering.render(PAGE.read_text(), COMMITTED)


def test_no_figure_of_the_page_is_typed():
    text = re.sub(r"^```.*?^```|`[^`]+`", "", rendering.outside_of_tables(PAGE.read_text()), flags=re.S | re.M)
    text = text.replace("files of 2 seconds", "").replace("of 10 seconds", "")
    assert not [text[max(0, found.start() - 30) : found.end()] for found in FIGURE.finditer(text)]


def test_machines_stand_side_by_side(place, monkeypatch):
    for cpu in MACHINES:
        be(monkeypatch, cpu)
        result = run()
        assert result.exit_code == 0, result.output
    assert len(list((place / "results" / "report").iterdir())) == len(MACHINES)
    text = (place / "README.md").read_text()
    (header,) = [line for line in text.splitlines() if "4 clips: AMD" in line]
    assert [header.index(label) for label in LABELS] == sorted(header.index(label) for label in LABELS)
    (row,) = [line for line in text.splitlines() if line.startswith("| Tiny | TensorFlow graph |")]
    assert "0.500 (2.00, 50 %)" in row and "0.250 (2.00, 50 %)" in row
    assert text.count("50 % (at least 100 %): **not met**") == 2 and "2.0 (at most 5.0): met" in text
    assert run("--render").exit_code == 0 and (place / "README.md").read_text() == text


def test_results_tell_the_machine_the_versions_and_how_steady_it_was(place):
    assert run().exit_code == 0
    (file,) = (place / "results" / "report").iterdir()
    assert file.name == "amd-epyc-avx2-avx512f-avx512-vnni-2-cores.json"
    result = json.loads(file.read_text())
    assert result["machine"] == {"cpu": next(iter(MACHINES)), "cores": 2} and list(result["parts"]) == [*report.PARTS]
    part = result["parts"]["inference"]
    assert part["versions"]["keras"] == "3.15.1" and part["load_average_at_start"] == 0.1
    assert part["matrix_product"]["calls"] == 24 and 1 < part["matrix_product"]["spread"] < 1.1
    assert {"date", "seconds", "revision", "python", "rows"} <= set(part)


def test_a_machine_with_other_work_is_refused_at_once(place, monkeypatch):
    monkeypatch.setattr(report.os, "getloadavg", lambda: (0.9, 0.1, 0.1))
    before = snapshot(place)
    result = run()
    assert result.exit_code == 1 and "the machine is under load: 0.9 on 2 cores" in result.output
    assert snapshot(place) == before


# Load that comes, goes, or is there beside one part alone.
@pytest.mark.parametrize("slow", [(1, 1, 1.6), (1.6, 1, 1), (1, 1.6, 1)])
def test_a_run_under_load_overwrites_nothing(place, monkeypatch, slow):
    assert run().exit_code == 0
    before = snapshot(place)
    monkeypatch.setattr(Products, "slow", slow)
    result = run()
    assert result.exit_code == 1 and "the machine was under load" in result.output
    after = snapshot(place)
    kept = {path: after.pop(path) for path in set(after) - set(before)}
    assert after == before and [path.suffix for path in kept] == [".part"]


def test_what_no_load_disturbed_is_kept(place, monkeypatch):
    monkeypatch.setattr(Products, "slow", (1, 1, 1.6))
    result = run()
    assert result.exit_code == 1 and "dropped: larger-inference" in result.output
    monkeypatch.setattr(Products, "slow", (1.0,))
    again = run()
    assert again.exit_code == 1 and "go on with --resume" in again.output
    result = run("--resume")
    assert result.exit_code == 0 and "inference: kept" in result.output
    assert [path.suffix for path in (place / "results" / "report").iterdir()] == [".json"]


def test_a_single_disturbance_does_no_harm(place, monkeypatch):
    regular = Products.seconds

    def disturbed(self):
        return [0.2, *regular(self)[1:]]

    monkeypatch.setattr(Products, "seconds", disturbed)
    assert run().exit_code == 0


def test_an_interrupted_run_goes_on(place, monkeypatch):
    def fails():
        raise RuntimeError("ours jax failed: no message")

    monkeypatch.setitem(report.PARTS, "larger-inference", fails)
    assert isinstance(run().exception, RuntimeError)
    monkeypatch.setitem(report.PARTS, "larger-inference", lambda: {"rows": []})
    result = run("--resume")
    assert result.exit_code == 0 and "inference: kept" in result.output


def test_parts_of_other_days_stay(place, monkeypatch):
    assert run().exit_code == 0
    (file,) = (place / "results" / "report").iterdir()
    before = json.loads(file.read_text())["parts"]
    monkeypatch.setitem(report.PARTS, "inference", inference_part(0.125))
    assert run("--only", "inference").exit_code == 0
    after = json.loads(file.read_text())["parts"]
    assert after["larger-inference"] == before["larger-inference"]
    assert after["inference"]["rows"][1]["median_s"] == 0.125


def test_an_unknown_part_is_refused(place):
    result = run("--only", "inference,sleep")
    assert result.exit_code == 2 and "'sleep' is none of: inference" in result.output


def test_a_page_with_another_table_is_refused():
    with pytest.raises(ValueError, match="'weather'"):
        rendering.render(PAGE.read_text() + "\n<!-- table: weather -->\n<!-- end -->\n", COMMITTED)


def test_every_part_is_measured_by_a_function():
    assert len(PARTS) == 7 and all(map(callable, PARTS.values()))
