"""Time and memory of one training step: `python -m benchmarks.training`.

Forward, backward and an update by SGD with momentum, from `train_on_batch` for ours and a plain loop for the reference.
A process holds gigabytes, so each is started, timed and ended in its turn. Peak memory is that of its process, imports
included.
"""

import click

from benchmarks.alternation import Worker, summary, table, write
from benchmarks.subjects import SUBJECTS, parse

PEER = "reference eager"
OURS_AND_REFERENCE = [label for label, subject in SUBJECTS.items() if subject.architecture == "registered"]


def measure(subjects, rounds, calls, **options):
    """Times subjects in turn, each in a fresh process every round; a dict of results by label."""
    seconds, results = {}, {}
    for _ in range(rounds):
        for subject in subjects:
            worker = Worker("training", subject, **options)
            try:
                worker.time(1)
                seconds.setdefault(subject.label, []).extend(worker.time(calls))
            finally:
                worker.close()
            results[subject.label] = {
                **summary(seconds[subject.label]),
                "first_call_s": worker.first_call_s,
                "peak_bytes": max(worker.peak_bytes, results.get(subject.label, {}).get("peak_bytes", 0)),
            }
    return results


@click.command()
@click.option("--sizes", default="tiny,base", show_default=True, help="Sizes, as `tiny` or `sifa50`.")
@click.option("--batches", default="2", show_default=True, help="Clips a step.")
@click.option("--subjects", default=",".join(OURS_AND_REFERENCE), help="What to measure, by name.")
@click.option("--rounds", default=2, show_default=True, help="Turns each has.")
@click.option("--calls", default=3, show_default=True, help="Steps a turn.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "gpu"]), help="On a GPU everything is bfloat16.")
@click.option("--name", default="training", show_default=True, help="Of the file of results.")
def main(sizes, batches, subjects, rounds, calls, device, name):
    """Prints a table and writes `results/training-DEVICE.json`."""
    chosen, rows = parse(subjects), []
    for size in sizes.split(","):
        for batch in map(int, batches.split(",")):
            results = measure(chosen, rounds, calls, name=size, batch=batch, device=device)
            peer = results.get(PEER)
            for label, result in results.items():
                row = {"size": size, "batch": batch, "subject": label, **result}
                if peer:
                    row["ratio"] = peer["median_s"] / row["median_s"]
                    row["memory_ratio"] = row["peak_bytes"] / peer["peak_bytes"]
                rows.append(row)
            click.echo(table(*as_table(rows[-len(results) :])))
            write(name, device, rows)  # each time: what comes next may fail


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["size", "batch", "", "seconds a step (quartiles)", f"{PEER} / this", "peak memory, GB", "of the peer's"]
    cells = [
        [
            row["size"],
            row["batch"],
            row["subject"],
            f"{row['median_s']:.2f} ({row['low_s']:.2f}-{row['high_s']:.2f})",
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            f"{row['peak_bytes'] / 1e9:.1f}",
            f"{100 * row['memory_ratio']:.0f} %" if "memory_ratio" in row else "",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
