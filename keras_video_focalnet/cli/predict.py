"""`video-focalnet predict`: what happens in a video."""

import json
import os

import click

ARCHITECTURES = {
    "tiny": "VideoFocalNetT",
    "small": "VideoFocalNetS",
    "base": "VideoFocalNetB",
    "nano": "VideoFocalNetNano",
}
# By how much a softmax may leave the range of 0 to 1.
ROUNDING = 1e-3


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--model",
    metavar=f"[{'|'.join(ARCHITECTURES)}|PATH]",
    default="nano",
    show_default=True,
    help="Size, or what `video-focalnet export` wrote, which runs without Keras.",
)
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="Published weights (see `video-focalnet models`), a file of weights or its URL. A .keras file is the whole "
    "model, whatever --model says. Default: camera_motion, which comes with the package, for nano; else k400.",
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many answers a file.")
@click.option("--start", type=click.FloatRange(min=0), help="Second at which to begin.")
@click.option("--end", type=click.FloatRange(min=0), help="Second before which to stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def predict(context, files, model, weights, top, start, end, as_json):
    """Classify video files.

    Without options it tells how the camera moves. A file that cannot be read is reported on the error stream, the
    others are classified all the same, and the exit code is 1.
    """
    if start is not None and end is not None and end <= start:
        raise click.UsageError(f"--end must lie after --start, received --start {start:g} --end {end:g}.")
    if model not in ARCHITECTURES and not os.path.exists(os.path.expanduser(model)):
        sizes = ", ".join(map(repr, ARCHITECTURES))
        raise click.BadParameter(f"{model!r} is not one of {sizes}, nor a file that is there.", param_hint="--model")
    if model not in ARCHITECTURES and weights is not None:
        raise click.UsageError(f"--model {model} is a file with weights of its own; leave out --weights {weights}.")
    if weights is None:
        weights = {"nano": "camera_motion"}.get(model, "k400") if model in ARCHITECTURES else model
    try:
        network = load_network(model, weights) if model in ARCHITECTURES else load_file(model)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    labels, named_by = class_names(network)
    of_its_own = model not in ARCHITECTURES or _is_whole_model(weights)
    origin = {"model": network.name if of_its_own else model, "weights": weights, "labels": named_by}

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


def load_network(model, weights):
    """Build or load the model that the options name.

    Args:
        model: A key of `ARCHITECTURES`.
        weights: Name of published weights, path or URL; a `.keras` path is loaded as the whole model.

    Returns:
        A Keras model that takes `(batch, frames, height, width, 3)` and gives `(batch, classes)`.

    Raises:
        ImportError: No backend is installed.
        OSError: The weights cannot be read or fetched.
        ValueError: The weights are unknown, damaged or of another kind of model.
    """
    if weights.lower() == "none":
        raise ValueError(
            "--weights none would classify with random weights, which says nothing about the video; pass published "
            "weights (see `video-focalnet models`) or a file."
        )
    from keras_video_focalnet.cli.backend import import_keras

    keras = import_keras()
    # Besides the builders this registers the classes that a .keras file names.
    from keras_video_focalnet.models import video_focalnet

    if not _is_whole_model(weights):
        return getattr(video_focalnet, ARCHITECTURES[model])(weights=weights)
    network = _load_whole_model(keras, weights)
    taken, given = network.input_shape, network.output_shape
    if not isinstance(taken, tuple) or len(taken) != 5 or taken[-1] != 3 or len(given) != 2:
        raise ValueError(
            f"--weights {weights} is a model from {taken} to {given}; pass one that takes (batch, frames, height, "
            "width, 3) and gives (batch, classes)."
        )
    return network


def load_file(model):
    """Load what `export` wrote.

    Args:
        model: Path.

    Returns:
        An `ExportedModel`.

    Raises:
        ImportError: The format's runtime is not installed.
        ValueError: It is none of ours, or gives no scores.
    """
    from keras_video_focalnet.exporting.runtime import load_exported

    network = load_exported(model)
    if network.contract.outputs == ("features",):
        raise ValueError(f"--model {model} gives features, no classes; pass one that was exported with its classifier.")
    return network


def _load_whole_model(keras, weights):
    from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff

    path = os.path.expanduser(weights)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--weights {weights}: there is no such file; pass the path of a saved model.")
    kind = sniff(path)
    if kind != "zip":
        raise ValueError(
            f"--weights {weights}: it is {DESCRIPTIONS[kind]}, not a .keras file; pass one that model.save wrote whole."
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras tells of damage by nearly any exception.
        raise ValueError(
            f"--weights {weights}: the model cannot be loaded, it is damaged or needs classes that are not there "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error


def class_names(network):
    """Names of a model's classes.

    Args:
        network: A model as `load_network` or `load_file` gives it.

    Returns:
        List of strings, one a class, and where they come from: `"model"`, its own `labels`; `"assumed"`, the data set
        that has as many classes; `"none"`, just numbers.
    """
    from keras_video_focalnet.labels import labels_for

    classes = network.contract.classes if hasattr(network, "contract") else network.output_shape[-1]
    if getattr(network, "labels", None):
        return list(network.labels), "model"
    known = labels_for(classes)
    return (known, "assumed") if known else ([f"class {index}" for index in range(classes)], "none")


def classify(network, path, labels, top, start=None, end=None):
    """Name what a model sees in one video file.

    Args:
        network: A model as `load_network` or `load_file` gives it.
        path: Video file.
        labels: List of the names of its classes.
        top: Integer >= 1, how many answers.
        start: Seconds, or None.
        end: Seconds, or None.

    Returns:
        List of `(label, score)`, the highest score first.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file holds no frame in that time, or the scores are no numbers.
    """
    import numpy as np

    from keras_video_focalnet.data.clip import read_clip
    from keras_video_focalnet.evaluation.predictions import decode_predictions

    frames, height, width = network.input_shape[-4:-1]
    clip = read_clip(path, num_frames=frames or 8, size=(height or 224, width or 224), start=start, end=end)
    scores = np.asarray(_predict(network, clip[None]), np.float64)
    if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
        # A model that gives logits: as shares of 1 they can be drawn as bars, in the same order.
        scores = np.exp(scores - scores.max())
        scores = scores / scores.sum()
    return decode_predictions(scores, top=top, labels=labels)[0]


def _predict(network, clips):
    if hasattr(network, "contract"):
        return network.predict(clips)
    from keras_video_focalnet.models.preprocessing import preprocess_input

    return network.predict(clips.astype("float32") if _takes_pixels(network) else preprocess_input(clips), verbose=0)


def print_table(result):
    """Print one file's answers.

    Args:
        result: Dictionary with `file`, `predictions`, `model`, `weights` and `labels`, as `--json` prints it.
    """
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # Texts, not strings: square brackets in a file's name are no markup. Unwrapped, so that a path can be copied.
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
    if result["labels"] == "assumed":
        console.print(Text("The model carries no class names: assumed from its number of classes.", style="dim"))


def _is_whole_model(weights):
    return weights.lower().endswith(".keras") and "://" not in weights


def _takes_pixels(network):
    """Whether pixels go in as they are: a network of ours normalizes them in a layer of that name, or not at all.

    Layers tell and not the model's class: ours may be cloned, or lie inside another model. Models of other makes are
    taken to know what to do with pixels.
    """
    names = _layer_names(network)
    return "patch_embed" not in names or "normalization" in names


def _layer_names(network):
    names = set()
    for layer in network.layers:
        names |= {layer.name} | (_layer_names(layer) if hasattr(layer, "layers") else set())
    return names
