"""Time of one call: `python -m benchmarks.inference`.

Every backend and mode beside our PyTorch reference (eager and compiled) and, for Base, Transformers' VideoMAE-B,
TimeSformer-B and ViViT-B. "share of limit" is the time that the model's multiply-adds would take at the speed of a
large matrix product on this machine, over the time that they took.
"""

import click

from benchmarks.alternation import alternate, table, write
from benchmarks.subjects import CEILINGS, SUBJECTS, parse

GMACS = {"tiny": 63.00, "small": 124.33, "base": 220.65, "sifa50": 23.99, "sifa-s": 39.04, "sifa-b": 68.85}
GMACS["vita-clip"] = 149.30
PEER = "reference eager"


@click.command()
@click.option("--sizes", default="tiny,base", show_default=True, help="Sizes, as `tiny` or `sifa50`.")
@click.option("--batches", default="1,4", show_default=True, help="Clips a call.")
@click.option("--subjects", default=",".join(SUBJECTS), help="What to measure, by name; all by default.")
@click.option("--rounds", default=5, show_default=True, help="Turns each has.")
@click.option("--calls", default=3, show_default=True, help="Calls a turn.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "gpu"]), help="On a GPU everything is bfloat16.")
@click.option("--name", default="inference", show_default=True, help="Of the file of results.")
def main(sizes, batches, subjects, rounds, calls, device, name):
    """Prints a table and writes `results/inference-DEVICE.json`."""
    ceilings = alternate("ceiling", list(CEILINGS.values()), rounds, calls, device=device)
    ceiling = speed_of_products(ceilings.values())
    click.echo(f"a large matrix product runs at {ceiling / 1e9:.0f} GFLOP/s\n")
    chosen = parse(subjects)
    rows = []
    for size in sizes.split(","):
        here = [subject for subject in chosen if size in subject.sizes((size,))]
        for batch in map(int, batches.split(",")):
            results = alternate("inference", here, rounds, calls, name=size, batch=batch, device=device)
            rows += rows_of(size, batch, here, results, ceiling)
            click.echo(table(*as_table(rows[len(rows) - len(here) :])))
            write(name, device, rows, ceiling_flops=ceiling)  # each time: what comes next may fail


def speed_of_products(ceilings):
    """Operations a second of the fastest of the measured matrix products."""
    return max(2 * 4096**3 / result["median_s"] for result in ceilings)


def rows_of(size, batch, subjects, results, ceiling):
    """Rows of results, with the ratio to the peer and the share of the limit.

    Args:
        size: As `tiny`.
        batch: Clips a call.
        subjects: List of `Subject`.
        results: Dict from label to what was measured.
        ceiling: Operations a second of a large matrix product.
    """
    rows, peer = [], results.get(PEER, {}).get("median_s")
    for subject in subjects:
        row = {"size": size, "batch": batch, "subject": subject.label, **results[subject.label]}
        if peer:
            row["ratio"] = peer / row["median_s"]
        if subject.architecture == "registered" and size in GMACS:
            row["share_of_limit"] = 2e9 * GMACS[size] * batch / ceiling / row["median_s"]
        rows.append(row)
    return rows


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["size", "batch", "", "seconds a call (quartiles)", f"{PEER} / this", "share of limit", "first call, s"]
    cells = [
        [
            row["size"] if row["subject"].startswith(("ours", "reference")) else "",
            row["batch"],
            row["subject"],
            f"{row['median_s']:.3f} ({row['low_s']:.3f}-{row['high_s']:.3f})",
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            f"{100 * row['share_of_limit']:.0f} %" if "share_of_limit" in row else "",
            f"{row['first_call_s']:.1f}",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
