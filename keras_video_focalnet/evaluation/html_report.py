"""`report.html`: an evaluation for people, one file with its pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_video_focalnet.data.datasets import VideoRecord
from keras_video_focalnet.evaluation.metrics import Measures
from keras_video_focalnet.evaluation.page import Markup, page, picture, table, tag
from keras_video_focalnet.evaluation.pictures import confusion_picture, key_frames, reliability_picture

_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "ece": "calibration error (ECE)",
}
# As many classes as a page shows the whole matrix of as a picture whose cells can be told apart.
_ALL = 1000


def html_report(report: Mapping[str, Any], measures: Measures, records: Sequence[VideoRecord]) -> str:
    """Make the page of a report.

    Args:
        report: What `report.json` holds.
        measures: The measures that it was made of.
        records: The videos, by the `number` of the report's `worst_errors`; their frames are read.

    Returns:
        The document.
    """
    figures = [
        tag("div", tag("b", f"{value:.3f}" if name == "ece" else percent(value)), _METRICS[name])
        for name, value in report["metrics"].items()
        if value is not None
    ]
    counts = [tag("div", tag("b", report["videos"]["scored"]), "videos")]
    counts += [tag("div", tag("b", count), name) for name, count in report["videos"].items() if count][1:]
    return page(
        f"Evaluation of {report['model']['name']}",
        tag("p", protocol_in_words(report)),
        tag("div", *figures, *counts, class_="figures"),
        *_errors(report, records),
        *_confusion(report, measures),
        *_classes(report),
        *_calibration(report, measures),
        *_list("Videos that cannot be read", report["broken"]),
        *_list("Damaged videos, which were read in spite of it", report["damaged"]),
        *_list("Videos listed twice, which count once", report["duplicates"]),
    )


def percent(fraction: float) -> str:
    """A fraction in words.

    Example:
        >>> percent(0.83604)
        '83.6 %'
    """
    return f"{100 * fraction:.1f} %"


def protocol_in_words(report: Mapping[str, Any]) -> str:
    """How the videos were looked at, and by which model."""
    protocol, model = report["protocol"], report["model"]
    clips, crops = protocol["views"].split("x")
    height, width = protocol["size"]
    how = "spread over each video" if protocol["seed"] is None else f"drawn at random (seed {protocol['seed']})"
    told = "; ".join(f"{name}: {value}" for name, value in model.items() if name != "name")
    return (
        f"{clips} {'clip' if clips == '1' else 'clips'} x {crops} {'crop' if crops == '1' else 'crops'} of a video, "
        f"{protocol['frames']} frames of {height} x {width} pixels each, {how}; scores averaged after the softmax. "
        f"Model: {told}."
    )


def _errors(report, records):
    """The worst errors, with frames of the videos."""
    if not report["worst_errors"]:
        return [tag("h2", "Worst errors"), tag("p", "There is none: every answer is right.")]
    figures = []
    for error in report["worst_errors"]:
        record = records[error["number"]]
        strip = key_frames(record.path, record.start, record.end)
        caption = tag(
            "figcaption",
            tag("b", error["answer"]),
            f" {percent(error['score'])}, but it is ",
            tag("b", error["truth"]),
            f" {percent(error['score_of_truth'])}: {error['video']}",
        )
        shown = Markup() if strip is None else picture(strip, f"frames of {error['video']}", "jpeg")
        figures.append(tag("figure", shown, caption))
    return [
        tag("h2", "Worst errors"),
        tag("p", "The wrong answers that the model prefers to the right ones by most."),
        tag("div", *figures, class_="gallery"),
    ]


def _confusion(report, measures):
    """The matrix and the pairs of classes that are mistaken most often."""
    elements = [tag("h2", "Confusions")]
    if len(report["classes"]) <= _ALL:
        shown = confusion_picture(measures.confusion, report["classes"])
        elements += [
            picture(shown, "confusion matrix, a row for each class and a column for each answer", class_="picture"),
            tag("p", "A row for each class, a column for each answer; the darker, the greater the share of the row."),
        ]
    pairs = report["worst_confusions"]
    if pairs:
        rows = [[pair["truth"], pair["answer"], pair["videos"], ", ".join(pair["files"])] for pair in pairs]
        elements.append(table(["class", "answer", "videos", "such as"], rows))
    return elements


def _classes(report):
    rows = [
        [
            row["class"],
            row["videos"],
            *((row[name], percent(row[name])) for name in ("recall", "precision", "f1")),
        ]
        for row in report["per_class"]
    ]
    return [
        tag("h2", "Classes"),
        tag("p", "Recall is the accuracy on the videos of the class. A click on a head sorts."),
        table(["class", "videos", "recall", "precision", "F1"], rows),
    ]


def _calibration(report, measures):
    rows = [
        [
            f"{one['above']:.2f} to {one['to']:.2f}",
            one["count"],
            (one["confidence"], percent(one["confidence"]) if one["count"] else ""),
            (one["accuracy"], percent(one["accuracy"]) if one["count"] else ""),
        ]
        for one in report["reliability"]
    ]
    return [
        tag("h2", "Calibration"),
        tag("p", "How often the model is right, against its highest score: below the line it is too sure."),
        picture(reliability_picture(measures.reliability), "reliability diagram", class_="picture"),
        table(["highest score", "videos", "mean score", "accuracy"], rows),
    ]


def _list(title, items):
    if not items:
        return []
    columns = list(items[0])
    rows = [[item[name] for name in columns] for item in items]
    return [tag("h2", title), table([column.replace("_", " ") for column in columns], rows)]
