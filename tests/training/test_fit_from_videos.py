"""`model.fit` and `model.evaluate` straight from videos, with worker processes, on the running backend."""

import gc
import itertools
import multiprocessing
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_video_focalnet.data.broken import BrokenVideosError
from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.pipeline import ClipDataset
from tests.clips import encode

CLASSES = ("even", "odd")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos, each of a brightness of its own, and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    records = []
    for number in range(8):
        frames = rng.integers(0, 40, (10, 40, 48, 3), dtype=np.uint8) + np.uint8(30 * number)
        records.append(VideoRecord(str(encode(folder / f"{number}.mp4", frames)), number % 2))
    (folder / "text.mp4").write_text("not found")
    records.insert(3, VideoRecord(str(folder / "text.mp4"), 0))
    return VideoList(records, CLASSES)


def dataset(videos, **arguments):
    return ClipDataset(videos, 4, num_frames=4, size=32, **{"max_broken": 0.2} | arguments)


@pytest.fixture(scope="module")
def model():
    """A model whose rate is zero, so that the loss of a batch tells which batch it was."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 50), keras.layers.GlobalAveragePooling3D()]
    model = keras.Sequential([keras.Input((4, 32, 32, 3)), *layers, keras.layers.Dense(2, activation="softmax")])
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="categorical_crossentropy", weighted_metrics=[accuracy])
    return model


def fitted(model, data, epochs, first=0):
    """The running mean of the loss after every step of `fit`."""
    seen = []
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"])))
    model.fit(data.batches(first), steps_per_epoch=len(data), epochs=epochs, verbose=0, callbacks=[keep])
    return seen


def expected(model, data, epochs):
    """The same from the batches themselves."""
    batches = list(itertools.islice(data.batches(), epochs * len(data)))
    scores = model.predict(np.concatenate([clips for clips, _ in batches]), batch_size=4, verbose=0)
    targets = np.concatenate([targets for _, targets in batches])
    losses = -np.log((scores * targets).sum(axis=1)).reshape(epochs, len(data), 4).mean(axis=2)
    return (np.cumsum(losses, axis=1) / np.arange(1, len(data) + 1)).ravel()


def children():
    gc.collect()
    return multiprocessing.active_children()


def test_fit_sees_the_batches_of_the_data_set_in_order(model, videos):
    training = dataset(videos, training=True, workers=2)
    losses = expected(model, dataset(videos, training=True), epochs=2)
    assert np.ptp(losses) > 0.1
    np.testing.assert_allclose(fitted(model, training, epochs=2), losses, rtol=1e-4)
    assert training.broken.videos.keys() == {videos[3].path}
    assert children() == []
    resumed = fitted(model, dataset(videos, training=True), epochs=1, first=len(training))
    np.testing.assert_allclose(resumed, losses[len(training) :], rtol=1e-4)


def test_evaluate_leaves_out_padding_and_broken_videos(model, videos):
    validation = dataset(videos)
    accuracy = model.evaluate(validation.batches(), verbose=0, return_dict=True)["accuracy"]
    assert validation.broken.videos.keys() == {videos[3].path}
    clips, targets, weights = (np.concatenate(arrays) for arrays in zip(*validation.batches(), strict=True))
    right = model.predict(clips, batch_size=4, verbose=0).argmax(axis=1) == targets.argmax(axis=1)
    assert weights.sum() == 8
    assert accuracy == pytest.approx(right[weights > 0].mean())


def test_too_many_broken_videos_stop_fit(model, videos):
    training = dataset(videos, training=True, max_broken=0.1)
    # The third batch has it: Keras looks at two before it trains, and TensorFlow wraps what comes later.
    first = next(number for number in range(2, 20) if videos[3].path in training.names(number)) - 2
    with pytest.raises(Exception, match="1 of an epoch.s videos cannot be read"):
        model.fit(training.batches(first), steps_per_epoch=len(training), verbose=0)
    assert isinstance(training.broken.error, BrokenVideosError)


# ---- tf.data


tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data and tf.distribute")


@tensorflow_only
@pytest.mark.parametrize("training", [True, False])
def test_tf_data_has_static_shapes_and_the_same_batches(videos, training):
    data = dataset(videos, training=training, workers=int(training))
    batches = data.tf_data(first=1)
    assert [spec.shape.as_list() for spec in batches.element_spec] == [[4, 4, 32, 32, 3], [4, 2], [4]][
        : 2 + (not training)
    ]
    assert int(batches.cardinality()) == (-1 if training else 2)
    others = dataset(videos, training=training).batches(first=1)
    for batch, other in zip(batches.take(2), others, strict=False):
        for array, wanted in zip(batch, other, strict=True):
            np.testing.assert_array_equal(array, wanted)
    assert children() == []


MIRRORED = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras

from keras_video_focalnet.data.datasets import video_list
from keras_video_focalnet.data.pipeline import ClipDataset


def losses(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    data = ClipDataset(video_list(sys.argv[1]), 4, num_frames=4, size=32, training=True, max_broken=0.2)
    return model.fit(data.tf_data(), steps_per_epoch=len(data), epochs=2, verbose=0).history["loss"]


if __name__ == "__main__":
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    print(*losses(strategy), *losses(tf.distribute.get_strategy()))
"""


@tensorflow_only
def test_tf_data_under_mirrored_strategy_trains_as_on_one_device(videos, tmp_path):
    (tmp_path / "script.py").write_text(MIRRORED)
    (tmp_path / "list.csv").write_text("".join(f"{record.path},{record.label}\n" for record in videos))
    command = [sys.executable, tmp_path / "script.py", tmp_path / "list.csv"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    values = np.array(ended.stdout.split(), float)
    assert values.shape == (4,)
    np.testing.assert_allclose(values[:2], values[2:], rtol=1e-5)
