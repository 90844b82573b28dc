"""`video-focalnet evaluate` tells how good a model is on labelled videos."""

import contextlib
import json
import os
import signal
from pathlib import Path

import click

from keras_video_focalnet.cli.class_names import named_classes
from keras_video_focalnet.cli.networks import MODEL, ModelNames, load_either
from keras_video_focalnet.data.broken import NAMED

HELP = """Evaluate a model on labelled videos.

Prints accuracies and writes to the folder --out: report.html to look at, report.json, and predictions.parquet with the
scores of every video. An evaluation that was stopped or killed goes on with --resume and the same options.
"""


@click.command(help=HELP)
@click.option("--data", required=True, metavar="FOLDER|LIST", help="Labelled videos: a folder a class, or a list file.")
@click.option("--model", type=ModelNames(), default=MODEL, show_default=True, help="As for `video-focalnet predict`.")
@click.option("--weights", metavar="NAME|PATH|URL", help="As for `video-focalnet predict`.")
@click.option("--labels", metavar="NAME|PATH", help="Names of the model's classes. Default: the model's own.")
@named_classes
@click.option(
    "--views",
    metavar="CLIPSxCROPS",
    help="Clips of a video and crops of a clip (1 or 3), whose scores are averaged. Default: those that the accuracy "
    "of the published weights is of, as 4x3, or else 1x1.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Draw frames at random, as the reference does.")
@click.option("--root", metavar="FOLDER", help="Folder of the paths in a list.  [default: the list's folder]")
@click.option("--rows", "split", metavar="NAME", help="Of a list with a column split, take the rows with this name.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.")
@click.option("--resume", is_flag=True, help="Go on with the evaluation in --out.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Clips that are scored at once."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads that read videos.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(data, model, weights, labels, class_names, views, out, as_json, **options):
    """Evaluate, and tell of errors in the words of the command."""
    # Told before anything is loaded, which takes longer.
    from keras_video_focalnet.evaluation.views import Views

    try:
        views = None if views is None else Views.parse(views)
        network, about = load_either(model, weights, class_names, labels)
        entry = _published(about)
        views = views or Views(*(entry.views if entry and entry.views else (1, 1)))
        if entry and entry.top1:
            about["reported by the paper"] = f"top-1 {entry.top1} % with {Views(*entry.views)} views"
        from keras_video_focalnet.evaluation.evaluate import evaluate_videos

        labels = None if labels is None else os.path.expanduser(labels)
        report = evaluate_videos(network, data, views, out, labels=labels, about=about, **options)
    except KeyboardInterrupt:
        click.echo(f"interrupted; what was scored is in {out}: the same command with --resume goes on.", err=True)
        # Shells use this exit code for a program that a signal ended.
        raise SystemExit(128 + signal.SIGINT) from None
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        told = {name: report[name] for name in ("model", "protocol", "videos", "metrics")}
        click.echo(json.dumps({**told, "out": str(out)}, indent=2))
        return
    for line in summary(report, out):
        click.echo(line)


def _published(about):
    """The registry's entry of published weights, or None."""
    from keras_video_focalnet.models import registry

    with contextlib.suppress(ValueError):
        return registry.find_entry(about["model"], about["weights"])
    return None


def summary(report, out):
    """The lines that tell of a report."""
    from keras_video_focalnet.evaluation.html_report import protocol_in_words

    metrics, videos = report["metrics"], report["videos"]
    yield protocol_in_words(report)
    for name, value in metrics.items():
        if value is not None:
            yield f"{name.replace('_', ' '):20} {value:.4f}"
    for name, count in videos.items():
        if count:
            yield f"{name + ' videos':20} {count}"
    for broken in report["broken"][:NAMED]:
        yield f"cannot be read: {broken['reason'].partition(';')[0]}"
    yield f"{out}: report.html, report.json, predictions.parquet"
