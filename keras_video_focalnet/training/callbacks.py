"""What watches a run: the guard against a loss that is not finite, and the logs."""

import csv
import io
import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.utils.files import atomic_write

Logs = dict[str, Any] | None


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names the file that lists the videos of the batch."""


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """End training by NonFiniteLossError at the first loss that is NaN or infinite, and name the videos in a file.

    `run_step` maps the number of a batch within the running epoch to that within the run, from 0; `video_names` maps
    that to the names of the videos. The JSON file holds `{"step": int, "loss": str, "videos": [str, ...]}`.
    """

    def __init__(
        self, path: str | os.PathLike, run_step: Callable[[int], int], video_names: Callable[[int], Sequence[str]]
    ):
        super().__init__()
        self.path = Path(path)
        self.run_step = run_step
        self.video_names = video_names

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the running mean of the loss, which is not finite from the first batch on whose loss is not."""
        loss = float(logs["loss"])
        if math.isfinite(loss):
            return
        step = self.run_step(batch)
        report = {"step": step, "loss": str(loss), "videos": list(self.video_names(step))}
        with atomic_write(self.path) as file:
            file.write(json.dumps(report, indent=2).encode())
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step}: the videos of that batch are in {self.path}. Look at them, lower the "
            "learning rate, or compute in float32; resume=True continues from the last checkpoint."
        )


class MetricsLog(keras.callbacks.Callback):
    """Write the metrics of every epoch: a table, and events for TensorBoard where a folder for them is given.

    The table is written anew from the entire history each time, so that a resumed run leaves one table without gaps.
    """

    def __init__(
        self, history: Mapping[str, Sequence[float]], table: str | os.PathLike, events: str | os.PathLike | None = None
    ):
        super().__init__()
        self.history = history
        self.table = Path(table)
        self.events = _EventFile(events) if events is not None else None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the table and the events."""
        write_table(self.table, self.history)
        if self.events is not None:
            self.events.write(self.history["step"][-1], last_row(self.history))

    def close(self) -> None:
        """Close the file of events."""
        if self.events is not None:
            self.events.close()


def write_table(path: str | os.PathLike, history: Mapping[str, Sequence[float]]) -> None:
    """Write a history, lists of one length by name, as a CSV file with a line an epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    writer.writerows(zip(*history.values(), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


class _EventFile:
    """A file of TensorBoard events; TensorBoard's own writer would load TensorFlow wherever it is installed."""

    def __init__(self, folder: str | os.PathLike):
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

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._write(step=step, summary=summary)

    def close(self) -> None:
        self._records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


class BrokenVideosLog(keras.callbacks.Callback):
    """Write down after every epoch which videos could not be read or are damaged; a resumed run continues the list."""

    def __init__(self, broken: BrokenVideos, path: str | os.PathLike):
        super().__init__()
        self.broken = broken
        self.path = Path(path)
        if self.path.exists():
            self.broken.read(self.path)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the list."""
        self.write()

    def write(self) -> None:
        """Write the list, unless it is empty."""
        if self.broken.count or self.broken.damaged:
            self.broken.write(self.path)


def last_row(history: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The metrics of the last epoch."""
    return {name: values[-1] for name, values in history.items() if name not in ("epoch", "step")}
