"""`train`: what it leaves behind, and that a run that was stopped comes to the same result as one that was not."""

import csv
import dataclasses
import json
import os
import re
import signal

import keras
import numpy as np
import pytest

from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.order import MIX
from keras_video_focalnet.data.workers import batches_by_number
from keras_video_focalnet.training.callbacks import NonFiniteLossError
from keras_video_focalnet.training.recipe import RENAMED, get_recipe
from keras_video_focalnet.training.results import best_epoch
from keras_video_focalnet.training.run import TrainingInterrupted
from keras_video_focalnet.training.sources import MixedBatches
from keras_video_focalnet.training.train import load_best, train
from keras_video_focalnet.utils.deprecation import rename_keys
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors

STEPS, EPOCHS = 4, 3
RECIPE = get_recipe("k400", epochs=EPOCHS, warmup_epochs=1.0, rate_batch=4, use_ema=True, ema_momentum=0.9)


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
    with pytest.raises(
        TrainingInterrupted, match="SIGTERM came at step 5, and the run is saved.* pass resume=True and out="
    ):
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
    assert {"val_top1", "clips_per_second", "data_wait_share"} <= rows[0].keys()
    # All answers are among the first five of three classes.
    assert not any("top5" in name for name in rows[0])
    assert all(0 <= float(row["data_wait_share"]) <= 1 and float(row["clips_per_second"]) > 0 for row in rows)
    assert _events(tmp_path / "logs") == pytest.approx(history["loss"])
    best = model()
    load_best(best, tmp_path)
    saved = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for ours, theirs in zip(saved.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    summary = json.loads((tmp_path / "summary.json").read_text())
    epoch = summary["best_epoch"]
    assert (epoch, summary["epochs"], summary["decided_by"]) == (best_epoch(history), EPOCHS, "val_top1")
    assert summary["metrics"]["val_loss"] == history["val_loss"][epoch - 1]
    assert read_safetensors_metadata(tmp_path / "best.safetensors")["epoch"] == str(epoch)
    assert summary["command"] == f"video-focalnet predict --weights {tmp_path / 'model.keras'} VIDEO"
    assert all((tmp_path / name).exists() for name in summary["files"])
    assert {"curves.png", "config.json", "metrics.csv", "checkpoints"} <= set(summary["files"])
    if epoch == EPOCHS:
        for ours, theirs in zip(best.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("history", "epoch"),
    [
        ({"loss": [1, 1, 1], "val_loss": [3, 1, 2], "val_top1": [0.5, 0.9, 0.9]}, 2),
        ({"loss": [1, 1, 1], "val_loss": [3, 2, 1], "val_top1": [0.5, 0.9, 0.9]}, 3),
        ({"loss": [1, 1, 1], "val_loss": [2, 2, 2], "val_top1": [0.9, 0.9, 0.9]}, 1),
        ({"loss": [3, 1, 2], "top1": [0.5, 0.5, 0.4]}, 2),
        ({"loss": [3, 2, 1], "average_precision": [0.5, 0.6, 0.5]}, 2),
        ({"loss": [3, 1, 2]}, 2),
    ],
)
def test_the_best_epoch_is_the_most_accurate_and_of_several_that_of_the_least_loss(history, epoch):
    assert best_epoch(history) == epoch


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


@pytest.mark.slow_on("tensorflow", "jax")
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


@pytest.mark.slow_on("tensorflow", "jax")
def test_events_of_a_run_that_was_stopped_within_an_epoch(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, [RaiseAt(7)], save_every=2, tensorboard=True)
    _, history = run(tmp_path, resume=True, tensorboard=True)
    assert _events(tmp_path / "logs") == pytest.approx(history["loss"])


@pytest.mark.slow_on("tensorflow", "jax")
def test_checkpoints_are_not_overwritten_unasked(tmp_path):
    run(tmp_path)
    with pytest.raises(FileExistsError, match="holds a run; pass resume=True to go on with it, or another out"):
        run(tmp_path)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_run_of_more_epochs_goes_on_from_the_end(tmp_path):
    # Of a rate that does not change the longer run is the same from the beginning.
    constant = dataclasses.replace(RECIPE, learning_rate=0.1, warmup_learning_rate=0.1, min_learning_rate=0.1)
    unbroken, history = run(tmp_path / "unbroken", recipe=constant)
    run(tmp_path / "longer", recipe=dataclasses.replace(constant, epochs=2))
    longer, again = run(tmp_path / "longer", recipe=constant, resume=True)
    assert again["loss"] == history["loss"]
    for ours, theirs in zip(longer.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "longer" / "config.json").read_text())["values"]["epochs"] == EPOCHS
    with pytest.raises(ValueError, match="epochs is 2, but the run in .* was begun with 3"):
        run(tmp_path / "longer", recipe=dataclasses.replace(constant, epochs=2), resume=True)


@pytest.mark.slow_on("tensorflow", "jax")
def test_what_the_recipe_wants_of_batches_is_done_by_train(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Mixing, "mix_targets", lambda self, *batch: seen.append(self) or batch[:2])
    run(tmp_path / "mixed", recipe=dataclasses.replace(RECIPE, epochs=1))
    assert set(seen) == {RECIPE.mixing(3)}
    seen.clear()
    source = Clips()
    source.mixing = None  # It says that nothing is to be done.
    run(tmp_path / "own", recipe=dataclasses.replace(RECIPE, epochs=1), source=source)
    assert seen == []


@pytest.mark.slow_on("tensorflow", "jax")
def test_batches_that_train_mixes_are_those_of_the_labels_themselves():
    source = Clips()
    mixing = get_recipe("k400").mixing(3)
    for number, (clips, targets) in zip(range(2, 6), MixedBatches(source, mixing, seed=7).batches(2), strict=False):
        own, labels = source.batch(number)
        expected = mixing(own, labels.argmax(-1), np.random.default_rng([7, MIX, number]))
        np.testing.assert_array_equal(clips, expected[0])
        np.testing.assert_array_equal(targets, expected[1])
    source.batch = lambda number: (np.zeros((4, 2, 8, 8, 3), "float32"), np.eye(3, dtype="float32")[[0, 1, 2, 0]])
    with pytest.raises(ValueError, match="the recipe mixes clips, which must be NumPy arrays of uint8"):
        next(MixedBatches(source, mixing, seed=7).batches())


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_run_of_a_version_that_left_mixing_to_the_clips_goes_on_so(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError):
        run(tmp_path, [RaiseAt(7)], save_every=2)
    for path in (tmp_path / "checkpoints").iterdir():
        about = json.loads(read_safetensors_metadata(path)["about"])
        assert about.pop("completes_clips")
        write_safetensors(path, read_safetensors(path), {"about": json.dumps(about)})
    monkeypatch.setattr(Mixing, "mix_targets", None)
    _, history = run(tmp_path, resume=True)
    assert history["epoch"] == [1, 2, 3]


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, history = run(tmp_path, [RaiseAt(2, signal_number=signal.SIGINT)])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert history["epoch"] == [1, 2, 3]


@pytest.mark.slow_on("tensorflow", "jax")
def test_progress_is_told_in_figures_with_units(tmp_path, capsys):
    source = Clips()
    source.broken.add("a.mp4", "a.mp4: no such file", 0)
    run(tmp_path, source=source, progress=True)
    printed = capsys.readouterr().err.splitlines()
    epochs = [line for line in printed if line.startswith("epoch ")]
    assert len(epochs) == EPOCHS
    figure = r"\d+(\.\d+)?"
    for part in (f"loss {figure}", f"val accuracy {figure}%", f"{figure} clips/s", r"waiting for data \d+%"):
        assert re.search(f"  {part}", epochs[0]), (part, epochs[0])
    broken = f"1 training video cannot be read (a.mp4: no such file); the list is {tmp_path / 'broken.csv'}"
    assert printed.count(broken) == 2  # Once when it is found, and in the summary.
    assert any(line.startswith(f"best epoch {best_epoch_told(tmp_path)} of 3: ") for line in printed)
    assert printed[-1] == f"try it: video-focalnet predict --weights {tmp_path / 'model.keras'} VIDEO"


def best_epoch_told(out):
    return json.loads((out / "summary.json").read_text())["best_epoch"]


@pytest.mark.slow_on("tensorflow", "jax")
def test_another_recipe_is_not_resumed(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="weight_decay is 0.5, but the run in .* was begun with"):
        run(tmp_path, resume=True, recipe=dataclasses.replace(RECIPE, weight_decay=0.5))


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_run_whose_checkpoints_have_the_old_names_is_resumed(tmp_path):
    unbroken, history = run(tmp_path / "unbroken")
    out = tmp_path / "broken"
    with pytest.raises(RuntimeError):
        run(out, [RaiseAt(7)], save_every=2)
    for path in (out / "checkpoints").iterdir():
        about = json.loads(read_safetensors_metadata(path)["about"])
        about["run"] = rename_keys(about["run"], {new: old for old, new in RENAMED.items()})
        assert about["run"]["base_rate"] == 0.1 and "learning_rate" not in about["run"]
        write_safetensors(path, read_safetensors(path), {"about": json.dumps(about)})
    with pytest.raises(ValueError, match="learning_rate is 0.5, but the run in .* was begun with 0.1"):
        run(out, resume=True, recipe=dataclasses.replace(RECIPE, learning_rate=0.5))
    resumed, again = run(out, resume=True)
    assert again["loss"] == history["loss"]
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class ClipsOfSeveralLabels(Clips):
    """The same clips with several labels each, and a weight for each clip."""

    multi_label = True

    def batch(self, number):
        clips, _, *weights = super().batch(number)
        targets = np.random.default_rng([number, 1]).integers(2, size=(4, 3)).astype("float32")
        return clips, targets, *(weights or [np.ones(4, "float32")])


def train_several(out, callbacks=(), weights=(1.0, 2.0, 0.5), **options):
    network, training, validation = model(), ClipsOfSeveralLabels(), ClipsOfSeveralLabels(stop=2)
    options = {"progress": False, "recipe": RECIPE, "class_weights": weights} | options
    return network, train(network, training, validation, out=out, callbacks=callbacks, **options)


@pytest.mark.slow_on("tensorflow", "jax")
def test_several_labels_and_class_weights_survive_a_stop(tmp_path):
    unbroken, history = train_several(tmp_path / "unbroken")
    assert {"average_precision", "roc_auc", "val_average_precision", "val_roc_auc", "val_loss"} <= history.keys()
    out = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="the power is gone"):
        train_several(out, [RaiseAt(7)], save_every=2)
    with pytest.raises(ValueError, match=r"class_weights is \[1.0, 1.0, 1.0\], but the run in .* was begun with"):
        train_several(out, resume=True, weights=(1, 1, 1))
    with pytest.raises(ValueError, match="multi_label is left out, but the run in .* was begun with True"):
        run(out, resume=True, class_weights=(1.0, 2.0, 0.5))
    resumed, again = train_several(out, resume=True)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("loss", "average_precision", "roc_auc", "val_loss", "val_average_precision"):
        assert again[name] == history[name], name


@pytest.mark.slow_on("tensorflow", "jax")
def test_the_best_epoch_of_several_labels_is_that_of_their_average_precision(tmp_path):
    trained, history = train_several(tmp_path)
    values = history["val_average_precision"]
    best = model()
    load_best(best, tmp_path)
    recipe = dataclasses.replace(RECIPE, use_ema=False)
    recipe.compile(best, steps_per_epoch=STEPS, batch_size=4, multi_label=True)
    measured = best.evaluate(ClipsOfSeveralLabels(stop=2).batches(), steps=2, verbose=0, return_dict=True)
    assert measured["average_precision"] == pytest.approx(max(values), abs=1e-6)


@pytest.mark.slow_on("tensorflow", "jax")
def test_sources_of_one_label_and_of_several_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="one of the training and validation clips has several labels and the other"):
        run(tmp_path, source=ClipsOfSeveralLabels())


@pytest.mark.slow_on("tensorflow", "jax")
def test_another_model_is_not_resumed(tmp_path):
    run(tmp_path)
    clip = keras.Input((2, 8, 8, 3))
    other = keras.Model(clip, keras.layers.Dense(3, name="head")(keras.layers.Flatten()(clip)))
    with pytest.raises(ValueError, match="state does not fit the model"):
        run(tmp_path, network=other, resume=True)
