"""`video-focalnet train` trains a model on a folder or a list of videos; `predict` takes the result."""

import contextlib
import json
import warnings
from pathlib import Path

import click

from keras_video_focalnet.cli.networks import MODEL, ModelNames, begun_from
from keras_video_focalnet.cli.wording import in_options

HELP = """Train a model on your own videos.

Writes to the folder --out: config.json, model.keras (of the best epoch), labels.txt, metrics.csv, curves.png,
summary.json.

\b
After training
    video-focalnet predict --weights OUT/model.keras VIDEO
predicts your classes. A run that was stopped goes on, to the same result, with
    video-focalnet train --resume --out OUT
and with --set epochs=N besides for more epochs.
"""
# Flags that are None where they are not given, so that a resumed run has those that it was begun with.
FLAG = {"is_flag": True, "default": None, "flag_value": True}


@click.command(help=HELP)
@click.option("--data", metavar="FOLDER|LIST", help="Training videos: a folder a class, or a list file.")
@click.option("--val", metavar="FOLDER|LIST", help="Validation videos.")
@click.option(
    "--val-split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="FRACTION",
    help="Validate on this part of --data instead: of each class, whole files, drawn by --seed.",
)
@click.option("--train-rows", metavar="NAME", help="Of a list with a column split, train on the rows with this name.")
@click.option("--val-rows", metavar="NAME", help="Validate on the rows with this name, of --val or else of --data.")
@click.option("--multi-label", **FLAG, help="Videos of a list can have several labels: a|b, or several columns.")
@click.option("--balanced", **FLAG, help="Draw all classes equally often.")
@click.option(
    "--class-weights", type=click.Choice(["balanced"]), help="Weigh the loss so that all classes count alike."
)
@click.option("--root", metavar="FOLDER", help="Folder of the paths in a list.  [default: the list's folder]")
@click.option("--model", type=ModelNames(), help=f"Model to build.  [default: {MODEL}]")
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="Weights to begin from; none begins with random ones. Default: those that the model is published with.",
)
@click.option("--recipe", help="finetune, k400, ssv2, ...  [default: finetune]")
@click.option("--set", multiple=True, metavar="NAME=VALUE", help="Change the recipe, as --set epochs=6.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, which needs no other option.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Clips a step, in all.  [default: 8]")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that read videos.  [default: 2]")
@click.option("--max-broken", type=click.FloatRange(0, 1), help="Of an epoch's videos.  [default: 0.1]")
@click.option("--save-every", type=click.IntRange(min=1), help="Steps between checkpoints.  [default: an epoch]")
@click.option("--distribute", help="auto, none, or a strategy of the backend.  [default: auto]")
@click.option("--seed", type=click.IntRange(min=0), help="Of all random numbers.  [default: 0]")
@click.option("--tensorboard", **FLAG, help="Write events for TensorBoard too.")
def train(out, resume, **given):
    """Train, and tell of errors in the words of the command."""
    is_new = not (resume and (out / "config.json").exists())
    if given["data"] is None and is_new:
        if resume:
            raise click.UsageError(f"--out {out} holds no run to go on with; name the folder of one, or pass --data.")
        raise click.UsageError("Missing option '--data'; with --resume it is that of the run in --out.")
    _check_options(**given)
    if is_new:
        given["model"], given["weights"] = begun_from(given["model"], given["weights"])
        given["distribute"] = given["distribute"] or "auto"
    if given["distribute"] is not None:
        given["distribute"] = given["distribute"].lower()
    from keras_video_focalnet.cli.backend import import_keras

    try:
        import_keras(begun_with(out) if resume else None)
        from keras_video_focalnet.training.run import TrainingInterrupted
        from keras_video_focalnet.training.train import run_training
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    try:
        with _warnings_in_a_line():
            run_training(given, out, resume)
    except TrainingInterrupted as interruption:
        click.echo(in_options(str(interruption), train.params), err=True)
        # Shells use this exit code for a program that a signal ended.
        raise SystemExit(128 + interruption.number) from None
    except (ImportError, OSError, ValueError, ArithmeticError) as error:
        raise click.ClickException(in_options(str(error), train.params)) from error


def begun_with(out):
    """The backend that a run was begun with; None where its folder does not say."""
    try:
        return json.loads((out / "config.json").read_text())["versions"]["backend"]
    except (OSError, ValueError, LookupError, TypeError):
        # What is wrong with it is told when the run goes on.
        return None


def _check_options(val, val_split, val_rows, multi_label, balanced, class_weights, **others):
    if val_split and (val or val_rows):
        raise click.UsageError(f"--val-split holds videos of --data out; leave out {'--val' if val else '--val-rows'}.")
    if balanced and multi_label:
        raise click.UsageError("--balanced is for one label a video; with --multi-label use --class-weights balanced.")
    if balanced and class_weights:
        raise click.UsageError("--balanced and --class-weights would correct twice; leave out one of them.")


@contextlib.contextmanager
def _warnings_in_a_line():
    """Print what is warned of without the source line that warns, which is nothing to who types a command."""

    def show(message, category, *_):
        click.echo(f"Warning: {in_options(str(message), train.params)}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
