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


def batches_by_number(make_batch, first=0, stop=None, workers=0):
    """A Grain data set whose element `n` is `make_batch(n)`, for every n from `first` on, in order.

    Which process makes a batch changes neither the batch nor the order, so a run can go on at any number, with any
    number of workers.

    Args:
        make_batch: Function from a batch's number to a tuple of arrays.
        first: Number of the first batch.
        stop: Number behind the last batch; None for no end.
        workers: Number of worker processes, which make two batches each ahead; 0 makes every batch in this process when
            it is asked for. Python starts a worker by importing the main script (not a notebook): what a script does,
            and its import of Keras, belongs under `if __name__ == "__main__":`.

    Returns:
        A `grain.IterDataset`.

    Raises:
        ImportError: Grain is not installed.

    Example:
        >>> [int(square) for (square,) in batches_by_number(lambda number: (np.square(number),), first=2, stop=5)]
        [4, 9, 16]
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


def work(connection):
    """What a worker process does: it answers numbers by batches, until the process that started it kills it.

    Args:
        connection: Gives first the function from a number to a batch, by cloudpickle, then numbers; takes for each a
            pickled pair, as `_answer` makes it.
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
