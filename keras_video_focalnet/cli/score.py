"""`video-focalnet score` scores every video of a folder or a list."""

import click

from keras_video_focalnet.cli.class_names import named_classes
from keras_video_focalnet.cli.libraries import job_of_a_command, library_options, ray_address, tell
from keras_video_focalnet.cli.networks import MODEL, ModelNames, check_options, is_exported, load_named


@click.command()
@click.argument("videos", metavar="FOLDER|LIST")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="Table to write, a Parquet file.")
@click.option("--csv", is_flag=True, help="Write the same as CSV beside it.")
@click.option("--model", type=ModelNames(), default=MODEL, show_default=True, help="As for `video-focalnet predict`.")
@click.option("--weights", metavar="NAME|PATH|URL", help="As for `video-focalnet predict`.")
@click.option("--labels", metavar="NAME|PATH", help="Class names, as for `video-focalnet predict`.")
@named_classes
@click.option(
    "--views", default="1x1", show_default=True, metavar="CLIPSxCROPS", help="Views of each video, averaged, as 4x3."
)
@click.option("--features", is_flag=True, help="Write pooled features instead of scores, for search and clustering.")
@click.option("--top", type=click.IntRange(min=1), help="Write so many of the highest scores.  [default: all]")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Clips that a model takes at once."
)
@click.option("--rows", "split", metavar="NAME", help="Of a list with a column split, score the rows with this name.")
@library_options
@click.option(
    "--models",
    type=click.IntRange(min=1),
    help="Copies of the model on Ray.  [default: one a GPU, else one for 2 cores]",
)
def score(videos, out, model, weights, class_names, ray, address, **options):
    """Score every video of a folder or of a list, and write one table.

    A video that cannot be read is told in the table and on the error stream. A job that was stopped, at any moment,
    goes on when the same command is given again.
    """
    address = ray_address(ray, address)
    with job_of_a_command():
        from keras_video_focalnet.evaluation.scoring import score_videos

        network = _network(model, weights, class_names, options["labels"])
        report = score_videos(videos, network, out, address=address, **options)
    tell(report, "have features" if options["features"] else "are scored")


def _network(model, weights, class_names, labels):
    """The model that the options name; of an exported file that gives features too."""
    check_options(model, weights, class_names, labels)
    if not is_exported(model):
        return load_named(model, weights, class_names, labels)[0]
    from keras_video_focalnet.exporting.runtime import load_exported

    return load_exported(model)
