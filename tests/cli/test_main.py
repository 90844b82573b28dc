"""The group: version, help, list of weights; and that these load nothing heavy."""

import json
import os
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import keras_video_focalnet
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.cli.wording import SpokenGroup
from keras_video_focalnet.models import registry

pytestmark = pytest.mark.backend_free


def test_version():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"video-focalnet, version {keras_video_focalnet.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["predict", "--help"], ["models", "--help"], ["--version"], ["models"]]
)
def test_loads_neither_keras_nor_a_backend_nor_pyav(arguments):
    code = (
        "import sys\n"
        "from keras_video_focalnet.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "heavy = {'keras', 'av', 'tensorflow', 'jax', 'torch', 'matplotlib', 'PIL', 'h5py'} & set(sys.modules)\n"
        "print('loaded:', sorted(heavy))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines()[-1] == "loaded: []", result.stderr


def test_help_names_the_commands():
    output = CliRunner().invoke(main, ["-h"]).output
    assert "predict" in output
    assert "models" in output


def test_models_lists_the_registry():
    result = CliRunner().invoke(main, ["models", "--json"])
    rows = json.loads(result.output)
    assert len(rows) == len(registry.entries())
    tiny = next(row for row in rows if (row["model"], row["weights"]) == ("tiny", "k400"))
    assert tiny["classes"] == 400
    assert tiny["top-1 %"] == 79.8
    assert tiny["views"] == "4 x 3"
    # The family that the package is named after comes first.
    last_of_first = [row for row in rows if row["model"] in ("tiny", "small", "base", "nano")][-1]
    assert {"model": "nano", "weights": "camera_motion"}.items() <= last_of_first.items()


def test_models_as_a_table_of_80_columns():
    result = CliRunner().invoke(main, ["models"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for entry in registry.entries():
        shown = (entry.name, entry.long_name, str(entry.classes or "-"), entry.licence)
        assert any(all(text in line for text in shown) for line in lines), entry
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_by_a_signal_leaves_no_file(tmp_path, number):
    code = (
        "import pathlib, signal, sys, time\n"
        "from keras_video_focalnet.cli.main import main\n"
        "from keras_video_focalnet.utils.files import atomic_write\n"
        "@main.command()\n"
        "def slow():\n"
        "    with atomic_write(pathlib.Path(sys.argv[1]) / 'out.mp4'):\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(600)\n"
        "main(['slow'])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number and errors.strip().endswith("Interrupted."), errors
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_somebody_else_is_left():
    handled = []
    before = signal.signal(signal.SIGTERM, lambda *_: handled.append(True))
    try:

        @click.command()
        def struck():
            os.kill(os.getpid(), signal.SIGTERM)

        group = SpokenGroup(commands={"struck": struck})
        assert CliRunner().invoke(group, ["struck"]).exit_code == 0 and handled
    finally:
        signal.signal(signal.SIGTERM, before)
