"""The figures of a run as people read them: with units and two or three digits."""

from collections.abc import Mapping
from pathlib import Path

from keras_video_focalnet.data.broken import NAMED, BrokenVideos

# How metrics are called and written; `{:.3g}` under their own name where they are not here.
_PERCENT = "{:.1%}"
_FORMATS = {
    "top1": ("accuracy", _PERCENT),
    "top5": ("top-5", _PERCENT),
    "average_precision": ("average precision", _PERCENT),
    "roc_auc": ("area under ROC", _PERCENT),
    "learning_rate": ("learning rate", "{:.2g}"),
    "data_wait_share": ("waiting for data", "{:.0%}"),
}
BROKEN_FILES = {"training": "broken.csv", "validation": "broken_val.csv"}


def figures(row: Mapping[str, float]) -> str:
    """The metrics of an epoch or a step in one line."""
    return "  ".join(_figure(name, value) for name, value in row.items())


def _figure(name, value):
    if name == "clips_per_second":
        return f"{_digits(value)} clips/s"
    plain = name.removeprefix("val_")
    title, form = _FORMATS.get(plain, (plain.replace("_", " "), None))
    return f"{'val ' * (plain != name)}{title} {form.format(value) if form else _digits(value)}"


def _digits(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def broken_videos(name: str, broken: BrokenVideos, out: Path) -> str:
    """How many videos of the training or the validation cannot be read, the first of them, and where the list is."""
    if not broken.count:
        return ""
    # What would help follows a semicolon, and is in the list.
    some = "; ".join(reason.partition(";")[0] for reason in list(broken.videos.values())[:NAMED])
    more = "; ..." if broken.count > NAMED else ""
    videos = "video" if broken.count == 1 else "videos"
    return f"{broken.count} {name} {videos} cannot be read ({some}{more}); the list is {out / BROKEN_FILES[name]}"
