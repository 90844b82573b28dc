"""`train`: what it leaves behind, and that a run that was stopped comes to the same result as one that was not."""

import csv
import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest

from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.workers import batches_by_number
from keras_video_focalnet.training.callbacks import NonFiniteLossError
from keras_video_focalnet.training.recipe import recipe
from keras_video_focalnet.training.run import TrainingInterrupted
from keras_video_focalnet.training.train import load_best, train

STEPS, EPOCHS = 4, 3
RECIPE = recipe("k400", epochs=EPOCHS, warmup_epochs=1.0, rate_batch=4, use_ema=True, ema_momentum=0.9)


class Clips:
    """Random clips of three classes; batch number n is a function of n."""

    batch_size = 4

    def __init__(self, poison=None, stop=None):
        self.broken = BrokenVideos()
        self.poison, self.stop = poison, stop

    def __len__(self):
        return self.stop or STEPS

    def batches(self, first=0):
        return batches_by_number(self.batch, first, self.stop)

    def batch(self, number):
        rng = np.random.default_rng(number)
        targets = np.eye(3, dtype="float32")[rng.integers(3, size=4)]
        clips = rng.integers(256, size=(4, 2, 8, 8, 3), dtype="uint8")
        if self.stop:
            # Of the last batch one row counts.
            return clips, targets, np.float32([1, *[number + 1 < self.stop] * 3])
        return clips, targets * np.float32(np.nan if number == self.poison else 1)

    def names(self, number):
        return [f"video{number}.mp4"]


class RaiseAt(keras.callbacks.Callback):
    """Ends training like a crash, or by a signal, at some step of the run."""

    def __init__(self, *steps, signal_number=None):
        super().__init__()
        self.steps, self.signal_number, self.seen = steps, signal_number, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1
        if self.seen in self.steps:
            if self.signal_number is None:
                raise RuntimeError("the power is gone")
            os.kill(os.getpid(), self.signal_number)


def model():
    keras.utils.set_random_seed(1)
    clip = keras.Input((2, 8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(clip))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(8, activation="relu", name="stage0_block0")(x))
    return keras.Model(clip, keras.layers.Dense(3, name="head")(x))


def run(out, callbacks=(), network=None, source=None, **options):
    """Trains; gives the model and the history."""
    network = model() if network is None else network
    options = {"progress": False, "recipe": RECIPE} | options
    return network, train(network, source or Clips(), Clips(stop=2), out=out, callbacks=callbacks, **options)


def test_a_run_that_was_stopped_twice_comes_to_the_same_weights_and_history(tmp_path):
    unbroken, history = run(tmp_path / "unbroken")
    out = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="the power is gone"):
        run(out, [RaiseAt(4)], save_every=2)
    with pytest.raises(TrainingInterrupted, match="SIGTERM came at step 5"):
        run(out, [RaiseAt(3, signal_number=signal.SIGTERM)], resume=True, save_every=2)
    resumed, again = run(out, resume=True, save_every=2)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("epoch", "step", "loss", "top1", "val_loss", "val_top1", "learning_rate"):
        assert again[name] == history[name], name
    assert history["epoch"] == [1, 2, 3]
    assert history["step"] == [4, 8, 12]


def test_a_finished_run_gives_its_model_and_history_again(tmp_path):
    trained, history = run(tmp_path)
    again, same = run(tmp_path, resume=True)
    assert same == history
    for ours, theirs in zip(again.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path):
    unbroken, _ = run(tmp_path / "unbroken")
    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", [RaiseAt(10)], save_every=3)
    *_, newest = sorted((tmp_path / "broken" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{newest.name} cannot be read"):
        resumed, _ = run(tmp_path / "broken", resume=True)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_videos(tmp_path):
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 6"):
        run(tmp_path, source=Clips(poison=6), save_every=1)
    assert json.loads((tmp_path / "not_finite.json").read_text())["videos"] == ["video6.mp4"]
    assert not any("00000007" in path.name for path in (tmp_path / "checkpoints").iterdir())


def test_what_a_run_leaves_behind(tmp_path):
    trained, history = run(tmp_path, tensorboard=True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert {"val_top1", "val_top5", "clips_per_second", "data_wait_share"} <= rows[0].keys()
    assert all(0 <= float(row["data_wait_share"]) <= 1 for row in rows)
    assert _events(tmp_path / "logs") == pytest.approx(history["loss"])
    best = model()
    load_best(best, tmp_path)
    if history["val_top1"][-1] == max(history["val_top1"]):
        for ours, theirs in zip(best.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def _events(folder):
    """The losses in a file of TensorBoard events."""
    from tensorboard.compat.proto.event_pb2 import Event

    data, losses = b"".join(path.read_bytes() for path in sorted(folder.iterdir())), []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        losses += [value.simple_value for value in event.summary.value if value.tag == "loss"]
        data = data[16 + length :]
    return losses


def test_validation_is_of_the_rows_that_count(tmp_path):
    network, history = run(tmp_path, recipe=dataclasses.replace(RECIPE, use_ema=False))
    clips, targets, weights = (
        np.concatenate(arrays) for arrays in zip(*map(Clips(stop=2).batch, range(2)), strict=True)
    )
    assert weights.sum() == 5
    counted = weights == 1
    loss, top1, *_ = network.evaluate(clips[counted], targets[counted], verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert history["val_top1"][-1] == pytest.approx(top1)
    assert not any("cross_entropy" in name for name in history)


class StopAt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def test_a_callback_may_end_the_run(tmp_path):
    _, history = run(tmp_path, [StopAt()])
    assert history["epoch"] == [1, 2]


class PoisonedGradient(keras.layers.Layer):
    """Passes on what it gets, with weights that become no numbers while the loss is one."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(1,), initializer="zeros")

    def call(self, x):
        return x + keras.ops.sqrt(keras.ops.abs(self.scale))


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    clip = keras.Input((2, 8, 8, 3))
    x = PoisonedGradient()(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(clip)))
    network = keras.Model(clip, keras.layers.Dense(3)(x))
    with pytest.raises(NonFiniteLossError):
        run(tmp_path, network=network, save_every=1)
    assert not list((tmp_path / "checkpoints").glob("*"))
    assert not (tmp_path / "best.safetensors").exists()


def test_events_of_a_run_that_was_stopped_within_an_epoch(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, [RaiseAt(7)], save_every=2, tensorboard=True)
    _, history = run(tmp_path, resume=True, tensorboard=True)
    assert _events(tmp_path / "logs") == pytest.approx(history["loss"])


def test_checkpoints_are_not_overwritten_unasked(tmp_path):
    run(tmp_path)
    with pytest.raises(FileExistsError, match="holds checkpoints of a run; pass resume=True"):
        run(tmp_path)


def test_another_recipe_is_not_resumed(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="weight_decay is 0.5, but the run in .* was begun with"):
        run(tmp_path, resume=True, recipe=dataclasses.replace(RECIPE, weight_decay=0.5))


def test_another_model_is_not_resumed(tmp_path):
    run(tmp_path)
    clip = keras.Input((2, 8, 8, 3))
    other = keras.Model(clip, keras.layers.Dense(3, name="head")(keras.layers.Flatten()(clip)))
    with pytest.raises(ValueError, match="state does not fit the model"):
        run(tmp_path, network=other, resume=True)
