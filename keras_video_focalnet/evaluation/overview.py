"""What is kept of a video of any length to draw it: so many columns of scores, and so many small pictures."""

import numpy as np

from keras_video_focalnet.data.clip import shrink

COLUMNS = 1024
"""Columns of scores that are kept at most; half as many at least, of a long video."""
PICTURES = 128
"""Small pictures that are kept at most; half as many at least, of a long video."""
SHORT_SIDE = 90
"""Pixels of the short side of a small picture."""


class Columns:
    """Mean scores of equal stretches of a video; the stretches become twice as long when there are too many.

    Attributes:
        cells: How many cells of the track a column holds.
        means: List of float32 arrays `(classes,)`, one a column.
    """

    def __init__(self):
        self.cells = 1
        self.means = []
        self._rest = []

    def add(self, scores: np.ndarray) -> None:
        """Take the scores of the next cell."""
        self._rest.append(np.asarray(scores, np.float32))
        if len(self._rest) == self.cells:
            self.means.append(np.mean(self._rest, axis=0))
            self._rest = []
        if len(self.means) == COLUMNS:
            self.means = [(one + other) / 2 for one, other in zip(self.means[::2], self.means[1::2], strict=True)]
            self.cells *= 2


class Pictures:
    """Small pictures from regular moments of a video; every other one goes when there are too many.

    Args:
        every: Seconds from one to the next at first.

    Attributes:
        taken: List of `(seconds, picture)`, the picture uint8 `(height, width, 3)`.
    """

    def __init__(self, every: float):
        self.taken = []
        self._every = every

    def add(self, seconds: float, picture: np.ndarray) -> None:
        """Take the next frame, if one is due."""
        if self.taken and seconds < self.taken[-1][0] + self._every:
            return
        self.taken.append((seconds, shrink(picture, SHORT_SIDE)))
        if len(self.taken) == PICTURES:
            self.taken = self.taken[::2]
            self._every *= 2

    def within(self, start: float, end: float) -> tuple[float, np.ndarray] | None:
        """The one nearest to the middle between two times; None where there is none between them."""
        inside = [item for item in self.taken if start <= item[0] < end]
        return min(inside, key=lambda item: abs(item[0] - (start + end) / 2)) if inside else None
