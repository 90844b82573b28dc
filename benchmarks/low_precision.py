"""bfloat16 on a CPU: `python -m benchmarks.low_precision`.

Our model on each backend in float32 and with the policy `mixed_bfloat16`, in turn: by the rule that looks at the
processor, with products in bfloat16 ("native"), and with layers widened to float32 ("widened").
"""

import click

from benchmarks.alternation import alternate, table, write
from benchmarks.subjects import LOW_PRECISION

BACKENDS = ("tensorflow", "jax", "torch")
EXACT = "float32"


@click.command()
@click.option("--sizes", default="tiny,base", show_default=True, help="Sizes, as `tiny` or `sifa50`.")
@click.option("--batches", default="1,4", show_default=True, help="Clips a call.")
@click.option("--backends", default=",".join(BACKENDS), show_default=True, help="Keras backends.")
@click.option("--rounds", default=3, show_default=True, help="Turns each has.")
@click.option("--calls", default=2, show_default=True, help="Calls a turn.")
@click.option("--name", default="low-precision", show_default=True, help="Of the file of results.")
def main(sizes, batches, backends, rounds, calls, name):
    """Prints a table and writes `results/low-precision-cpu.json`."""
    rows = []
    for size in sizes.split(","):
        for batch in map(int, batches.split(",")):
            for backend in backends.split(","):
                # A backend at a time: as many models as that fit into memory.
                here = [subject for subject in LOW_PRECISION.values() if subject.framework == backend]
                results = alternate("inference", here, rounds, calls, name=size, batch=batch)
                exact = results[here[0].label]["median_s"]
                for subject in here:
                    result = results[subject.label]
                    how = (subject.half_products or "rule") if subject.dtype else EXACT
                    row = {"size": size, "batch": batch, "backend": backend, "computes": how, **result}
                    rows.append({**row, "ratio": exact / result["median_s"]})
                click.echo(table(*as_table(rows[-len(here) :])))
                write(name, "cpu", rows)  # each time: what comes next may fail


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["size", "clips", "backend", "bfloat16", "seconds a call (quartiles)", "float32 / this"]
    cells = [
        [
            *(row[name] for name in ("size", "batch", "backend", "computes")),
            f"{row['median_s']:.3f} ({row['low_s']:.3f}-{row['high_s']:.3f})",
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
