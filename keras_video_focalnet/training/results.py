"""What a run leaves in its folder when it ends: the model of the best epoch, class names, curves and a summary."""

import json
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_video_focalnet.data.batch_source import BatchSource
from keras_video_focalnet.models.classifier import VideoClassifier
from keras_video_focalnet.training.curves import plot_curves
from keras_video_focalnet.training.figures import broken_videos, figures
from keras_video_focalnet.training.losses import AVERAGE_PRECISION, TOP1
from keras_video_focalnet.utils.files import atomic_folder, atomic_write
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata

BEST, MODEL, LABELS, CURVES, SUMMARY = "best.safetensors", "model.keras", "labels.txt", "curves.png", "summary.json"
# The metrics that an epoch is judged by, the first of them that there is.
_JUDGES = (f"val_{TOP1}", f"val_{AVERAGE_PRECISION}", TOP1, AVERAGE_PRECISION)

History = Mapping[str, Sequence[float]]


def judge(history: History) -> str:
    """The name of the metric that decides which epoch is the best."""
    return next((name for name in _JUDGES if name in history), "loss")


def best_epoch(history: History) -> int:
    """Count which epoch, from 1, is the best: the most accurate, of several that of the least loss, or the first."""
    losses, values = history["val_loss" if "val_loss" in history else "loss"], history[judge(history)]
    ranks = [(-loss if judge(history) == "loss" else value, -loss) for value, loss in zip(values, losses, strict=True)]
    return ranks.index(max(ranks)) + 1


def load_best(model: keras.Model, out: str | os.PathLike) -> None:
    """Give a model the weights of a run's best epoch.

    The best epoch is the one with the highest `val_top1`, or without validation `top1`; with several labels a clip,
    with the highest `val_average_precision` or `average_precision`. Among equal ones it is that of the least
    `val_loss`, or `loss`.

    Args:
        model: A model of the architecture that was trained.
        out: The folder of the run.

    Raises:
        FileNotFoundError: No epoch of that run has ended yet.

    Example:
        >>> run = "tests/data/version_0_1_0/run"
        >>> model = VideoFocalNet(2, (1, 1, 1, 1), (2, 1, 1, 1), mlp_ratio=2.0, input_shape=(4, 32, 32, 3), classes=5)
        >>> load_best(model, run)
        >>> model.predict(np.zeros((1, 4, 32, 32, 3)), verbose=0).shape
        (1, 5)
    """
    path = Path(out).expanduser() / BEST
    if not path.is_file():
        raise FileNotFoundError(
            f"out={os.fspath(out)!r} holds no {BEST}: it is not the folder of a run, or no epoch of it has ended; pass "
            "the folder that train wrote to."
        )
    state = read_safetensors(path)
    model.set_weights([state[name] for name in sorted(state)])


def write_results(
    model: keras.Model,
    history: History,
    out: Path,
    sources: Mapping[str, BatchSource | None],
    class_names: Sequence[str] | None,
) -> list[str]:
    """Write what the end of a run leaves, and give the lines that tell of it.

    `sources` has the training and validation batches by these names. What cannot be written of a model of another make,
    or without matplotlib, is warned of: the run itself is complete.
    """
    _write_model(model, out, class_names, bool(getattr(sources["training"], "multi_label", False)))
    names = class_names or getattr(model, "labels", None)
    if names:
        with atomic_write(out / LABELS) as file:
            file.write("".join(f"{name}\n" for name in names).encode())
    try:
        plot_curves(history, out / CURVES)
    except ImportError as error:
        warnings.warn(f"{CURVES} is not drawn: {error}", stacklevel=2)
    summary = _summary(history, out, sources)
    with atomic_write(out / SUMMARY) as file:
        file.write(json.dumps(summary, indent=2).encode())
    best = f"best epoch {summary['best_epoch']} of {summary['epochs']}: {figures(summary['metrics'])}"
    broken = [broken_videos(name, source.broken, out) for name, source in sources.items() if source is not None]
    lines = [best, *filter(None, broken), f"{out}: {', '.join(summary['files'])}"]
    return [*lines, f"try it: {summary['command']}"] if "command" in summary else lines


def _write_model(model, out, class_names, multi_label):
    if isinstance(model, VideoClassifier):
        names = {} if class_names is None else {"labels": class_names}
        best = model.rebuild(classifier_activation="sigmoid" if multi_label else "softmax", **names)
        load_best(best, out)
        _save(best, out)
        return
    trained = model.get_weights()
    try:
        load_best(model, out)
        _save(model, out)
    except Exception as error:  # Layers of a user's own can raise any.
        warnings.warn(
            f"{MODEL} is not written, as the model cannot be saved: {error}; load_best reads its weights.", stacklevel=3
        )
    finally:
        model.set_weights(trained)


def _save(model, out):
    with atomic_folder(out / MODEL) as path:
        model.save(path)


def _summary(history, out, sources):
    about = read_safetensors_metadata(out / BEST)
    # Files of earlier versions do not say which epoch they are of: the last among equally accurate ones.
    values = history[judge(history)]
    epoch = int(about["epoch"]) if "epoch" in about else len(values) - values[::-1].index(max(values))
    names = (MODEL, LABELS, BEST, CURVES, "metrics.csv", "config.json", "broken.csv", "broken_val.csv", "checkpoints")
    files = [name for name in (SUMMARY, *names) if name == SUMMARY or (out / name).exists()]
    summary: dict[str, Any] = {
        "best_epoch": epoch,
        "epochs": len(values),
        "decided_by": judge(history),
        "metrics": {name: values[epoch - 1] for name, values in history.items() if name not in ("epoch", "step")},
        "broken_videos": {name: source.broken.count for name, source in sources.items() if source is not None},
        "files": files,
    }
    if MODEL in files:
        summary["command"] = f"video-focalnet predict --weights {shlex.quote(os.path.abspath(out / MODEL))} VIDEO"
    return summary
