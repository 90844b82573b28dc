"""`video-focalnet export`: a model as a file for phones and servers."""

import json

import click

from keras_video_focalnet.cli.predict import ARCHITECTURES, load_network
from keras_video_focalnet.exporting.formats import FORMATS

PRECISIONS = tuple(dict.fromkeys(name for entry in FORMATS.values() for name in entry.tolerances))


@click.command()
@click.option("--model", type=click.Choice(list(ARCHITECTURES)), default="nano", show_default=True, help="Size.")
@click.option(
    "--weights",
    metavar="NAME|PATH|URL",
    help="As of `video-focalnet predict`; a .keras file is the whole model.",
)
@click.option("--out", type=click.Path(), required=True, help="File to write, or folder of a SavedModel.")
@click.option("--format", "format", type=click.Choice(list(FORMATS)), help="Default: by the ending of --out.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True, help="Of the weights."
)
@click.option(
    "--input-dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True, help="Of the pixels."
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip, for a model built for any number.")
@click.option(
    "--calibrate", type=click.Path(exists=True), multiple=True, help="Video for int8_full; once for each of many."
)
@click.option("--compare-on", type=click.Path(exists=True), multiple=True, help="Video to compare on; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(model, weights, out, format, precision, input_dtype, frames, calibrate, compare_on, as_json):
    """Write a model as a file that runs without Keras.

    It takes pixels, carries its class names, and is compared with the model before it gets its name:
    `video-focalnet predict --model FILE VIDEO` runs it.
    """
    if weights is None:
        weights = "camera_motion" if model == "nano" else "k400"
    try:
        network = load_network(model, weights)
        from keras_video_focalnet.exporting.export import export as write

        report = write(
            network,
            out,
            format=format,
            precision=precision,
            input_dtype=input_dtype,
            frames=frames,
            calibration=list(calibrate) or None,
            clips=list(compare_on) or None,
        )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{report['path']}: {report['format']}, {report['precision']}, {report['bytes'] / 1e6:.1f} MB")
    click.echo(f"differs from the model by {report['difference']:.2g} of the largest logit, on {report['compared_on']}")
    if "operations" in report:
        counts = ", ".join(f"{count} {name}" for name, count in report["operations"].items())
        click.echo(f"operations: {counts}; none of a rank above 4, none custom, none Flex")
