"""`video-focalnet models`: the weights that are published."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def models(as_json):
    """List the published weights.

    `predict` takes the first column as --model and the second as --weights. Accuracies are those of the paper, as the
    mean of so many views (clips x crops) a video.
    """
    from keras_video_focalnet.cli.predict import ARCHITECTURES
    from keras_video_focalnet.weights.registry import REGISTRY

    sizes = {architecture: size for size, architecture in ARCHITECTURES.items()}
    rows = [
        {
            "model": sizes[entry.architecture],
            "weights": entry.name,
            "data set": entry.long_name,
            "classes": entry.classes,
            "top-1 %": entry.top1,
            "views": entry.views and "{} x {}".format(*entry.views),
            "GMAC a view": entry.gmac,
            "licence": entry.licence,
        }
        for entry in REGISTRY
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    # Without the long names, a line fits a terminal of 80 columns.
    columns = [column for column in rows[0] if column != "data set"]
    table = Table(*columns)
    for row in rows:
        table.add_row(*("-" if row[column] is None else str(row[column]) for column in columns))
    Console().print(table)
