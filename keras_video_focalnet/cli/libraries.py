"""What the commands for libraries of videos have in common: their options, and how a job ends."""

import contextlib
from collections.abc import Callable, Iterator

import click

_OPTIONS = (
    click.option("--root", metavar="FOLDER", help="Folder of the paths in a list.  [default: the list's folder]"),
    click.option("--multi-label", is_flag=True, help="Videos of a list can have several labels: a|b, or columns."),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read videos.  [default: one a core]"),
    click.option("--ray", is_flag=True, help="Run over Ray on this machine instead of by processes of this command."),
    click.option("--address", metavar="ADDRESS", help="Run over the Ray cluster at this address; auto finds it."),
)


def library_options(command: Callable) -> Callable:
    """Give a command the options of every job over a library."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ray_address(ray: bool, address: str | None) -> str | None:
    """The address that the options `--ray` and `--address` mean."""
    if ray and address is not None:
        raise click.UsageError("--ray is this machine alone, and --address a cluster; leave out one of them.")
    return "local" if ray else address


@contextlib.contextmanager
def job_of_a_command() -> Iterator[None]:
    """Tell how a job ends: errors in a line, and at Ctrl-C what is kept, with the exit code of shells for it."""
    from keras_video_focalnet.evaluation.library_job import JobInterrupted

    try:
        yield
    except JobInterrupted as interruption:
        click.echo(str(interruption).replace("same call", "same command"), err=True)
        raise SystemExit(130) from None
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error


def tell(report, done: str) -> None:
    """Print what became of a library, and name what could not be read."""
    click.echo(f"{report.out}: {report.done} of {report.videos} videos {done}")
    for kind, told, named in (("cannot be read", report.broken, 10), ("read in spite of damage", report.damaged, 3)):
        if not told:
            continue
        click.echo(f"{len(told)} {kind}:", err=True)
        for name, reason in list(told.items())[:named]:
            click.echo(f"  {reason if name in reason else f'{name} {reason}'}", err=True)
        if len(told) > named:
            click.echo(f"  and {len(told) - named} more, which the table names", err=True)
