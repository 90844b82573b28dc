"""What can go wrong between a file of numbers and a model."""

import contextlib
import os
from collections.abc import Iterator


class WeightsFileError(ValueError):
    """A weights file cannot be used: not of its format, damaged, or not what it was; the message names the file."""


class WeightsDownloadError(OSError):
    """A weights file could not be fetched; the message names the address, what happened and what to do."""


@contextlib.contextmanager
def named_errors(path: str | os.PathLike, kind: str = "file") -> Iterator[None]:
    """Makes every error of the block a `WeightsFileError` that begins with the file's name."""
    try:
        yield
    except WeightsFileError as error:
        raise WeightsFileError(f"{os.fspath(path)}: {error}") from error
    # Libraries show damage as OSError, KeyError, RuntimeError, TypeError, RecursionError, zlib.error, and others.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise WeightsFileError(
            f"{os.fspath(path)}: the {kind} is damaged or cut short ({reason}); fetch or save it again"
        ) from error
