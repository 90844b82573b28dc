"""What an evaluation has scored so far, on the disk: killed at any moment it loses no more than what it was at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.evaluation.begun import check_begun_with

LEDGER = "scores.sqlite"
"""Name of the file in the folder of an evaluation."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one video.

    Attributes:
        number: Place of the video in the list.
        scores: float32 array `(classes,)`; None where the video could not be read.
        reason: Why it could not be read; None where it was.
        damage: What was lost of a video that was read in spite of damage, or None.
    """

    number: int
    scores: np.ndarray | None
    reason: str | None = None
    damage: str | None = None


class Ledger:
    """The rows of an evaluation. `add` returns when they are on the disk, all of them or, where it raises, none.

    Args:
        path: The file, which is made where there is none; None keeps the rows in memory.
        settings: What the rows depend on, by names that a message can tell.

    Raises:
        ValueError: The file was begun with other settings, or is no ledger.
        OSError: It cannot be read or written.

    Example:
        >>> with Ledger(None, {"views": "4x3"}) as ledger:
        ...     ledger.add([Row(0, np.float32([0.25, 0.75])), Row(1, None, "b.mp4 is empty")])
        ...     sorted(ledger.done()), [row.reason for row in ledger.rows()]
        ([0, 1], [None, 'b.mp4 is empty'])
    """

    def __init__(self, path: str | os.PathLike | None, settings: Mapping[str, Any]):
        self._path = path
        self._name = "memory" if path is None else os.fspath(path)
        with self._errors():
            self._data = sqlite3.connect(":memory:" if path is None else os.fspath(path), isolation_level=None)
        try:
            with self._errors(), self._transaction():
                self._data.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT)")
                self._data.execute(
                    "CREATE TABLE IF NOT EXISTS videos (number INTEGER PRIMARY KEY, scores BLOB, about TEXT)"
                )
                self._settle(settings)
        except BaseException:
            self._data.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def _settle(self, settings):
        before = {name: json.loads(value) for name, value in self._data.execute("SELECT name, value FROM settings")}
        now = json.loads(json.dumps(settings))
        if before:
            remedy = "Resume with what it was begun with, or begin anew with another out."
            check_begun_with(f"the evaluation in {self._folder()}", before, now, remedy)
        else:
            self._data.executemany("INSERT INTO settings VALUES (?, ?)", [(n, json.dumps(v)) for n, v in now.items()])

    def done(self) -> set[int]:
        """The numbers of the videos that have a row."""
        with self._errors():
            return {number for (number,) in self._data.execute("SELECT number FROM videos")}

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        values = [
            (
                row.number,
                None if row.scores is None else np.asarray(row.scores, "<f4").tobytes(),
                json.dumps([row.reason, row.damage]),
            )
            for row in rows
        ]
        with self._errors(), self._transaction():
            self._data.executemany("INSERT OR REPLACE INTO videos VALUES (?, ?, ?)", values)

    def rows(self) -> list[Row]:
        """All rows, by number."""
        with self._errors():
            found = self._data.execute("SELECT number, scores, about FROM videos ORDER BY number").fetchall()
        return [
            Row(number, None if scores is None else np.frombuffer(scores, "<f4"), *json.loads(about))
            for number, scores, about in found
        ]

    def _folder(self):
        return os.path.dirname(self._name) or "."

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._data.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._data.execute("COMMIT")
        except BaseException:
            # After some errors, as that of a full disk, SQLite has rolled back by itself.
            if self._data.in_transaction:
                self._data.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(
                f"{self._name} cannot be written ({error}); what was scored before is kept: free space on the disk or "
                "see who else uses the file, and resume."
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self._name} holds no scores ({error}); delete it or pass another folder.") from error


def ledger_of(out: str | os.PathLike) -> Path:
    """The path of the ledger in the folder of an evaluation."""
    return Path(out) / LEDGER
