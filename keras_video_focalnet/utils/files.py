"""Files and folders that are written completely or not at all."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

# Bytes of a file's name that may be in its temporary name; file systems allow 255 in all.
_KEPT = 100
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{32}\.tmp", re.DOTALL)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once all of it is written.

    The bytes go to a temporary name in the same folder, reach the disk, and then replace `path` in one step. When
    the block raises, `path` is as it was and the temporary file is gone. Two processes may write one path at once:
    the last to end wins, and a reader sees one file or the other, never a mixture.

    Args:
        path: Where the file shall be; its folder must exist.

    Yields:
        A binary file open for writing.

    Raises:
        OSError: The file cannot be written.

    Example:
    >>> with atomic_write("weights.bin") as file:
    ...     _ = file.write(b"123")
    """
    path = Path(path)
    # `open` honours the umask, as a plain write would; tempfile's own files are readable by their owner alone.
    temporary = path.with_name(f".{_beginning(path.name)}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_left_behind(paths: Iterable[str | os.PathLike]) -> None:
    """Removes the temporary files that killed processes left of `atomic_write`s of some files, where that is allowed.

    Args:
        paths: The files. Nobody may be writing them.

    Example:
    >>> remove_left_behind(["weights.bin"])
    """
    names = {}
    for path in map(Path, paths):
        names.setdefault(path.parent, set()).add(_beginning(path.name))
    for folder, wanted in names.items():
        # A folder need not be there yet, and what lies in it may be another user's.
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                found = _TEMPORARY.fullmatch(name)
                if found and found[1] in wanted:
                    with contextlib.suppress(OSError):
                        (folder / name).unlink()


def _beginning(name):
    """What the temporary names of a file begin with, and those of no other."""
    data = os.fsencode(name)
    if len(data) <= _KEPT:
        return name
    digest = hashlib.sha256(data).hexdigest()[:32]
    return data[: _KEPT - len(digest)].decode(errors="ignore") + digest


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Makes a temporary folder whose contents go to `path`'s folder once all of them are written.

    It is for writers that take a path and for results of several files. The temporary folder lies beside `path`. When
    the block ends, everything in it is moved to the folder of `path`, what is named as `path` last: once it is there,
    the others are too. When the block raises, nothing is moved. A folder that is in the way is replaced completely.

    Args:
        path: Where the file or folder shall be; its folder must exist.

    Yields:
        The path to write to: `path`'s name in the temporary folder.

    Raises:
        OSError: Something cannot be moved.

    Example:
    >>> with atomic_folder("model.keras") as temporary:
    ...     VideoFocalNetNano().save(temporary)
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:100]}.", dir=path.parent) as folder:
        yield Path(folder) / path.name
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == path.name):
            _replace(part, path.parent / part.name)


def _replace(source, target):
    """Moves a file or folder; a folder that is at `target` goes only once the new one has its name."""
    if not target.is_dir():
        os.replace(source, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        os.replace(target, old / target.name)
        os.replace(source, target)
    except BaseException:
        if not target.exists():
            os.replace(old / target.name, target)
        os.rmdir(old)
        raise
    shutil.rmtree(old)
