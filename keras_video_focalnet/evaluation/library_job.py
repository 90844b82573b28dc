"""A job over a library of videos: what is missing is done, by our worker processes or over Ray, and kept in parts."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.data.workers import WorkerDiedError, batches_by_number
from keras_video_focalnet.evaluation.parts import Parts
from keras_video_focalnet.evaluation.reading import Reading
from keras_video_focalnet.evaluation.scorer import Scorer
from keras_video_focalnet.utils.checks import check_integer
from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.utils.progress import Progress

Outcome = tuple[int, np.ndarray | None, dict[str, Any]]
"""A video's place in the library, its row of numbers or None, and `Reading.about`."""

Engine = Callable[[list[list[int]]], Iterator[Outcome]]
"""What does the videos of some chunks: it may leave out those of a chunk that killed the processes that did it."""

KILLED = "the process that read it was killed each time, as a damaged video or a lack of memory can do"


def run_job(
    parts: Parts, engine: Engine, chunk: int, row: Callable[..., dict[str, Any]], title: str, show: bool | None
):
    """Do the videos that are missing, each once.

    Args:
        parts: Where results are kept.
        engine: What does them.
        chunk: Videos that a worker does at a time. Those that are left out are done again, one at a time.
        row: Function of an `Outcome`'s parts that gives the row of the table.
        title: What the progress bar calls it.
        show: As for `Progress`.
    """
    total = len(parts.done)
    with Progress(total, title=title, done=int(parts.done.sum()), show=show) as progress:
        for size in dict.fromkeys((chunk, 1)):
            missing = parts.missing()
            chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
            with contextlib.closing(engine(chunks) if chunks else _nothing()) as outcomes:
                for number, values, about in outcomes:
                    if not parts.done[number]:
                        parts.add(number, row(number, values, about))
                        progress.advance()
        for number in parts.missing():
            parts.add(number, row(number, None, {"broken": KILLED}))
            progress.advance()


def _nothing():
    yield from ()


def local_engine(read: Callable[[int], Reading], scorer: Scorer | None, group: int, workers: int) -> Engine:
    """An engine of our worker processes, which read, and of this process, which computes `group` videos at once."""

    def outcomes(chunks):
        waiting = []
        with contextlib.closing(_readings(read, chunks, workers)) as readings:
            for reading in readings:
                if reading.clips is None or scorer is None:
                    yield reading.number, None, reading.about
                    continue
                waiting.append(reading)
                if len(waiting) == group:
                    yield from scored(scorer, waiting)
                    waiting = []
        if waiting:
            yield from scored(scorer, waiting)

    return outcomes


def scored(scorer: Scorer, readings: Sequence[Reading]) -> list[Outcome]:
    """The outcomes of videos that were read."""
    rows = scorer(np.stack([reading.clips for reading in readings]))
    return [(reading.number, row, reading.about) for reading, row in zip(readings, rows, strict=True)]


class ReadChunk:
    """Reads the videos of a chunk, by the chunk's number; this is what workers run."""

    def __init__(self, read: Callable[[int], Reading], chunks: list[list[int]]):
        self._read, self._chunks = read, chunks

    def __call__(self, number: int) -> list[Reading]:
        """A reading of each video."""
        return [self._read(video) for video in self._chunks[number]]


def _readings(read, chunks, workers):
    """The readings of all chunks but those that killed their workers."""
    make = ReadChunk(read, chunks)
    if not workers:
        for number in range(len(chunks)):
            yield from make(number)
        return
    require("Reading videos in worker processes", "score", "grain")
    first = 0
    while first < len(chunks):
        batches = iter(batches_by_number(make, first, len(chunks), min(workers, len(chunks) - first)))
        try:
            for readings in batches:
                first += 1
                yield from readings
        except WorkerDiedError:
            first += 1
        finally:
            batches.close()


class JobInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a job; what was done is kept."""


@contextlib.contextmanager
def interruptible(parts: Parts) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end a job with what is done kept, and told.

    Raises:
        JobInterrupted: One of them came.
    """

    def interrupt(*_):
        raise KeyboardInterrupt

    # Only the main thread may; and a handler that somebody else has set, or that ignores it, is left.
    in_charge = threading.current_thread() is threading.main_thread()
    in_charge = in_charge and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, interrupt) if in_charge else None
    try:
        yield
    except KeyboardInterrupt as error:
        parts.flush()
        raise JobInterrupted(
            f"stopped: {int(parts.done.sum())} of {len(parts.done)} videos are done and kept in {parts.folder}; the "
            "same call goes on from there."
        ) from error
    finally:
        if in_charge:
            signal.signal(signal.SIGTERM, before)


def workers_or_cores(workers: int | None) -> int:
    """The number of workers that is given, checked, or that of this process's cores."""
    if workers is not None:
        return check_integer("workers", workers, minimum=0)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
