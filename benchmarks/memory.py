"""What rematerialization saves and costs: `python -m benchmarks.memory`.

One training step, as `benchmarks.training`, with nothing rematerialized, the first two stages, and all stages; once, of
sizes that do not rematerialize. Peak memory is that of the process, imports included. The C library keeps freed memory
for later; with `--in-use` it has to give it back, which makes every step slower, so that what is counted is what was in
use.
"""

import os

import click

from benchmarks.alternation import Worker, summary, table, write
from benchmarks.subjects import frames_of, parse, rematerializes

PEER = "reference eager"
SUBJECTS = "reference eager,ours tensorflow graph,ours jax,ours torch"
VARIANTS = {"none": False, "stages 0 and 1": (True, True, False, False), "all": True}


@click.command()
@click.option("--sizes", default="tiny", show_default=True, help="Sizes, as `tiny` or `sifa50`.")
@click.option("--batches", default="2", show_default=True, help="Clips a step.")
@click.option("--frames", type=int, help="Frames a clip; by default what the size takes.")
@click.option("--subjects", default=SUBJECTS, show_default=True, help="What to measure, by name.")
@click.option("--variants", default=",".join(VARIANTS), show_default=True, help="What ours rematerializes, by name.")
@click.option("--calls", default=3, show_default=True, help="Steps of each, after two that are not counted.")
@click.option("--in-use", is_flag=True, help="Count memory in use; times then mean nothing.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "gpu"]), help="On a GPU everything is bfloat16.")
@click.option("--name", default="memory", show_default=True, help="Of the file of results.")
def main(sizes, batches, frames, subjects, variants, calls, in_use, device, name):
    """Prints a table and writes `results/memory-DEVICE.json`."""
    if in_use:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
    chosen, rows = chosen_variants(variants), []
    for size in sizes.split(","):
        ours = chosen if rematerializes(size) else {"none": False}
        for batch in map(int, batches.split(",")):
            first, peer = len(rows), None
            for subject in parse(subjects):
                for variant, stages in ours.items() if subject.is_ours else [("none", False)]:
                    options = {"rematerialize": stages} if subject.is_ours else {}
                    worker = Worker(
                        "training", subject, name=size, batch=batch, device=device, frames=frames, **options
                    )
                    try:
                        worker.time(1)
                        seconds = worker.time(calls)
                    finally:
                        worker.close()
                    row = {"size": size, "batch": batch, "frames": frames or frames_of(size), "subject": subject.label}
                    row |= {"rematerialized": variant, **summary(seconds), "peak_bytes": worker.peak_bytes}
                    row |= {"in_use": in_use, "first_call_s": worker.first_call_s}
                    peer = row if subject.label == PEER else peer
                    if peer:
                        row["memory_ratio"] = row["peak_bytes"] / peer["peak_bytes"]
                        row["ratio"] = peer["median_s"] / row["median_s"]
                    rows.append(row)
                    write(name, device, rows)  # each time: what comes next may fail
            click.echo(table(*as_table(rows[first:])))


def chosen_variants(variants):
    """What to rematerialize, by name, of names in one string."""
    chosen = [name.strip() for name in variants.split(",")]
    if unknown := [name for name in chosen if name not in VARIANTS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of: {', '.join(VARIANTS)}.", param_hint="--variants")
    return {name: VARIANTS[name] for name in chosen}


def as_table(rows):
    """Header and cells of rows of results."""
    header = [
        "size",
        "batch",
        "",
        "rematerialized",
        "seconds a step",
        f"{PEER} / this",
        "peak memory, GB",
        "of the peer's",
    ]
    cells = [
        [
            row["size"],
            row["batch"],
            row["subject"],
            row["rematerialized"],
            "" if row["in_use"] else f"{row['median_s']:.2f}",
            f"{row['ratio']:.2f}" if "ratio" in row and not row["in_use"] else "",
            f"{row['peak_bytes'] / 1e9:.1f}",
            f"{100 * row['memory_ratio']:.0f} %" if "memory_ratio" in row else "",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
