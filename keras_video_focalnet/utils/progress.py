"""How far a long job is: a bar with rate and time left on a terminal, nothing elsewhere."""

from __future__ import annotations

from typing import Any

# Below so many items a second, items a minute are told.
_SLOW = 1.0


class Progress:
    """A bar on the error stream, for use in a `with` statement.

    It shows what is done, the rate and the time left, and goes away when the block ends. Where the error stream is no
    terminal nothing is shown. What `say` prints stays, and is printed in either case.

    Args:
        total: How many items there are; None where nobody knows.
        unit: What the items are called, by default `"videos"`.
        title: What is being done, by default nothing.
        done: How many items were done before, 0 by default; they do not count for the rate.
        show: Whether to show the bar; None, the default, shows it on a terminal.

    Attributes:
        done: How many items are done.

    Example:
        >>> with Progress(3, unit="videos", title="score", show=False) as progress:
        ...     for video in ["a.mp4", "b.mp4", "c.mp4"]:
        ...         progress.advance()
        >>> progress.done
        3
    """

    def __init__(
        self, total: int | None, unit: str = "videos", title: str = "", done: int = 0, show: bool | None = None
    ):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.done = done
        self._console = Console(stderr=True)
        is_shown = self._console.is_terminal if show is None else show
        count = "{task.completed:.0f}" if total is None else "{task.completed:.0f}/{task.total:.0f}"
        columns = [
            TextColumn("{task.description}" + f" {count} {unit}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        ]
        self._unit = unit
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not is_shown)
        self._task = self._bar.add_task(title, total=total, completed=done, rate="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """Note that further items are done."""
        self.done += count
        self._bar.update(self._task, advance=count, rate=rate_text(self._bar.tasks[0].speed, self._unit))

    def say(self, *lines: Any) -> None:
        """Print lines as they are, which stay above the bar."""
        for line in lines:
            self._console.print(str(line), highlight=False, markup=False, soft_wrap=True)


def rate_text(rate: float | None, unit: str) -> str:
    """A rate in words; empty where it is not known yet.

    Example:
        >>> rate_text(12.34, "videos"), rate_text(0.5, "videos"), rate_text(None, "videos")
        ('12.3 videos/s', '30 videos/min', '')
    """
    if not rate:
        return ""
    return f"{rate:.3g} {unit}/s" if rate >= _SLOW else f"{60 * rate:.3g} {unit}/min"
