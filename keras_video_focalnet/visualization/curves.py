"""The curves of a training run as a picture."""

import io

from keras_video_focalnet.weights.files import atomic_write

PANELS = (("loss", "val_loss"), ("top1", "val_top1"), ("learning_rate",))


def plot_curves(history, path):
    """Draw loss, accuracy and learning rate over the epochs.

    Args:
        history: dict of lists, one value an epoch, as `train` returns it.
        path: PNG file to write, replaced in one step.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
    >>> plot_curves({"epoch": [1, 2], "loss": [2.0, 1.5], "val_top1": [0.3, 0.5]}, "curves.png")
    """
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
