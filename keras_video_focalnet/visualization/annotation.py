"""A video with the running answer drawn in: the segment and the best classes of each moment."""

from __future__ import annotations

import bisect
import os
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_video_focalnet.data.clip import Video
from keras_video_focalnet.data.timed_frames import timed_frames
from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.utils.progress import Progress
from keras_video_focalnet.utils.texts import printable
from keras_video_focalnet.visualization import files
from keras_video_focalnet.visualization.drawing import font

TOP = 3
"""Classes whose scores are drawn."""
# Colours that are told apart also by most who are colour-blind (Okabe and Ito, 2008), without black.
_PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_OTHER = (128, 128, 128)
# How much is left of a frame's light behind the panel.
_BEHIND = 0.35
# The part of a frame's height that the panel may cover.
_MOST_COVERED = 0.6


def annotate_video(
    video: Video,
    timeline: Any,
    path: str | os.PathLike,
    top: int = TOP,
    threads: int | None = None,
    fps: float | None = None,
    progress: bool | None = False,
) -> int:
    """Write a video anew with the answer of each moment drawn in.

    In a corner stand the label of the segment and the best classes of the moment with their scores, a mean over as much
    of the video as a column of `timeline.columns` spans; below, the segments run along the width, with a line at the
    moment. Frames keep their times and size (an odd side grows by a pixel); sound is left out. The video is decoded a
    second time, frame by frame, so that memory does not grow with it.

    Args:
        video: What the timeline is of, see `read_clip`; an iterator that was gone through is at its end.
        timeline: What `timeline` gave.
        path: File to write, which ends in `.mp4`. It takes its name once all of it is written.
        top: How many classes are drawn, 1 or more, by default 3; in small frames as many as have room.
        threads: Threads that decode, 1 or more; None for one a core.
        fps: As for `timeline`.
        progress: Whether to show a bar on the error stream; None shows it on a terminal.

    Returns:
        The number of frames.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: A file cannot be read or written.
        ValueError: `path` does not end in `.mp4` or is the video itself, the video has no frame, or another argument is
            out of its range.

    Example:
        >>> model = VideoFocalNetNano(weights="camera_motion")
        >>> annotate_video("bikes.mp4", timeline(model, "bikes.mp4", end=2), "answers.mp4")
        50
    """
    path = files.check_suffix("path", path, files.VIDEO)
    files.check_other_file("path", path, video)
    top = check_integer("top", top, minimum=1)
    seconds, count, painter = max(round(timeline.end - timeline.start), 1), 0, None
    with (
        timed_frames(video, timeline.start, timeline.end, threads, fps) as frames,
        files.video_writer(path, frames.rate) as file,
        Progress(seconds, "s written", show=progress) as bar,
    ):
        for moment, picture in frames.frames:
            # Frames of one video may differ in size.
            if painter is None or painter.size != picture.shape[:2]:
                painter = AnswerPainter(timeline, picture.shape[:2], top)
            file.add(moment - timeline.start, painter.paint(moment, picture))
            count += 1
            bar.advance(max(int(moment - timeline.start) - bar.done, 0))
        if not count:
            raise ValueError(f"{frames.name}: no frame lies in the time of the timeline; pass the video it is of.")
    return count


class AnswerPainter:
    """Draws the answer of a moment into frames of one size.

    Args:
        timeline: What `timeline` gave.
        size: Height and width of the frames in pixels.
        top: How many classes are drawn.
    """

    def __init__(self, timeline: Any, size: tuple[int, int], top: int = TOP):
        self.size = size
        self._timeline = timeline
        height, width = size
        self._letter = min(max(height // 22, 9), 40)
        self._line, self._head = self._letter * 3 // 2, self._letter * 15 // 8
        room = max(int(_MOST_COVERED * height) - self._head, 0) // self._line
        self._top = min(top, len(timeline.labels), room)
        self._starts = [segment.start for segment in timeline.segments]
        occurring = {segment.label for segment in timeline.segments}
        # In the order of classes, so that two videos of one model look alike where they can.
        ranked = [name for name in timeline.labels if name in occurring]
        self._colours = dict(zip(ranked, _PALETTE, strict=False))
        self._strip = self._segments(max(height // 40, 3), width)
        self._panel_width = min(width, max(width // 3, 16 * self._letter))
        self._drawn = None, None

    def paint(self, seconds: float, picture: np.ndarray) -> np.ndarray:
        """Give a frame, uint8 `(height, width, 3)`, with what is answered at its time."""
        painted = picture.copy()
        panel = self._panel_at(seconds)
        rows, columns = np.minimum(panel.shape[:2], painted.shape[:2])
        behind = painted[:rows, :columns] * _BEHIND
        painted[:rows, :columns] = np.minimum(behind + panel[:rows, :columns], 255).astype(np.uint8)
        strip = self._strip.copy()
        width, span = strip.shape[1], max(self._timeline.end - self._timeline.start, 1e-3)
        place = min(max(int((seconds - self._timeline.start) / span * width), 0), width - 1)
        strip[:, max(place - 1, 0) : place + 1] = 255
        painted[-len(strip) :] = strip[-len(painted) :]
        return painted

    def answer_at(self, seconds: float) -> tuple[str, list[tuple[str, float]]]:
        """The label of the segment at a time, and the best classes with their scores, the best first."""
        timeline = self._timeline
        place = min(max(bisect.bisect_right(self._starts, seconds) - 1, 0), len(self._starts) - 1)
        means = timeline.columns.means
        column = int((seconds - timeline.start) / (timeline.stride * timeline.columns.cells))
        scores = means[min(max(column, 0), len(means) - 1)]
        best = np.argsort(-scores, kind="stable")[: self._top]
        return timeline.segments[place].label, [(timeline.labels[index], float(scores[index])) for index in best]

    def _panel_at(self, seconds):
        """Bright text and bars on black, uint8; made anew where the answer changed."""
        answer = self.answer_at(seconds)
        if self._drawn[0] != answer:
            self._drawn = answer, self._panel(*answer)
        return self._drawn[1]

    def _panel(self, label, best):
        width, line, first, large = self._panel_width, self._line, self._head, self._letter * 5 // 4
        panel = Image.new("RGB", (width, first + line * len(best)))
        draw = ImageDraw.Draw(panel)
        draw.text((self._letter // 2, large // 8), printable(label[:width]), fill=(255, 255, 255), font=font(large))
        for number, (name, score) in enumerate(best):
            top = first + number * line
            draw.rectangle((0, top + 1, max(round(score * width) - 1, 0), top + line - 2), fill=self._colour(name, 0.6))
            text = f"{score:.2f}  {printable(name[:width])}"
            draw.text((self._letter // 2, top + self._letter // 8), text, fill=(255, 255, 255), font=font(self._letter))
        return np.asarray(panel)

    def _colour(self, label, light=1.0):
        """The colour of one of the labels that occur; grey for others."""
        return tuple(round(light * part) for part in self._colours.get(label, _OTHER))

    def _segments(self, height, width):
        """The segments along the width, uint8 `(height, width, 3)`."""
        timeline, strip = self._timeline, np.zeros((height, width, 3), np.uint8)
        span = max(timeline.end - timeline.start, 1e-3)
        for segment in timeline.segments:
            first, last = (round((time - timeline.start) / span * width) for time in (segment.start, segment.end))
            strip[:, first : max(last, first + 1)] = self._colour(segment.label)
        return strip
