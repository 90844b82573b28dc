"""Tests the camera-motion weights and prints, as Markdown, what README.md shows.

    python -m examples.camera_motion.evaluate --check

With `--check` it fails where an accuracy is below what is promised: 97 % on unseen photographs, of one view and
of eight, 95 % on real footage seen through a moving window, 95 % for reversed clips and for single frames.
"""

import os
from pathlib import PurePosixPath

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import numpy as np

from examples.camera_motion.footage import SHOTS, moved_footage
from examples.camera_motion.photographs import HELD_OUT
from examples.camera_motion.train import unseen_photograph_clips
from keras_video_focalnet.data.camera_motion import CAMERA_MOTIONS, FLIPPED_HORIZONTALLY, OPPOSITE, QUARTER_TURNED
from keras_video_focalnet.models.video_focalnet import VideoFocalNetNano

REVERSED = np.array([CAMERA_MOTIONS.index(OPPOSITE[motion]) for motion in CAMERA_MOTIONS])
FIGURES = ("accuracy", "of_views", "reversal", "repeated")
PROMISED = {"unseen photographs": {"accuracy": 0.97, "of_views": 0.97}, "moved real footage": {"accuracy": 0.95}}
PROMISED_OF_TIME = {"reversal": 0.95, "repeated": 0.95}


def predict(model, clips):
    """The class of every clip, `(clips,)` indices."""
    return model.predict(clips, batch_size=60, verbose=0).argmax(-1)


def scores_of_views(model, clips):
    """Scores of the eight views of a clip that turning and mirroring it gives, each motion turned back, and averaged.

    Args:
        model: Gives nine scores a clip.
        clips: `(clips, frames, side, side, 3)`.

    Returns:
        `(clips, 9)` scores.
    """
    views = []
    for mirrored in (False, True):
        seen = clips[:, :, :, ::-1] if mirrored else clips
        motions = [FLIPPED_HORIZONTALLY[motion] if mirrored else motion for motion in CAMERA_MOTIONS]
        for _ in range(4):
            scores = model.predict(np.ascontiguousarray(seen), batch_size=60, verbose=0)
            views.append(scores[:, [CAMERA_MOTIONS.index(motion) for motion in motions]])
            seen, motions = np.rot90(seen, axes=(2, 3)), [QUARTER_TURNED[motion] for motion in motions]
    return np.mean(views, axis=0)


def measure(model, clips, labels):
    """Accuracy, and whether the model reads time.

    Returns:
        A dict, of one view but for the second: `accuracy`; `of_views`, that of eight views together; `reversal`, the
        share of clips whose answer becomes its opposite when the frames are reversed; `repeated`, the share that is
        static when the clip is its middle frame, repeated; `confusion`, `(9, 9)` counts, row the motion, column the
        answer; `right`, whether each answer is.
    """
    said = predict(model, clips)
    confusion = np.zeros((len(CAMERA_MOTIONS),) * 2, int)
    np.add.at(confusion, (labels, said), 1)
    middle = clips.shape[1] // 2
    frozen = np.broadcast_to(clips[:, middle : middle + 1], clips.shape)
    return {
        "accuracy": float((said == labels).mean()),
        "of_views": float((scores_of_views(model, clips).argmax(-1) == labels).mean()),
        "reversal": float((predict(model, clips[:, ::-1]) == REVERSED[said]).mean()),
        "repeated": float((predict(model, np.ascontiguousarray(frozen)) == 0).mean()),
        "confusion": confusion,
        "right": said == labels,
    }


def markdown_table(header, rows):
    """A Markdown table as one string."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


@click.command()
@click.option("--weights", default="camera_motion", show_default=True, help="Name or file of weights.")
@click.option("--photograph-clips", default=1800, show_default=True, help="Clips from unseen photographs.")
@click.option("--footage-places", default=30, show_default=True, help="Places in each shot to move a window from.")
@click.option("--seed", default=1000, show_default=True, help="Of the clips.")
@click.option("--check", is_flag=True, help="Fail where a figure is below what is promised.")
def main(weights, photograph_clips, footage_places, seed, check):
    """Prints accuracies, confusion matrices and the answer for each real shot."""
    model = VideoFocalNetNano(weights=weights, classes=len(CAMERA_MOTIONS))
    tests = {
        "unseen photographs": unseen_photograph_clips(photograph_clips, seed),
        "moved real footage": moved_footage(footage_places, seed),
    }
    results = {name: measure(model, *test) for name, test in tests.items()}
    header = ["", "clips", "accuracy", "eight views", "reversed: the opposite", "one frame repeated: static"]
    rows = [
        [name, len(tests[name][0]), *(f"{100 * result[key]:.1f} %" for key in FIGURES)]
        for name, result in results.items()
    ]
    click.echo(markdown_table(header, rows))
    click.echo("\nAccuracy on each photograph\n")
    photograph = np.arange(photograph_clips) // len(CAMERA_MOTIONS) % len(HELD_OUT)
    right = results["unseen photographs"]["right"]
    shares = [f"{100 * right[photograph == index].mean():.1f} %" for index in range(len(HELD_OUT))]
    click.echo(markdown_table([PurePosixPath(name).stem for name in HELD_OUT], [shares]))
    for name, result in results.items():
        click.echo(f"\nConfusion on {name} (row: what the camera did, column: what was said)\n")
        cells = [[motion, *counts] for motion, counts in zip(CAMERA_MOTIONS, result["confusion"], strict=True)]
        click.echo(markdown_table(["", *CAMERA_MOTIONS], cells))
    click.echo("\nReal shots as they are\n")
    scores = model.predict(np.stack([shot.clip() for shot in SHOTS]), verbose=0)
    click.echo(markdown_table(*shot_table(scores)))
    short = [
        f"{name}: {key} {result[key]:.3f} is below {least}"
        for name, result in results.items()
        for key, least in {**PROMISED[name], **PROMISED_OF_TIME}.items()
        if result[key] < least
    ]
    if check and short:
        raise click.ClickException("; ".join(short))


def shot_table(scores):
    """Header and rows that set what is said of the real shots beside what their cameras do."""
    header = ["shot", "what the camera does", "what a person sees", "what was said", "score", ""]
    rows = []
    for shot, score in zip(SHOTS, scores, strict=True):
        said = CAMERA_MOTIONS[score.argmax()]
        verdict = "right" if said == shot.motion else "wrong"
        frames = f"{shot.video} {shot.first}-{shot.last - 1}"
        rows.append([frames, shot.motion, shot.account, said, f"{score.max():.2f}", verdict])
    return header, rows


if __name__ == "__main__":
    main()
