"""The short form of all benchmarks, and the tables of their page: `python -m benchmarks.report`.

It measures the parts of `benchmarks.short_form` in some twenty minutes on two cores, keeps them with the machine and
the versions in `results/report/MACHINE.json`, and writes every table of `benchmarks/README.md` anew from the committed
results: of the report, where the machines stand side by side, and of the longer runs of the other commands.

    python -m benchmarks.report --only training,growth   # some parts; those of other days stay
    python -m benchmarks.report --resume                 # go on after an interruption
    python -m benchmarks.report --render                 # measure nothing, write the tables

A machine under load gives no results. It is refused at once if it has other work, by the load average, and in the end
if it had, by a matrix product that is timed before, between and after the parts: the upper quartile of the slowest
place over the lower quartile of the fastest may be 1.25. Quartiles leave single disturbances out, a neighbour that
comes or goes does not stay within, and one that was there all the time is in the load average. Then nothing is written,
and there is no option that would; parts without load are kept for `--resume`.
"""

import datetime
import json
import os
import re
import subprocess
import time
from pathlib import Path

import click

from benchmarks import alternation, rendering
from benchmarks.short_form import PARTS
from benchmarks.subjects import CEILINGS
from keras_video_focalnet.utils.files import atomic_write

PAGE = Path(__file__).parent / "README.md"
MINUTES = 20
# Most of the load average a core before the run, and of the spread of the matrix product within it.
IDLE, STEADY = 0.25, 1.25


class MatrixProduct:
    """Times a matrix product now and then, in a process that stays."""

    def __init__(self):
        self._worker = alternation.Worker("ceiling", CEILINGS["matrix product torch"], side=2048)

    def seconds(self):
        """Of each of a dozen products, after some that are not counted."""
        self._worker.time(4)
        return self._worker.time(12)

    def close(self):
        """Ends the process."""
        self._worker.close()


@click.command()
@click.option("--only", default="", help=f"Parts to measure, by name, of {', '.join(PARTS)}; all by default.")
@click.option("--resume", is_flag=True, help="Go on with what an interrupted run, or one under load, has kept.")
@click.option("--render", "renders_only", is_flag=True, help="Measure nothing; write the tables of the page.")
def main(only, resume, renders_only):
    """Measures the short form of all benchmarks and writes results and tables."""
    if not renders_only:
        measure(chosen_parts(only), resume)
    text = rendering.render(PAGE.read_text(), alternation.RESULTS)
    if text != PAGE.read_text():
        write_whole(PAGE, text)
        click.echo(f"wrote {PAGE.name}")


def chosen_parts(only):
    """Names of parts, of a comma-separated list.

    Raises:
        click.BadParameter: If there is none of that name.
    """
    names = [name.strip() for name in only.split(",")] if only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of: {', '.join(PARTS)}.", param_hint="--only")
    return names


def measure(names, resume):
    """Measure parts and keep them in the file of this machine, unless it was under load.

    Args:
        names: Of the parts.
        resume: Whether to go on with what is kept of a run that did not end.

    Raises:
        click.ClickException: If the machine is or was under load, or an earlier run is kept that is not resumed.
    """
    machine = alternation.machine()
    path = path_of(machine)
    kept = path.with_suffix(".part")
    if kept.exists() and not resume:
        raise click.ClickException(f"an earlier run is kept in {kept}; go on with --resume, or delete the file.")
    load = os.getloadavg()[0]
    if load > IDLE * machine["cores"]:
        raise click.ClickException(
            f"the machine is under load: {load:.1f} on {machine['cores']} cores in the last minute, where "
            f"{IDLE * machine['cores']:.1f} would do. Nothing was measured; end the other work, or wait a minute."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    measure_parts(names, measured, machine, load, kept)
    slowed = parts_under_load(measured)
    if slowed:
        spread, last = spread_of(measured), {name: part for name, part in measured.items() if name not in slowed}
        write_json(kept, last)
        raise click.ClickException(
            f"the machine was under load: its slowest matrix products took {spread:.2f} times as long as its fastest, "
            f"where {STEADY} would do. No result and no table was written. Measured beside other work and dropped: "
            f"{', '.join(slowed)}. With --resume they are measured anew."
        )
    known = json.loads(path.read_text())["parts"] if path.exists() else {}
    parts = known | measured
    ordered = {name: parts[name] for name in (*PARTS, *parts) if name in parts}
    write_json(path, {"machine": {"cpu": machine["cpu"], "cores": machine["cores"]}, "parts": ordered})
    kept.unlink()
    click.echo(f"wrote {path.name}")


def measure_parts(names, measured, machine, load, kept):
    """Measure what is not measured yet, and keep each part when it is done."""
    start, product = time.perf_counter(), MatrixProduct()
    try:
        before = product.seconds()
        for name in names:
            if name in measured:
                click.echo(f"{name}: kept")
                continue
            begun = time.perf_counter()
            part = PARTS[name]()
            spent, after = time.perf_counter() - begun, product.seconds()
            products = alternation.summary(before + after)
            measured[name] = {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "seconds": spent,
                "load_average_at_start": load,
                "matrix_product": {**products, "spread": products["high_s"] / products["low_s"]},
                "revision": revision(),
                "python": machine["python"],
                "versions": machine["versions"],
                **part,
            }
            write_json(kept, measured)
            before = after
            click.echo(f"{name}: {spent:.0f} s; products within {measured[name]['matrix_product']['spread']:.2f}")
    finally:
        product.close()
    spent = (time.perf_counter() - start) / 60
    click.echo(f"altogether {spent:.1f} minutes" + (f", of {MINUTES}" if len(names) == len(PARTS) else ""))


def spread_of(parts):
    """The upper quartile of the slowest place over the lower quartile of the fastest, of the products beside parts."""
    products = [part["matrix_product"] for part in parts.values()]
    return max(product["high_s"] for product in products) / min(product["low_s"] for product in products)


def parts_under_load(parts):
    """Names of the parts beside which the upper quartile of products is too slow for the fastest of all."""
    fastest = min(part["matrix_product"]["low_s"] for part in parts.values())
    return [name for name, part in parts.items() if part["matrix_product"]["high_s"] > STEADY * fastest]


def path_of(machine):
    """Where the results of a machine lie."""
    name = re.sub(r"\((R|TM)\)", "", machine["cpu"]).lower()
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return alternation.RESULTS / "report" / f"{slug}-{machine['cores']}-cores.json"


def revision():
    """What git calls this version; None outside of a clone."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=PAGE.parent, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def write_json(path, content):
    """Write JSON whole."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def write_whole(path, text):
    """Write text, to a temporary name first."""
    with atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
