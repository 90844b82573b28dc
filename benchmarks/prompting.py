"""A training step of prompts alone beside one of everything: `python -m benchmarks.prompting`.

Both are steps of AdamW by `train_on_batch` on the same Vita-CLIP, whose text tower runs in each, as its context trains.
A process holds gigabytes, so each is started, timed and ended in its turn. Peak memory is that of its process, imports
included.
"""

import click

from benchmarks.alternation import Worker, summary, table, write
from benchmarks.subjects import VITA_CLIP, parse

SUBJECTS = "ours tensorflow graph,ours jax,ours torch"
TRAINS = ("all", "prompts")


@click.command()
@click.option("--subjects", default=SUBJECTS, show_default=True, help="What to measure, by name.")
@click.option("--classes", default="10,400", show_default=True, help="Names that clips are compared with.")
@click.option("--batch", default=1, show_default=True, help="Clips a step.")
@click.option("--rounds", default=2, show_default=True, help="Turns each has.")
@click.option("--calls", default=3, show_default=True, help="Steps a turn.")
@click.option("--name", default="prompting", show_default=True, help="Of the file of results.")
def main(subjects, classes, batch, rounds, calls, name):
    """Prints a table and writes `results/prompting-cpu.json`."""
    rows = []
    for count in map(int, classes.split(",")):
        for subject in parse(subjects):
            found = measure(subject, count, batch, rounds, calls)
            for trains, result in found.items():
                row = {"subject": subject.label, "classes": count, "batch": batch, "trains": trains, **result}
                row["time_ratio"] = result["median_s"] / found["all"]["median_s"]
                row["memory_ratio"] = result["peak_bytes"] / found["all"]["peak_bytes"]
                rows.append(row)
            write(name, "cpu", rows)  # each time: what comes next may fail
    click.echo(table(*as_table(rows)))


def measure(subject, classes, batch, rounds, calls):
    """Times both in turn; a dict of results by what trains."""
    seconds, peaks = {trains: [] for trains in TRAINS}, dict.fromkeys(TRAINS, 0)
    for _ in range(rounds):
        for trains in TRAINS:
            worker = Worker("prompting", subject, name=VITA_CLIP, batch=batch, trains=trains, classes=classes)
            try:
                worker.time(1)
                seconds[trains].extend(worker.time(calls))
            finally:
                worker.close()
            peaks[trains] = max(peaks[trains], worker.peak_bytes)
    return {trains: {**summary(seconds[trains]), "peak_bytes": peaks[trains]} for trains in TRAINS}


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["", "classes", "trains", "seconds a step (quartiles)", "of all", "peak memory, GB", "of all"]
    cells = [
        [
            row["subject"],
            row["classes"],
            row["trains"],
            f"{row['median_s']:.2f} ({row['low_s']:.2f}-{row['high_s']:.2f})",
            f"{100 * row['time_ratio']:.0f} %",
            f"{row['peak_bytes'] / 1e9:.1f}",
            f"{100 * row['memory_ratio']:.0f} %",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
