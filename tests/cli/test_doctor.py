"""`video-focalnet doctor`: what it finds, what it leaves out, and what it says of an installation that is broken."""

import getpass
import importlib.metadata
import json
import platform
import re
import shutil
from pathlib import Path

import keras
import pytest
from click.testing import CliRunner

from keras_video_focalnet.cli import doctor
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.weights import download

ROOT = Path(__file__).parents[2]
SECTIONS = ["package", "system", "processor", "backend", "devices", "variables", "versions", "extras", "cache"]
SECTIONS += ["decoders", "self-test"]


@pytest.fixture(scope="module")
def report():
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow_on("jax")
def test_a_sound_installation(report):
    assert list(report) == [*SECTIONS, "healthy"]
    assert report["healthy"] is True
    assert report["backend"][0] == keras.backend.backend()
    assert report["devices"] and "unknown" not in report["devices"]
    assert any(line.startswith(f"keras {keras.__version__}, ") for line in report["versions"])
    assert re.fullmatch(r"passed in \d+\.\d s: .*", report["self-test"][0])


def test_a_section_that_fails_is_told(monkeypatch):
    def fails(*_):
        raise PermissionError("no access")

    monkeypatch.setattr(doctor, "cache", fails)
    monkeypatch.setattr(doctor, "devices", fails)
    monkeypatch.setattr(doctor, "self_test", lambda: (True, "passed"))
    report, healthy = doctor.examine()
    assert healthy and report["decoders"]
    assert report["cache"] == report["devices"] == ["cannot be found out (PermissionError: no access)"]


def test_the_template_of_reports_shows_every_section():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.md").read_text()
    shown = re.findall(r"^([a-z-]+) {2,}\S", text, re.MULTILINE)
    assert shown == SECTIONS


def test_as_text_and_a_failed_self_test(monkeypatch):
    def build(name):
        raise OSError(f"{Path.home()}/weights is damaged")

    monkeypatch.setattr(doctor, "build", build)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == SECTIONS
    assert lines[-1] == f"{'self-test':11} failed, OSError: ~/weights is damaged"


def test_a_wrong_answer_fails(monkeypatch):
    monkeypatch.setattr(doctor, "_classify", lambda model, pixels: "static")
    assert doctor.self_test() == (
        False,
        "failed: a pan to the right and its reverse were taken for 'static' and 'static'",
    )


def test_no_backend(monkeypatch):
    def import_keras():
        raise ImportError("No backend is installed: pip install ...")

    monkeypatch.setattr(doctor, "import_keras", import_keras)
    found, healthy = doctor.examine()
    assert not healthy
    assert found["backend"][0] == "ImportError: No backend is installed: pip install ..."
    assert found["self-test"] == ["not run: no backend works"]


@pytest.mark.backend_free
def test_names_are_left_out(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(platform, "node", lambda: "alices-box")
    text = "/home/alice/.cache, /data/alice/x, C:\\users\\alice, /data/alice-2, http://alices-box:80, malice"
    assert (
        doctor.without_names(text) == "~/.cache, /data/USER/x, C:\\users\\USER, /data/alice-2, http://HOST:80, malice"
    )


@pytest.mark.backend_free
def test_addresses_in_variables_are_not_shown(monkeypatch):
    for name in (*doctor.VARIABLES, *doctor.HIDDEN_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    assert doctor.variables() == ["none is set"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv(download.BASE_URL_VARIABLE, "https://me:secret@intranet/")
    assert doctor.variables() == ["OMP_NUM_THREADS=2", f"{download.BASE_URL_VARIABLE} is set"]


@pytest.mark.backend_free
def test_the_versions_that_were_tested_are_those_of_the_constraints(monkeypatch):
    lines = (ROOT / "constraints.txt").read_text().replace("tensorflow_cpu==", "tensorflow==").splitlines()
    assert {f"{name}=={version}" for name, version in doctor.TESTED.items() if name != "python"} <= set(lines)
    assert f"Python {doctor.TESTED['python']}" in lines[0]
    found = {"keras": "3.16.0rc1", "torch": "2.12.9+cpu", "numpy": "2.4.6"}
    monkeypatch.setattr(doctor, "installed_version", found.get)
    told = doctor.versions()
    assert "keras 3.16.0rc1, newer than tested (3.15.1)" in told
    assert "torch 2.12.9+cpu, older than tested (2.13.0)" in told
    assert "numpy 2.4.6, as tested" in told
    assert any(line.startswith("av is missing: pip install") for line in told)
    assert not any("jax" in line for line in told)


@pytest.mark.backend_free
def test_extras_come_with_the_command_that_installs_them(monkeypatch):
    requirements = ["numpy", 'grain>=0.2; extra == "train"', 'matplotlib; extra == "train"', 'jax>=0.4; extra == "jax"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [*requirements, 'pytest; extra == "dev"'])
    monkeypatch.setattr(doctor, "installed_version", {"grain": "1"}.get)
    monkeypatch.setattr(doctor, "is_installed", lambda name: True)
    assert doctor.extras() == [
        "train: missing matplotlib: pip install 'keras-video-focalnet[train]'",
        "jax: present",
    ]


@pytest.mark.backend_free
def test_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t: fpu avx2 avx512_bf16\n")
    features = "AVX2 yes, AVX-512 no, AVX-512 BF16 yes, AMX no, AMX BF16 no"
    assert doctor.processor(tmp_path / "cpuinfo") == features
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd bf16\n")
    assert doctor.processor(tmp_path / "cpuinfo") == "BF16 yes, I8MM no"
    assert doctor.processor(tmp_path / "absent").startswith("features unknown")


@pytest.mark.backend_free
def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(download.HOME_VARIABLE, str(tmp_path / "a" / "b"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9e9, 5e9, 4e9))
    assert doctor.cache() == [f"{tmp_path}/a/b: 0 files, 0.0 MB; 4.0 GB free"]
    (tmp_path / "a").write_bytes(b"x")
    assert doctor.cache() == [f"{tmp_path}/a/b cannot be used: {tmp_path}/a is a file"]


@pytest.mark.backend_free
def test_missing_decoders_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "DECODERS", ("h264", "no_such_codec"))
    first, second = doctor.decoders()
    assert first.endswith(": h264")
    assert second == "missing: no_such_codec"
