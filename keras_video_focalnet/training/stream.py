"""Batches on their way into `fit`, and the time that `fit` waits for them."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import keras

from keras_video_focalnet.data.batch_source import BatchSource

CLIPS_PER_SECOND = "clips_per_second"
DATA_WAIT = "data_wait_share"


class BatchStream:
    """The batches of a source from number `first` on, counted and timed; `example` is the first. Each iteration begins
    anew.
    """

    def __init__(self, source: BatchSource, first: int = 0):
        self._source = source
        self._first = first
        self._started = iter(source.batches(first))
        self.example = next(self._started)
        self.reset()

    def reset(self) -> None:
        """Begin a new measurement."""
        self._begin = self._end = time.perf_counter()
        self._waited, self._clips = 0.0, 0

    def count(self) -> None:
        """Count a batch that the model was trained on."""
        self._end = time.perf_counter()
        self._clips += len(self.example[0])

    def speed(self) -> dict[str, float]:
        """Measure clips per second from the last `reset` to the last `count`, and the fraction of that time that was
        spent waiting for data.

        Under a `tf.distribute` strategy TensorFlow fetches ahead, so that some of what is counted as waiting is hidden
        behind computation.
        """
        seconds = max(self._end - self._begin, 1e-9)
        # A batch may be fetched after the last step.
        return {CLIPS_PER_SECOND: self._clips / seconds, DATA_WAIT: min(self._waited / seconds, 1.0)}

    def __iter__(self) -> Iterator[tuple]:
        # Starting worker processes takes seconds, so those that made the example continue.
        started, self._started = self._started, None
        batches = itertools.chain([self.example], started) if started else iter(self._source.batches(self._first))
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def for_fit(self, length: int | None = None) -> Any:
        """Give what `fit` takes: an iterator, on TensorFlow a `tf.data.Dataset`, whose length is None where it does not
        end.

        On TensorFlow Keras would put a buffer behind an iterator, and the time that `fit` waits could not be measured.
        Keras 3.15 counts one step more, with a loss and metrics of nothing, where a `tf.data.Dataset` of unknown length
        ends.
        """
        if keras.backend.backend() != "tensorflow":
            return iter(self)
        import tensorflow as tf

        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in self.example)
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        cardinality = tf.data.INFINITE_CARDINALITY if length is None else length
        return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
