"""Fetches published weights, verifies them, and caches what they were converted to.

For each address the cache holds the converted `.safetensors` and, under `digests/`, a record of two digests: that of
the published file, taken at the first download where it is not known beforehand, and that of the converted file. A
published file that later differs is refused; a cached file that differs is fetched again. Everything is written under
a temporary name first, so any failure leaves the cache as it was, and two processes may fetch one file at once. What a
killed process leaves is removed by the next one. A password in an address is sent to its host and goes nowhere else.

Three environment variables steer it:

- `KERAS_VIDEO_FOCALNET_HOME`: the cache folder.
- `KERAS_VIDEO_FOCALNET_BASE_URL`: a mirror (`https://`, `http://` or `file://`) that holds the published files; it
  replaces everything before the file name.
- `KERAS_VIDEO_FOCALNET_OFFLINE`: `1` reads the cache alone; it holds for `hf://` (see `hub`) too.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np

from keras_video_focalnet.utils.files import atomic_write
from keras_video_focalnet.weights.addresses import check_address, local_path, source_name, without_secret
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.safetensors_file import read_safetensors, read_safetensors_metadata, write_safetensors

HOME_VARIABLE = "KERAS_VIDEO_FOCALNET_HOME"
BASE_URL_VARIABLE = "KERAS_VIDEO_FOCALNET_BASE_URL"
OFFLINE_VARIABLE = "KERAS_VIDEO_FOCALNET_OFFLINE"

_TEMPORARY = ".download-"
# A cache may be shared by machines, and a process is known on its own alone.
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_OWNER = re.compile(rf"{re.escape(_TEMPORARY)}{_MACHINE}-(\d+)-(\d+)-")
_DAY = 86_400
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30

State = dict[str, np.ndarray]
Metadata = dict[str, str]


def cache_dir() -> Path:
    """Gives the folder that weights are cached in; it need not exist."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("keras_video_focalnet"))


def fetch_state(
    url: str,
    *,
    file_name: str | None = None,
    sha256: str | None = None,
    convert: Callable[[Path], tuple[State, Metadata]],
    use_base_url: bool = True,
) -> tuple[State, Metadata]:
    """Gives the state and the texts that a published file converts to, out of the cache or downloaded into it."""
    address = _address(url, use_base_url)
    url = without_secret(url)
    check_sha256(sha256)
    cache = cache_dir()
    converted = cache / (file_name or _converted_name(url))
    record = _read_record(converted, url)
    expected = sha256.lower() if sha256 else record.get("source_sha256")
    with _cache_errors(cache):
        cached = _cached(converted, record, expected)
        if cached is not None:
            return cached
        placed = cache / source_name(url)
        if is_offline() and not placed.is_file():
            raise WeightsDownloadError(
                f"{OFFLINE_VARIABLE} is set and {converted} is not in the cache; put {placed.name} (from {url}) into "
                f"{cache}, or pass its path as weights, or unset {OFFLINE_VARIABLE}."
            )
        with _temporary_folder(cache) as folder:
            if is_offline():
                source = origin = placed
            else:
                source, origin = folder / placed.name, without_secret(address)
                _download(address, source)
            return _convert(source, origin, url, folder, converted, sha256, expected, convert)


def fetch_undoer(url: str, file_name: str | None = None) -> Callable[[], None]:
    """Remembers what the cache holds of an address, so that a fetch of it can be undone."""
    check_address(url, "weights", url)
    cache = cache_dir()
    converted = cache / (file_name or _converted_name(without_secret(url)))
    record = _record_path(converted)
    with _cache_errors(cache):
        former = record.read_bytes() if record.is_file() else None
        new_folders = [folder for folder in (record.parent, converted.parent) if not folder.is_dir()]

    def undo():
        converted.unlink(missing_ok=True)
        if former is None:
            record.unlink(missing_ok=True)
        else:
            with atomic_write(record) as file:
                file.write(former)
        for folder in new_folders:
            with contextlib.suppress(OSError):  # Not empty: something else was cached.
                folder.rmdir()

    return undo


def file_sha256(path: str | os.PathLike) -> str:
    """Gives a file's SHA-256 digest in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(sha256: str | None) -> None:
    """Checks that a digest is one, or None."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256={sha256!r} is not a SHA-256 digest; pass 64 hexadecimal digits or None.")


def is_offline() -> bool:
    """Tells whether `KERAS_VIDEO_FOCALNET_OFFLINE` is set, so that nothing may be fetched."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no", "off")


def _address(url: str, use_base_url: bool) -> str:
    base = os.environ.get(BASE_URL_VARIABLE) if use_base_url else None
    address = f"{base.rstrip('/')}/{PurePosixPath(urlsplit(url).path).name}" if base else url
    check_address(address, *((BASE_URL_VARIABLE, base) if base else ("url", url)))
    return address


def _converted_name(url: str) -> str:
    # Two addresses may end in one file name.
    stem = PurePosixPath(source_name(url)).stem[:100]
    return f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.safetensors"


def _record_path(converted: Path) -> Path:
    return converted.parent / "digests" / f"{converted.name}.json"


def _read_record(converted: Path, url: str) -> dict[str, str]:
    try:
        record = json.loads(_record_path(converted).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    # A record of another address under this name says nothing of this one.
    return record if isinstance(record, dict) and record.get("url") == url else {}


def _cached(converted: Path, record: dict[str, str], expected: str | None) -> tuple[State, Metadata] | None:
    if not converted.is_file() or (record and record.get("source_sha256") != expected):
        return None
    if not record and not is_offline():
        return None
    try:
        if record and file_sha256(converted) != record.get("sha256"):
            raise WeightsFileError(f"{converted}: its digest is not the one recorded when it was written")
        return read_safetensors(converted), read_safetensors_metadata(converted)
    except WeightsFileError as error:
        if is_offline():
            raise WeightsFileError(f"{error}; delete it and fetch it again with {OFFLINE_VARIABLE} unset.") from error
        warnings.warn(f"{error}; it is fetched again.", stacklevel=3)
        return None


def _convert(
    source: Path,
    origin: str | Path,
    url: str,
    folder: Path,
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
            remedy = (
                "is expected; the file is damaged or was changed: fetch it from its publisher, or pass its own digest"
            )
        else:
            remedy = f"was recorded at the first download; if the change is meant, delete {_record_path(converted)}"
        raise WeightsFileError(f"{origin}: its SHA-256 is {digest}, but {expected} {remedy}.")
    try:
        state, metadata = convert(source)
    except WeightsFileError as error:
        # The temporary file that it names will be gone.
        raise WeightsFileError(str(error).replace(os.fspath(source), str(origin))) from error
    written = folder / "converted"
    write_safetensors(written, state, metadata)
    record = {"url": url, "source_sha256": digest, "sha256": file_sha256(written)}
    os.replace(written, converted)
    _record_path(converted).parent.mkdir(exist_ok=True)
    with atomic_write(folder / "record") as file:
        file.write(json.dumps(record, indent=1).encode())
    os.replace(folder / "record", _record_path(converted))
    return state, metadata


@contextlib.contextmanager
def _cache_errors(cache: Path) -> Iterator[None]:
    """Names the cache and the remedy where the system refuses to read or write it."""
    try:
        yield
    except WeightsDownloadError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise WeightsDownloadError(
            f"{where}{error.strerror or error}. The cache folder {cache} cannot be used; make room or give access "
            f"there, or set the environment variable {HOME_VARIABLE} to another folder."
        ) from error


@contextlib.contextmanager
def _temporary_folder(cache: Path) -> Iterator[Path]:
    existed = cache.is_dir()
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(cache)
    try:
        # Inside the cache, so that a large file does not land on the small disk of temporary files.
        prefix = f"{_TEMPORARY}{_MACHINE}-{os.getpid()}-{_began(os.getpid())}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=cache, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # Not empty: something was cached.
                cache.rmdir()


def _sweep(cache: Path) -> None:
    """Removes what killed processes left behind."""
    for folder in cache.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Tells whether the process that made a temporary folder has ended; where that cannot be known, a day tells."""
    owner = _OWNER.match(folder.name)
    # On Windows this signal would end the process.
    if owner and os.name == "posix":
        process, began = map(int, owner.groups())
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        if began:
            # Its number may be another's by now: a container begins with the same ones each time.
            return _began(process) != began
    return time.time() - folder.stat().st_mtime > _DAY


def _began(process: int) -> int:
    """Gives when a process began, in ticks since the machine was started; 0 where the system does not tell."""
    try:
        # The name of its program, in brackets, may hold anything.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _download(address: str, target: Path) -> None:
    shown = without_secret(address)
    if urlsplit(address).scheme == "file":
        path = local_path(address)
        try:
            source = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise WeightsDownloadError(f"{shown}: {path} cannot be read ({error.strerror}); check the path.") from error
        with source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)
        return
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    try:
        with (
            requests.get(address, stream=True, timeout=_TIMEOUT_SECONDS) as response,
            open(target, "wb") as file,
            progress,
        ):
            response.raise_for_status()
            task = progress.add_task(target.name, total=int(response.headers.get("Content-Length", 0)) or None)
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                progress.advance(task, len(chunk))
    except requests.HTTPError as error:
        status = f"HTTP {error.response.status_code} {error.response.reason}"
        # The error of requests holds the address with its password, and a traceback would show it.
        raise WeightsDownloadError(f"{shown}: the server answers {status}; check the address.") from None
    except requests.RequestException as error:
        raise WeightsDownloadError(
            f"{shown}: the connection failed or was cut before the file was complete ({_reason(error)}); try again, "
            f"set {BASE_URL_VARIABLE} to a mirror, or fetch the file by other means and pass its path as weights."
        ) from None


def _reason(error: BaseException) -> str:
    """Says in a line what stopped a connection: the innermost of the errors that libraries put around each other."""
    inner = error
    while True:
        # urllib3 keeps the cause as `reason`, and requests hands on the error of urllib3 as its argument.
        causes = (getattr(inner, "reason", None), *inner.args)
        cause = next((cause for cause in causes if isinstance(cause, BaseException)), None)
        if cause is None:
            break
        inner = cause
    # "HTTPSConnection(host=..., port=...): Failed to resolve ..." begins with an object.
    text = re.sub(r"^<?\w+(\.\w+)*(\(.*?\)| object at \w+>): ", "", without_secret(str(inner)))
    return textwrap.shorten(f"{type(inner).__name__}: {text}", 300, placeholder=" ...")
