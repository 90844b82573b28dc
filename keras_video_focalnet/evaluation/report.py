"""What an evaluation says: `report.json`, `predictions.parquet` and `report.html`. Equal scores give equal bytes."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.data.broken import part_name
from keras_video_focalnet.data.datasets import VideoRecord
from keras_video_focalnet.evaluation.html_report import html_report
from keras_video_focalnet.evaluation.ledger import Row
from keras_video_focalnet.evaluation.metrics import Measures, measure, worst_confusions
from keras_video_focalnet.evaluation.page import printable
from keras_video_focalnet.utils.files import atomic_write

JSON, HTML, PREDICTIONS = "report.json", "report.html", "predictions.parquet"
VERSION = 1

# How many of the worst errors, of the pairs of classes that are mistaken, and of the files of such a pair are named.
_ERRORS, _PAIRS, _FILES = 24, 20, 5
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """All that a report is made of.

    Attributes:
        records: The videos, each once.
        class_names: Names of the classes.
        rows: A `Row` for each video, in order.
        duplicates: For each video that was left out its name and that of the one that it is the same as.
        protocol: Views, frames, size and sampling, by name.
        model: What is told of the model, by name.
    """

    records: Sequence[VideoRecord]
    class_names: Sequence[str]
    rows: Sequence[Row]
    duplicates: Sequence[tuple[str, str]]
    protocol: Mapping[str, Any]
    model: Mapping[str, Any]

    def name(self, number: int) -> str:
        """What a video is called."""
        record = self.records[number]
        return part_name(record.path, record.start, record.end)

    @property
    def scored(self) -> list[Row]:
        """The rows of the videos that could be read."""
        return [row for row in self.rows if row.scores is not None]


def make_report(evaluated: Evaluated) -> tuple[dict[str, Any], Measures]:
    """Measure what was scored, of one video at least.

    Returns:
        What `report.json` holds, see `evaluate_videos`, and the measures.
    """
    scored, names = evaluated.scored, evaluated.class_names
    broken = [{"video": evaluated.name(row.number), "reason": row.reason} for row in evaluated.rows if row.reason]
    labels = np.array([evaluated.records[row.number].label for row in scored])
    scores = np.stack([row.scores for row in scored])
    measures = measure(labels, scores)
    damaged = _damaged(evaluated)
    report = {
        "version": VERSION,
        "model": dict(evaluated.model),
        "protocol": dict(evaluated.protocol),
        "videos": {
            "scored": len(scored),
            "broken": len(broken),
            "damaged": len(damaged),
            "duplicates": len(evaluated.duplicates),
        },
        "metrics": {
            name: None if getattr(measures, name) is None else round(getattr(measures, name), _DIGITS)
            for name in ("top1", "top5", "mean_class_accuracy", "ece")
        },
        "classes": list(names),
        "per_class": [
            {
                "class": name,
                "videos": int(measures.support[index]),
                "precision": round(float(measures.precision[index]), _DIGITS),
                "recall": round(float(measures.recall[index]), _DIGITS),
                "f1": round(float(measures.f1[index]), _DIGITS),
            }
            for index, name in enumerate(names)
        ],
        "confusion": measures.confusion.tolist(),
        "worst_confusions": _confusions(evaluated, measures, labels, scores),
        "worst_errors": _errors(evaluated, measures, labels, scores),
        "reliability": [_rounded(dataclasses.asdict(one)) for one in measures.reliability],
        "broken": broken,
        "damaged": damaged,
        "duplicates": [{"video": video, "same_as": first} for video, first in evaluated.duplicates],
    }
    return report, measures


def _rounded(values):
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in values.items()}


def _damaged(evaluated):
    """What was lost of each damaged file.

    Of a file that is listed in parts, the first part that meets damage tells of it for all, and which is the first
    depends on chance: so of such a file no more is told than that it is damaged.
    """
    parts = collections.Counter(record.path for record in evaluated.records)
    found = {}
    for row in evaluated.rows:
        path = evaluated.records[row.number].path
        if row.damage:
            found[path] = row.damage if parts[path] == 1 else f"is damaged, in one of its {parts[path]} parts or more."
    return [{"video": path, "damage": damage} for path, damage in found.items()]


def _confusions(evaluated, measures, labels, scores):
    """The pairs of classes that are mistaken most often, with the videos that are mistaken most surely."""
    found = []
    for label, answer, count in worst_confusions(measures.confusion, _PAIRS):
        places = np.flatnonzero((labels == label) & (measures.answers == answer))
        places = places[np.argsort(-scores[places, answer], kind="stable")][:_FILES]
        found.append(
            {
                "truth": evaluated.class_names[label],
                "answer": evaluated.class_names[answer],
                "videos": count,
                "files": [evaluated.name(evaluated.scored[place].number) for place in places],
            }
        )
    return found


def _errors(evaluated, measures, labels, scores):
    """The wrong answers that are preferred to the right ones by most."""
    rows = np.arange(len(labels))
    given, right = scores[rows, measures.answers], scores[rows, labels]
    wrong = np.flatnonzero(measures.answers != labels)
    wrong = wrong[np.argsort(-(given - right)[wrong], kind="stable")][:_ERRORS]
    scored = evaluated.scored
    return [
        {
            "number": scored[place].number,
            "video": evaluated.name(scored[place].number),
            "truth": evaluated.class_names[labels[place]],
            "answer": evaluated.class_names[measures.answers[place]],
            "score": round(float(given[place]), _DIGITS),
            "score_of_truth": round(float(right[place]), _DIGITS),
        }
        for place in wrong
    ]


def write_report(out: Path, evaluated: Evaluated, report: Mapping[str, Any], measures: Measures) -> None:
    """Write the three files, each completely or not at all.

    Raises:
        OSError: They cannot be written; a file that was there is as it was.
    """
    page = html_report(report, measures, evaluated.records)
    with atomic_write(out / PREDICTIONS) as file:
        _write_predictions(file, evaluated)
    with atomic_write(out / HTML) as file:
        file.write(page.encode())
    with atomic_write(out / JSON) as file:
        file.write((json.dumps(report, indent=1, allow_nan=False) + "\n").encode())


def _write_predictions(file, evaluated):
    """A row for each video: what it is, the answer and all scores; nothing but the reason where it cannot be read."""
    import pyarrow
    from pyarrow import parquet

    names, records, rows = evaluated.class_names, evaluated.records, evaluated.rows
    answers = [None if row.scores is None else int(row.scores.argmax()) for row in rows]
    named = [printable(name) for name in names]
    columns = {
        "video": pyarrow.array([printable(record.path) for record in records], pyarrow.string()),
        "start": pyarrow.array([record.start for record in records], pyarrow.float64()),
        "end": pyarrow.array([record.end for record in records], pyarrow.float64()),
        "label": pyarrow.array([record.label for record in records], pyarrow.int64()),
        "label_name": pyarrow.array([named[record.label] for record in records], pyarrow.string()),
        "answer": pyarrow.array(answers, pyarrow.int64()),
        "answer_name": pyarrow.array([None if a is None else named[a] for a in answers], pyarrow.string()),
        "score": pyarrow.array(
            [None if row.scores is None else float(row.scores.max()) for row in rows], pyarrow.float32()
        ),
        "scores": pyarrow.array(
            [None if row.scores is None else row.scores for row in rows], pyarrow.list_(pyarrow.float32(), len(names))
        ),
        "broken": pyarrow.array([row.reason and printable(row.reason) for row in rows], pyarrow.string()),
        "damage": pyarrow.array([row.damage and printable(row.damage) for row in rows], pyarrow.string()),
    }
    parquet.write_table(pyarrow.table(columns), file)
