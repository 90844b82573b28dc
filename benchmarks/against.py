"""This version beside an earlier one: `python -m benchmarks.against REVISION`.

The earlier version is checked out to a temporary folder, and both are called in turn, each in a process of its own.
"""

import contextlib
import statistics
import subprocess
import tempfile
from pathlib import Path

import click

from benchmarks.alternation import Worker, machine, summary, table, write
from benchmarks.subjects import SUBJECTS, parse

OURS = [label for label, subject in SUBJECTS.items() if subject.is_ours]


@contextlib.contextmanager
def checkout(revision):
    """A temporary folder with the files of a revision of this repository."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(__file__).parent.parent
        command = ["git", "archive", "--format=tar", revision]
        archive = subprocess.run(command, cwd=here, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield folder


def measure(kind, subject, folder, rounds, calls, **options):
    """Times both versions in turn; the seconds of the earlier one and of this one."""
    seconds, workers = ([], []), []
    try:
        for version in (folder, None):
            workers.append(Worker(kind, subject, repository=version, **options))
        for _ in range(rounds):
            for worker, times in zip(workers, seconds, strict=True):
                worker.time(1)
                times.extend(worker.time(calls))
    finally:
        for worker in workers:
            worker.close()
    return seconds


@click.command()
@click.argument("revision")
@click.option("--kinds", default="inference,training", show_default=True, help="What to measure.")
@click.option("--size", default="tiny", show_default=True, help="Size of Video-FocalNet.")
@click.option("--subjects", default=",".join(OURS), help="Backends and modes, by name.")
@click.option("--rounds", default=5, show_default=True, help="Turns each has.")
@click.option("--calls", default=2, show_default=True, help="Calls a turn.")
@click.option("--within", type=float, help="Fail where a ratio exceeds 1 by more than this share.")
def main(revision, kinds, size, subjects, rounds, calls, within):
    """Prints how long this version takes over how long REVISION takes, and writes `results/against-KIND-cpu.json`."""
    everything = []
    with checkout(revision) as folder:
        for kind in kinds.split(","):
            rows = []
            for subject in parse(subjects):
                options = {"name": size, "batch": 1 if kind == "inference" else 2, "device": "cpu"}
                before, after = measure(kind, subject, folder, rounds, calls, **options)
                ratio = statistics.median(after) / statistics.median(before)
                rows.append({"kind": kind, "subject": subject.label, "ratio": ratio})
                rows[-1] |= {"before": summary(before), "after": summary(after)}
                write(f"against-{kind}", "cpu", rows, revision=revision, size=size)
            everything += rows
    header = ["", "", "before, s", "after, s", "after / before"]
    medians = [(row["kind"], row["subject"], row["before"]["median_s"], row["after"]["median_s"]) for row in everything]
    cells = [(*names, f"{a:.3f}", f"{b:.3f}", f"{b / a:.3f}") for *names, a, b in medians]
    click.echo(f"{machine()['cpu']}\n{table(header, cells)}")
    worst = max(row["ratio"] for row in everything)
    if within is not None and worst > 1 + within:
        raise click.ClickException(f"this version takes up to {worst:.3f} times as long as {revision}.")


if __name__ == "__main__":
    main()
