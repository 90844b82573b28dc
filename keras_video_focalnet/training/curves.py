"""The curves of a training run as a picture."""

import io
import os
from collections.abc import Mapping, Sequence

from keras_video_focalnet.utils.files import atomic_write

PANELS = (
    ("loss", "val_loss"),
    ("top1", "val_top1", "average_precision", "val_average_precision"),
    ("learning_rate",),
)


def plot_curves(history: Mapping[str, Sequence[float]], path: str | os.PathLike) -> None:
    """Draw loss, accuracy and learning rate over the epochs of a history, as `train` returns it, to a PNG file."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Curves need matplotlib: pip install 'keras-video-focalnet[train]'.") from error
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        shown = [name for name in names if name in history]
        for name in shown:
            axes.plot(history["epoch"], history[name], marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if shown:
            axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
