"""Batches on their way into `fit`, and the time that `fit` waited for them."""

import itertools
import time

import keras

CLIPS_PER_SECOND = "clips_per_second"
DATA_WAIT = "data_wait_share"


class BatchStream:
    """The batches of a source from one number on, counted and timed. Each iteration begins anew.

    Args:
        source: has `batches(first)`, an iterable of `(clips, targets)` from batch number `first` on.
        first: int, number of the first batch.

    Attributes:
        example: the first batch.
    """

    def __init__(self, source, first=0):
        self._source = source
        self._first = first
        self._started = iter(source.batches(first))
        self.example = next(self._started)
        self.reset()

    def reset(self):
        """Begin to measure anew."""
        self._begin, self._waited, self._clips = time.perf_counter(), 0.0, 0

    def speed(self):
        """Clips per second and the share of time that was spent waiting for data, since `reset`.

        Returns:
            Dict of two floats, `clips_per_second` and `data_wait_share` (0 to 1). Under a `tf.distribute` strategy
            TensorFlow fetches ahead, so that some of what is counted as waiting is hidden behind computation.
        """
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        return {CLIPS_PER_SECOND: self._clips / seconds, DATA_WAIT: self._waited / seconds}

    def __iter__(self):
        # Starting worker processes takes seconds: the ones that made the example go on.
        started, self._started = self._started, None
        batches = itertools.chain([self.example], started) if started else iter(self._source.batches(self._first))
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            self._clips += len(batch[0])
            yield batch

    def for_fit(self, length=None):
        """What `fit` takes: a generator, on TensorFlow a `tf.data.Dataset`.

        Keras would put a buffer behind a generator on TensorFlow, and nobody could tell who waits for whom.

        Args:
            length: how many batches there are; None for no end. Of a data set of TensorFlow's that ends without having
                told its length Keras 3.15 counts one step more, with the loss and the metrics of nothing.
        """
        if keras.backend.backend() != "tensorflow":
            return iter(self)
        import tensorflow as tf

        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in self.example)
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        cardinality = tf.data.INFINITE_CARDINALITY if length is None else length
        return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
