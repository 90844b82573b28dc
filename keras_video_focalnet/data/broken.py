"""Videos that could not be read: which, why, and how many are too many."""

import csv
import io

from keras_video_focalnet.weights.files import atomic_write

COLUMNS = ("path", "reason", "batch")
# As many videos as an error names.
NAMED = 5


class BrokenVideosError(ValueError):
    """So many videos of an epoch cannot be read that the run would train on something else than was asked for."""


class BrokenVideos:
    """The videos that could not be read so far.

    Attributes:
        videos: Dict from the path of a video to the reason.
        error: The `BrokenVideosError` that `check` raised last, or None. TensorFlow's input pipelines turn every error
            into one of their own.

    Example:
        >>> broken = BrokenVideos()
        >>> broken.add("a.mp4", "a.mp4 is an empty file (0 bytes)", batch=7)
        >>> broken.count, broken.videos
        (1, {'a.mp4': 'a.mp4 is an empty file (0 bytes)'})
    """

    def __init__(self):
        self.videos = {}
        self.error = None
        self._batches = {}

    @property
    def count(self):
        """How many videos there are."""
        return len(self.videos)

    def add(self, path, reason, batch=None):
        """Note a video; noting one again changes nothing but its batch.

        Args:
            path: Its path.
            reason: Why it cannot be read.
            batch: Number of the batch that it belongs to; None where it was only tried in another's place.
        """
        self.videos[path] = reason
        if batch is not None:
            self._batches[path] = batch

    def check(self, first, stop, limit):
        """Raise where an epoch has too many broken videos.

        Args:
            first: Number of the epoch's first batch.
            stop: Number of the batch behind its last.
            limit: How many broken videos it may have.

        Raises:
            BrokenVideosError: It has more. The message names some of them.
        """
        found = [path for path, batch in list(self._batches.items()) if first <= batch < stop]
        if len(found) <= limit:
            return
        some = "; ".join(self.videos[path] for path in found[:NAMED])
        self.error = BrokenVideosError(
            f"{len(found)} of an epoch's videos cannot be read, and max_broken allows for no more than {limit}. "
            f"{'Some of them' if len(found) > NAMED else 'They are'}: {some}. The data set's `broken.videos` names all "
            "of them, `broken.write(path)` writes them to a file. Repair them, take them out of the list, or raise "
            "max_broken."
        )
        raise self.error

    def write(self, path):
        """Write the report as a CSV file, `path,reason,batch`, whole or not at all.

        Args:
            path: File to write; its folder must exist.
        """
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows((video, reason, self._batches.get(video, "")) for video, reason in list(self.videos.items()))
        with atomic_write(path) as file:
            # The names of files need not be text.
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def read(self, path):
        """Add what `write` wrote: after a resume, what was found before counts.

        Args:
            path: File that `write` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not such a file.
        """
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
        if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"{path} is no report of broken videos ({','.join(COLUMNS)}); delete it or pass another.")
        for video, reason, batch in rows[1:]:
            self.add(video, reason, int(batch) if batch else None)
