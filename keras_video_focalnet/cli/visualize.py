"""`video-focalnet visualize` shows on a video's frames what a model looks at."""

import os

import click

from keras_video_focalnet.cli.networks import check_options, load_named, names_and_origin
from keras_video_focalnet.cli.options import check_span, named_model, span
from keras_video_focalnet.weights.formats import is_exported


@click.command()
@click.argument("video", metavar="FILE")
@named_model
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False),
    help="Picture (.png, .jpg: frames side by side) or video (.gif, .mp4) to write.",
)
@click.option(
    "--block",
    metavar="NAME",
    help="Block of the model; a wrong one is answered with all names.  [default: the last with 49 places or more]",
)
@click.option(
    "--what",
    multiple=True,
    metavar="NAME",
    help="What is shown: tokens, grad-cam, and what the model has of spatial and temporal (modulators), gates, "
    "attention, offsets; may be repeated.  [default: modulators, or attention and offsets]",
)
@click.option("--target", metavar="CLASS", help="Class for grad-cam, by name or number.  [default: the model's answer]")
@click.option("--size", type=click.IntRange(16, 4096), default=224, show_default=True, help="Short side of the frames.")
@click.option("--fps", type=click.FloatRange(0.01, 100), default=4.0, show_default=True,
              help="Frames a second of a .gif or .mp4.")  # fmt: skip
@span
def visualize(video, model, weights, names, class_names, out, block, what, fps, start, end, **how):
    """Show what a model looks at in a video: maps of one of its blocks over the frames of a clip.

    Clear and blue is little, red is much, each map by itself.
    """
    check_span(start, end)
    if is_exported(model):
        raise click.UsageError(f"--model {model} is an exported model, which only gives scores; pass the one it is of.")
    check_options(model, weights, class_names, names)
    try:
        from keras_video_focalnet.visualization import files

        files.check_suffix("out", out, files.STILL + files.GIF + files.VIDEO)
        files.check_other_file("out", os.path.expanduser(out), video)
        network, *_ = load_named(model, weights, class_names, names)
        from keras_video_focalnet.visualization.visualize import visualize as look

        labels = None if names is None else names_and_origin(network, names)[0]
        seen = look(network, video, block, what or None, start=start, end=end, labels=labels, **how)
        seen.save(out, fps)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    shown = ", ".join(seen.title(name).removesuffix(f", {seen.block}") for name in seen.maps)
    click.echo(f"{out}: {shown}; {seen.block}, {len(seen.frames)} frames")
