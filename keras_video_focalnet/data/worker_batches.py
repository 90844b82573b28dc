"""A Grain data set whose batches worker processes make; loaded where there are workers, and not in them.

Grain's own worker processes hand batches over through shared memory, of which containers have 64 MB by default; a
process that finds it full is killed. If it uses pipes instead, an iterator that is closed early can wait for ever
for the rest of a batch (grain 0.2.18). In `concurrent.futures` all processes write to one pipe: where one is killed
while it writes, the others keep the pipe open and the reader waits for ever (Python 3.11). Here every process has a
pipe of its own, which closes with it.
"""

import contextlib
import multiprocessing
import pickle
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import spawn, util

import cloudpickle
import grain

from keras_video_focalnet.data.workers import WorkerDiedError, work

# Batches that are in the making or ready, for every worker.
AHEAD = 2

_starting = threading.Lock()


class WorkerBatches(grain.IterDataset):
    """Element `n` is `make_batch(n)`, for every n of a range in order, each made in one of several processes, which
    start with the first batch that an iterator is asked for.
    """

    def __init__(self, make_batch: Callable[[int], tuple], numbers: range, workers: int):
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
        self._workers = [None] * min(workers, max(len(numbers), 1))
        self._is_closed = False

    def __next__(self):
        self._check_open()
        if self._given == len(self._numbers):
            self._stop()
            raise StopIteration
        try:
            self._start()
            # The batch that is given out makes room for another before anybody waits for it.
            for place in range(self._asked, min(self._given + AHEAD * len(self._workers) + 1, len(self._numbers))):
                self._ask(place)
                self._asked = place + 1
            batch, failure = self._wait()
            if failure:
                error, text = failure
                raise error from RuntimeError(
                    f"It was raised where a batch of a worker process was made or read:\n{text}"
                )
        except BaseException:
            # Also a signal's, anywhere above: the next call begins anew with the batch that was not given.
            self._stop()
            raise
        self._given += 1
        return batch

    def _check_open(self):
        if self._is_closed:
            raise ValueError("the iterator was closed; take a new one from the data set.")

    def _start(self):
        """All at once: a process takes seconds to start."""
        if None in self._workers:
            pickled = cloudpickle.dumps(self._make_batch)
            self._workers = [worker or _Worker(pickled) for worker in self._workers]

    def _ask(self, place):
        self._workers[place % len(self._workers)].ask(self._numbers[place])

    def _wait(self):
        """The next batch; a worker that died is replaced once, by one that is asked for all that it owes."""
        which = self._given % len(self._workers)
        result = self._workers[which].result()
        if result is None:
            self._check_open()  # Another thread may have closed it.
            # Whatever killed it may have been somebody else's hunger for memory.
            self._workers[which].end()
            self._workers[which] = None
            self._start()
            for place in range(self._given, self._asked, len(self._workers)):
                self._ask(place)
            result = self._workers[which].result()
        if result is None:
            self._check_open()
            raise WorkerDiedError(
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
        self._is_closed = True
        self._stop()
        super().close()

    def _stop(self):
        workers, self._workers = self._workers, [None] * len(self._workers)
        self._asked = self._given
        for worker in workers:
            if worker is not None:
                worker.end()


class _Worker:
    """A process that makes batches, and a thread of this one that takes them in; the function that makes them comes
    pickled.
    """

    def __init__(self, pickled):
        context = multiprocessing.get_context("spawn")
        self._connection, others = context.Pipe()
        process = context.Process(target=work, args=(others,))
        # Called by itself where the iterator is dropped, and when Python ends, before it waits for its processes. Does
        # nothing the second time, nor in a fork of this process.
        self.end = util.Finalize(self, _kill, (process,), exitpriority=100)
        with _without_main_script():
            process.start()
        if util.is_exiting():
            # Asked for by another thread, after all processes were told to end.
            _kill(process)
            raise RuntimeError("no worker process can start: Python is ending.")
        # The process holds it alone now: it closes when the process ends, however that ends.
        others.close()
        # Not an argument of the process, which could die before it has read so much and leave this one writing.
        self._pickled = pickled
        self._results = queue.SimpleQueue()
        threading.Thread(target=_take_in, args=(self._connection, self._results), daemon=True).start()

    def ask(self, number):
        with contextlib.suppress(OSError):  # It died: its results say so.
            if self._pickled is not None:
                self._connection.send_bytes(self._pickled)
                self._pickled = None
            self._connection.send(number)

    def result(self):
        """The next batch and None, or None and what was raised; None in place of both where the process died."""
        return self._results.get()


@contextlib.contextmanager
def _without_main_script() -> Iterator[None]:
    """Let the processes that this thread starts not import the main script.

    A script that trains would begin to train in every worker. What a worker needs of the script comes to it pickled by
    value.
    """
    with _starting:
        prepare, thread = spawn.get_preparation_data, threading.get_ident()

        def prepare_without(name):
            data = prepare(name)
            if threading.get_ident() == thread:
                for key in ("init_main_from_name", "init_main_from_path"):
                    data.pop(key, None)
            return data

        spawn.get_preparation_data = prepare_without
        try:
            yield
        finally:
            spawn.get_preparation_data = prepare


def _kill(process):
    """At once: a worker takes no SIGTERM, and what it is making nobody wants."""
    if process.pid is not None:
        process.kill()
        process.join()


def _take_in(connection, results):
    # The connection closes when the last has let go of it: the other thread may be writing.
    try:
        while True:
            # Without a name: waiting for the next, it would hold the one before.
            results.put(_loaded(connection.recv_bytes()))
    except (EOFError, OSError):
        pass
    finally:
        results.put(None)


def _loaded(answer):
    try:
        return pickle.loads(answer)
    except Exception as error:
        failure = RuntimeError(f"a batch that a worker process made cannot be read here: {error!r}")
        return None, (failure, traceback.format_exc())
