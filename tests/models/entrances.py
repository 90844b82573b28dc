"""Clips, right and wrong, the entrances that they are given to, and what gives them in batches."""

import warnings

import keras
import numpy as np
import pytest

from tests.exporting.small_model import small

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
CLIPS = RNG.integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([0, 1])
WRONG = {
    "channels first": (np.moveaxis(CLIPS, -1, 1), r"received \(2, 3, 4, 32, 32\).*moveaxis\(.*, 1, -1\)"),
    "frames, channels": (np.moveaxis(CLIPS, -1, 2), r"received \(2, 4, 3, 32, 32\).*moveaxis\(.*, 2, -1\)"),
    "swapped": (np.swapaxes(CLIPS, 1, -1), r"received \(2, 3, 32, 32, 4\).*swapaxes\(.*, 1, -1\)"),
    "other sides": (CLIPS.reshape(2, 8, 16, 32, 3), r"received \(2, 8, 16, 32, 3\)"),
    "grey": (CLIPS[..., :1], r"received \(2, 4, 32, 32, 1\).*repeated three times"),
    "no channels": (CLIPS[..., 0], r"received \(2, 4, 32, 32\)"),
}
CALLS = {
    "call": lambda model, x: model(x),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "fit": lambda model, x: model.fit(x, LABELS, verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, LABELS, verbose=0),
    "train_on_batch": lambda model, x: model.train_on_batch(x, LABELS),
    "test_on_batch": lambda model, x: model.test_on_batch(x, LABELS),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "validation_data": lambda model, x: model.fit(CLIPS, LABELS, validation_data=(x, LABELS), verbose=0),
}


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.x, LABELS


def tensorflow_dataset(x):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensors((x, LABELS))


def tensorflow_dataset_of_unknown_shape(x):
    tf = pytest.importorskip("tensorflow")
    unknown = tf.TensorSpec([None] * x.ndim, tf.uint8), tf.TensorSpec([None], tf.int64)
    return tf.data.Dataset.from_generator(lambda: iter([(x, LABELS)]), output_signature=unknown)


def grain_dataset(x):
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(x, LABELS, strict=True))).batch(2)


def generator(x):
    yield x, LABELS


SOURCES = [Batches, tensorflow_dataset, tensorflow_dataset_of_unknown_shape, grain_dataset, generator]


def compiled(**options):
    model = small(**options)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


class Stop(Exception):
    pass


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [one for one in caught if "takes pixels of 0 to 255" in str(one.message)]
