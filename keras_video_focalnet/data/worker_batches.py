"""A Grain data set whose batches worker processes make; loaded where there are workers, and not in them.

Grain's own worker processes hand batches over through shared memory, of which containers have 64 MB by default; a
process that finds it full is killed. Told to take pipes instead, an iterator that is closed early can wait for ever
for the rest of a batch (grain 0.2.18). In `concurrent.futures` all processes write to one pipe: where one is killed
while it writes, the others keep the pipe open and the reader waits for ever (Python 3.11). Here every process has a
pipe of its own, which closes with it.
"""

import atexit
import contextlib
import multiprocessing
import pickle
import queue
import threading

# What joins processes when Python ends is registered by this import; `_end_all` is registered later and so runs before.
import multiprocessing.util  # isort: skip

import cloudpickle
import grain

from keras_video_focalnet.data.workers import work

# Batches that are in the making or ready, for every worker.
AHEAD = 2


class WorkerBatches(grain.IterDataset):
    """Element `n` is `make_batch(n)`, for every n of a range in order, each made in one of several processes.

    Args:
        make_batch: Function from a number to a batch.
        numbers: `range`.
        workers: Number of processes, 1 or more. They start with the first batch that an iterator is asked for.
    """

    def __init__(self, make_batch, numbers, workers):
        super().__init__()
        self._make_batch = make_batch
        self._numbers = numbers
        self._workers = workers

    def __iter__(self):
        return _WorkerIterator(self._make_batch, self._numbers, self._workers)


class _WorkerIterator(grain.DatasetIterator):
    """The worker of the n-th batch is number n modulo the count of workers."""

    def __init__(self, make_batch, numbers, workers):
        super().__init__()
        self._make_batch = make_batch
        self._numbers = numbers
        self._given = 0
        self._asked = 0
        self._workers = [None] * workers

    def __next__(self):
        if self._given == len(self._numbers):
            self._stop()
            raise StopIteration
        try:
            # The batch that is given out makes room for another before anybody waits for it.
            for place in range(self._asked, min(self._given + AHEAD * len(self._workers) + 1, len(self._numbers))):
                self._ask(place)
                self._asked = place + 1
            batch, failure = self._wait()
            if failure:
                error, text = failure
                raise error from RuntimeError(f"It was raised in a worker process:\n{text}")
        except BaseException:
            # Also a signal's, anywhere above: the next call begins anew with the batch that was not given.
            self._stop()
            raise
        self._given += 1
        return batch

    def _ask(self, place):
        which = place % len(self._workers)
        if self._workers[which] is None:
            self._workers[which] = _Worker(cloudpickle.dumps(self._make_batch))
        self._workers[which].ask(self._numbers[place])

    def _wait(self):
        """The next batch; a worker that died is replaced once, by one that is asked for all that it owes."""
        which = self._given % len(self._workers)
        result = self._workers[which].result()
        if result is None:
            # Whatever killed it may have been somebody else's hunger for memory.
            _end(self._workers, which)
            for place in range(self._given, self._asked, len(self._workers)):
                self._ask(place)
            result = self._workers[which].result()
        if result is None:
            raise RuntimeError(
                f"a worker process died twice while it made batch {self._numbers[self._given]}; a system short of "
                "memory kills processes, and so may a damaged video: names(number) of the data set tells which are "
                "in a batch. Pass fewer workers, or take the video out of the list."
            )
        return result

    def get_state(self):
        return {"given": self._given}

    def set_state(self, state):
        self._stop()
        self._given = self._asked = state["given"]

    def close(self):
        self._stop()
        super().close()

    def _stop(self):
        _end(self._workers)
        self._asked = self._given


class _Worker:
    """A process that makes batches, and a thread of this one that takes them in."""

    def __init__(self, pickled):
        spawn = multiprocessing.get_context("spawn")
        self._connection, others = spawn.Pipe()
        self._process = spawn.Process(target=work, args=(others, pickled))
        self._process.start()
        _running.add(self)
        # The process holds it alone now: it closes when the process ends, however that ends.
        others.close()
        self._results = queue.SimpleQueue()
        threading.Thread(target=_take_in, args=(self._connection, self._results), daemon=True).start()

    def ask(self, number):
        with contextlib.suppress(OSError):  # It died: its results say so.
            self._connection.send(number)

    def result(self):
        """The next batch and None, or None and what was raised; None in place of both where the process died."""
        return self._results.get()

    def end(self):
        if self in _running:  # An iterator may be dropped after `_end_all`.
            # At once: a worker takes no SIGTERM, and what it is making nobody wants.
            self._process.kill()
            self._process.join()
            _running.discard(self)


_running = set()


def _take_in(connection, results):
    with connection, contextlib.suppress(EOFError, OSError):
        while True:
            results.put(pickle.loads(connection.recv_bytes()))
    results.put(None)


def _end(workers, *which):
    """Ends those of a list of workers, all of them by default, and takes them out."""
    for place in which or range(len(workers)):
        if workers[place] is not None:
            workers[place].end()
            workers[place] = None


@atexit.register
def _end_all():
    for worker in tuple(_running):
        worker.end()
