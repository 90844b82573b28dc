"""Time and memory of one call against frames, resolution and batch: `python -m benchmarks.growth`.

Each in a process of its own. The cost must grow linearly in tokens, that is in frames x height x width x batch. It
prints a table, writes `results/growth-DEVICE.json` and draws `docs/growth.png`.
"""

from pathlib import Path

import click

from benchmarks.alternation import Worker, summary, table, write
from benchmarks.subjects import parse

PICTURE = Path(__file__).parent.parent / "docs" / "growth.png"
DEFAULT = {"frames": 8, "size": 224, "batch": 1}
AXES = {"frames": (8, 16, 32, 64), "size": (112, 224, 336, 448), "batch": (1, 2, 4, 8)}
NAMES = {"frames": "frames", "size": "pixels a side", "batch": "clips a call"}


@click.command()
@click.option("--model", default="tiny", show_default=True, help="Size of Video-FocalNet.")
@click.option("--subject", default="ours tensorflow graph", show_default=True, help="What to measure, by name.")
@click.option("--calls", default=3, show_default=True, help="Calls of each, after two that are not counted.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "gpu"]), help="On a GPU everything is bfloat16.")
@click.option("--name", default="growth", show_default=True, help="Of the file of results.")
def main(model, subject, calls, device, name):
    """Measures, prints, writes and draws."""
    (subject,) = parse(subject)
    measured, rows = {}, []
    for axis, values in AXES.items():
        for value in values:
            clip = {**DEFAULT, axis: value}
            key = tuple(clip.values())
            if key not in measured:
                worker = Worker("inference", subject, name=model, device=device, **clip)
                try:
                    worker.time(1)
                    measured[key] = {**summary(worker.time(calls)), "peak_bytes": worker.peak_bytes}
                finally:
                    worker.close()
            rows.append({"axis": axis, **clip, "tokens": tokens(clip), **measured[key]})
            write(name, device, rows, model=model, subject=subject.label)  # each time: what comes next may fail
    click.echo(table(*as_table(rows)))
    draw(rows, f"{model}, {subject.label.removeprefix('ours ')}, {device}")


def tokens(clip):
    """Tokens of the first stage, over all clips."""
    return clip["batch"] * clip["frames"] * (clip["size"] // 4) ** 2


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["frames", "pixels a side", "clips", "tokens", "seconds", "microseconds a token", "peak memory, GB"]
    cells = [
        [
            row["frames"],
            row["size"],
            row["batch"],
            row["tokens"],
            f"{row['median_s']:.2f}",
            f"{1e6 * row['median_s'] / row['tokens']:.1f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
        ]
        for row in rows
    ]
    return header, cells


def draw(rows, title):
    """Seconds and memory against tokens, a line an axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis in AXES:
        line = [row for row in rows if row["axis"] == axis]
        counts = [row["tokens"] / 1e3 for row in line]
        left.plot(counts, [row["median_s"] for row in line], "o-", label=NAMES[axis])
        right.plot(counts, [row["peak_bytes"] / 1e9 for row in line], "o-", label=NAMES[axis])
    left.set(xlabel="thousand tokens", ylabel="seconds a call", xlim=0, ylim=0)
    right.set(xlabel="thousand tokens", ylabel="peak memory of the process, GB", xlim=0, ylim=0)
    left.legend(title="more")
    figure.suptitle(title)
    part = PICTURE.with_suffix(".part.png")
    figure.savefig(part, dpi=110)
    part.replace(PICTURE)
    click.echo(f"drew {PICTURE.name}")


if __name__ == "__main__":
    main()
