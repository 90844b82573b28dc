"""What kind of file lies at a path."""

import os

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
    """Says what kind of file lies at `path`, from its first kilobyte and not from its name."""
    with open(path, "rb") as file:
        return sniff_bytes(file.read(HEAD_BYTES))


def sniff_bytes(head: bytes) -> str:
    """Says what kind of file begins with these bytes; `sniff` says more."""
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
