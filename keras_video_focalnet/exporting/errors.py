"""Errors of writing and reading exported files."""


class ExportError(RuntimeError):
    """A conversion failed, or its result does not fit the request. No file was written."""


class ExportMismatchError(ExportError):
    """The exported file does not compute what the model computes. The file was deleted."""


class ExportedFileError(ValueError):
    """A file is damaged, or `export` did not write it."""
