"""A timeline as a picture: key frames, segments, and the scores of the classes that occur."""

from __future__ import annotations

import io
import os
import typing

import numpy as np

from keras_video_focalnet.utils.files import atomic_write
from keras_video_focalnet.utils.texts import printable

if typing.TYPE_CHECKING:
    from keras_video_focalnet.evaluation.timeline import Timeline

WIDTH, HEIGHT = 12.0, 3.8
"""Inches."""
MOST_CLASSES = 8
"""How many classes have colours of their own: those that take most time."""
OTHER = "0.75"
KEY_FRAMES = 9
# The least part of the width in which a label is written.
LEAST_WRITTEN = 0.045


def draw_timeline(timeline: Timeline, path: str | os.PathLike) -> None:
    """Draw a timeline to a PNG file: key frames above, the segments in the middle, the smoothed scores below.

    Args:
        timeline: The timeline.
        path: File to write.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    frames, bars, scores = figure.subplots(3, 1, height_ratios=(1.2, 0.45, 1.3), sharex=True)
    colours = _colours(timeline)
    _draw_frames(frames, timeline, colours)
    _draw_segments(bars, timeline, colours)
    _draw_scores(scores, timeline, colours)
    title = os.path.basename(timeline.video) if os.sep in timeline.video else timeline.video
    rest = "" if timeline.complete else " (not seen to its end)"
    frames.set_title(f"{printable(title)}{rest}", loc="left", fontsize=10, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    with atomic_write(path) as file:
        file.write(picture.getvalue())


def _colours(timeline):
    """A colour for each of the classes that take most time, by label."""
    from matplotlib import colormaps

    seconds = {}
    for segment in timeline.segments:
        seconds[segment.label] = seconds.get(segment.label, 0) + segment.end - segment.start
    ranked = sorted(seconds, key=seconds.get, reverse=True)[:MOST_CLASSES]
    # The order of the classes, so that two videos of one model look alike where they can.
    ranked.sort(key=timeline.labels.index)
    return {label: colormaps["tab10"](number) for number, label in enumerate(ranked)}


def _draw_frames(axes, timeline, colours):
    """Draw pictures side by side, each with a line to the moment that it shows."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    axes.set_ylim(0, 1)
    axes.axis("off")
    span = max(timeline.end - timeline.start, 1e-3)
    shown = _key_frames(timeline)
    slot = 1 / KEY_FRAMES
    last = -1.0
    for left, (segment, seconds, picture) in enumerate(shown):
        place = (seconds - timeline.start) / span
        # As near to its moment as its neighbours leave room for.
        place = min(max(place, slot / 2, last + slot), 1 - slot * (len(shown) - left - 0.5))
        last = place
        zoom = 72 * (WIDTH - 1.2) * slot * 0.94 / max(picture.shape[1], picture.shape[0] * 1.2)
        box = AnnotationBbox(
            OffsetImage(picture, zoom=zoom),
            (seconds, 0.0),
            xybox=(place, 0.56),
            xycoords="data",
            boxcoords="axes fraction",
            pad=0.1,
            bboxprops={"edgecolor": colours.get(segment.label, OTHER), "linewidth": 2},
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.8},
        )
        axes.add_artist(box)


def _key_frames(timeline):
    """`(segment, seconds, picture)` of the longest segments, in the order of time."""
    found = []
    for segment in sorted(timeline.segments, key=lambda segment: segment.start - segment.end):
        item = timeline.pictures.within(segment.start, segment.end)
        if item is not None:
            found.append((segment, *item))
        if len(found) == KEY_FRAMES:
            break
    return sorted(found, key=lambda item: item[1])


def _draw_segments(axes, timeline, colours):
    span = max(timeline.end - timeline.start, 1e-3)
    for segment in timeline.segments:
        width = segment.end - segment.start
        colour = colours.get(segment.label, OTHER)
        axes.axvspan(segment.start, segment.end, color=colour, alpha=0.8, linewidth=0)
        axes.axvline(segment.start, color="white", linewidth=0.8)
        room = width / span
        if room >= LEAST_WRITTEN:
            letters = max(int(room * 150), 4)
            text = printable(segment.label)
            text = text if len(text) <= letters else text[: letters - 1] + "…"
            middle = (segment.start + segment.end) / 2
            axes.text(middle, 0.5, text, ha="center", va="center", fontsize=8, clip_on=True, parse_math=False)
    axes.set_ylim(0, 1)
    axes.set_yticks([])


def _draw_scores(axes, timeline, colours):
    means = np.array(timeline.columns.means).reshape(-1, len(timeline.labels))
    step = timeline.stride * timeline.columns.cells
    times = timeline.start + step * (np.arange(len(means)) + 0.5)
    for label, colour in colours.items():
        axes.plot(times, means[:, timeline.labels.index(label)], color=colour, linewidth=1.4)
    axes.set_xlim(timeline.start, max(timeline.end, timeline.start + 1e-3))
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("score")
    axes.set_xlabel("seconds")
    axes.grid(alpha=0.3)
    for number, (label, colour) in enumerate(colours.items()):
        text = printable(label)
        text = text if len(text) <= 24 else text[:23] + "…"
        axes.text(1.005, 0.98 - 0.13 * number, text, color=colour, transform=axes.transAxes, fontsize=8, va="top",
                  parse_math=False)  # fmt: skip
