"""What `make demo` runs: a trained model says how the camera moves in real footage.

    python -m examples.camera_motion.demo

It sees real shots first, and then footage whose camera holds still, through a window that moves.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Iterable, Sequence
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from examples.camera_motion.evaluate import shot_table
from examples.camera_motion.footage import SHOTS, STILL_SHOTS
from examples.camera_motion.motions import CAMERA_MOTIONS
from examples.camera_motion.synthesis import move_window
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetNano


def print_table(console: Console, title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print one table."""
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


@click.command()
def main() -> None:
    """Classify real shots as they are, and the same footage through a moving window."""
    console = Console(width=None if Console().is_terminal else 150)
    model = VideoFocalNetNano(weights="camera_motion")
    scores = model.predict(np.stack([shot.clip() for shot in SHOTS]), verbose=0)
    header, rows = shot_table(scores)
    print_table(console, "Real shots as they are", header, rows)

    rows, right = [], 0
    for shot in STILL_SHOTS:
        footage = shot.frames(8)
        clips = np.stack([move_window(footage, motion) for motion in CAMERA_MOTIONS])
        for motion, score in zip(CAMERA_MOTIONS, model.predict(clips, verbose=0), strict=True):
            answer = CAMERA_MOTIONS[score.argmax()]
            right += answer == motion
            rows.append([shot.video, motion, answer, f"{score.max():.2f}", "right" if answer == motion else "wrong"])
    header = ["footage", "what the window did", "answer", "score", ""]
    print_table(console, "The same footage seen through a moving window", header, rows)
    console.print(f"{right} of {len(rows)} right through the moving window.")


if __name__ == "__main__":
    main()
