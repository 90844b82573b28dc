"""What happens when: a window slides over a video, and its scores become a class track and segments."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.data.clip import Video, resize_and_crop
from keras_video_focalnet.data.clip_rule import clip_rule
from keras_video_focalnet.data.timed_frames import TimedFrames, timed_frames
from keras_video_focalnet.evaluation.overview import Columns, Pictures
from keras_video_focalnet.evaluation.sliding import SlidingWindows
from keras_video_focalnet.evaluation.timeline_files import TimelineFiles
from keras_video_focalnet.evaluation.track import Cell, Segment, Segments, Track
from keras_video_focalnet.evaluation.views import class_scores, names_of_classes, number_of_classes
from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.labels.predictions import default_names, numbered
from keras_video_focalnet.utils.checks import check_choice, check_integer, check_number
from keras_video_focalnet.utils.progress import Progress

UNITS = ("seconds", "frames")
FRAMES_A_SECOND = 8
"""By default a window spans so many of a clip's frames a second: one second for eight frames."""
PENALTY = 3.0
"""What a switch of class costs by default, in units of the logarithm of one window's score."""
BATCH = 8
MOST_OVERLAP = 256
"""How many strides a window may span."""


class TimelineInterrupted(KeyboardInterrupt):
    """The user interrupted `timeline`; its attribute `timeline` is the `Timeline` of what was seen until then."""

    def __init__(self, timeline: Timeline):
        super().__init__(f"interrupted after {timeline.end - timeline.start:.1f} seconds of {timeline.video}")
        self.timeline = timeline


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What happens when in a video.

    Attributes:
        segments: Tuple of `Segment`, in order and without gaps.
        start: Seconds at which it begins.
        end: Seconds at which it ends: of the video, or of what was seen of it.
        complete: Whether the video was seen to its end.
        video: What the video is called.
        model: Name of the model.
        labels: Tuple of the names of all classes.
        window: Seconds of a window.
        stride: Seconds from one window to the next.
        penalty: What a switch of class costs.
        columns: `Columns` of scores, to be drawn.
        pictures: `Pictures`, to be drawn.
    """

    segments: tuple[Segment, ...]
    start: float
    end: float
    complete: bool
    video: str
    model: str
    labels: tuple[str, ...]
    window: float
    stride: float
    penalty: float
    columns: Columns = dataclasses.field(repr=False, compare=False)
    pictures: Pictures = dataclasses.field(repr=False, compare=False)


def timeline(
    model: Any,
    video: Video | TimedFrames,
    window: float | None = None,
    stride: float | None = None,
    unit: str = "seconds",
    penalty: float = PENALTY,
    start: float | None = None,
    end: float | None = None,
    labels: Sequence[str] | str | None = None,
    out: str | os.PathLike | None = None,
    batch_size: int = BATCH,
    threads: int | None = None,
    fps: float | None = None,
    on_segment: Callable[[Segment], Any] | None = None,
    progress: bool | None = False,
) -> Timeline:
    """Find what happens when in a video of any length.

    A window slides over the video, and the model scores each as a clip: the frames on screen in the middles of equal
    segments of the window, resized and cropped as the model takes them. Each frame is decoded once, and memory does not
    grow with the video.

    **The track.** Time is divided into cells of a stride. A cell's scores are the mean of those of the windows that
    cover it, weighted by how much of it they cover. The track is the path of classes with the largest sum of the
    logarithms of its scores (a score below 0.01 counts as 0.01), less `penalty` for each switch: the Viterbi algorithm.
    Windows that overlap count together as one: the logarithms are multiplied by stride / window. So with the default
    penalty of 3 a class that windows are sure of needs about a window for a segment, and somewhat more between two
    stretches of one class. What windows say that see the end of one thing and the beginning of the next seldom becomes
    a segment of its own. Cells of one class that follow one another are a segment, whose score is the mean score of its
    class.

    Args:
        model: Any Keras model of clips, or what `load_exported` gives.
        video: A file, a folder of frames, a stream, a `VideoReader` or frames in memory, see `read_clip`.
        window: Length of the window in `unit`, above 0; None for one eighth of a second for each frame of the model's
            clips. A model that was trained on whole videos, such as the ten seconds of Kinetics, wants as much here.
        stride: From the beginning of a window to that of the next in `unit`, above 0; None for half a window.
        unit: `"seconds"`, or `"frames"` at the video's average frames a second.
        penalty: Cost of a switch of class, 0 or more; 0 takes the best class of each cell.
        start: Seconds from the beginning at which to begin; None for the beginning.
        end: Seconds from the beginning before which to stop; None for the end.
        labels: Class names as `decode_predictions` takes them; None for the model's own, else those that as many
            classes are known by, else numbers.
        out: Folder to write to, which is made: `segments.csv`, `segments.json`, `chapters.vtt` (WebVTT), `track.csv`
            (a line a cell) and, with matplotlib, `timeline.png`. None writes nothing.
        batch_size: Windows that the model scores at once, 1 or more.
        threads: Threads that decode, 1 or more; None for one a core.
        fps: Frames a second of a folder of frames or of frames in memory; None for 25.
        on_segment: Function that is called with each `Segment` as it closes; None for none.
        progress: Whether to show a bar on the error stream; None shows it on a terminal.

    Returns:
        A `Timeline`.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: A file cannot be read or written.
        ValueError: The file is no video or has no frame between `start` and `end`, the model gives no classes, or
            another argument is out of its range.
        TimelineInterrupted: The user interrupted it; a `KeyboardInterrupt` whose `timeline` is that of what was seen.
            With `out` the files tell of that too, and `complete` in `segments.json` is false; so they do when decoding
            fails on the way.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> for segment in timeline(model, "bikes.mp4", start=5.5).segments:
        ...     print(f"{segment.start:.1f} to {segment.end:.1f} s: {segment.label}")
        5.5 to 7.5 s: static
        7.5 to 10.0 s: pan right
    """
    options = Options.check(model, window, stride, unit, penalty, labels, batch_size)
    with timed_frames(video, start, end, threads, fps) as frames, TimelineFiles(out) as files:
        sweep = Sweep(model, frames, options, start or 0.0, end)
        told = 0

        def take(cells):
            nonlocal told
            for cell in cells:
                files.add(cell, options.labels)
                bar.advance(max(int(sweep.seconds - sweep.start) - bar.done, 0))
                told = _tell(sweep.segments, told, on_segment)
            told = _tell(sweep.segments, told, on_segment)

        with Progress(_whole(frames.expected), "s of video", show=progress) as bar:
            try:
                take(sweep.cells())
            except (KeyboardInterrupt, Exception) as error:
                if not sweep.scored:
                    raise
                take(sweep.stop())
                result = sweep.timeline(complete=False)
                files.write(result)
                if isinstance(error, KeyboardInterrupt):
                    raise TimelineInterrupted(result) from None
                raise
        result = sweep.timeline(complete=True)
        files.write(result)
    return result


def stream_timeline(
    model: Any,
    video: Video | TimedFrames,
    window: float | None = None,
    stride: float | None = None,
    unit: str = "seconds",
    penalty: float = PENALTY,
    labels: Sequence[str] | str | None = None,
    batch_size: int = 1,
    fps: float | None = None,
) -> Iterator[Segment]:
    """Give the segments of a video or of a camera as they close, however long it runs.

    A segment closes once no later window can change it: as a rule two to four windows after its end.

    Args:
        model: As for `timeline`.
        video: As for `timeline`; of a camera, an iterator of its frames such as a generator, or what `open_live` gives.
        window: As for `timeline`.
        stride: As for `timeline`.
        unit: As for `timeline`.
        penalty: As for `timeline`.
        labels: As for `timeline`.
        batch_size: Windows that the model scores at once, 1 or more; more is faster and later.
        fps: As for `timeline`.

    Yields:
        `Segment`, in order and without gaps; the last where the video ends.

    Raises:
        ValueError: As for `timeline`.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> with VideoReader("bikes.mp4") as camera:
        ...     [segment.label for segment in stream_timeline(model, iter(camera), fps=25)]
        ['static', 'pan left', 'tilt down', 'static', 'pan right']
    """
    options = Options.check(model, window, stride, unit, penalty, labels, batch_size)
    with timed_frames(video, fps=fps) as frames:
        sweep = Sweep(model, frames, options)
        for _ in sweep.cells():
            yield from sweep.segments
            sweep.segments.clear()
        yield from sweep.segments


@dataclasses.dataclass(frozen=True)
class Options:
    """What `timeline` and `stream_timeline` were told, checked; `window` and `stride` may be None."""

    window: float | None
    stride: float | None
    unit: str
    penalty: float
    labels: tuple[str, ...]
    batch_size: int

    @classmethod
    def check(cls, model, window, stride, unit, penalty, labels, batch_size) -> Options:
        """Check the arguments that need no video."""
        check_choice("unit", unit, UNITS)
        for name, value in (("window", window), ("stride", stride)):
            if value is not None:
                check_number(name, value, above=0, remedy=f"pass {unit}, or None for the default")
        return cls(
            window,
            stride,
            unit,
            check_number("penalty", penalty, minimum=0, remedy="pass 0 for the best class of each moment"),
            class_names(model, labels),
            check_integer("batch_size", batch_size, minimum=1),
        )

    def seconds(self, frames: int, rate: float) -> tuple[float, float]:
        """The seconds of a window and of a stride for clips of so many frames of a video of so many a second."""
        one = 1 / rate if self.unit == "frames" else 1.0
        window = frames / FRAMES_A_SECOND if self.window is None else self.window * one
        stride = window / 2 if self.stride is None else self.stride * one
        if window > MOST_OVERLAP * stride:
            raise ValueError(
                f"window must be at most {MOST_OVERLAP} strides, received a window of {window:g} and a stride of "
                f"{stride:g} seconds; pass a longer stride."
            )
        return window, stride


def class_names(model: Any, labels: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """The names of a model's classes: those given, its own, those that as many classes are known by, or numbers."""
    classes = number_of_classes(model)
    if labels is None:
        return tuple(names_of_classes(model) or default_names(classes) or numbered(classes))
    names = tuple(load_labels(labels))
    if len(names) != classes:
        raise ValueError(f"labels has {len(names)} names but the model has {classes} classes; pass one a class.")
    return names


class Sweep:
    """One pass over a video: windows, their scores, the track and its segments.

    Args:
        model: As for `timeline`.
        frames: `TimedFrames`.
        options: `Options`.
        start: Seconds at which the first window begins.
        end: Seconds at which the video is cut off; None where it is not.

    Attributes:
        window: Seconds of a window.
        stride: Seconds of a stride.
        start: As given.
        seconds: The time of the newest frame.
        scored: How many windows were scored.
        segments: List of the segments that closed, in order; whoever needs them no more may clear it.
    """

    def __init__(self, model: Any, frames: TimedFrames, options: Options, start: float = 0.0, end: float | None = None):
        self._model, self._frames, self._options, self._cut = model, frames, options, end
        rule = clip_rule(model)
        self.start = self.seconds = start
        self.window, self.stride = options.seconds(rule.num_frames, frames.rate)
        height, width = rule.size
        transform = functools.partial(resize_and_crop, height=height, width=width, **rule.resize_rule)
        self._windows = SlidingWindows(self.window, self.stride, rule.num_frames, transform)
        self._track = Track(self.window, self.stride, options.penalty, start)
        self._joined = Segments(options.labels)
        self._columns, self._pictures = Columns(), Pictures(self.stride)
        self._waiting, self.segments = [], []
        self.scored = 0
        self._seen = 0.0

    def cells(self) -> Iterator[Cell]:
        """Go through the video; gives each cell of the track when it is decided."""
        for seconds, picture in self._frames.frames:
            self.seconds = seconds
            self._pictures.add(seconds, picture)
            for window in self._windows.add(seconds - self.start, picture):
                self._waiting.append(window)
                if len(self._waiting) == self._options.batch_size:
                    yield from self._score()
        end = self._end()
        for window in self._windows.finish(end):
            self._waiting.append(window)
            if len(self._waiting) == self._options.batch_size:
                yield from self._score()
        yield from self._score()
        if not self.scored:
            raise ValueError(f"{self._frames.name}: no frame lies between start and end; choose times inside it.")
        yield from self._finish(end)

    def stop(self) -> Iterator[Cell]:
        """End early, with what was scored; gives the cells that are left."""
        yield from self._finish(self._seen)

    def timeline(self, complete: bool) -> Timeline:
        """The result, once `cells` or `stop` came to its end."""
        return Timeline(
            tuple(self.segments),
            self.start,
            self.start + self._seen,
            complete,
            self._frames.name,
            self._model.name,
            self._options.labels,
            self.window,
            self.stride,
            self._options.penalty,
            self._columns,
            self._pictures,
        )

    def _end(self):
        """Seconds from the start to the end of the last frame."""
        end = self.seconds + 1 / self._frames.rate
        return (end if self._cut is None else min(end, self._cut)) - self.start

    def _score(self):
        """Score the windows that wait; gives the cells that are decided by them."""
        windows, self._waiting = self._waiting, []
        if not windows:
            return
        # A batch is always of one size: some backends compile anew for every other.
        rest = [windows[-1]] * (self._options.batch_size - len(windows))
        scores = class_scores(self._model, np.stack([window.clip for window in windows + rest]), len(windows + rest))
        for window, row in zip(windows, scores, strict=False):
            self.scored += 1
            self._seen = window.end
            yield from self._join(self._track.add(window.start, window.end, row))

    def _finish(self, end):
        self._seen = end
        yield from self._join(self._track.finish(end))
        if (last := self._joined.finish()) is not None:
            self.segments.append(last)

    def _join(self, cells):
        for cell in cells:
            self._columns.add(cell.scores)
            if (closed := self._joined.add(cell)) is not None:
                self.segments.append(closed)
            yield cell


def _tell(segments, told, on_segment):
    """Hand over the segments that are new; gives how many there are."""
    if on_segment is not None:
        for segment in segments[told:]:
            on_segment(segment)
    return len(segments)


def _whole(seconds):
    return None if seconds is None else max(round(seconds), 1)
