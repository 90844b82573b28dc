"""What can go wrong with an exported file."""


class ExportError(RuntimeError):
    """A conversion failed, or its result is not what was asked for; no file was written."""


class ExportMismatchError(ExportError):
    """The exported file computes something else than the model; it was deleted."""


class ExportedFileError(ValueError):
    """A file that `export` did not write, or that is damaged."""
