"""Draw the picture of README.md: a held-out photograph, seen by a moving camera, and what the model says of it.

python -m examples.camera_motion.picture --out docs/camera_motion.png
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import numpy as np

from examples.camera_motion.photographs import HELD_OUT, load_photographs
from examples.camera_motion.synthesis import move_window
from keras_video_focalnet.evaluation.predictions import decode_predictions
from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetNano

MOTIONS = ("pan left", "zoom in", "roll clockwise", "static")


@click.command()
@click.option("--out", default="docs/camera_motion.png", show_default=True, help="PNG file to write.")
def main(out: str) -> None:
    """Draw one row of frames for each motion."""
    try:
        import matplotlib
    except ImportError as error:
        raise click.ClickException("the picture needs matplotlib: pip install 'keras-video-focalnet[train]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    model = VideoFocalNetNano(weights="camera_motion")
    photograph = load_photographs(HELD_OUT)[0]
    clips = np.stack([move_window(photograph, motion) for motion in MOTIONS])
    answers = decode_predictions(model.predict(clips, verbose=0), top=3, labels=model.labels)
    figure, axes = pyplot.subplots(len(MOTIONS), 9, figsize=(11, 5), width_ratios=[1] * 8 + [2.4])
    for row, motion, clip, answer in zip(axes, MOTIONS, clips, answers, strict=True):
        for axis, frame in zip(row, clip, strict=False):
            axis.imshow(frame)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(motion, fontsize=9)
        labels, scores = zip(*answer, strict=True)
        row[8].barh(range(3), scores, color="#4c72b0")
        row[8].set(xlim=(0, 1), yticks=[], xticks=[])
        row[8].invert_yaxis()
        for place, (label, score) in enumerate(answer):
            row[8].text(0.03, place, f"{label} {score:.2f}", va="center", fontsize=8, color="black")
    axes[0][0].set_title("what the camera did", fontsize=9, loc="left")
    axes[0][8].set_title("what the model says", fontsize=9, loc="left")
    figure.tight_layout(pad=0.4)
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    figure.savefig(out, dpi=90)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
