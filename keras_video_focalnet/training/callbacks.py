"""What watches a run: the batch that made the loss no number, the logs, the progress bar."""

import csv
import io
import json
import math
import os
import socket
import time
from pathlib import Path

import keras

from keras_video_focalnet.weights.files import atomic_write


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names the file that tells the videos of the batch."""


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """End training at the first batch whose loss is NaN or infinite, and write down which videos were in it.

    Args:
        path: JSON file to write: `{"step": int, "loss": str, "videos": [str, ...]}`.
        step_of: function from the number of a batch within the running epoch (from 0) to that within the run.
        names_of: function from the number of a batch within the run to the names of its videos.

    Raises:
        NonFiniteLossError: from within `fit`.

    Example:
    >>> guard = StopAtNonFiniteLoss("nan.json", step_of=lambda batch: batch, names_of=lambda step: ["a.mp4"])
    >>> guard.on_train_batch_end(3, {"loss": float("nan")})
    Traceback (most recent call last):
    ...
    keras_video_focalnet.training.callbacks.NonFiniteLossError: the loss is nan at step 3: the videos of that batch...
    """

    def __init__(self, path, step_of, names_of):
        super().__init__()
        self.path = Path(path)
        self.step_of = step_of
        self.names_of = names_of

    def on_train_batch_end(self, batch, logs=None):
        """Look at the running mean of the loss: once a batch is not finite it stays so."""
        loss = float(logs["loss"])
        if math.isfinite(loss):
            return
        step = self.step_of(batch)
        found = {"step": step, "loss": str(loss), "videos": list(self.names_of(step))}
        with atomic_write(self.path) as file:
            file.write(json.dumps(found, indent=2).encode())
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step}: the videos of that batch are in {self.path}. Look at them, lower the "
            "learning rate, or compute in float32; resume goes on from the last checkpoint."
        )


class MetricsLog(keras.callbacks.Callback):
    """Write what every epoch gave: a table, and events for TensorBoard.

    The table is written anew from the whole history each time, so that a resumed run leaves one table without gaps.

    Args:
        history: dict of lists, one value an epoch; filled by whoever trains.
        table: CSV file.
        events: folder for TensorBoard, or None. Takes the package `tensorboard`, and no backend.
    """

    def __init__(self, history, table, events=None):
        super().__init__()
        self.history = history
        self.table = Path(table)
        self.events = _EventFile(events) if events is not None else None

    def on_epoch_end(self, epoch, logs=None):
        """Write the table and the events."""
        write_table(self.table, self.history)
        if self.events is not None:
            row = {name: values[-1] for name, values in self.history.items() if name not in ("epoch", "step")}
            self.events.write(self.history["step"][-1], row)

    def close(self):
        """Close the events."""
        if self.events is not None:
            self.events.close()


def write_table(path, history):
    """Write a history, a dict of lists, as a CSV file with a line an epoch.

    Args:
        path: file, replaced in one step.
        history: dict of lists of one length.

    Example:
    >>> write_table("metrics.csv", {"epoch": [1, 2], "loss": [2.5, 1.25]})
    >>> print(open("metrics.csv").read().strip())
    epoch,loss
    1,2.5
    2,1.25
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    writer.writerows(zip(*history.values(), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


class _EventFile:
    """A file of TensorBoard events; TensorBoard's own writer would load TensorFlow wherever it is installed."""

    def __init__(self, folder):
        try:
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard's logs need tensorboard: pip install 'keras-video-focalnet[train]'."
            ) from error
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("xb"))
        self._write(file_version="brain.Event:2")

    def write(self, step, values):
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._write(step=step, summary=summary)

    def close(self):
        self._records.close()

    def _write(self, **fields):
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


class BrokenVideosLog(keras.callbacks.Callback):
    """Write down after every epoch which videos could not be read; a resumed run goes on with the list.

    Args:
        broken: `BrokenVideos`.
        path: CSV file; there is none as long as all videos can be read.
    """

    def __init__(self, broken, path):
        super().__init__()
        self.broken = broken
        self.path = Path(path)
        if self.path.exists():
            self.broken.read(self.path)

    def on_epoch_end(self, epoch, logs=None):
        """Write the list."""
        self.write()

    def write(self):
        """Write the list, where there is anything to write."""
        if self.broken.count:
            self.broken.write(self.path)


class Progress(keras.callbacks.Callback):
    """A progress bar with loss, accuracy, clips per second, data wait share and time left; a line for each epoch.

    Args:
        run: the `Run`.
        steps: int, steps of the whole run.
    """

    def __init__(self, run, steps):
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.run = run
        self.console = Console(stderr=True)
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.task = self.bar.add_task("", total=steps, completed=run.step)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar."""
        shown = {
            name: float(value) for name, value in logs.items() if name in ("loss", "top1")
        } | self.run.stream.speed()
        self.bar.update(self.task, completed=self.run.step, description=_line(shown))

    def on_epoch_end(self, epoch, logs=None):
        """Print a line that stays."""
        row = {name: values[-1] for name, values in self.run.history.items() if name not in ("epoch", "step")}
        self.console.print(f"epoch {epoch + 1}: {_line(row)}", highlight=False, soft_wrap=True)


def _line(row):
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items())
