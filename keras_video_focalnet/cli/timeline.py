"""`video-focalnet timeline` tells what happens when in a video, and as it happens of a camera or a stream."""

import json

import click

from keras_video_focalnet.cli.networks import load_either, names_and_origin
from keras_video_focalnet.cli.options import check_span, named_model, span

# FFmpeg's drivers of cameras.
DEVICES = ("v4l2", "avfoundation", "dshow")


@click.command()
@click.argument("video", metavar="FILE")
@named_model
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder to write segments.csv, segments.json, chapters.vtt, track.csv and timeline.png to.",
)
@click.option(
    "--window",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of the window that slides over the video.  [default: 1/8 second for each frame of a clip]",
)
@click.option(
    "--stride",
    type=click.FloatRange(min=0, min_open=True),
    help="From one window to the next.  [default: half a window]",
)
@click.option(
    "--unit", type=click.Choice(["seconds", "frames"]), default="seconds", show_default=True, help="Of these two."
)
@click.option(
    "--penalty",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="What a switch of class costs; a higher one gives fewer and longer segments, 0 the best class of each moment.",
)
@span
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Windows that the model takes at once.  [default: 8, --live 1]"
)
@click.option(
    "--live",
    is_flag=True,
    help="FILE is a pipe, an address such as rtsp://..., a camera (see --device), or - for standard input. Segments "
    "are printed as they close, until it ends or Ctrl-C.",
)
@click.option("--device", type=click.Choice(DEVICES), help="With --live: FILE is a camera of this driver of FFmpeg.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table, with --live a line a segment.")
def timeline(video, model, weights, names, class_names, out, start, end, batch_size, live, device, as_json, **how):
    """Tell what happens when in a video of any length.

    A window slides over it, the model scores each, and the scores are smoothed to segments of one class.
    """
    _check(video, start, end, live, device)
    try:
        network, _ = load_either(model, weights, class_names, names)
        labels, _ = names_and_origin(network, names)
        from keras_video_focalnet.evaluation.timeline import TimelineInterrupted
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    how |= {"labels": labels, "out": out}
    try:
        if live:
            result = _watch(network, video, device, as_json, **how, batch_size=batch_size or 1)
        else:
            result = _look(network, video, **how, start=start, end=end, batch_size=batch_size or 8)
    except TimelineInterrupted as interruption:
        if not live:
            print_timeline(interruption.timeline, as_json)
        where = f"; {out} tells of what was seen" if out else ""
        click.echo(f"Interrupted after {interruption.timeline.end:.1f} s of video{where}.", err=True)
        # Shells use this exit code for a program that Ctrl-C ended.
        raise SystemExit(130) from None
    except KeyboardInterrupt:
        click.echo("Interrupted before the first window was scored.", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read the segments has gone, which click tells in its way.
        raise
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if not live:
        print_timeline(result, as_json)


def _check(video, start, end, live, device):
    check_span(start, end)
    if live and (start is not None or end is not None):
        raise click.UsageError("--live begins when it is started; leave out --start and --end.")
    if device is not None and not live:
        raise click.UsageError("--device names the driver of a camera; add --live.")
    if video == "-" and not live:
        raise click.UsageError("- is standard input, which comes as it is watched; add --live.")


def _look(network, video, **options):
    """The timeline of a file, with a bar."""
    from keras_video_focalnet.evaluation.timeline import timeline

    return timeline(network, video, progress=None, **options)


def _watch(network, source, device, as_json, **options):
    """The timeline of what comes, whose segments are printed as they close."""
    from keras_video_focalnet.data.live_video import open_live
    from keras_video_focalnet.evaluation.timeline import timeline

    with open_live(source, device) as frames:
        return timeline(network, frames, on_segment=json_line if as_json else line, **options)


def line(segment):
    """Print a segment as a line."""
    from keras_video_focalnet.utils.texts import printable

    times = f"{clock(segment.start):>12} {clock(segment.end):>12}"
    click.echo(f"{times}  {printable(segment.label):24} {segment.score:5.2f}")


def json_line(segment):
    """Print a segment as a line of JSON."""
    from keras_video_focalnet.evaluation.timeline_files import segment_dict

    click.echo(json.dumps(segment_dict(segment)))


def print_timeline(timeline, as_json):
    """Print a whole timeline, as a table or as JSON."""
    if as_json:
        from keras_video_focalnet.evaluation.timeline_files import as_json as text_of

        click.echo(text_of(timeline), nl=False)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("start", "end"):
        table.add_column(name, justify="right")
    table.add_column("label")
    table.add_column("score", justify="right")
    for segment in timeline.segments:
        table.add_row(clock(segment.start), clock(segment.end), Text(segment.label), f"{segment.score:.2f}")
    console = Console()
    console.print(Text(click.format_filename(timeline.video), style="bold"), soft_wrap=True)
    console.print(table)


def clock(seconds):
    """Seconds as hours, minutes and seconds: `1:02:03.50`."""
    hundredths = round(100 * seconds)
    minutes, hundredths = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{hundredths // 100:02}.{hundredths % 100:02}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"
