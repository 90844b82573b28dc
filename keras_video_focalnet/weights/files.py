"""What kind of file lies at a path, and how to write one whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 1024

_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x93NUMPY", "npy"),
)

DESCRIPTIONS = {
    "empty": "an empty file",
    "html": "an HTML page, not weights: the address led to a login, a confirmation or an error page",
    "hdf5": "an HDF5 file (Keras .h5)",
    "zip": "a zip archive",
    "gzip": "a gzip archive",
    "bzip2": "a bzip2 archive",
    "xz": "an xz archive",
    "zstd": "a zstd archive",
    "tar": "a tar archive",
    "npy": "a NumPy .npy file",
    "pickle": "a pickle",
    "safetensors": "a safetensors file",
    "lfs": "a Git LFS pointer: the text that stands for the file, not the file",
    "text": "a text file",
    "unknown": "a file of unknown format",
}


def sniff(path: str | os.PathLike) -> str:
    """Says what kind of file lies at `path`, from its first kilobyte and not from its name.

    Args:
        path: a readable file.

    Returns:
        A key of `DESCRIPTIONS`: `"hdf5"`, `"zip"` (what `torch.save` and `.keras` write), `"pickle"` (what old
        versions of `torch.save` wrote), `"safetensors"`, `"html"`, `"empty"`, ... or `"unknown"`.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return sniff_bytes(file.read(HEAD_BYTES))


def sniff_bytes(head: bytes) -> str:
    """The same as `sniff`, from the first bytes of a file."""
    if not head:
        return "empty"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "html"
    # An XML declaration or a comment may stand before the page.
    if text.startswith((b"<?xml", b"<!--")) and b"<html" in text:
        return "html"
    if text.startswith(b"version https://git-lfs"):
        return "lfs"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "safetensors"
    if head[257:262] == b"ustar":
        return "tar"
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return "pickle"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "text"
    return "unknown"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once it is written whole.

    The bytes go to a temporary name in the same folder, reach the disk, and then replace `path` in one step. When
    the block raises, `path` is as it was and the temporary file is gone. Two processes may write one path at once:
    the last to end wins, and a reader sees one file or the other, never a mixture.

    Args:
        path: where the file shall be; its folder must exist.

    Yields:
        A binary file open for writing.

    Example:
        >>> with atomic_write("weights.bin") as file:
        ...     _ = file.write(b"123")
    """
    path = Path(path)
    # `open` honours the umask, as a plain write would; tempfile's own files are readable by their owner alone.
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
