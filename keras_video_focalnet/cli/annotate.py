"""`video-focalnet annotate` writes a video with the running answer drawn in."""

import os

import click

from keras_video_focalnet.cli.networks import load_either, names_and_origin
from keras_video_focalnet.cli.options import check_span, named_model, span


@click.command()
@click.argument("video", metavar="FILE")
@named_model
@click.option(
    "--out", metavar="FILE", required=True, type=click.Path(dir_okay=False), help="Video to write, an .mp4 file."
)
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes that are drawn.")
@click.option("--window", type=click.FloatRange(min=0, min_open=True), help="As for `video-focalnet timeline`.")
@click.option("--stride", type=click.FloatRange(min=0, min_open=True), help="As for `video-focalnet timeline`.")
@click.option(
    "--penalty",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="As for `video-focalnet timeline`.",
)
@span
def annotate(video, model, weights, names, class_names, out, top, start, end, **how):
    """Write a video anew with the running answer drawn in: the segment, the best classes, and a line along the time.

    The video is read twice, in memory that does not grow with it. Sound is left out.
    """
    check_span(start, end)
    try:
        from keras_video_focalnet.visualization import files
        from keras_video_focalnet.visualization.annotation import annotate_video

        files.check_suffix("out", out, files.VIDEO)
        files.check_other_file("out", os.path.expanduser(out), video)
        network, _ = load_either(model, weights, class_names, names)
        labels, _ = names_and_origin(network, names)
        from keras_video_focalnet.evaluation.timeline import timeline

        result = timeline(network, video, labels=labels, start=start, end=end, progress=None, **how)
        count = annotate_video(video, result, out, top, progress=None)
    except KeyboardInterrupt:
        click.echo(f"Interrupted; {out} is not written.", err=True)
        raise SystemExit(130) from None
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    segments = len(result.segments)
    click.echo(f"{out}: {count} frames, {segments} segment{'' if segments == 1 else 's'}")
