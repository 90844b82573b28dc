"""Which videos are evaluated, and which class each is of, so that labels mean what the model's outputs do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

from keras_video_focalnet.data import splits
from keras_video_focalnet.data.broken import part_name
from keras_video_focalnet.data.datasets import VideoList, VideoRecord, video_list
from keras_video_focalnet.evaluation.views import names_of_classes, number_of_classes
from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.labels.predictions import numbered

# As many names as a message tells.
_NAMED = 5


def labelled_videos(
    model: Any,
    data: VideoList | str | os.PathLike,
    root: str | os.PathLike | None = None,
    split: str | None = None,
    labels: Any = None,
) -> VideoList:
    """Find the labelled videos whose classes are those of a model.

    Args:
        model: A Keras model or an exported file.
        data: A folder with one sub-folder a class, a list file, or a `VideoList`, as `train` takes them.
        root: Folder that the relative paths of a list file begin in; None for the folder that the list file is in.
        split: Of a list with a column `split`, the rows with this value; None takes all.
        labels: Class names in the order of the model's outputs: a data set (`"k400"`), a text file or a list; None, the
            default, takes the model's own. Where it has none, names in `data` are those of the outputs, sorted.

    Returns:
        A `VideoList` with a class for each of the model's outputs. Of classes without names they are numbered.

    Raises:
        FileNotFoundError: `data` does not exist.
        ValueError: A label is none of the model's classes, the classes are not as many, a video has several labels, or
            there is no video.
    """
    classes = number_of_classes(model)
    names = names_of_classes(model) if labels is None else tuple(load_labels(labels))
    if names is not None and len(names) != classes:
        raise ValueError(f"labels has {len(names)} names but the model has {classes} classes; pass one name a class.")
    if isinstance(data, VideoList):
        videos = data
    elif isinstance(data, (str, os.PathLike)):
        videos = video_list(data, root, names, split=split)
    else:
        raise ValueError(f"data must be a folder, a list file or a VideoList, received a {type(data).__name__}.")
    if videos.multi_label:
        raise ValueError("data has several labels a video, and an evaluation needs one; pass videos with one label.")
    found = videos.class_names
    is_numbered = found == tuple(map(str, range(len(found))))
    if is_numbered and len(found) <= classes:
        # A list of integers does not tell that there are further classes.
        return VideoList(videos.records, names or numbered(classes))
    if len(found) != classes:
        raise ValueError(
            f"the model has {classes} classes but the videos have {len(found)} ({_some(found)}); pass a model of these "
            "classes, or labels= with the names of the model's classes."
        )
    if names is not None and found != names:
        raise ValueError(
            f"the model's classes ({_some(names)}) are not those of the videos ({_some(found)}), or in another order; "
            "make the list with class_names=model.labels."
        )
    return videos


def without_duplicates(videos: VideoList) -> tuple[tuple[VideoRecord, ...], list[tuple[str, str]]]:
    """Leave out what is listed twice, which would count twice.

    Returns:
        The records in order, each once; and for each that is left out its name and that of the first of its kind.

    Raises:
        ValueError: One video, or part of one, is listed with two labels.
    """
    first, twice = {}, []
    for record in videos:
        key = splits.real_path(record), record.start, record.end
        known = first.setdefault(key, record)
        if known is record:
            continue
        names = [part_name(one.path, one.start, one.end) for one in (record, known)]
        if known.label != record.label:
            classes = [videos.class_names[one.label] for one in (known, record)]
            raise ValueError(
                f"{names[0]} is listed as {classes[0]!r} and again as {classes[1]!r}; remove the line that is wrong."
            )
        twice.append((names[0], names[1]))
    if twice:
        warnings.warn(
            f"{len(twice)} of {len(videos)} videos are listed more than once and count once: {_some(twice, 0)}.",
            stacklevel=2,
        )
    return tuple(first.values()), twice


def _some(names: Iterable, column: int | None = None) -> str:
    names = [name if column is None else name[column] for name in names]
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
