"""What functions say to their callers, in the words of a command's options."""

import subprocess
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from keras_video_focalnet.cli.train import train
from keras_video_focalnet.cli.wording import SpokenGroup, in_options

pytestmark = pytest.mark.backend_free

OPTIONS = [
    click.Option(["--weights"]),
    click.Option(["--start"], type=float),
    click.Option(["--resume"], is_flag=True),
    click.Option(["--set", "changes"]),
]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("weights='a b.pth': there is no such file.", "--weights a b.pth: there is no such file."),
        ("it lies at or after start=9.0.", "it lies at or after --start 9.0."),
        ("it lies after start=9.", "it lies after --start 9."),
        ("out holds a run; pass resume=True to go on with it.", "out holds a run; pass --resume to go on with it."),
        ("x has 9 classes and the model 4. Pass classes=9 (or None) to load it.", "x has 9 classes and the model 4."),
        ("Pass weights='k400' to load it. It helps.", "Pass --weights k400 to load it. It helps."),
        ("the backend has val_loss=0.5", "the backend has val_loss=0.5"),
        ("changes='a' is no option", "--set a is no option"),
        ("begun with resume=False, now with resume=True.", "begun without --resume, now with --resume."),
        ("begun with start=None, now with start=0.5; with", "begun without --start, now with --start 0.5; with"),
        ("pass resume=False for it", "pass no --resume for it"),
        ("begun with weights='None'", "begun with --weights None"),
        ("with start=None.5 and with other=None", "with --start None.5 and with other=None"),
    ],
)
def test_arguments_become_options(text, spoken):
    assert in_options(text, OPTIONS) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("pass resume=True to go on with it, or another out.", "pass --resume to go on with it, or another out."),
        ("pass root= (--root), the folder", "pass --root, the folder"),
        ("pass split= (--train-rows, --val-rows) to", "pass --train-rows, --val-rows to"),
        ("max_broken allows for no more than 3", "--max-broken allows for no more than 3"),
        ("set=epochs has no value; write set=epochs=VALUE.", "--set epochs has no value; write --set epochs=VALUE."),
        ("/data/batch_size/a.mp4: no", "/data/batch_size/a.mp4: no"),
        ("distribute='mirrored' needs", "--distribute mirrored needs"),
        ("workers must be 0 or more", "--workers must be 0 or more"),
        ("val_rows is 'a', but the run in b was", "--val-rows is 'a', but the run in b was"),
        ("class_weights is for one label", "--class-weights is for one label"),
        ("data is missing; pass one", "--data is missing; pass one"),
        ("multi_label is left out, but the run", "--multi-label is left out, but the run"),
        ("write the rows; multi_label must be True", "write the rows; --multi-label must be True"),
    ],
)
def test_names_of_arguments_become_options_of_training(text, spoken):
    assert in_options(text, train.params) == spoken


@pytest.mark.parametrize(
    "text",
    [
        "multi_label does not exist; pass the path of a folder.",
        "multi_label is a folder of classes, with one label a video",
        "multi_label is an empty file (0 bytes)",
        "val_rows.csv: line 3 has no label",
        "videos of val_rows.csv, val_rows and max_broken: 3",
        "data is a pipe, socket or device",
        "/runs/seed=3/a.mp4: there is no such file",
        "lr-seed=3.csv has no column",
    ],
)
def test_names_of_files_stay_as_they_are(text):
    assert in_options(text, train.params) == text


def test_errors_and_warnings_are_one_line_without_a_place_in_the_source(capfd):
    @click.group(cls=SpokenGroup)
    def group():
        pass

    @group.command()
    @click.option("--weights")
    def go(weights):
        # Under pytest warnings are recorded, so this one is formatted here.
        click.echo(warnings.formatwarning("weights='x' is old", UserWarning, "file.py", 3), nl=False)
        raise click.ClickException("weights='x' is not there")

    before = warnings.formatwarning
    result = CliRunner().invoke(group, ["go"])
    assert result.output == "Warning: --weights x is old\nError: --weights x is not there\n"
    assert result.exit_code == 1
    assert warnings.formatwarning is before


def test_an_interrupt_before_there_is_anything_to_tell_has_the_exit_code_of_shells():
    @click.group(cls=SpokenGroup)
    def group():
        pass

    @group.command()
    def go():
        raise KeyboardInterrupt

    result = CliRunner().invoke(group, ["go"])
    assert (result.stdout, result.stderr.strip(), result.exit_code) == ("", "Interrupted.", 130)


@pytest.mark.parametrize("arguments", [["--version"], ["predict", "--weights", "k4000", "a.mp4"]])
def test_the_module_is_the_command(arguments):
    run = subprocess.run(
        [sys.executable, "-m", "keras_video_focalnet", *arguments], capture_output=True, text=True, timeout=300
    )
    if arguments == ["--version"]:
        assert run.stdout.startswith("video-focalnet, version ")
    else:
        assert run.stderr.startswith("Error: --weights k4000 is not published for VideoFocalNetNano. Use one of")
        assert len(run.stderr.splitlines()) == 1
