"""Results of a long job, kept in parts while it runs: what is done is never done again and never lost.

Beside the table `OUT` lies the folder `OUT.parts` while the job runs. Every part is a file that takes its name only
once all of it is on the disk; it is named by the first video that it holds. A job that goes on reads which videos they
hold and does the others. When all are done, the parts become the table in the order of the videos, and go.
"""

import contextlib
import functools
import json
import os
import shutil
import time
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.evaluation.begun import check_begun_with
from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.utils.files import atomic_write, remove_left_behind

if typing.TYPE_CHECKING:
    import pyarrow

KEY = b"keras_video_focalnet"
"""Where the metadata of a table holds what made it, as JSON."""

NUMBER = "number"
"""The column of a part that holds the numbers of its videos; the table is in their order and does not have it."""

# A part is written once it has so many rows, or its first row is so old.
ROWS = 64
SECONDS = 10.0
# Rows of the table that are put together at a time, and parts that are held meanwhile.
BLOCK = 1024
HELD = 64


class Parts:
    """The rows of a job so far.

    Args:
        out: The table to write, a Parquet file.
        schema: Arrow schema of the table.
        config: What makes the rows what they are, values that JSON can hold. A job goes on only with an equal one.
        about: What else the table's metadata shall tell, such as the names of classes.
        total: Number of rows of the table.

    Attributes:
        out: As given, a path.
        folder: Where the parts are.
        done: Bool array of shape `(total,)`: which videos are done.
        is_finished: Whether the table was there, complete, before this job began.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: `out` or its parts are of a job with another configuration, or another process writes them.
        OSError: The folder of `out` cannot be written to.
    """

    def __init__(
        self, out: str | os.PathLike, schema: "pyarrow.Schema", config: Mapping[str, Any], about: dict, total: int
    ):
        self.out = Path(out)
        self.folder = self.out.with_name(f"{self.out.name}.parts")
        require("A table of videos", "score", "pyarrow")
        # As JSON gives them back.
        self._config = json.loads(json.dumps(dict(config)))
        self._schema = schema.with_metadata({KEY: json.dumps({"config": self._config, **about}).encode()})
        self.done = np.zeros(total, bool)
        # The part that each video is in, by the part's first video.
        self._places = np.full(total, -1, np.int64)
        self._rows, self._oldest = [], None
        self._lock = None
        self.is_finished = self.out.exists()
        if self.is_finished:
            self._check(_config_of(self.out), self.out)
            self.done[:] = True
        else:
            self._begin()

    def _begin(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            # Of a job that was killed while it wrote the table.
            remove_left_behind([self.out])
            self._read_parts()
        except BaseException:
            self._unlock()
            raise

    def _read_parts(self):
        path = self.folder / "config.json"
        if path.exists():
            self._check(_read_json(path), self.folder)
        else:
            with atomic_write(path) as file:
                file.write(json.dumps(self._config, indent=1).encode())
        for part in sorted(self.folder.glob("[0-9]*.parquet")):
            try:
                numbers = _read(part, [NUMBER])[NUMBER].to_numpy()
            except Exception as error:  # Files are damaged in many ways.
                warnings.warn(f"{part} is damaged and is made anew ({error}).", stacklevel=3)
                part.unlink()
                continue
            self.done[numbers] = True
            self._places[numbers] = int(part.stem)

    def _check(self, before, place):
        """Raise where another configuration made what is at `place`."""
        remedy = f"Pass what it was begun with to go on, or another out, or remove {place} to begin anew."
        if before.keys() != self._config.keys():
            raise ValueError(
                f"{place} is of another command, or of another version of this one; pass another out, or remove it to "
                "begin anew."
            )
        check_begun_with(place, before, self._config, remedy)

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what is done, whatever ended the job."""
        try:
            self.flush()
        finally:
            self._unlock()

    def _unlock(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def missing(self) -> list[int]:
        """The numbers of the videos that are not done, in order."""
        return np.flatnonzero(~self.done).tolist()

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Keep the row of a video, by the names of the table's columns; of a video that is done already, the first."""
        if self.done[number]:
            return
        self.done[number] = True
        self._rows.append({NUMBER: number, **row})
        self._oldest = self._oldest or time.monotonic()
        if len(self._rows) >= ROWS or time.monotonic() - self._oldest > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are in memory alone. Where that fails, they count as not done."""
        import pyarrow as pa

        if not self._rows:
            return
        rows, self._rows, self._oldest = sorted(self._rows, key=lambda row: row[NUMBER]), [], None
        numbers = [row[NUMBER] for row in rows]
        try:
            schema = pa.schema([(NUMBER, pa.int64()), *self._schema])
            _write(self.folder / f"{numbers[0]:010d}.parquet", schema, [pa.Table.from_pylist(rows, schema)])
        except BaseException:
            self.done[numbers] = False
            raise
        self._places[numbers] = numbers[0]

    def finish(self, csv: str | os.PathLike | None = None) -> None:
        """Write the table, and remove the parts. `csv` names a file that shall hold the same as CSV.

        Raises:
            RuntimeError: A video is not done.
            OSError: A file cannot be written; the parts are left, and the next job writes the table.
        """
        self.flush()
        if not self.done.all():
            raise RuntimeError(f"{int((~self.done).sum())} of {len(self.done)} videos are not done; go on first.")
        if not self.is_finished:
            _write(self.out, self._schema, self._blocks())
        if csv is not None:
            self._write_csv(csv)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    def _blocks(self) -> Iterator["pyarrow.Table"]:
        """The rows in order, some at a time. Videos are done about in order, so few parts are read more than once."""
        import pyarrow as pa

        @functools.lru_cache(HELD)
        def part(first):
            return _read(self.folder / f"{first:010d}.parquet")

        for start in range(0, len(self.done), BLOCK):
            stop = start + BLOCK
            rows = pa.concat_tables([part(int(first)) for first in np.unique(self._places[start:stop])])
            numbers = rows[NUMBER].to_numpy()
            order = np.flatnonzero((numbers >= start) & (numbers < stop))
            order = order[np.argsort(numbers[order])]
            yield rows.take(order).drop_columns([NUMBER]).cast(self._schema)

    def _write_csv(self, path):
        import csv
        import io

        import pyarrow.parquet as pq

        names = json.loads(self._schema.metadata[KEY]).get("columns", {})
        with pq.ParquetFile(self.out) as table, atomic_write(path) as binary:
            file = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(file)
            header = [names.get(column, [column]) for column in table.schema_arrow.names]
            writer.writerow([name for columns in header for name in columns])
            for batch in table.iter_batches(BLOCK):
                for row in batch.to_pylist():
                    writer.writerow([cell for value, part in zip(row.values(), header, strict=True)
                                     for cell in _cells(value, len(part))])  # fmt: skip
            file.flush()
            file.detach()


def _cells(value, count):
    """A value as the cells of a line: a list is several."""
    if isinstance(value, list):
        return value
    return [value] + [None] * (count - 1)


def _write(path, schema, tables: Sequence["pyarrow.Table"] | Iterator["pyarrow.Table"]):
    import pyarrow.parquet as pq

    with atomic_write(path) as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _read(path, columns=None):
    import pyarrow.parquet as pq

    # One file, not a data set: a folder of that name is none.
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def _config_of(path):
    """The configuration that a table was made with."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return json.loads(file.schema_arrow.metadata[KEY])["config"]
    except Exception as error:  # It may be any file.
        raise ValueError(
            f"{path} is there and is no table of this package, so it is not written over; pass another path, or remove "
            "it."
        ) from error


def _read_json(path):
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove {path.parent} to begin anew.") from error


def _locked(folder):
    """A file descriptor that keeps other processes away from a folder until it is closed, or its process ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(
                f"{folder} is being written by another process; wait until it has ended, or pass another out."
            ) from error
        except OSError:
            # File systems without locks.
            pass
    return descriptor
