"""Pictures of a report: the confusion matrix, the reliability diagram and frames of videos."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from keras_video_focalnet.data.clip import Video, read_frames
from keras_video_focalnet.evaluation.metrics import ReliabilityBin
from keras_video_focalnet.evaluation.page import printable

# Beyond these numbers of classes a matrix has no room for counts, and for names.
_MOST_COUNTS, _MOST_NAMES = 12, 40
_SHORT = 24


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draw a confusion matrix, shares of each row, as a PNG.

    Args:
        confusion: Counts of shape `(classes, classes)`, a row for each label and a column for each answer.
        class_names: Names of the classes; they are taken as they are, also with signs that matplotlib would interpret.

    Returns:
        Bytes of the file, the same for the same counts.
    """
    from matplotlib.figure import Figure

    classes = len(class_names)
    side = 4 + min(classes, _MOST_NAMES) * 0.16
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if classes <= _MOST_NAMES:
        names = [shortened(name) for name in class_names]
        axes.set_xticks(range(classes), names, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(classes), names, fontsize=8, parse_math=False)
    if classes <= _MOST_COUNTS:
        for row, column in np.argwhere(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, int(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    return _png(figure)


def reliability_picture(bins: Sequence[ReliabilityBin]) -> bytes:
    """Draw a reliability diagram as a PNG: how often a model is right against how sure it is, and how many videos."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = [one for one in bins if one.count]
    width = bins[0].to - bins[0].above
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    above.bar(
        [(one.above + one.to) / 2 for one in filled],
        [one.accuracy for one in filled],
        width * 0.95,
        alpha=0.4,
        label="accuracy",
    )
    above.plot([one.confidence for one in filled], [one.accuracy for one in filled], marker="o")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.legend(loc="upper left", fontsize=8)
    below.bar([(one.above + one.to) / 2 for one in bins], [one.count for one in bins], width * 0.95, color="grey")
    below.set(xlabel="highest score", ylabel="videos")
    return _png(figure)


def key_frames(
    video: Video, start: float | None = None, end: float | None = None, count: int = 3, short_side: int = 96
) -> bytes | None:
    """Make a strip of frames of a video as a JPEG.

    Args:
        video: As for `read_frames`.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds before which to stop; None for the end.
        count: Integer >= 1, frames side by side, from the middles of equal parts, 3 by default.
        short_side: Integer >= 1, their short side in pixels, 96 by default.

    Returns:
        Bytes of the file; None where the video cannot be read.
    """
    from PIL import Image

    from keras_video_focalnet.data.sampling import sample_frame_indices

    try:
        frames = read_frames(video, lambda total: sample_frame_indices(total, count), start, end, short_side, threads=1)
    except ImportError:
        raise
    except Exception:  # What was readable before may be gone, or damaged by now.
        return None
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    # Of a video that is far wider or higher than it ought to be, less.
    strip.thumbnail((count * short_side * 3, short_side * 3))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=80)
    return data.getvalue()


def shortened(name: str, most: int = _SHORT) -> str:
    """A name that fits on an axis."""
    name = "".join(sign if sign.isprintable() else " " for sign in printable(name))
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _png(figure):
    data = io.BytesIO()
    # Nothing of which version drew it.
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()
