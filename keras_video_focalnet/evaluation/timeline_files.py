"""The files that tell what happens when: CSV, JSON, WebVTT, and the track with a line for each cell."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import typing
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path

from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.utils.files import atomic_write

if typing.TYPE_CHECKING:
    from keras_video_focalnet.evaluation.timeline import Timeline
    from keras_video_focalnet.evaluation.track import Cell, Segment

CSV, JSON, VTT, TRACK, PICTURE = "segments.csv", "segments.json", "chapters.vtt", "track.csv", "timeline.png"
COLUMNS = ("start", "end", "label", "score")
# What a WebVTT parser takes for markup.
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class TimelineFiles:
    """Writes the files of a timeline to a folder, which is made; each takes its name once all of it is written.

    The track is written while cells come, so that it takes no memory. None for the folder writes nothing.

    Raises:
        OSError: The folder cannot be made, or a file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike | None):
        self.folder = None if folder is None else Path(folder).expanduser()
        self._opened = contextlib.ExitStack()
        self._track = None

    def __enter__(self) -> TimelineFiles:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._track = io.TextIOWrapper(
                self._opened.enter_context(atomic_write(self.folder / TRACK)), "utf-8", newline="", errors="replace"
            )
            csv.writer(self._track).writerow(COLUMNS)
        return self

    def __exit__(self, *error: object) -> None:
        if self._track is not None:
            # The file that it wraps is closed by whoever opened it.
            with contextlib.suppress(OSError):
                self._track.detach()
        self._opened.__exit__(*error)

    def add(self, cell: Cell, labels: Iterable[str]) -> None:
        """Write a cell of the track."""
        if self._track is not None:
            csv.writer(self._track).writerow(_row(cell.start, cell.end, labels[cell.index], cell.score))

    def write(self, timeline: Timeline) -> None:
        """Write the segments and the picture, and end the track."""
        if self.folder is None:
            return
        for name, text in ((CSV, as_csv(timeline)), (JSON, as_json(timeline)), (VTT, as_webvtt(timeline))):
            with atomic_write(self.folder / name) as file:
                file.write(text.encode("utf-8", "replace"))
        self._track.flush()
        self._track.detach()
        self._track = None
        self._opened.close()
        try:
            require("A picture of the timeline", "evaluate", "matplotlib")
        except ImportError as error:
            warnings.warn(f"{PICTURE} is not drawn. {error}", stacklevel=3)
            return
        from keras_video_focalnet.evaluation.timeline_picture import draw_timeline

        draw_timeline(timeline, self.folder / PICTURE)


def _row(start, end, label, score):
    return f"{start:.3f}", f"{end:.3f}", label, f"{score:.4f}"


def as_csv(timeline: Timeline) -> str:
    """The segments as a table `start,end,label,score`, times in seconds."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(_row(*dataclasses.astuple(segment)) for segment in timeline.segments)
    return text.getvalue()


def as_json(timeline: Timeline) -> str:
    """The segments, and how they were found, as JSON."""
    return json.dumps(as_dict(timeline), indent=1, allow_nan=False) + "\n"


def as_dict(timeline: Timeline) -> dict[str, typing.Any]:
    """The segments, and how they were found, as a dict that JSON takes: times in seconds, rounded to milliseconds."""
    told = {name: getattr(timeline, name) for name in ("video", "model", "complete")}
    times = {name: round(getattr(timeline, name), 3) for name in ("start", "end", "window", "stride", "penalty")}
    return {**told, **times, "segments": [segment_dict(segment) for segment in timeline.segments]}


def segment_dict(segment: Segment) -> dict[str, typing.Any]:
    """A segment as a dict that JSON takes."""
    start, end = round(segment.start, 3), round(segment.end, 3)
    return {"start": start, "end": end, "label": segment.label, "score": round(segment.score, 4)}


def as_webvtt(timeline: Timeline) -> str:
    """The segments as chapters of a WebVTT file, which players and editors show."""
    parts = ["WEBVTT"]
    for number, segment in enumerate(timeline.segments, start=1):
        title = f"{cue_text(segment.label)} ({segment.score:.2f})"
        parts.append(f"{number}\n{_vtt_time(segment.start)} --> {_vtt_time(segment.end)}\n{title}")
    return "\n\n".join(parts) + "\n"


def cue_text(name: str) -> str:
    """A name as the text of a WebVTT cue: one line, in which nothing is markup.

    Example:
        >>> cue_text("<b>cut & paste</b>")
        '&lt;b&gt;cut &amp; paste&lt;/b&gt;'
    """
    # Line breaks would end the cue; other control characters are of no use to a reader.
    line = "".join(" " if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in name)
    return re.sub("[&<>]", lambda found: _ESCAPES[found[0]], line).strip() or "-"


def _vtt_time(seconds):
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
