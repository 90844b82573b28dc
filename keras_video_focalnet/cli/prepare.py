"""`video-focalnet prepare` makes the videos of a folder or of lists small, and writes the lists anew."""

import click

from keras_video_focalnet.cli.libraries import job_of_a_command, library_options, ray_address, tell


@click.command()
@click.argument("videos", metavar="FOLDER|LIST...", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@click.option(
    "--short-side", type=click.IntRange(min=2), default=256, show_default=True, help="Pixels; none is enlarged."
)
@click.option("--crf", type=click.IntRange(0, 51), default=23, show_default=True, help="Quality of H.264, 0 the best.")
@click.option("--preset", default="medium", show_default=True, help="x264's, from ultrafast to veryslow.")
@library_options
def prepare(videos, out, ray, address, **options):
    """Make the videos of a folder or of lists small, and write the lists anew.

    As Kinetics is prepared: a short side of 256 pixels, H.264 of x264's own quality (CRF 23), without sound. Training
    and scoring read such videos faster. A job that was stopped, at any moment, goes on when the same command is given
    again.
    """
    address = ray_address(ray, address)
    with job_of_a_command():
        from keras_video_focalnet.evaluation.preparing import prepare_videos

        report = prepare_videos(list(videos), out, address=address, **options)
    tell(report, "are prepared")
