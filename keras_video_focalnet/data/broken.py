"""Videos that could not be read: which, why, and how many are too many."""

import csv
import io
import os

from keras_video_focalnet.utils.files import atomic_write

COLUMNS = ("path", "reason", "batch")
# As many videos as an error names.
NAMED = 5
# What the reason of a video begins with that was read in spite of damage.
DAMAGED = "read, though it "


def part_name(path: str, start: float | None, end: float | None) -> str:
    """What a video, or a part of one between two times in seconds, is called in the report."""
    if start is None and end is None:
        return path
    return f"{path} ({start or 0} s to {'the end' if end is None else f'{end} s'})"


def failure_reason(path: str, error: Exception) -> str:
    """Why a video cannot be read, with its name."""
    reason = str(error) or type(error).__name__
    return reason if path in reason else f"{path}: {reason}"


class BrokenVideosError(ValueError):
    """So many videos of an epoch cannot be read that the run would train on something else than was asked for."""


class BrokenVideos:
    """The videos that could not be read so far: `videos` is a dict from the path of a video to the reason.

    `damaged` is a dict from the path of a video that was read in spite of damage to what was lost; such a video counts
    as one that was read.

    `error` is the `BrokenVideosError` that `check` raised last, or None: TensorFlow's input pipelines turn every error
    into one of their own.
    """

    def __init__(self):
        self.videos = {}
        self.damaged = {}
        self.error = None
        self._batches = {}

    @property
    def count(self) -> int:
        """How many videos there are."""
        return len(self.videos)

    def add(self, path: str, reason: str, batch: int | None = None) -> None:
        """Note a video of a batch, None where it was only tried in another's place; noting one again changes only its
        batch.
        """
        self.videos[path] = reason
        if batch is not None:
            self._batches[path] = batch

    def check(self, first: int, stop: int, limit: int) -> None:
        """Raise a `BrokenVideosError`, which names some, where more than `limit` videos are broken in an epoch of the
        batches from `first` to before `stop`.
        """
        found = [path for path, batch in list(self._batches.items()) if first <= batch < stop]
        if len(found) <= limit:
            return
        some = "; ".join(self.videos[path] for path in found[:NAMED])
        self.error = BrokenVideosError(
            f"{len(found)} of an epoch's videos cannot be read, and max_broken allows for no more than {limit}. "
            f"{'Some of them' if len(found) > NAMED else 'They are'}: {some}. All are in the report `broken` of "
            "the data set, which a training run writes to its folder. Repair them, take them out of the list, or raise "
            "max_broken= (--max-broken)."
        )
        raise self.error

    def write(self, path: str | os.PathLike) -> None:
        """Write the report as a CSV file, `path,reason,batch`; an older file is replaced when all is written."""
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows((video, reason, self._batches.get(video, "")) for video, reason in list(self.videos.items()))
        table.writerows((video, DAMAGED + lost, "") for video, lost in list(self.damaged.items()))
        with atomic_write(path) as file:
            # The names of files need not be text.
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def read(self, path: str | os.PathLike) -> None:
        """Add what `write` wrote: after a resume, what was found before counts."""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
        if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"{path} is no report of broken videos ({','.join(COLUMNS)}); delete it or pass another.")
        for video, reason, batch in rows[1:]:
            if reason.startswith(DAMAGED):
                self.damaged[video] = reason.removeprefix(DAMAGED)
                continue
            self.add(video, reason, int(batch) if batch else None)
