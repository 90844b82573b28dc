"""Test the camera-motion weights and print their figures as Markdown.

    python -m examples.camera_motion.evaluate --check

With `--check` it fails where an accuracy is below what is promised: 97 % on unseen photographs, with one view and
with eight, 95 % on real footage seen through a moving window, 95 % for reversed clips and for single frames. `--model`
names another builder, whose `--weights` were trained by this example; `compare` sets such models side by side.

Scores and metrics are the package's. Of the same clips as video files, in a folder for each motion,
`video-focalnet evaluate --data FOLDER --views 1x3 --out DIR` tells the same accuracy and confusions: three crops show
a clip of the model's own size whole.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import keras
import numpy as np

from examples.camera_motion.footage import SHOTS, moved_footage
from examples.camera_motion.motions import CAMERA_MOTIONS, FLIPPED_HORIZONTALLY, OPPOSITE, ROTATED_BY_QUARTER
from examples.camera_motion.photographs import HELD_OUT
from examples.camera_motion.train import DEFAULT_MODEL, SIDE, unseen_photograph_clips
from keras_video_focalnet.evaluation import metrics
from keras_video_focalnet.evaluation.views import class_scores
from keras_video_focalnet.models import registry

REVERSED = np.array([CAMERA_MOTIONS.index(OPPOSITE[motion]) for motion in CAMERA_MOTIONS])
FIGURES = {
    "accuracy": "accuracy",
    "eight_views": "eight views",
    "reversal": "reversed: the opposite",
    "repeated": "one frame repeated: static",
}
PROMISED = {"unseen photographs": {"accuracy": 0.97, "eight_views": 0.97}, "moved real footage": {"accuracy": 0.95}}
BATCH_SIZE = 60
PROMISED_EVERYWHERE = {"reversal": 0.95, "repeated": 0.95}


def load_model(name: str, weights: str) -> keras.Model:
    """Build a model that gives nine scores for a clip of 64x64 pixels.

    Args:
        name: Any name of a builder, see `find_builder`.
        weights: Name or file of its weights.
    """
    builder = registry.find_builder(name)
    shape = (registry.default_shape(builder.name)[0], SIDE, SIDE, 3)
    function = registry.find_family(name).function(builder)
    return function(weights=weights, classes=len(CAMERA_MOTIONS), input_shape=shape)


def make_tests(
    photograph_clips: int, footage_places: int, seed: int, num_frames: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make both sets of clips that accuracy is told of, by what they are called: clips and labels."""
    return {
        "unseen photographs": unseen_photograph_clips(photograph_clips, seed, num_frames=num_frames),
        "moved real footage": moved_footage(footage_places, seed, num_frames),
    }


def predict(model: keras.Model, clips: np.ndarray) -> np.ndarray:
    """Predict the class of every clip, `(clips,)` indices."""
    return class_scores(model, clips, BATCH_SIZE).argmax(-1)


def average_view_scores(model: keras.Model, clips: np.ndarray) -> np.ndarray:
    """Average the scores of the eight views of a clip that rotating and mirroring it gives.

    The motions that a view shows are translated back into those of the clip.

    Args:
        model: A model that gives nine scores for a clip.
        clips: `(clips, frames, side, side, 3)`.

    Returns:
        `(clips, 9)` scores.
    """
    views = []
    for mirrored in (False, True):
        view = clips[:, :, :, ::-1] if mirrored else clips
        motions = [FLIPPED_HORIZONTALLY[motion] if mirrored else motion for motion in CAMERA_MOTIONS]
        for _ in range(4):
            scores = class_scores(model, np.ascontiguousarray(view), BATCH_SIZE)
            views.append(scores[:, [CAMERA_MOTIONS.index(motion) for motion in motions]])
            view, motions = np.rot90(view, axes=(2, 3)), [ROTATED_BY_QUARTER[motion] for motion in motions]
    return np.mean(views, axis=0)


def measure(model: keras.Model, clips: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measure the accuracy of a model, and whether it goes by the order of the frames.

    Args:
        model: A model that gives nine scores for a clip.
        clips: `(clips, frames, side, side, 3)`.
        labels: `(clips,)` indices into `CAMERA_MOTIONS`.

    Returns:
        A dict of figures: `accuracy`, from one view; `eight_views`, the accuracy from eight views together; `reversal`,
        the fraction of clips whose answer becomes its opposite when the frames are reversed; `repeated`, the fraction
        that is called static when the clip is its middle frame, repeated; `confusion`, `(9, 9)` counts with a row for
        each motion and a column for each answer; `right`, `(clips,)` booleans.
    """
    measures = metrics.measure(labels, class_scores(model, clips, BATCH_SIZE))
    answers = measures.answers
    middle = clips.shape[1] // 2
    frozen = np.broadcast_to(clips[:, middle : middle + 1], clips.shape)
    return {
        "accuracy": measures.top1,
        "eight_views": metrics.measure(labels, average_view_scores(model, clips)).top1,
        "reversal": float((predict(model, clips[:, ::-1]) == REVERSED[answers]).mean()),
        "repeated": float((predict(model, np.ascontiguousarray(frozen)) == 0).mean()),
        "confusion": measures.confusion,
        "right": answers == labels,
    }


def percentages(result: dict[str, Any]) -> list[str]:
    """Write the figures of a result of `measure` in percent, in the order of `FIGURES`."""
    return [f"{100 * result[key]:.1f} %" for key in FIGURES]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


@click.command()
@click.option("--model", "name", default=DEFAULT_MODEL, show_default=True, help="Name of the model's builder.")
@click.option("--weights", default="camera_motion", show_default=True, help="Name or file of weights.")
@click.option("--photograph-clips", default=1800, show_default=True, help="Clips from unseen photographs.")
@click.option("--footage-places", default=30, show_default=True, help="Places in each shot to move a window from.")
@click.option("--seed", default=1000, show_default=True, help="Of the clips.")
@click.option("--check", is_flag=True, help="Fail where a figure is below what is promised.")
def main(name: str, weights: str, photograph_clips: int, footage_places: int, seed: int, check: bool) -> None:
    """Print accuracies, confusion matrices and the answer for each real shot."""
    model = load_model(name, weights)
    tests = make_tests(photograph_clips, footage_places, seed, model.input_shape[1])
    results = {name: measure(model, *test) for name, test in tests.items()}
    rows = [[name, len(tests[name][0]), *percentages(result)] for name, result in results.items()]
    click.echo(markdown_table(["", "clips", *FIGURES.values()], rows))
    click.echo("\nAccuracy on each photograph\n")
    photograph = np.arange(photograph_clips) // len(CAMERA_MOTIONS) % len(HELD_OUT)
    right = results["unseen photographs"]["right"]
    accuracies = [f"{100 * right[photograph == index].mean():.1f} %" for index in range(len(HELD_OUT))]
    click.echo(markdown_table([PurePosixPath(name).stem for name in HELD_OUT], [accuracies]))
    for name, result in results.items():
        click.echo(f"\nConfusion on {name} (row: what the camera did, column: the answer)\n")
        cells = [[motion, *counts] for motion, counts in zip(CAMERA_MOTIONS, result["confusion"], strict=True)]
        click.echo(markdown_table(["", *CAMERA_MOTIONS], cells))
    click.echo("\nReal shots as they are\n")
    scores = class_scores(model, np.stack([shot.clip(model.input_shape[1]) for shot in SHOTS]))
    click.echo(markdown_table(*shot_table(scores)))
    failures = [
        f"{name}: {key} {result[key]:.3f} is below {least}"
        for name, result in results.items()
        for key, least in {**PROMISED[name], **PROMISED_EVERYWHERE}.items()
        if result[key] < least
    ]
    if check and failures:
        raise click.ClickException("; ".join(failures))


def shot_table(scores: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Make the header and the rows of a table that sets the answers for the real shots beside what their cameras do.

    Args:
        scores: `(shots, 9)`, in the order of `SHOTS`.
    """
    header = ["shot", "what the camera does", "what a person sees", "answer", "score", ""]
    rows = []
    for shot, score in zip(SHOTS, scores, strict=True):
        answer = CAMERA_MOTIONS[score.argmax()]
        verdict = "right" if answer == shot.motion else "wrong"
        frames = f"{shot.video} {shot.first}-{shot.last - 1}"
        rows.append([frames, shot.motion, shot.account, answer, f"{score.max():.2f}", verdict])
    return header, rows


if __name__ == "__main__":
    main()
