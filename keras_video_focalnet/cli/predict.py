"""`video-focalnet predict` classifies video files."""

import csv
import functools
import io
import json
import os
import sys

import click

from keras_video_focalnet.cli.class_names import named_classes
from keras_video_focalnet.cli.networks import (
    MODEL,
    ModelNames,
    clip_size,
    load_either,
    names_and_origin,
    resize_rule,
    scores_of,
)
from keras_video_focalnet.cli.options import check_span, span
from keras_video_focalnet.cli.videos import named_videos

# What a table says of names that nobody gave.
NAMED_BY = {
    "assumed": "these are Kinetics-400's, assumed from their number. Pass --labels if they are others.",
    "none": "its classes are numbered. Pass --labels to name them.",
}
# More videos than these have a bar.
FEW = 3


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--model",
    type=ModelNames(),
    default=MODEL,
    show_default=True,
    help="Model (see `video-focalnet models`), the folder of a training run, a .keras file, or what "
    "`video-focalnet export` wrote, which runs without Keras.",
)
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="Published weights (see `video-focalnet models`), the folder of a training run, a file of weights or its URL. "
    "A run and a .keras file tell the model too, whatever --model says. Default: those that the model is published "
    "with.",
)
@click.option(
    "--labels",
    "names",
    metavar="NAME|PATH",
    help="Class names: a data set (k400, ssv2, ...) or a text file with one name a line. Default: the model's own.",
)
@named_classes
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Predictions for each file.")
@span
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--csv",
    "table",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write path,rank,label,score,error to this file instead of printing tables.",
)
@click.pass_context
def predict(context, files, model, weights, names, class_names, top, start, end, as_json, table):
    """Classify video files.

    FILE is a video, a folder (all videos below it), a pattern in quotes such as '**/*.mp4', or - for paths on standard
    input, one a line. A video that is named twice is classified once.

    Without options it recognizes how the camera moves. A file that cannot be read is reported on the error stream. The
    other files are classified nevertheless, and the exit code is 1; after Ctrl-C it is 130, and what was classified is
    printed and written.
    """
    check_span(start, end)
    if table is not None and not os.path.isdir(os.path.dirname(os.path.abspath(os.path.expanduser(table)))):
        raise click.UsageError(f"--csv {table}: there is no such folder; make it first.")
    try:
        network, origin = load_either(model, weights, class_names, names)
        labels, named_by = names_and_origin(network, names)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    origin["labels"] = named_by
    paths, wrong = named_videos(files)
    job = _Job(as_json or table is not None, origin)
    for name, reason in wrong:
        job.fail(name, reason)
    try:
        job.run(paths, lambda path: classify(network, path, labels, top, start, end))
    except KeyboardInterrupt:
        job.interrupted = True
    if as_json:
        click.echo(json.dumps(job.results, indent=2))
    try:
        if table is not None:
            write_csv(table, job)
    except OSError as error:
        raise click.ClickException(f"--csv {table} cannot be written: {error}") from error
    job.conclude(len(paths) + len(wrong))
    context.exit(130 if job.interrupted else 1 if job.failed else 0)


class _Job:
    """Videos that are classified one after the other: the answers, and what failed."""

    def __init__(self, quiet, origin):
        self.results, self.failed, self.damaged = [], {}, 0
        self.interrupted = False
        self._quiet, self._origin = quiet, origin
        self._say = functools.partial(click.echo, err=True)

    def run(self, paths, answers_of):
        """Classify videos, with a bar where there are more than a few."""
        from keras_video_focalnet.data.damage import damage_told
        from keras_video_focalnet.utils.progress import Progress

        # The bar takes over what is printed to a terminal, and would take what goes to a file along.
        is_shown = len(paths) > FEW and (self._quiet or sys.stdout.isatty())
        with Progress(len(paths), show=None if is_shown else False) as bar:
            self._say = bar.say if is_shown else self._say
            for path in paths:
                try:
                    answers = answers_of(path)
                except (OSError, ValueError) as error:
                    self.fail(path, str(error))
                else:
                    self._add(path, answers)
                    self.damaged += damage_told(path) is not None
                bar.advance()
        self._say = functools.partial(click.echo, err=True)

    def _add(self, path, answers):
        predictions = [{"label": label, "score": score} for label, score in answers]
        result = {"file": path, "predictions": predictions, **self._origin}
        self.results.append(result)
        if not self._quiet:
            print_table(result)

    def fail(self, name, reason):
        """Tell of what cannot be read."""
        self.failed[name] = reason
        name = click.format_filename(name)
        self._say(f"Error: {reason}" if name in reason else f"Error: {name}: {reason}")

    def conclude(self, total):
        """Tell in the end how many were read."""
        if self.interrupted:
            click.echo(f"Interrupted: {len(self.results)} of {total} videos are classified.", err=True)
        if self.failed and total > 1:
            click.echo(f"{len(self.failed)} of {total} cannot be read.", err=True)
        if self.damaged:
            told = "1 video is damaged and was" if self.damaged == 1 else f"{self.damaged} videos are damaged and were"
            click.echo(f"{told} read in spite of it.", err=True)


def write_csv(path, job):
    """Write a line for each answer, and one for each video that cannot be read."""
    from keras_video_focalnet.utils.files import atomic_write

    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("path", "rank", "label", "score", "error"))
    for result in job.results:
        for rank, answer in enumerate(result["predictions"], start=1):
            table.writerow((result["file"], rank, answer["label"], f"{answer['score']:.6f}", ""))
    table.writerows((name, "", "", "", reason) for name, reason in job.failed.items())
    with atomic_write(os.path.expanduser(path)) as file:
        # The names of files need not be text.
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def classify(network, path, labels, top, start=None, end=None):
    """Classify one video file."""
    from keras_video_focalnet.data.clip import read_clip
    from keras_video_focalnet.evaluation.predictions import decode_predictions

    frames, size = clip_size(network)
    clip = read_clip(path, num_frames=frames, size=size, start=start, end=end, **resize_rule(network))
    return decode_predictions(scores_of(network, clip[None]), top=top, labels=labels)[0]


def print_table(result):
    """Print one file's answers."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # As `Text`, square brackets in a file's name are not taken for markup. Without wrapping, a path can be copied.
    title = Text(click.format_filename(result["file"]), style="bold")
    origin = Text(f"{result['model']}, {click.format_filename(result['weights'])}", style="dim")
    console.print(title, soft_wrap=True)
    console.print(origin, soft_wrap=True)
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("", width=20)
    for rank, answer in enumerate(result["predictions"], start=1):
        bar = ProgressBar(total=1.0, completed=answer["score"], width=20)
        table.add_row(str(rank), Text(answer["label"]), f"{answer['score']:.3f}", bar)
    console.print(table)
    if result["labels"] in NAMED_BY:
        console.print(Text(f"The model has no class names; {NAMED_BY[result['labels']]}", style="dim"))
