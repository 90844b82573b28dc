"""A window that slides over frames that come one by one: each frame is seen once, and few are held."""

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.data.video import TIME_TOLERANCE

MOST_BETWEEN = 3600.0
"""Seconds from one frame to the next that are taken; a file with longer gaps is damaged."""


@dataclass(frozen=True)
class Window:
    """What the model sees at a time.

    Attributes:
        start: Seconds at which it begins.
        end: Seconds at which it ends.
        clip: `(frames, height, width, 3)`.
    """

    start: float
    end: float
    clip: np.ndarray


class SlidingWindows:
    """Makes clips of the windows `[0, length)`, `[stride, stride + length)` and so on.

    A clip has the frames that are on screen in the middles of `frames` equal segments of its window, as `read_clip`
    takes those of a whole video. Where the last of these windows ends before the video does, one more window ends with
    the video; its frames are the nearest before those moments among the frames that other windows took. A video shorter
    than a window is one window, with the frames that `read_clip` takes.

    Args:
        length: Seconds, above 0.
        stride: Seconds from the beginning of a window to that of the next, above 0.
        frames: Frames of a clip, 1 or more.
        transform: Function of a frame's picture that gives what a clip holds of it. It is called once for each frame
            that a window takes, and for no other but those of the first window.
    """

    def __init__(self, length: float, stride: float, frames: int, transform: Callable[[np.ndarray], np.ndarray]):
        self.length, self.stride, self.frames = length, stride, frames
        self._transform = transform
        # Windows that want more frames, in order: the pictures of each.
        self._open = collections.deque()
        self._first_open = 0
        # The seconds and what a clip holds of the frames that were taken, of the length of a window.
        self._taken = collections.deque()
        self._shown = None
        self._ended = 0.0

    def add(self, seconds: float, picture: np.ndarray) -> Iterator[Window]:
        """Take the next frame; gives the windows that are complete with it, which must be gone through.

        Args:
            seconds: When it is shown, not before the last.
            picture: uint8 `(height, width, 3)`.

        Raises:
            ValueError: It comes later than an hour after the last frame.
        """
        if self._shown is not None:
            if seconds - self._shown[0] > MOST_BETWEEN:
                raise ValueError(
                    f"a frame comes {seconds - self._shown[0]:.0f} seconds after the one before it, more than "
                    f"{MOST_BETWEEN:.0f}; the times in the file are damaged: convert it again, or pass end= "
                    f"{self._shown[0]:.3f} or less."
                )
            yield from self._show(seconds)
        self._shown = [seconds, picture, None]
        if not self._ended:
            # The whole video may be shorter than a window, whose frames are known at its end alone.
            self._take()

    def finish(self, end: float) -> Iterator[Window]:
        """End the video at a time; gives the last windows, which must be gone through."""
        if self._shown is None:
            return
        yield from self._show(end)
        if self._ended < end - TIME_TOLERANCE:
            start = max(end - self.length, 0.0)
            moments = [start + (place + 0.5) * (end - start) / self.frames for place in range(self.frames)]
            yield Window(start, end, np.stack([self._taken_at(moment) for moment in moments]))

    def _show(self, until):
        """Leave the frame on screen until a time; gives the windows that are complete with it."""
        number = self._first_open
        while self._moment(number, 0) < until - TIME_TOLERANCE:
            if number - self._first_open == len(self._open):
                self._open.append([])
            pictures = self._open[number - self._first_open]
            while len(pictures) < self.frames and self._moment(number, len(pictures)) < until - TIME_TOLERANCE:
                pictures.append(self._take())
            number += 1
            if len(pictures) == self.frames:
                # Windows are complete in the order of their beginning, so that this is the first one.
                self._open.popleft()
                self._first_open = number
                start = (number - 1) * self.stride
                self._ended = start + self.length
                yield Window(start, self._ended, np.stack(pictures))

    def _moment(self, number, place):
        """The middle of a segment of a window."""
        return number * self.stride + (place + 0.5) * self.length / self.frames

    def _take(self):
        """What a clip holds of the frame on screen."""
        seconds, picture, small = self._shown
        if small is None:
            self._shown[2] = small = self._transform(picture)
            self._taken.append((seconds, small))
            # One frame from before the length of a window is on screen when that begins.
            while len(self._taken) > 1 and self._taken[1][0] <= seconds - self.length:
                self._taken.popleft()
        return small

    def _taken_at(self, moment):
        """The latest of the frames that were taken by then."""
        earlier = [small for seconds, small in self._taken if seconds <= moment + TIME_TOLERANCE]
        return earlier[-1] if earlier else self._taken[0][1]
