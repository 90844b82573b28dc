"""Time and memory of one call against frames, resolution and batch: `python -m benchmarks.growth`.

Each in a process of its own. The cost must grow linearly in tokens, that is in frames x height x width x batch. It
prints a table, writes `results/growth-DEVICE.json` and draws `docs/growth.png`.

`python -m benchmarks.growth --cliffs` compares the time of a token over all these shapes and some of their corners, on
each backend, with one thread and with two, and writes `results/cliffs-DEVICE.json`: a formulation that a rule chooses
where it does not pay shows as a shape whose tokens take longer than the others'. Shapes take turns in one process, and
memory is not measured.
"""

import itertools
from pathlib import Path

import click

from benchmarks.alternation import Worker, summary, table, write
from benchmarks.subjects import parse

PICTURE = Path(__file__).parent.parent / "docs" / "growth.png"
DEFAULT = {"frames": 8, "size": 224, "batch": 1}
AXES = {"frames": (8, 16, 32, 64), "size": (112, 224, 336, 448), "batch": (1, 2, 4, 8)}
# As above with both ends of what rules divide, and corners where two sizes are small or large at once.
ENDS = {"frames": (3, 4, 8, 16, 32, 64, 65), "size": (112, 224, 336, 448), "batch": (1, 2, 4, 8, 16)}
CORNERS = ((4, 112, 1), (64, 112, 1), (4, 448, 1), (4, 112, 16))
BACKENDS = "ours tensorflow graph,ours jax,ours torch"
NAMES = {"frames": "frames", "size": "pixels a side", "batch": "clips a call"}


@click.command()
@click.option("--model", default="tiny", show_default=True, help="Size of Video-FocalNet.")
@click.option("--subject", default="ours tensorflow graph", show_default=True, help="What to measure, by name.")
@click.option("--calls", default=3, show_default=True, help="Calls of each, after two that are not counted.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "gpu"]), help="On a GPU everything is bfloat16.")
@click.option("--cliffs", is_flag=True, help="Compare the time of a token over shapes instead.")
@click.option("--subjects", default=BACKENDS, show_default=True, help="With --cliffs: what to measure, by name.")
@click.option("--threads", default="1,2", show_default=True, help="With --cliffs: numbers of threads.")
@click.option("--name", help="Of the file of results.  [default: growth or cliffs]")
def main(model, subject, calls, device, cliffs, subjects, threads, name):
    """Measures, prints, writes and draws."""
    if cliffs:
        counts = [int(count) for count in threads.split(",")]
        rows = measure(parse(subjects), model, counts, calls, device)
        click.echo(table(*shapes_as_table(rows)) + "\n")
        click.echo(table(*spreads_as_table(spreads(rows))))
        write(name or "cliffs", device, rows, model=model, spreads=spreads(rows))
        return
    (subject,) = parse(subject)
    name = name or "growth"
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


def shapes():
    """The shapes whose tokens are compared: every value of an axis with the default of the others, and corners."""
    chosen = [{**DEFAULT, axis: value} for axis, values in ENDS.items() for value in values]
    chosen += [dict(zip(DEFAULT, corner, strict=True)) for corner in CORNERS]
    return [clip for place, clip in enumerate(chosen) if clip not in chosen[:place]]


def measure(subjects, model="tiny", threads=(1, 2), calls=3, device="cpu", clips=None):
    """Times a call of every shape, in turn in one process for each subject and number of threads.

    Args:
        subjects: List of `Subject`.
        model: Size of Video-FocalNet.
        threads: Numbers of threads; the processor's cores are narrowed to so many before a backend starts.
        calls: Calls of each shape, after two that are not counted.
        device: `"cpu"` or `"gpu"`.
        clips: List of shapes, dicts of `frames`, `size` and `batch`; None for `shapes()`.

    Returns:
        A list of dicts: the shape, `subject`, `threads`, `tokens`, `us_a_token`, and what `summary` tells of seconds.
    """
    clips, rows = clips or shapes(), []
    for subject, count in itertools.product(subjects, threads):
        tasks = [{"name": model, **clip} for clip in clips]
        worker = Worker("several", subject, tasks=tasks, device=device, threads=count)
        try:
            # The first call was the first shape's.
            worker.time(2 * len(clips) - 1)
            seconds = worker.time(calls * len(clips))
        finally:
            worker.close()
        for place, clip in enumerate(clips):
            timed = summary(seconds[place :: len(clips)])
            of_token = 1e6 * timed["median_s"] / tokens(clip)
            where = {"subject": subject.label, "threads": count, **clip, "tokens": tokens(clip)}
            rows.append({**where, "us_a_token": of_token, **timed})
    return rows


def spreads(rows):
    """For each subject and number of threads: the shapes whose tokens take the least and the most time, and the ratio
    of these times.
    """
    found = []
    for subject, threads in dict.fromkeys((row["subject"], row["threads"]) for row in rows):
        of_these = [row for row in rows if (row["subject"], row["threads"]) == (subject, threads)]
        best, *_, worst = sorted(of_these, key=lambda row: row["us_a_token"])
        ratio = worst["us_a_token"] / best["us_a_token"]
        found.append({"subject": subject, "threads": threads, "best": best, "worst": worst, "ratio": ratio})
    return found


def shapes_as_table(rows):
    """Header and cells: microseconds of a token by shape, a column for each subject and number of threads."""
    columns = list(dict.fromkeys((row["subject"], row["threads"]) for row in rows))
    times = {(row["subject"], row["threads"], named(row)): row["us_a_token"] for row in rows}
    header = ["microseconds a token", *(f"{subject.removeprefix('ours ')}, {count}" for subject, count in columns)]
    names = dict.fromkeys(map(named, rows))
    return header, [[name, *(f"{times[*column, name]:.1f}" for column in columns)] for name in names]


def spreads_as_table(spreads):
    """Header and cells of what `spreads` gives."""
    header = ["", "threads", "worst / best", "worst", "best"]
    cells = [
        [row["subject"], row["threads"], f"{row['ratio']:.2f}", *(named(row[end]) for end in ("worst", "best"))]
        for row in spreads
    ]
    return header, cells


def named(clip):
    """A shape as text: clips x frames x side."""
    return f"{clip['batch']} x {clip['frames']} x {clip['size']}"


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
