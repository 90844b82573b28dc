"""A Grain data set whose batches worker processes make; loaded where there are workers, and not in them.

Grain's own worker processes hand batches over through shared memory, of which containers have 64 MB by default; a
process that finds it full is killed. Told to take pipes instead, an iterator that is closed early can wait for ever
for the rest of a batch (grain 0.2.18). These are processes of `concurrent.futures`.
"""

import collections
import concurrent.futures
import multiprocessing
from concurrent.futures.process import BrokenProcessPool

import cloudpickle
import grain

from keras_video_focalnet.data.workers import begin_worker, made

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
    def __init__(self, make_batch, numbers, workers):
        super().__init__()
        self._make_batch = make_batch
        self._numbers = numbers
        self._workers = workers
        self._given = 0
        self._executor = None
        self._processes = []
        self._asked_for = collections.deque()

    def __next__(self):
        if self._given == len(self._numbers):
            self._stop_workers()
            raise StopIteration
        try:
            batch = self._wait()
        except BrokenProcessPool:
            # Whatever killed a worker may have been somebody else's hunger for memory.
            self._bury_workers()
            try:
                batch = self._wait()
            except BrokenProcessPool as error:
                self._bury_workers()
                number = self._numbers[self._given]
                raise RuntimeError(
                    f"a worker process died twice while batch {number} and those after it were made; a system short of "
                    "memory kills processes, and so may a damaged video: names(number) of the data set tells which are "
                    "in a batch. Pass fewer workers, or take the video out of the list."
                ) from error
        # Counted once it is here: an interrupted wait is begun again.
        self._asked_for.popleft()
        self._given += 1
        return batch

    def _wait(self):
        """The next batch, with those after it asked for."""
        if self._executor is None:
            others = multiprocessing.active_children()
            begin = begin_worker, (cloudpickle.dumps(self._make_batch),)
            spawn = multiprocessing.get_context("spawn")
            self._executor = concurrent.futures.ProcessPoolExecutor(self._workers, spawn, *begin)
            self._ask()
            self._processes = [child for child in multiprocessing.active_children() if child not in others]
        else:
            self._ask()
        return self._asked_for[0].result()

    def _ask(self):
        # The batch that is given out makes room for another before anybody waits for it.
        wanted = self._numbers[self._given + len(self._asked_for) : self._given + AHEAD * self._workers + 1]
        self._asked_for.extend(self._executor.submit(made, number) for number in wanted)

    def get_state(self):
        return {"given": self._given}

    def set_state(self, state):
        self._stop_workers()
        self._given = state["given"]

    def close(self):
        self._stop_workers()
        super().close()

    def _bury_workers(self):
        """Ends what is left of a pool that lost a process: they take no SIGTERM, and nobody reads what they write."""
        for process in self._processes:
            process.kill()
        self._stop_workers()

    def _stop_workers(self):
        """Ends the processes, each after the batch that it is making."""
        executor, self._executor = self._executor, None
        self._asked_for.clear()
        if executor is not None:
            executor.shutdown(cancel_futures=True)
