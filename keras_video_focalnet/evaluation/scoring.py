"""`score_videos`: the scores or features of every video of a library, as one table."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.data.library import LibraryVideo, Videos, library_videos
from keras_video_focalnet.evaluation.library_job import interruptible, local_engine, run_job, workers_or_cores
from keras_video_focalnet.evaluation.parts import Parts
from keras_video_focalnet.evaluation.predictions import default_names, numbered
from keras_video_focalnet.evaluation.reading import ReadViews
from keras_video_focalnet.evaluation.scorer import PackedModel, Scorer, fingerprint
from keras_video_focalnet.evaluation.views import Views, names_of_classes
from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.utils.checks import check_integer

# Bytes of pixels that a worker process hands over at a time.
_HANDED_OVER = 16 << 20


@dataclasses.dataclass(frozen=True)
class LibraryReport:
    """What became of a library of videos.

    Attributes:
        out: The table that was written.
        videos: Number of videos in it.
        broken: Dict from the name of each video that could not be read to the reason.
        damaged: Dict from the name of each video that was read in spite of damage to what was lost.
    """

    out: Path
    videos: int
    broken: dict[str, str]
    damaged: dict[str, str]

    @property
    def done(self) -> int:
        """How many videos were read."""
        return self.videos - len(self.broken)


def score_videos(
    videos: Videos,
    model: Any,
    out: str | os.PathLike,
    csv: bool = False,
    views: Views | str | Sequence[int] = "1x1",
    features: bool = False,
    top: int | None = None,
    labels: Sequence[str] | str | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    address: str | None = None,
    models: int | None = None,
    root: str | os.PathLike | None = None,
    multi_label: bool = False,
    split: str | None = None,
    seed: int | None = None,
    progress: bool | None = None,
) -> LibraryReport:
    """Score every video of a library, or compute its features, and write one table.

    The table is a Parquet file in the order of the library, with one row a video: `path`, `start`, `end` (seconds, of
    a part of a video), `label` (what its list or folder says), `prediction` (name of the class with the highest score),
    `score` (that score), `scores` (of all classes), `damaged` (what was lost of a video that was read in spite of it)
    and `broken` (why a video could not be read; it has no scores). With `features=True` the column `features` stands in
    the place of `prediction`, `score` and `scores`. Bytes of a path that are no UTF-8 are written as escapes.

    While the job runs, its results lie in parts in the folder `OUT.parts`. A job that was interrupted, killed or ran
    into a full disk goes on where it was when it is called again, and the table is as if nothing had happened. A job
    with another model, views or videos than the one that began is refused.

    Videos are read by worker processes and computed by this one. Over Ray (`address`) workers and several copies of the
    model run on all machines of a cluster: they need this package, and see the videos under the same paths.

    Args:
        videos: A folder, a list file, a `VideoList`, or a sequence of paths, see `docs/score.md`.
        model: A Keras model of clips, such as a `VideoClassifier`, or what `load_exported` gives.
        out: The Parquet file to write; a name that ends in `.csv` is refused.
        csv: Whether to write the same as CSV beside it, with one column a class, False by default.
        views: Clips x crops of each video, such as `"4x3"`; one clip and one crop by default. Scores are averaged.
        features: Whether to write what the classifier reads instead of scores, False by default.
        top: Integer >= 1: write the names and scores of the `top` highest classes, `top_labels` and `top_scores`,
            instead of `scores`. None writes all. Not with `features`.
        labels: Names of the classes, or the name of a data set or a file with them; None for those of the model.
        batch_size: Integer >= 1, clips that a model takes at once, 8 by default.
        workers: Integer >= 0, processes that read videos, on Ray the processors of this machine; None for one a core.
            Without Ray, 0 reads in this process.
        address: None for worker processes of this program; `"local"` for Ray on this machine; or the address of a
            running Ray cluster, `"auto"` for that of the environment.
        models: Integer >= 1, copies of the model on Ray; None for one a GPU, or where there is none, one for two
            processors.
        root: Folder that the relative paths of a list file begin in; None for the folder of the list file.
        multi_label: Whether a video of a list file can have several labels, False by default.
        split: Of a list file with a column `split`, take the rows with this value; None takes all.
        seed: Integer >= 0: frames are drawn at random as the reference does, for each video the same each time. None,
            the default, takes the frames that the views cover evenly.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        A `LibraryReport`.

    Raises:
        FileNotFoundError: `videos` does not exist.
        ValueError: There is no video, an argument is out of its range, the model gives no scores or no features, or
            `out` or its parts are of another job.
        ImportError: pyarrow, Grain or Ray is not installed; the message names the extra.
        OSError: The disk is full, or `out` cannot be written; what is done is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what is done is kept.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> report = score_videos(["bikes.mp4"], model, "scores.parquet", workers=0)
        >>> report.done, report.broken
        (1, {})
        >>> import pandas
        >>> pandas.read_parquet("scores.parquet")["prediction"].tolist()
        ['tilt down']
    """
    views = Views.parse(views)
    if Path(out).suffix.lower() == ".csv":
        raise ValueError(
            f"out={str(out)!r} is the name of the CSV, and out is the table; pass a name such as "
            f"{str(Path(out).with_suffix('.parquet'))!r}, and csv=True for the CSV beside it."
        )
    if features and top is not None:
        raise ValueError(f"top={top} is of scores; leave it out with features=True.")
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    found = library_videos(videos, root, multi_label, split)
    workers = workers_or_cores(workers)
    models = None if models is None else check_integer("models", models, minimum=1)
    # As many videos as fill a batch, and as many batches as their views take.
    group = max(1, batch_size // views.count)
    batch = -(-group * views.count // -(-group * views.count // batch_size))
    scorer = Scorer(model, batch, features)
    names = None if features else _class_names(model, scorer.width, labels)
    if top is not None:
        top = check_integer("top", top, minimum=1, maximum=scorer.width, remedy="pass None for all classes")
    table = _Table(found, scorer.width, names, top)
    rule = clip_rule(model)
    config = {
        "videos": describe(found),
        "model": model.name,
        "weights": fingerprint(model),
        "frames": rule.num_frames,
        "size": list(rule.size),
        **rule.resize_rule,
        "views": str(views),
        "seed": seed,
        "features": features,
        "top": top,
        "labels": names and _digest(names),
    }
    read = ReadViews(found, rule, views, seed)
    size = int(np.prod(read.shape))
    about = {"classes": names, "columns": table.columns}
    with (
        Parts(out, table.schema(), config, about, len(found)) as parts,
        interruptible(parts),
        contextlib.ExitStack() as stack,
    ):
        if parts.missing():
            if address is None:
                chunk, engine = max(1, min(group, _HANDED_OVER // size)), local_engine(read, scorer, group, workers)
            else:
                from keras_video_focalnet.evaluation.on_ray import ray_cluster, ray_engine

                stack.enter_context(ray_cluster(address, max(1, workers), group * size))
                chunk, packed = group, PackedModel.pack(model)
                engine = ray_engine(read, packed, models, batch=batch, features=features)
            run_job(parts, engine, chunk, table.row, "features" if features else "scores", progress)
        parts.finish(csv=Path(out).with_suffix(".csv") if csv else None)
    return report_of(out)


def _class_names(model, width, labels):
    """The names of the classes: those that are given, the model's, those of a data set of as many, or numbers."""
    names = names_of_classes(model) if labels is None else load_labels(labels)
    if names is None:
        names = default_names(width) or numbered(width)
    if len(names) != width:
        raise ValueError(f"labels has {len(names)} names but the model has {width} classes; pass one name a class.")
    return list(names)


def describe(videos: Sequence[LibraryVideo]) -> str:
    """A library in a few words that differ where the library does."""
    return f"{len(videos)} videos, {_digest([dataclasses.astuple(video) for video in videos])}"


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def readable(path: str) -> str:
    """A path as text; bytes that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Table:
    """The columns of a table of scores, or without names of classes of features, and its rows."""

    def __init__(self, videos, width, names, top):
        self._videos, self._names, self._top = videos, names, top
        # Of a column that is a list, the columns of the CSV file.
        if names is None:
            self.columns = {"features": [f"feature_{index}" for index in range(width)]}
        elif top is None:
            self.columns = {"scores": names}
        else:
            places = range(1, top + 1)
            self.columns = {
                "top_labels": [f"label_{place}" for place in places],
                "top_scores": [f"score_{place}" for place in places],
            }

    def schema(self):
        from keras_video_focalnet.utils.extras import require

        require("A table of videos", "score", "pyarrow")
        import pyarrow as pa

        fields = [("path", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())]
        if self._names is not None:
            fields += [("prediction", pa.string()), ("score", pa.float32())]
        for name in self.columns:
            fields.append((name, pa.list_(pa.string() if name == "top_labels" else pa.float32())))
        return pa.schema([*fields, ("damaged", pa.string()), ("broken", pa.string())])

    def row(self, number, values, about):
        """The row of a video."""
        row = video_row(self._videos[number], about)
        if values is None:
            return row
        if self._names is None:
            return {**row, "features": values}
        order = np.argsort(-values, kind="stable")[: self._top or 1]
        row |= {"prediction": self._names[order[0]], "score": values[order[0]]}
        if self._top is None:
            return {**row, "scores": values}
        return {**row, "top_labels": [self._names[index] for index in order], "top_scores": values[order]}


def video_row(video: LibraryVideo, about: dict[str, Any]) -> dict[str, Any]:
    """What every table says of a video."""
    return {
        "path": readable(video.path),
        "start": video.start,
        "end": video.end,
        "label": video.label,
        "damaged": about.get("damaged"),
        "broken": about.get("broken") and readable(about["broken"]),
    }


def report_of(out: str | os.PathLike) -> LibraryReport:
    """The report of a table that is written."""
    import pyarrow.parquet as pq

    from keras_video_focalnet.data.broken import part_name

    count, broken, damaged = 0, {}, {}
    with pq.ParquetFile(out) as table:
        for batch in table.iter_batches(columns=["path", "start", "end", "damaged", "broken"]):
            count += len(batch)
            told = batch.filter(_is_told(batch))
            for row in told.to_pylist():
                name = part_name(row["path"], row["start"], row["end"])
                if row["broken"] is not None:
                    broken[name] = row["broken"]
                if row["damaged"] is not None:
                    damaged[name] = row["damaged"]
    return LibraryReport(Path(out), count, broken, damaged)


def _is_told(batch):
    import pyarrow.compute as pc

    return pc.or_(pc.is_valid(batch["damaged"]), pc.is_valid(batch["broken"]))
