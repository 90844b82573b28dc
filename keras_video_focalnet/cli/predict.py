"""`video-focalnet predict` classifies video files."""

import json

import click

from keras_video_focalnet.cli.networks import (
    MODEL,
    ModelNames,
    class_names,
    clip_size,
    holds_model,
    is_exported,
    load_file,
    load_network,
    model_and_weights,
    resize_rule,
    scores_of,
)
from keras_video_focalnet.weights.addresses import without_secret

# What a table says of names that nobody gave.
NAMED_BY = {
    "assumed": "these are Kinetics-400's, assumed from their number. Pass --labels if they are others.",
    "none": "its classes are numbered. Pass --labels to name them.",
}


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
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Predictions for each file.")
@click.option("--start", type=click.FloatRange(min=0), help="Second at which to begin.")
@click.option("--end", type=click.FloatRange(min=0), help="Second before which to stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def predict(context, files, model, weights, names, top, start, end, as_json):
    """Classify video files.

    Without options it recognizes how the camera moves. A file that cannot be read is reported on the error stream. The
    other files are classified nevertheless, and the exit code is 1.
    """
    if start is not None and end is not None and end <= start:
        raise click.UsageError(f"--end must lie after --start, received --start {start:g} --end {end:g}.")
    exported = is_exported(model)
    if exported and weights is not None:
        raise click.UsageError(f"--model {model} has weights of its own; leave out --weights {weights}.")
    if exported:
        weights = model
    else:
        model, weights = model_and_weights(model, weights)
    try:
        network = load_file(model) if exported else load_network(model, weights)
        labels, named_by = class_names(network, names)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    is_file = exported or holds_model(weights)
    origin = {"model": network.name if is_file else model, "weights": without_secret(weights), "labels": named_by}

    results, failed = [], False
    for file in files:
        try:
            answers = classify(network, file, labels, top, start, end)
        except (OSError, ValueError) as error:
            failed = True
            name = click.format_filename(file)
            click.echo(f"Error: {error}" if name in str(error) else f"Error: {name}: {error}", err=True)
            continue
        result = {"file": file, "predictions": [{"label": label, "score": score} for label, score in answers], **origin}
        results.append(result)
        if not as_json:
            print_table(result)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    context.exit(1 if failed else 0)


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
