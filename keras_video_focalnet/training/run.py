"""Where a run stands: counts its steps, keeps its history and its checkpoints."""

import contextlib
import json
import signal
import threading

import keras
import numpy as np

from keras_video_focalnet.training.callbacks import NonFiniteLossError
from keras_video_focalnet.training.recipe import CROSS_ENTROPY
from keras_video_focalnet.training.state import averaged_weights, capture, restore, restore_generator
from keras_video_focalnet.weights.safetensors_file import write_safetensors

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingInterrupted(Exception):
    """SIGTERM or SIGINT came; the run's state is saved, and resuming goes on from there.

    Attributes:
        number: the signal's number.
    """

    def __init__(self, message, number):
        super().__init__(message)
        self.number = number


class Run(keras.callbacks.Callback):
    """A run's position, history and best epoch; saves all of it with the model's state, and puts it back.

    Args:
        checkpoints: a `CheckpointFolder`.
        steps_per_epoch: int.
        save_every: int, steps between checkpoints; there is one at the end of every epoch besides.
        best: file of the best epoch's weights.
        about: what a resumed run must have in common with the one that was saved, as JSON can hold it.
        distribution: a `Distribution`, of whose processes the first writes.

    Attributes:
        step: int, steps taken.
        history: dict of lists, one value an epoch.
        stream: the `BatchStream` that feeds `fit`; to be set before.
    """

    def __init__(self, checkpoints, steps_per_epoch, save_every, best, about, distribution):
        super().__init__()
        self.checkpoints = checkpoints
        self.steps_per_epoch = steps_per_epoch
        self.save_every = save_every
        self.best = best
        # Compared with what was JSON once.
        self.about = json.loads(json.dumps(about))
        self.distribution = distribution
        self.writes = distribution.process_index == 0
        self.step = 0
        self.history = {}
        self.stream = None
        self._best_value = None
        self._state = None
        self._generator = None
        self._begun_within = False
        self._signal = None
        self._handlers = {}

    @property
    def epoch(self):
        """The running epoch, from 0."""
        return self.step // self.steps_per_epoch

    def go_on(self):
        """Take the position of the newest checkpoint; its state goes into the model when `fit` begins.

        Returns:
            Whether there was one.

        Raises:
            ValueError: the checkpoint is of a run that differs in `about`; the message tells in what.
        """
        saved = self.checkpoints.newest()
        if saved is None:
            return False
        step, state, about = saved
        for name in sorted(self.about.keys() | about["run"].keys()):
            then, now = about["run"].get(name), self.about.get(name)
            if then != now:
                raise ValueError(
                    f"{name} is {now!r}, but the run in {self.checkpoints.folder} was begun with {then!r}; resume with "
                    "that, or begin anew in another folder."
                )
        self.step, self._state = step, state
        self.history, self._best_value = about["history"], about["best"]
        return True

    def on_epoch_begin(self, epoch, logs=None):
        """Put the saved state back: within an epoch with its metrics, which Keras has just emptied."""
        self._begun_within = self.step % self.steps_per_epoch != 0
        self._generator = self._state
        self.put_back(self.model)
        if not self._begun_within:
            self.model.reset_metrics()
        self.stream.reset()

    def on_train_batch_begin(self, batch, logs=None):
        """Put torch's generator back once more: its data loader has drawn from it in the meantime."""
        if self._generator is not None:
            # The other processes draw on their own: what was saved is the first one's.
            if self.writes:
                restore_generator(self._generator)
            self._generator = None

    def on_train_batch_end(self, batch, logs=None):
        """Count the step; save where it is due."""
        self.step += 1
        if self.step % self.steps_per_epoch == 0:
            return
        if self._signal or self.step % self.save_every == 0:
            self._save(self._finite_state())

    def on_epoch_end(self, epoch, logs=None):
        """Add the epoch to the history, keep its weights if they are the best, save."""
        state = self._finite_state()
        # A callback may have ended the epoch before its time.
        if self.step % self.steps_per_epoch == 0:
            self._add_to_history(epoch, logs)
        # After a shorter epoch `fit` ends, and puts moving averages in the place of weights that are still to train.
        self._state = state if self._begun_within else None
        self._save(state)

    def _add_to_history(self, epoch, logs):
        logs = {name: float(value) for name, value in logs.items()}
        # Where validation has rows that do not count, Keras's mean takes them for rows without a loss.
        logs |= {"val_loss": logs[f"val_{CROSS_ENTROPY}"]} if f"val_{CROSS_ENTROPY}" in logs else {}
        row = {"epoch": epoch + 1, "step": self.step}
        row |= {name: value for name, value in logs.items() if name.removeprefix("val_") != CROSS_ENTROPY}
        row |= {"learning_rate": float(self.model.optimizer.learning_rate), **self.stream.speed()}
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        value = row.get("val_top1", row.get("top1"))
        if value is not None and (self._best_value is None or value >= self._best_value):
            self._best_value = value
            if self.writes:
                weights = averaged_weights(self.model)
                write_safetensors(self.best, {f"{n:05d}": array for n, array in enumerate(weights)})

    @property
    def waits(self):
        """Whether a saved state is still to be put into the model."""
        return self._state is not None

    def put_back(self, model):
        """Put the saved state into a model, where one waits for it."""
        if self.waits:
            restore(model, self._state)
            self.distribution.synchronize(model)
            self._state = None

    @contextlib.contextmanager
    def saving_at_signals(self):
        """Let SIGTERM and SIGINT end the run once its state is saved: after the running step, or after the validation.

        A second one ends it at once.
        """
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread may say what a signal does.
            yield
            return
        self._handlers = {number: signal.signal(number, self._remember) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _remember(self, number, frame):
        self._signal = signal.Signals(number)
        # Who sends another does not want to wait.
        for other, handler in self._handlers.items():
            signal.signal(other, handler)

    def _finite_state(self):
        """The state to save. Every process takes part: to read metrics is something that they do together."""
        state = capture(self.model)
        if not all(np.isfinite(array).all() for name, array in state.items() if name.startswith("model/")):
            raise NonFiniteLossError(
                f"weights are no numbers after step {self.step}, though the loss was one: a gradient was not. They are "
                "not saved; resume goes on from the checkpoint before. Lower the learning rate, or compute in float32."
            )
        return state

    def _save(self, state):
        about = {"run": self.about, "history": self.history, "best": self._best_value}
        if self.writes:
            self.checkpoints.save(self.step, state, about)
        if self._signal:
            message = f"{self._signal.name} came at step {self.step}; the run is saved, resume it to go on."
            raise TrainingInterrupted(message, int(self._signal))
