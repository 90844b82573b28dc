"""Where a run stands: it counts its steps, keeps its history and saves its checkpoints."""

import contextlib
import json
import os
import signal
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.training.callbacks import NonFiniteLossError
from keras_video_focalnet.training.checkpoint import CheckpointFolder
from keras_video_focalnet.training.config import check_same_settings
from keras_video_focalnet.training.distribution import Distribution
from keras_video_focalnet.training.losses import CROSS_ENTROPY, TOP5, TOP5_CLASSES
from keras_video_focalnet.training.recipe import RENAMED
from keras_video_focalnet.training.results import best_epoch
from keras_video_focalnet.training.state import averaged_weights, capture, restore, restore_generator
from keras_video_focalnet.training.stream import BatchStream
from keras_video_focalnet.utils.deprecation import rename_keys
from keras_video_focalnet.weights.run_folder import FACTS
from keras_video_focalnet.weights.safetensors_file import write_safetensors

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingInterrupted(Exception):
    """SIGTERM or SIGINT arrived, see `number`; the run's state is saved, and `resume=True` continues from there."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


class Run(keras.callbacks.Callback):
    """The position, history and best epoch of a run; saves all of it with the model's state, and restores it.

    `settings` are what a resumed run must have in common with the one that was saved: values that JSON can hold.
    `facts` are what `describe_model` tells, and are written beside weights. There
    is a checkpoint at the end of every epoch, and every `save_every` steps. Only the first process writes. The
    attribute `stream`, which feeds `fit`, must be set before `fit` is called.

    `completes_clips` says whether `train` does what the recipe wants and a data set leaves open; the checkpoints of
    earlier versions are of runs where it did not, and which go on so. `prepares_clips` says the same of normalizing
    the clips of data sets for a model that does not do that itself.
    """

    def __init__(
        self,
        checkpoints: CheckpointFolder,
        steps_per_epoch: int,
        save_every: int,
        best_path: str | os.PathLike,
        settings: dict[str, Any],
        distribution: Distribution,
        facts: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.checkpoints = checkpoints
        self.steps_per_epoch = steps_per_epoch
        self.save_every = save_every
        self.best_path = Path(best_path)
        # They are compared with settings that were read from JSON, where a tuple is a list.
        self.settings = json.loads(json.dumps(settings))
        self.distribution = distribution
        self.facts = facts or {}
        self.is_first_process = distribution.process_index == 0
        self.step = 0
        self.history: dict[str, list[float]] = {}
        self.stream: BatchStream | None = None
        self.completes_clips = self.prepares_clips = True
        self._pending_state: dict[str, np.ndarray] | None = None
        self._pending_generator: dict[str, np.ndarray] | None = None
        self._began_within_epoch = False
        self._signal: signal.Signals | None = None
        self._previous_handlers: dict[int, Any] = {}

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        return self.step // self.steps_per_epoch

    def resume(self) -> bool:
        """Take the position of the newest checkpoint, if there is one; its state goes into the model when `fit` begins.
        ValueError names the first setting in which that run differs.
        """
        saved = self.checkpoints.newest()
        if saved is None:
            return False
        step, state, metadata = saved
        check_same_settings(self.settings, rename_keys(metadata["run"], RENAMED), self.checkpoints.folder.parent)
        self.step, self._pending_state, self.history = step, state, metadata["history"]
        self.completes_clips = metadata.get("completes_clips", False)
        self.prepares_clips = metadata.get("prepares_clips", False)
        return True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore the saved state: within an epoch with its metrics, which Keras empties before this call."""
        self._began_within_epoch = self.step % self.steps_per_epoch != 0
        self._pending_generator = self._pending_state
        self.restore_into(self.model)
        if not self._began_within_epoch:
            self.model.reset_metrics()
        self.stream.reset()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore torch's generator once more, because its data loader draws from it when an epoch begins."""
        if self._pending_generator is not None:
            # The saved generator is the first process's; the other processes draw from generators of their own.
            if self.is_first_process:
                restore_generator(self._pending_generator)
            self._pending_generator = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the step, and save a checkpoint where one is due."""
        self.step += 1
        self.stream.count()
        if self.step % self.steps_per_epoch == 0:
            return
        if self._signal or self.step % self.save_every == 0:
            self._save(self._finite_state())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the epoch to the history, keep its weights if they are the best, and save a checkpoint."""
        state = self._finite_state()
        # A callback may have ended the epoch early.
        if self.step % self.steps_per_epoch == 0:
            self._add_to_history(epoch, logs)
        # After a shortened epoch `fit` ends, and replaces the weights, which are still to train, by moving averages.
        self._pending_state = state if self._began_within_epoch else None
        self._save(state)

    def _add_to_history(self, epoch: int, logs: dict[str, Any]) -> None:
        logs = {name: float(value) for name, value in logs.items()}
        # Where validation has rows of weight 0, Keras's mean counts them as rows without a loss.
        if f"val_{CROSS_ENTROPY}" in logs:
            logs["val_loss"] = logs[f"val_{CROSS_ENTROPY}"]
        row = {"epoch": epoch + 1, "step": self.step}
        hidden = {CROSS_ENTROPY}
        # All answers are among the first five where there are no more; a history that was begun with them goes on so.
        if self.model.output_shape[-1] <= TOP5_CLASSES and TOP5 not in self.history:
            hidden.add(TOP5)
        row |= {name: value for name, value in logs.items() if name.removeprefix("val_") not in hidden}
        row |= {"learning_rate": float(self.model.optimizer.learning_rate), **self.stream.speed()}
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        if self.is_first_process and best_epoch(self.history) == len(self.history["epoch"]):
            weights = {f"{n:05d}": array for n, array in enumerate(averaged_weights(self.model))}
            write_safetensors(self.best_path, weights, {"epoch": str(epoch + 1), FACTS: json.dumps(self.facts)})

    @property
    def has_pending_state(self) -> bool:
        """Whether a saved state is still to be put into the model."""
        return self._pending_state is not None

    def restore_into(self, model: keras.Model) -> None:
        """Put the saved state into a compiled model, where one is pending."""
        if self.has_pending_state:
            restore(model, self._pending_state)
            self.distribution.synchronize(model)
            self._pending_state = None

    @contextlib.contextmanager
    def saving_at_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run once its state is saved: after the running step, or after the validation.

        A second signal ends it at once. A signal that is ignored stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            # Python lets only the main thread set what a signal does.
            yield
            return
        # A job in the background is begun with signals that it is not to heed.
        heeded = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        self._previous_handlers = {number: signal.signal(number, self._note_signal) for number in heeded}
        try:
            yield
        finally:
            self._restore_handlers()

    def _note_signal(self, number: int, frame: types.FrameType | None) -> None:
        self._signal = signal.Signals(number)
        # Whoever sends a second signal does not want to wait.
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _finite_state(self) -> dict[str, np.ndarray]:
        """Capture the state to save. Every process takes part, because they read the metrics together."""
        state = capture(self.model)
        if not all(np.isfinite(array).all() for name, array in state.items() if name.startswith("model/")):
            raise NonFiniteLossError(
                f"weights are not finite after step {self.step}, though the loss was: a gradient was not. They are "
                "not saved; resume=True continues from the checkpoint before. Lower the learning rate, or compute in "
                "float32."
            )
        return state

    def _save(self, state: dict[str, np.ndarray]) -> None:
        metadata = {"run": self.settings, "history": self.history, "completes_clips": self.completes_clips}
        metadata |= {"prepares_clips": self.prepares_clips, FACTS: self.facts}
        if self.is_first_process:
            self.checkpoints.save(self.step, state, metadata)
        if self._signal:
            message = f"{self._signal.name} came at step {self.step}, and the run is saved. "
            message += f"To go on with it pass resume=True and out={str(self.checkpoints.folder.parent)!r}."
            raise TrainingInterrupted(message, int(self._signal))
