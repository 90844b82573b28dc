"""Make a folder of short videos in four classes: a camera pans slowly or fast, to the left or to the right.

    python -m examples.fine_tune.videos --out pans

`pans/train` is made from one set of photographs and `pans/val` from another, each with a sub-folder for every class.
"""

import os
import pathlib
from collections.abc import Sequence

import click
import numpy as np

from examples.camera_motion.photographs import HELD_OUT, TRAINING, load_photographs
from examples.camera_motion.synthesis import move_window

SPEEDS = {"slow": (0.08, 0.15), "fast": (0.4, 0.6)}
"""Slowest and fastest pan of each kind, in widths of the picture over the entire video."""

CLASSES = tuple(f"{speed}_{side}" for speed in SPEEDS for side in ("left", "right"))
FRAMES, SIZE = 16, 96


def pan(name: str, photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a clip of one class.

    Args:
        name: One of `CLASSES`.
        photograph: `(height, width, 3)` uint8.
        rng: A `numpy.random.Generator`.

    Returns:
        `(FRAMES, SIZE, SIZE, 3)` uint8.
    """
    speed, side = name.split("_")
    coverage = rng.uniform(0.6, 1.0)
    speed = rng.uniform(*SPEEDS[speed])
    return move_window(photograph, f"pan {side}", speed, rng=rng, num_frames=FRAMES, size=SIZE, coverage=coverage)


def write_video(path: str | os.PathLike, frames: np.ndarray, rate: int = 8) -> None:
    """Write frames as an H.264 video.

    Args:
        path: File to write, such as `a.mp4`.
        frames: `(frames, height, width, 3)` uint8; height and width even.
        rate: Frames per second, 8 by default.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make_videos(folder: str | os.PathLike, names: Sequence[str], per_class: int, seed: int) -> pathlib.Path:
    """Make a folder with a sub-folder for every class.

    Args:
        folder: Folder to make.
        names: Photographs to make videos of, as `load_photographs` takes them.
        per_class: Videos in each class; the photographs take turns.
        seed: Seed of speeds and places.

    Returns:
        The folder.
    """
    folder, rng = pathlib.Path(folder), np.random.default_rng(seed)
    photographs = load_photographs(names)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            clip = pan(name, photographs[number % len(photographs)], rng)
            write_video(folder / name / f"{number:03d}.mp4", clip)
    return folder


@click.command()
@click.option("--out", required=True, help="Folder to make.")
@click.option("--train", default=60, show_default=True, help="Training videos in each class.")
@click.option("--val", default=25, show_default=True, help="Validation videos in each class, from other photographs.")
@click.option("--seed", default=0, show_default=True, help="Seed of speeds and places.")
def main(out: str, train: int, val: int, seed: int) -> None:
    """Make the training and the validation folder."""
    make_videos(pathlib.Path(out, "train"), TRAINING, train, seed)
    make_videos(pathlib.Path(out, "val"), HELD_OUT, val, seed + 1)
    click.echo(f"wrote {train} and {val} videos of each of {len(CLASSES)} classes: {', '.join(CLASSES)}")


if __name__ == "__main__":
    main()
