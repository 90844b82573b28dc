"""The README does what it says (`.ci/run` runs the slow test too), and the help of commands what is agreed upon."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_video_focalnet.cli.main import main
from tests.newcomer.run import ROOT, clean_environment, do, install_wheel, make_videos, parts, steps

HELP = Path(__file__).parent / "help"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="make verify does this on each backend")
def test_the_readme_from_top_to_bottom(tmp_path):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tensorflow")
    make_videos(tmp_path)
    python, program = install_wheel(tmp_path / "environment")
    environment = clean_environment(KERAS_BACKEND="torch")
    assert len(do((ROOT / "README.md").read_text(), tmp_path, python, environment, program)) == 4
    assert (tmp_path / "run" / "model.keras").exists() and (tmp_path / "run_of_python" / "model.keras").exists()


@pytest.mark.slow
def test_a_step_that_fails_is_told(tmp_path):
    text = "```\nvideo-focalnet predict nothing.mp4\n```\n"
    with pytest.raises(subprocess.CalledProcessError):
        do(text, tmp_path, sys.executable, dict(os.environ))


@pytest.mark.backend_free
def test_the_steps_of_a_readme():
    text = "a `video-focalnet models --x` b\n```\nmake demo\nvideo-focalnet train --out run  # why\n"
    text += "video-focalnet predict x  # downloads\n```\n```python\nprint(1)\n```\n`video-focalnet export\n--out a`\n"
    shell = ("shell", "video-focalnet models --x"), ("shell", "video-focalnet train --out run")
    assert steps(text) == [*shell, ("python", "print(1)\n"), ("shell", "video-focalnet export --out a")]


@pytest.mark.backend_free
def test_the_parts_of_a_readme():
    told = parts((ROOT / "README.md").read_text())
    assert [extras for extras, _ in told] == ["", "train,evaluate", "tensorflow,export"]
    kinds = [[kind for kind, _ in steps(text)] for _, text in told]
    assert kinds == [["shell", "python", "shell", "shell"], ["shell"] * 4 + ["python"], ["python", "shell", "python"]]


@pytest.mark.backend_free
@pytest.mark.parametrize("command", ["", *sorted(main.commands)])
def test_help_is_as_agreed_upon(command):
    """After a change that is meant, `python -m tests.newcomer.write_help` writes the files anew."""
    assert help_text(command) == (HELP / f"{command or 'video-focalnet'}.txt").read_text()


def help_text(command):
    from click.testing import CliRunner

    arguments = [command, "--help"] if command else ["--help"]
    return CliRunner().invoke(main, arguments, prog_name="video-focalnet", terminal_width=100).output
