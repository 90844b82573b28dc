"""The README does what it says (`.ci/run` runs the slow test too), and the help of commands what is agreed upon."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_video_focalnet.cli.main import main
from tests.newcomer.run import ROOT, chapter, clean_environment, do, make_videos, steps

HELP = Path(__file__).parent / "help"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="make verify does this on each backend")
def test_the_readme_from_top_to_bottom(tmp_path):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tensorflow")
    make_videos(tmp_path)
    # As it is installed: not the clone, but the package is to be found.
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "keras_video_focalnet").symlink_to(ROOT / "keras_video_focalnet")
    environment = clean_environment(PYTHONPATH=str(installed), KERAS_BACKEND="torch")
    assert do((ROOT / "README.md").read_text(), tmp_path, sys.executable, environment) == 4
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
def test_a_chapter_of_a_readme():
    text = (ROOT / "README.md").read_text()
    assert [kind for kind, _ in steps(chapter(text, "Predict"))] == ["python", "shell", "shell"]


@pytest.mark.backend_free
@pytest.mark.parametrize("command", ["", *sorted(main.commands)])
def test_help_is_as_agreed_upon(command):
    """After a change that is meant, `python -m tests.newcomer.write_help` writes the files anew."""
    assert help_text(command) == (HELP / f"{command or 'video-focalnet'}.txt").read_text()


def help_text(command):
    from click.testing import CliRunner

    arguments = [command, "--help"] if command else ["--help"]
    return CliRunner().invoke(main, arguments, prog_name="video-focalnet", terminal_width=100).output
