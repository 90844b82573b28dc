"""Which uploads are in use, removed when others take their place or the visitor goes."""

import contextlib
import os
import threading
from pathlib import Path


class Uploads:
    """The videos that visitors have uploaded.

    Two visitors who upload the same file share it, and it goes with the last of them.

    Args:
        folder: The folder that all of them lie in; nothing outside is removed.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder, self._held, self._lock = Path(folder).resolve(), {}, threading.Lock()

    def hold(self, visitor: str | None, path: str | os.PathLike, beside: bool = False) -> None:
        """Remember what a visitor has uploaded.

        Args:
            visitor: Whose page it is.
            path: The file.
            beside: Whether it is kept beside what the visitor uploaded before, as a part that was cut out of it, and
                not in its place.
        """
        path = Path(path).resolve()
        with self._lock:
            former = self._held.get(visitor, set())
            self._held[visitor] = former | {path} if beside else {path}
            self._remove(former)

    def drop(self, visitor: str | None) -> None:
        """Remove what a visitor has uploaded."""
        with self._lock:
            self._remove(self._held.pop(visitor, ()))

    def _remove(self, paths):
        """Remove those of the files that nobody holds."""
        for path in set(paths).difference(*self._held.values()):
            if path.is_relative_to(self._folder):
                with contextlib.suppress(OSError):
                    path.unlink()
                    # Each lies in a folder of its own.
                    if path.parent != self._folder:
                        path.parent.rmdir()
