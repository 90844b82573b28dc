"""`evaluate_videos`: how good a model is on labelled videos, over any number of views, and resumed where it stopped."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.data.broken import failure_reason
from keras_video_focalnet.data.clip_rule import ClipRule, clip_rule
from keras_video_focalnet.data.damage import damage_told
from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.evaluation.ledger import Ledger, Row, ledger_of
from keras_video_focalnet.evaluation.report import Evaluated, make_report, write_report
from keras_video_focalnet.evaluation.scorer import fingerprint
from keras_video_focalnet.evaluation.videos import labelled_videos, without_duplicates
from keras_video_focalnet.evaluation.views import Views, class_scores, number_of_classes, read_views
from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.utils.progress import Progress

# Groups of videos that are read ahead of the one that the model scores.
_AHEAD = 2


def evaluate_videos(
    model: Any,
    data: VideoList | str | os.PathLike,
    views: Views | str | Sequence[int] = "1x1",
    out: str | os.PathLike | None = None,
    *,
    seed: int | None = None,
    root: str | os.PathLike | None = None,
    split: str | None = None,
    labels: Any = None,
    resume: bool = False,
    batch_size: int = 8,
    workers: int = 2,
    progress: bool | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a model on labelled videos, as the paper does it or with a single view.

    Each video is opened once, and its scores are the mean over its views (`read_views`, `score_views`). A video that
    cannot be read is left out and named in the report; so is one that is listed twice. With `out`, what was scored is
    on the disk before the next videos are: an evaluation that was stopped or killed is resumed without repeating a
    video, and its report is that of one that was not, byte for byte.

    Args:
        model: A Keras model that gives one number a class, or an exported file (`load_exported`).
        data: A folder with one sub-folder a class, a list file (see `video_list`), or a `VideoList`, with one label a
            video.
        views: `Views`, a text such as `"4x3"` (clips x crops) or a pair; by default one clip and one crop.
        out: Folder for `report.json`, `report.html`, `predictions.parquet` and `scores.sqlite`, from which it is
            resumed; it is made where there is none. None, the default, writes nothing.
        seed: Integer >= 0: frames are drawn at random, as the reference does. None, the default, takes the same frames
            each time.
        root: Folder that the relative paths of a list file begin in; None for the folder that the list file is in.
        split: Of a list with a column `split`, the rows with this value; None takes all.
        labels: Class names in the order of the model's outputs; None takes the model's own.
        resume: Whether to go on with the evaluation in `out`, False by default. Where there is none it is begun.
        batch_size: Integer >= 1, clips that the model is given at once, 8 by default, but no less than one video's.
        workers: Integer >= 1, threads that read videos, 2 by default.
        progress: Whether to show a bar; None, the default, shows it on a terminal.
        about: What else the report shall tell of the model, by name, as it is. None for nothing.

    Returns:
        What `report.json` holds, a dict: `model`, `protocol`, `videos` (how many), `metrics` (`top1`, `top5` or None,
        `mean_class_accuracy`, `ece`), `classes`, `per_class`, `confusion`, `worst_confusions`, `worst_errors`,
        `reliability`, `broken`, `damaged`, `duplicates`.

    Raises:
        FileExistsError: `out` holds an evaluation and `resume` is False.
        FileNotFoundError: `data` does not exist.
        ImportError: A package of the extra `evaluate` is not installed.
        OSError: `out` cannot be written; what was scored before is kept.
        ValueError: The classes of model and videos differ, a label is none of them, a video is listed with two labels,
            no video can be read, the scores are not finite, or the evaluation in `out` is another one.

    Example:
        >>> videos = VideoList([VideoRecord("bikes.mp4", 4)], load_labels("camera_motion"))
        >>> report = evaluate_videos(VideoFocalNetNano(), videos, "2x3")
        >>> report["protocol"]["views"], 0 <= report["metrics"]["top1"] <= 1
        ('2x3', True)
    """
    require("An evaluation", "evaluate", "sklearn", *(() if out is None else ("pyarrow", "matplotlib")))
    out = None if out is None else Path(os.path.expanduser(out))
    views = Views.parse(views)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    workers = check_integer("workers", workers, minimum=1)
    if seed is not None:
        seed = check_integer("seed", seed, minimum=0, remedy="pass None for frames that are the same each time")
    videos = labelled_videos(model, data, root, split, labels)
    records, duplicates = without_duplicates(videos)
    rule = clip_rule(model)
    protocol = {
        "views": str(views),
        "frames": rule.num_frames,
        "size": list(rule.size),
        "sampling": "spread" if seed is None else "random",
        "seed": seed,
    }
    settings = {
        "the protocol": {**protocol, **rule.resize_rule},
        "the model": f"{model.name} {fingerprint(model)}",
        "the list of videos": _digest([[r.path, r.label, r.start, r.end] for r in records]),
        "the list of classes": _digest(videos.class_names),
    }
    with _opened(out, settings, resume) as ledger:
        missing = sorted(set(range(len(records))) - ledger.done())
        with Progress(len(records), title="evaluate", done=len(records) - len(missing), show=progress) as bar:
            for rows in _scored(model, records, missing, rule, views, seed, batch_size, workers):
                ledger.add(rows)
                bar.advance(len(rows))
        rows = ledger.rows()
    model_told = {"name": model.name, "classes": number_of_classes(model), **(about or {})}
    if all(row.reason is not None for row in rows):
        # What is recorded in a folder is not read again.
        hint = "" if out is None else "; once they can, begin anew with another out"
        raise ValueError(f"none of the {len(rows)} videos can be read{hint}: {rows[0].reason}")
    evaluated = Evaluated(records, videos.class_names, rows, duplicates, protocol, model_told)
    report, measures = make_report(evaluated)
    if out is not None:
        write_report(out, evaluated, report, measures)
    return report


@contextlib.contextmanager
def _opened(out, settings, resume):
    """The ledger of the evaluation in a folder."""
    if out is None:
        with Ledger(None, settings) as ledger:
            yield ledger
        return
    if ledger_of(out).exists() and not resume:
        raise FileExistsError(
            f"{out} holds an evaluation; pass resume=True (--resume) to go on with it, or another out."
        )
    out.mkdir(parents=True, exist_ok=True)
    with Ledger(ledger_of(out), settings) as ledger:
        yield ledger


def _scored(model, records, numbers, rule, views, seed, batch_size, workers) -> Iterator[list[Row]]:
    """The rows of the videos with these numbers, a group at a time; further groups are read meanwhile.

    A group is of fixed places in the list: what the model is given at once, which rounding depends on, is the same
    after a resume.
    """
    size = max(batch_size // views.count, 1)
    groups = collections.defaultdict(list)
    for number in numbers:
        groups[number // size].append(number)
    # A thread reads videos side by side with others, so it decodes alone.
    reader = ClipRule(rule.num_frames, rule.size, rule.crop_fraction, rule.interpolation)
    with concurrent.futures.ThreadPoolExecutor(workers, "read") as pool:
        waiting, coming = collections.deque(), iter(groups.values())
        try:
            while True:
                while len(waiting) < _AHEAD + workers // size + 1 and (group := next(coming, None)) is not None:
                    tasks = [pool.submit(_read, records[number], number, reader, views, seed) for number in group]
                    waiting.append((group, tasks))
                if not waiting:
                    return
                group, tasks = waiting.popleft()
                read = [task.result() for task in tasks]
                del tasks
                yield _rows(model, records, group, read, size, rule, views, batch_size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(record: VideoRecord, number, rule, views, seed):
    """The views of a video or None, why it could not be read or None, and what of it was damaged or None."""
    draw = None if seed is None else (seed, number)
    try:
        clips = read_views(record.path, rule, views, draw, record.start, record.end, threads=1)
    except ImportError:
        raise
    except Exception as error:  # A damaged video can bring up any, down to a lack of memory.
        return None, failure_reason(record.path, error), None
    return clips, None, damage_told(record.path)


def _rows(model, records, numbers, read, size, rule, views, batch_size):
    """Score the videos of a group together; its shape is always the same, so that nothing is compiled twice."""
    whole = np.zeros((size, views.count, rule.num_frames, *rule.size, 3), np.uint8)
    places = [number % size for number in numbers]
    for place, (clips, _, _) in zip(places, read, strict=True):
        if clips is not None:
            whole[place] = clips
    scores = None
    if any(clips is not None for clips, _, _ in read):
        scores = class_scores(model, whole.reshape(-1, *whole.shape[2:]), batch_size)
        scores = scores.reshape(size, views.count, -1).mean(axis=1).astype(np.float32)
    rows = []
    for number, place, (clips, reason, damage) in zip(numbers, places, read, strict=True):
        if clips is not None and not np.isfinite(scores[place]).all():
            raise ValueError(
                f"the model gives scores of {records[number].path} that are NaN or infinite; compute in float32, and "
                "check the weights."
            )
        rows.append(Row(number, None if clips is None else scores[place], reason, damage))
    return rows


def _digest(value):
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
