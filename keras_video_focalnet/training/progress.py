"""What a run tells on the console: a bar within each epoch, a line for each, and videos that cannot be read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from keras_video_focalnet.data.batch_source import BatchSource
from keras_video_focalnet.training.callbacks import Logs, last_row
from keras_video_focalnet.training.figures import broken_videos, figures
from keras_video_focalnet.training.run import Run

# Where there is no terminal for a bar, an epoch of enough steps has a line at each of so many parts.
_PARTS = 10


class Progress(keras.callbacks.Callback):
    """A bar with the steps of the running epoch, loss, accuracy, clips per second, waiting for data and time left.

    A line stays for each epoch, and one where videos of `sources`, a dict by `training` and `validation`, cannot be
    read. All of it goes to the error stream.
    """

    def __init__(self, run: Run, epochs: int, sources: Mapping[str, BatchSource | None], out: Path):
        super().__init__()
        self.run, self.epochs, self.out = run, epochs, out
        self.broken = {name: source.broken for name, source in sources.items() if source is not None}
        self.told = dict.fromkeys(self.broken, 0)
        self.console = Console(stderr=True)
        # On a narrow terminal the figures take two lines.
        place = TextColumn(
            "{task.fields[epoch]}  step {task.completed}/{task.total}", table_column=Column(no_wrap=True)
        )
        columns = place, BarColumn(bar_width=10), TextColumn("{task.description}"), TimeRemainingColumn()
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.task = self.bar.add_task("", total=run.steps_per_epoch, epoch="", start=False)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin the bar anew, where the epoch begins or is gone on with."""
        done = self.run.step % self.run.steps_per_epoch
        self.bar.reset(self.task, completed=done, description="", epoch=f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar, or print a line."""
        steps = self.run.steps_per_epoch
        done = self.run.step % steps or steps
        shown = {name: float(logs[name]) for name in ("loss", "top1", "average_precision") if name in logs}
        line = figures(shown | self.run.stream.speed())
        self.bar.update(self.task, completed=done, description=line)
        part = steps // _PARTS
        if not self.console.is_terminal and part and done % part == 0 and done < steps:
            self.say([f"epoch {self.run.epoch + 1}/{self.epochs}  step {done}/{steps}  {line}"])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Print a line that stays above the bar."""
        if self.run.history:
            self.say([f"epoch {epoch + 1}/{self.epochs}  {figures(last_row(self.run.history))}"])
        for name, broken in self.broken.items():
            if broken.count > self.told[name]:
                self.told[name] = broken.count
                self.say([broken_videos(name, broken, self.out)])

    def say(self, lines: Iterable[Any]) -> None:
        """Print lines as they are."""
        for line in lines:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
