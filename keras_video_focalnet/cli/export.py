"""`video-focalnet export` writes a model as a file for phones and servers."""

import json

import click

from keras_video_focalnet.cli.backend import NOISE, error_stream_held_back
from keras_video_focalnet.cli.class_names import named_classes
from keras_video_focalnet.cli.networks import MODEL, ModelNames, check_options, load_named
from keras_video_focalnet.exporting.formats import FORMATS

PRECISIONS = tuple(dict.fromkeys(name for entry in FORMATS.values() for name in entry.tolerances))


@click.command()
@click.option("--model", type=ModelNames(), default=MODEL, show_default=True, help="Model to build.")
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="As for `video-focalnet predict`: a training run and a .keras file, of any make, tell the model too.",
)
@click.option("--out", type=click.Path(), required=True, help="File to write, or folder of a SavedModel.")
@click.option("--format", "format", type=click.Choice(list(FORMATS)), help="Default: chosen by the ending of --out.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True, help="Precision of the weights."
)
@click.option(
    "--input-dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True, help="Of the pixels."
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip, for a model that takes any number.")
@click.option(
    "--calibrate", type=click.Path(exists=True), multiple=True, help="Video to calibrate int8_full on; may be repeated."
)
@click.option("--compare-on", type=click.Path(exists=True), multiple=True, help="Video to compare on; may be repeated.")
@click.option("--labels", metavar="NAME|PATH", help="Class names, as for `video-focalnet predict`.")
@named_classes
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    model, weights, out, format, precision, input_dtype, frames, calibrate, compare_on, labels, class_names, as_json
):
    """Write a model as a file that runs without Keras.

    The file takes pixels and contains its class names. It is compared with the model before it gets its name.
    `video-focalnet predict --model FILE VIDEO` runs it.
    """
    check_options(model, weights, class_names, labels)
    try:
        network, _, _ = load_named(model, weights, class_names, labels)
        from keras_video_focalnet.exporting.export import export as write

        with error_stream_held_back(NOISE):
            report = write(
                network,
                out,
                format=format,
                precision=precision,
                input_dtype=input_dtype,
                frames=frames,
                calibration=list(calibrate) or None,
                clips=list(compare_on) or None,
                labels=labels,
            )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{report['path']}: {report['format']}, {report['precision']}, {report['bytes'] / 1e6:.1f} MB")
    compared = next(name for name in ("logits", "features", "scores") if name in report["outputs"]).removesuffix("s")
    click.echo(
        f"differs from the model by {report['difference']:.2g} of the largest {compared}, on {report['compared_on']}"
    )
    if report["outputs"] == ["logits"]:
        click.echo("gives logits and no scores: the model ends without an activation")
    if "operations" in report:
        counts = ", ".join(f"{count} {name}" for name, count in report["operations"].items())
        told = "none of a rank above 4, none custom, none Flex"
        if report["refused_by_gpus"]:
            told = f"for processors: it holds {report['refused_by_gpus'][0]}"
        click.echo(f"operations: {counts}; {told}")
