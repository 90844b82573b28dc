"""What `make.py` and the tests of its files have in common."""

import hashlib

import keras
import numpy as np

from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.workers import batches_by_number


class Clips:
    """Random clips of five classes, two steps an epoch; batch number n is a function of n."""

    batch_size = 2

    def __init__(self):
        self.broken = BrokenVideos()

    def __len__(self):
        return 2

    def batches(self, first=0):
        """The batches from a number on."""
        return batches_by_number(self.batch, first, None)

    def batch(self, number):
        """Clips and targets."""
        rng = np.random.default_rng(number)
        targets = np.eye(5, dtype="float32")[rng.integers(5, size=2)]
        return rng.integers(256, size=(2, 4, 32, 32, 3), dtype="uint8"), targets

    def names(self, number):
        """Names of the videos of a batch."""
        return [f"video{number}.mp4"]


class PowerCut(keras.callbacks.Callback):
    """Ends training at a step of the run."""

    def __init__(self, step):
        super().__init__()
        self.step, self.seen = step, 0

    def on_train_batch_begin(self, batch, logs=None):
        """Counts steps."""
        self.seen += 1
        if self.seen == self.step:
            raise RuntimeError("the power is gone")


def digest(model):
    """A digest of the weights of a model in whatever order, whose names may change where their numbers may not."""
    return hashlib.sha256(b"".join(sorted(map(_digest, model.weights)))).hexdigest()


def _digest(weight):
    array = keras.ops.convert_to_numpy(weight)
    # Integers are of 64 bits, because backends differ in theirs.
    array = array if array.dtype.kind == "f" else array.astype("int64")
    return hashlib.sha256(array.tobytes() + str(array.shape).encode()).digest()
