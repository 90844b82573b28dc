"""From the scores of windows that overlap to a smoothed class track, and its segments; all of it while windows come."""

import collections
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Cells whose edges differ by less than this part of them are the same.
ROUNDING = 1e-6
# What a score counts at least: no window can be so sure that it outweighs several others.
LEAST_SCORE = 0.01
# Cells after which a class is decided whatever comes later.
LONGEST_DELAY = 256


@dataclass(frozen=True)
class Segment:
    """A stretch of a video with one class.

    Attributes:
        start: Seconds from the beginning of the video.
        end: Seconds from the beginning of the video.
        label: The class's name.
        score: Mean over the stretch of what the windows give the class, 0 to 1.
    """

    start: float
    end: float
    label: str
    score: float


class MeanScores:
    """Averages, for each cell of a stride's length, the scores of the windows that cover it, by how much they cover.

    Args:
        stride: Seconds of a cell.
    """

    def __init__(self, stride: float):
        self.stride = stride
        self._sums = collections.deque()
        self._first = 0

    def add(self, start: float, end: float, scores: np.ndarray) -> list[np.ndarray]:
        """Take a window's scores, `(classes,)`; gives those of the cells, in order, that no later window covers.

        Windows come in the order of their beginning.
        """
        done = self._take(math.floor(start / self.stride + ROUNDING) - self._first)
        first = math.floor(start / self.stride + ROUNDING)
        last = max(math.ceil(end / self.stride - ROUNDING), first + 1)
        for cell in range(first, last):
            if cell - self._first == len(self._sums):
                self._sums.append([0.0, 0.0])
            weight = min(end, (cell + 1) * self.stride) - max(start, cell * self.stride)
            total = self._sums[cell - self._first]
            total[0] = total[0] + weight * scores
            total[1] += weight
        return done

    def finish(self, end: float) -> list[np.ndarray]:
        """The scores of the cells that are left and begin before a time."""
        return self._take(min(math.ceil(end / self.stride - ROUNDING) - self._first, len(self._sums)))

    def _take(self, count):
        done = []
        for _ in range(max(count, 0)):
            total, weight = self._sums.popleft()
            done.append(total / weight)
            self._first += 1
        return done


class SwitchingPath:
    """The likeliest path of classes, where each switch of class costs a penalty (the Viterbi algorithm).

    A path's worth is the sum of the logarithms of the scores along it, less the penalties. A cell is decided once the
    best paths that end in any class agree on it, or `LONGEST_DELAY` cells later.

    Args:
        penalty: Cost of a switch, 0 or more.
        weight: What a cell's score counts.
    """

    def __init__(self, penalty: float, weight: float = 1.0):
        self.penalty, self.weight = penalty, weight
        self._worth = None
        # For each cell that is not decided, after the first: the class before it of the best path to each class.
        self._before = collections.deque()

    def add(self, scores: np.ndarray) -> list[int]:
        """Take the scores of the next cell, `(classes,)`; gives the classes of cells that are decided, in order."""
        evidence = self.weight * np.log(np.maximum(scores, LEAST_SCORE))
        if self._worth is None:
            self._worth = evidence
            return []
        best = int(self._worth.argmax())
        switched = self._worth[best] - self.penalty
        stays = self._worth >= switched
        self._before.append(np.where(stays, np.arange(len(stays)), best))
        self._worth = np.where(stays, self._worth, switched) + evidence
        self._worth -= self._worth.max()
        return self._decided()

    def finish(self) -> list[int]:
        """The classes of all cells that are left, along the best path."""
        if self._worth is None:
            return []
        path = self._walk(int(self._worth.argmax()), 0)
        self._worth = None
        self._before.clear()
        return path

    def _decided(self):
        ends = np.arange(len(self._worth))
        for place in range(len(self._before) - 1, -1, -1):
            ends = self._before[place][ends]
            if (ends == ends[0]).all():
                path = self._walk(int(ends[0]), 0, place)
                for _ in path:
                    self._before.popleft()
                return path
        if len(self._before) < LONGEST_DELAY:
            return []
        (first, *_) = self._walk(int(self._worth.argmax()), 0)
        # Paths that begin otherwise are out.
        self._worth = np.where(ends == first, self._worth, -np.inf)
        self._before.popleft()
        return [first]

    def _walk(self, end, first, last=None):
        """The classes from a cell to another, of the best path to a class in the latter; None for the newest."""
        path = [end]
        places = range((len(self._before) if last is None else last) - 1, first - 1, -1)
        for place in places:
            path.append(int(self._before[place][path[-1]]))
        return path[::-1]


@dataclass(frozen=True)
class Cell:
    """A cell of the track that is decided.

    Attributes:
        start: Seconds from the beginning of the video.
        end: Seconds from the beginning of the video.
        index: Its class.
        scores: The windows' mean, `(classes,)`.
    """

    start: float
    end: float
    index: int
    scores: np.ndarray

    @property
    def score(self) -> float:
        """The mean score of its class."""
        return float(self.scores[self.index])


class Track:
    """The smoothed class track of windows that slide: cells are decided, and segments close, while windows come.

    Args:
        length: Seconds of a window.
        stride: Seconds of a cell.
        penalty: Cost of a switch of class, in units of the logarithm of one window's score.
        origin: Seconds at which the first window begins.
    """

    def __init__(self, length: float, stride: float, penalty: float, origin: float = 0.0):
        self._origin, self._stride = origin, stride
        self._means = MeanScores(stride)
        # A class that wins for the length of a window gains what one window says, however many overlap.
        self._path = SwitchingPath(penalty, min(stride / length, 1.0))
        self._waiting = collections.deque()
        self._number = 0

    def add(self, start: float, end: float, scores: np.ndarray) -> Iterator[Cell]:
        """Take a window's scores; gives the cells that are decided, in order."""
        yield from self._take(self._means.add(start, end, scores), None)

    def finish(self, end: float) -> Iterator[Cell]:
        """End the video at a time, in seconds after the first window's beginning; gives the cells that are left."""
        yield from self._take(self._means.finish(end), end)
        yield from self._decide(self._path.finish(), end)

    def _take(self, means, end):
        for scores in means:
            self._waiting.append(scores)
            yield from self._decide(self._path.add(scores), end)

    def _decide(self, classes, end):
        for index in classes:
            first, self._number = self._number * self._stride, self._number + 1
            last = self._number * self._stride if end is None else min(self._number * self._stride, end)
            yield Cell(self._origin + first, self._origin + last, index, self._waiting.popleft())


class Segments:
    """Joins cells of one class that follow one another."""

    def __init__(self, labels: list[str]):
        self._labels = labels
        self._open = None

    def add(self, cell: Cell) -> Segment | None:
        """Take the next cell; gives the segment that ends before it, if one does."""
        closed = None
        if self._open is not None and self._open[0] != cell.index:
            closed = self.finish()
        if self._open is None:
            self._open = [cell.index, cell.start, cell.end, 0.0]
        self._open[2] = cell.end
        self._open[3] += cell.score * (cell.end - cell.start)
        return closed

    def finish(self) -> Segment | None:
        """The segment that is open, which ends."""
        if self._open is None:
            return None
        index, start, end, total = self._open
        self._open = None
        return Segment(start, end, self._labels[index], total / max(end - start, 1e-9))
