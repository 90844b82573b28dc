"""`video-focalnet models` lists the models and their published weights."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def models(as_json):
    """List the published weights.

    `predict` takes the model as --model and the weights as --weights. Top-1 is the accuracy in percent that the paper
    of the model reports, the mean over these views (clips x crops) of a video. GMAC are billions of multiply-adds a
    view.
    """
    from keras_video_focalnet.models import registry

    builders = registry.builders()
    rows = [
        {
            "model": builders[entry.architecture].short_name,
            "family": registry.find_family(entry.architecture).title,
            "weights": entry.name,
            "data set": entry.long_name,
            "classes": entry.classes,
            "top-1 %": entry.top1,
            "views": entry.views and "{} x {}".format(*entry.views),
            "GMAC a view": entry.gmac,
            "licence": entry.licence,
        }
        for entry in registry.entries()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    # Without the family and without lines between columns, a row fits into a terminal of 80 columns.
    columns = [column for column in rows[0] if column != "family"]
    short = {"classes": "cls", "top-1 %": "top1", "GMAC a view": "GMAC"}
    table = Table(*(short.get(name, name) for name in columns), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*("-" if row[column] is None else str(row[column]) for column in columns))
    Console().print(table)
