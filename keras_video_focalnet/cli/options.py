"""Options that several commands have alike."""

import click

from keras_video_focalnet.cli.class_names import named_classes
from keras_video_focalnet.cli.networks import MODEL, ModelNames


def _together(*options):
    """One decorator of several options, which the help lists in this order."""

    def decorate(command):
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


named_model = _together(
    click.option(
        "--model", type=ModelNames(), default=MODEL, show_default=True, help="As for `video-focalnet predict`."
    ),
    click.option("--weights", metavar="NAME|PATH|URL", help="As for `video-focalnet predict`."),
    click.option("--labels", "names", metavar="NAME|PATH", help="Class names, as for `video-focalnet predict`."),
    named_classes,
)
"""The options `--model`, `--weights`, `--labels` and `--classes` of the commands that take them as `predict` does."""

span = _together(
    click.option("--start", type=click.FloatRange(min=0), help="Second at which to begin."),
    click.option("--end", type=click.FloatRange(min=0), help="Second before which to stop."),
)
"""The options `--start` and `--end` of the commands that look at a part of a video."""


def check_span(start, end):
    """Refuse an `--end` that does not lie after `--start`; either may be None."""
    if start is not None and end is not None and end <= start:
        raise click.UsageError(f"--end must lie after --start, received --start {start:g} --end {end:g}.")
