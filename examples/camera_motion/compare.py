"""Set the small models of SIFA beside VideoFocalNetNano, all trained on as many clips of the camera's motions.

    python -m examples.camera_motion.compare
    python -m examples.camera_motion.compare --out comparison

The first command tests the weights that ship with the package. The second trains the models of SIFA before, each by
`examples.camera_motion.train` into a folder of its own in `--out`, unless its weights are there already; a training
that was stopped is continued. `--steps` shortens the trainings. Printed is a Markdown table.

Models take the number of frames of their builders, SIFANetNano 16 and the others 8: their clips show the same motions,
of which more frames see smaller steps.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click

from examples.camera_motion.evaluate import FIGURES, load_model, make_tests, markdown_table, measure, percentages
from examples.camera_motion.train import DEFAULT_MODEL
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.macs import count_macs

MODELS = ("SIFANetNano", "SIFATransformerNano")
SHIPPED = "camera_motion"


def trained(name: str, folder: pathlib.Path, options: Sequence[str] = ()) -> str:
    """Train a model unless it is trained already, and return the path of its weights.

    Args:
        name: Name of its builder.
        folder: Where the weights and the folder of the run are or shall be.
        options: Further options of `examples.camera_motion.train`.

    Raises:
        CalledProcessError: The training failed.
    """
    weights = folder / f"{name}.safetensors"
    if not weights.exists():
        places = ["--out", str(weights), "--run", str(folder / name), "--resume"]
        command = [sys.executable, "-m", "examples.camera_motion.train", "--model", name, *places, *options]
        subprocess.run(command, check=True)
    return str(weights)


@click.command()
@click.option("--model", "names", multiple=True, default=MODELS, show_default=True, help="Names of builders.")
@click.option("--out", help="Train anew into this folder, by default test the weights that ship.")
@click.option("--steps", type=int, help="Batches to train each model on, by default as many as VideoFocalNetNano.")
@click.option("--photograph-clips", default=1800, show_default=True, help="Clips from unseen photographs.")
@click.option("--footage-places", default=30, show_default=True, help="Places in each shot to move a window from.")
@click.option("--seed", default=1000, show_default=True, help="Of the clips that are tested.")
def main(
    names: Sequence[str], out: str | None, steps: int | None, photograph_clips: int, footage_places: int, seed: int
) -> None:
    """Train what shall be trained and is not yet, test all and print a table."""
    weights = {registry.find_builder(name).name: SHIPPED for name in names}
    if out:
        folder = pathlib.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--steps", str(steps)] if steps else []
        weights = {name: trained(name, folder, options) for name in weights}
    tests, rows = {}, []
    for name, file in {**weights, DEFAULT_MODEL: SHIPPED}.items():
        model = load_model(name, file)
        frames = model.input_shape[1]
        if frames not in tests:
            tests[frames] = make_tests(photograph_clips, footage_places, seed, frames)
        size = f"{model.count_params() / 1e6:.2f}", f"{count_macs(model) / 1e6:.0f}", frames
        for title, (clips, labels) in tests[frames].items():
            rows.append([name, *size, title, len(clips), *percentages(measure(model, clips, labels))])
    header = ["model", "parameters, M", "MMAC", "frames", "tested on", "clips", *FIGURES.values()]
    click.echo(markdown_table(header, rows))


if __name__ == "__main__":
    main()
