"""Fetches published weights, verifies them, and caches what they were converted to.

The cache holds for each address the converted `.safetensors` and, under `digests/`, a record of two digests: that of
the file as it was published, taken at the first download where none is known beforehand, and that of the converted one.
A published file that later differs is refused; a cached file that differs is fetched again. Everything is written
under a temporary name first, so any failure leaves the cache as it was, and two processes may fetch one file at once.

Three environment variables steer it:

- `KERAS_VIDEO_FOCALNET_HOME`: the cache folder.
- `KERAS_VIDEO_FOCALNET_BASE_URL`: a mirror (`https://`, `http://` or `file://`) that holds the published files; it
  replaces everything before the file name.
- `KERAS_VIDEO_FOCALNET_OFFLINE`: `1` for the cache alone.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np

from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, atomic_write, sniff
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors

HOME_VARIABLE = "KERAS_VIDEO_FOCALNET_HOME"
BASE_URL_VARIABLE = "KERAS_VIDEO_FOCALNET_BASE_URL"
OFFLINE_VARIABLE = "KERAS_VIDEO_FOCALNET_OFFLINE"

_TEMPORARY = ".download-"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30

State = dict[str, np.ndarray]
Metadata = dict[str, str]


def cache_dir() -> Path:
    """Gives the folder that weights are cached in; it need not exist.

    Returns:
        `KERAS_VIDEO_FOCALNET_HOME` where set, else the user's cache folder of the system.

    Example:
        >>> cache_dir()  # doctest: +SKIP
        PosixPath('/home/me/.cache/keras_video_focalnet')
    """
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("keras_video_focalnet"))


def source_name(url: str) -> str:
    """Gives the file name at the end of an address, safe as a name on any file system.

    Args:
        url: an address, with or without a query.

    Returns:
        Letters, digits, `.`, `_`, `-` and `+` only; `"weights"` where the path has no name.

    Example:
        >>> source_name("https://example.org/a/tiny%20model.pth?token=1")
        'tiny_model.pth'
    """
    name = PurePosixPath(unquote(urlsplit(url).path).replace("\\", "/")).name
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip(".")[-150:] or "weights"


def fetch_state(
    url: str,
    *,
    file_name: str | None = None,
    sha256: str | None = None,
    convert: Callable[[Path], tuple[State, Metadata]],
    use_base_url: bool = True,
) -> tuple[State, Metadata]:
    """Gives the state and the texts that a published file converts to, out of the cache or freshly downloaded into it.

    Args:
        url: address of the published file: `https`, `http` or `file`.
        file_name: name of the converted file in the cache; by default made of the address.
        sha256: digest in hexadecimal of the published file, where known.
        convert: reads the published file, whose name is that of the address, and returns its state and
            the texts to keep with it; whatever it raises leaves the cache as it was.
        use_base_url: whether `KERAS_VIDEO_FOCALNET_BASE_URL`, where set, replaces the address; pass False for an
            address that the user gave.

    Returns:
        Arrays by name, and texts by name.

    Raises:
        WeightsFileError: what came is an HTML page or empty, its digest is not the one expected, or `convert` refused
            it.
        WeightsDownloadError: the address cannot be reached, answers with an error, the connection broke, or the offline
            switch is on and the cache has no such file.
        ValueError: the address has another scheme, or `sha256` is not a digest.

    Example:
        >>> state, _ = fetch_state(url, convert=lambda path: (read_keras2_h5(path), {}))  # doctest: +SKIP
    """
    address = _address(url, use_base_url)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256={sha256!r} is not a SHA-256 digest; pass 64 hexadecimal digits or None.")
    cache = cache_dir()
    converted = cache / (file_name or _converted_name(url))
    record = _read_record(converted, url)
    expected = sha256.lower() if sha256 else record.get("source_sha256")
    cached = _cached(converted, record, expected)
    if cached is not None:
        return cached
    if _offline():
        by_hand = cache / source_name(url)
        if not by_hand.is_file():
            raise WeightsDownloadError(
                f"{OFFLINE_VARIABLE} is set and {converted} is not in the cache; "
                f"put {source_name(url)} (from {url}) into {cache}, or unset {OFFLINE_VARIABLE}."
            )
        return _convert(by_hand, by_hand, url, converted, sha256, expected, convert)
    with _temporary_folder(cache) as folder:
        source = folder / source_name(url)
        _download(address, source)
        return _convert(source, address, url, converted, sha256, expected, convert)


def undo(url: str, file_name: str | None = None) -> Callable[[], None]:
    """Notes how the cache stands with an address, so that a fetch of it can be undone.

    Args:
        url: the address, as it will be given to `fetch_state`.
        file_name: likewise.

    Returns:
        A function that drops the converted file and puts back the record of digests that there is now, if any.

    Example:
        >>> put_back = undo("https://example.org/tiny.pth")
        >>> put_back()
    """
    converted = cache_dir() / (file_name or _converted_name(url))
    record = _record_path(converted)
    before = record.read_bytes() if record.is_file() else None
    made = [folder for folder in (record.parent, converted.parent) if not folder.is_dir()]

    def put_back():
        converted.unlink(missing_ok=True)
        if before is None:
            record.unlink(missing_ok=True)
        else:
            with atomic_write(record) as file:
                file.write(before)
        for folder in made:
            with contextlib.suppress(OSError):  # Not empty: something else was cached.
                folder.rmdir()

    return put_back


def file_sha256(path: str | os.PathLike) -> str:
    """Gives a file's SHA-256 digest in hexadecimal.

    Args:
        path: a readable file.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> file_sha256("weights.pth")[:8]  # doctest: +SKIP
        'a3f5c2d1'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _address(url: str, use_base_url: bool) -> str:
    base = os.environ.get(BASE_URL_VARIABLE) if use_base_url else None
    address = f"{base.rstrip('/')}/{PurePosixPath(urlsplit(url).path).name}" if base else url
    scheme = urlsplit(address).scheme
    if scheme not in ("https", "http", "file"):
        given = f"{BASE_URL_VARIABLE}={base!r}" if base else f"url={url!r}"
        raise ValueError(f"{given} has the scheme {scheme!r}; use an address of https, http or file.")
    return address


def _converted_name(url: str) -> str:
    # Two addresses may end in one file name.
    stem = PurePosixPath(source_name(url)).stem[:100]
    return f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.safetensors"


def _offline() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no", "off")


def _record_path(converted: Path) -> Path:
    return converted.parent / "digests" / f"{converted.name}.json"


def _read_record(converted: Path, url: str) -> dict[str, str]:
    try:
        record = json.loads(_record_path(converted).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    # A record of another address under this name says nothing of this one.
    return record if isinstance(record, dict) and record.get("url") == url else {}


def _cached(converted: Path, record: dict[str, str], expected: str | None) -> tuple[State, Metadata] | None:
    if not converted.is_file() or (record and record.get("source_sha256") != expected):
        return None
    if not record and not _offline():
        return None
    try:
        if record and file_sha256(converted) != record.get("sha256"):
            raise WeightsFileError(f"{converted}: its digest is not the one recorded when it was written")
        return read_safetensors(converted), read_safetensors_metadata(converted)
    except WeightsFileError as error:
        if _offline():
            raise WeightsFileError(f"{error}; delete it and fetch it again with {OFFLINE_VARIABLE} unset.") from error
        warnings.warn(f"{error}; it is fetched again.", stacklevel=3)
        return None


def _convert(
    source: Path,
    origin: str | Path,
    url: str,
    converted: Path,
    sha256: str | None,
    expected: str | None,
    convert: Callable[[Path], tuple[State, Metadata]],
) -> tuple[State, Metadata]:
    kind = sniff(source)
    if kind in ("html", "empty", "lfs"):
        raise WeightsFileError(f"{origin}: it is {DESCRIPTIONS[kind]}; check the address.")
    digest = file_sha256(source)
    if expected is not None and digest != expected:
        if sha256:
            what = (
                "is expected; the file is damaged or was changed: fetch it from its publisher, or pass its own digest"
            )
        else:
            what = f"was recorded at the first download; if the change is meant, delete {_record_path(converted)}"
        raise WeightsFileError(f"{origin}: its SHA-256 is {digest}, but {expected} {what}.")
    try:
        state, metadata = convert(source)
    except WeightsFileError as error:
        # The temporary file that it names will be gone.
        raise WeightsFileError(str(error).replace(os.fspath(source), str(origin))) from error
    converted.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(converted, state, metadata)
    record = {"url": url, "source_sha256": digest, "sha256": file_sha256(converted)}
    _record_path(converted).parent.mkdir(exist_ok=True)
    with atomic_write(_record_path(converted)) as file:
        file.write(json.dumps(record, indent=1).encode())
    return state, metadata


@contextlib.contextmanager
def _temporary_folder(cache: Path):
    existed = cache.is_dir()
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(cache)
    try:
        # Inside the cache, so that a large file does not land on the small disk of temporary files.
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=cache, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # Not empty: something was cached.
                cache.rmdir()


def _sweep(cache: Path) -> None:
    """Removes what a killed process left behind; a day is longer than any download that still runs."""
    for folder in cache.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 86_400:
                shutil.rmtree(folder, ignore_errors=True)


def _download(address: str, target: Path) -> None:
    if urlsplit(address).scheme == "file":
        path = Path(url2pathname(urlsplit(address).path))
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise WeightsDownloadError(
                f"{address}: {path} cannot be read ({error.strerror}); check the path."
            ) from error
        return
    import pooch
    import requests

    try:
        with _progress(target.name) as progress:
            fetch = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_SECONDS)
            fetch(address, os.fspath(target), None)
    except requests.HTTPError as error:
        status = f"HTTP {error.response.status_code} {error.response.reason}"
        raise WeightsDownloadError(f"{address}: the server answers {status}; check the address.") from error
    except requests.RequestException as error:
        raise WeightsDownloadError(
            f"{address}: the connection failed or was cut before the file was complete "
            f"({type(error).__name__}: {str(error)[:200]}); try again, or set {BASE_URL_VARIABLE} to a mirror."
        ) from error


@contextlib.contextmanager
def _progress(name: str):
    """A progress bar as pooch wants it, on a terminal; else False, which is pooch's word for none."""
    if not sys.stderr.isatty():
        yield False
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _RichBar(bar, bar.add_task(name, total=None))


class _RichBar:
    """What pooch calls a progress bar, on top of rich's."""

    def __init__(self, bar, task):
        self._bar = bar
        self._task = task

    @property
    def total(self) -> int | None:
        return self._bar.tasks[0].total

    @total.setter
    def total(self, count: int):
        # Without a Content-Length pooch says 0.
        self._bar.update(self._task, total=count or None)

    def update(self, count: int):
        self._bar.update(self._task, advance=count)

    def reset(self):
        self._bar.update(self._task, completed=0)

    def close(self):
        self._bar.refresh()
