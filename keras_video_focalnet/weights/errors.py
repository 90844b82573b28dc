"""What can go wrong between a file of numbers and a model."""


class WeightsFileError(ValueError):
    """A weights file cannot be used: not of its format, damaged, or not what it was; the message names the file."""


class WeightsDownloadError(OSError):
    """A weights file could not be fetched: no connection, HTTP error, connection cut, or offline; names the URL."""
