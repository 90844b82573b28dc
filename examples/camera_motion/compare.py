"""Train small models on the camera's motions, with as many CPU-minutes each, and set them beside VideoFocalNetNano.

    python -m examples.camera_motion.compare --out comparison

Each model is trained by `examples.camera_motion.train` into a folder of its own in `--out`, unless its weights are
there already; a training that was stopped is continued. `--steps` shortens all trainings. The last rows are of the
weights that ship with the package. Printed is a Markdown table.

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
@click.option("--out", default="comparison", show_default=True, help="Folder of the weights and the runs.")
@click.option("--steps", type=int, help="Batches to train each model on, by default what an hour of a core allows.")
@click.option("--photograph-clips", default=1800, show_default=True, help="Clips from unseen photographs.")
@click.option("--footage-places", default=30, show_default=True, help="Places in each shot to move a window from.")
@click.option("--seed", default=1000, show_default=True, help="Of the clips that are tested.")
def main(
    names: Sequence[str], out: str, steps: int | None, photograph_clips: int, footage_places: int, seed: int
) -> None:
    """Train what is not trained yet, test all and print a table."""
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--steps", str(steps)] if steps else []
    weights = {name: trained(name, folder, options) for name in (registry.find_builder(each).name for each in names)}
    tests, rows = {}, []
    for name, file in {**weights, DEFAULT_MODEL: "camera_motion"}.items():
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
