"""Batches made by a function of their number, in this process or in worker processes."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    import multiprocessing.connection

    import grain


class WorkerDiedError(RuntimeError):
    """Two worker processes in a row died while they made one batch."""


def batches_by_number(
    make_batch: Callable[[int], tuple], first: int = 0, stop: int | None = None, workers: int = 0
) -> "grain.IterDataset":
    """A Grain data set whose element `n` is `make_batch(n)`, for every n from `first` to before `stop`, in order.

    Which process makes a batch changes neither the batch nor the order, so a run can go on at any number, with any
    number of workers. Each of these makes two batches ahead; without workers every batch is made in this process when
    it is asked for. A worker does not import the main script: functions of a script or a notebook are sent to it.
    """
    try:
        import grain
    except ImportError as error:
        raise ImportError("Batches of videos need Grain: pip install 'keras-video-focalnet[train]'.") from error
    last = sys.maxsize if stop is None else max(stop, first)
    if workers:
        from keras_video_focalnet.data.worker_batches import WorkerBatches

        return WorkerBatches(make_batch, range(first, last), workers)
    # No threads that make batches ahead: without workers nothing is to run beside the training.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return grain.MapDataset.range(first, last).map(make_batch).to_iter_dataset(options)


def work(connection: "multiprocessing.connection.Connection") -> None:
    """What a worker process does: over a connection it receives the function by cloudpickle, then numbers, and answers
    each as `_answer` does, until the process that started it kills it.
    """
    # A signal to the whole group is for the main process: it saves what is to be saved, and then stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.name == "posix":
        # A program that a batch starts must not hold it open when this process is gone.
        os.set_inheritable(connection.fileno(), False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        pickled = connection.recv_bytes()
        while True:
            connection.send_bytes(_answer(pickled, connection.recv()))


def _answer(pickled, number):
    """The batch and None, or None and what was raised with its traceback as text; pickled."""
    try:
        return pickle.dumps((_function(pickled)(number), None), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        text = traceback.format_exc()
        if not isinstance(error, StopIteration):  # That would end the data without a word.
            with contextlib.suppress(Exception):
                answer = pickle.dumps((None, (error, text)))
                pickle.loads(answer)
                return answer
        return pickle.dumps((None, (RuntimeError(repr(error)), text)))


@functools.cache
def _function(pickled):
    import cloudpickle

    return cloudpickle.loads(pickled)


def _end_with_parent():
    """Where the main process is killed, nobody is left to stop its workers."""
    multiprocessing.parent_process().join()
    os._exit(1)
