"""Fetches weights from a model hub: `hf://user/repository[@revision][/file]`.

The library `huggingface_hub` does the talking, and the file lies in that library's own cache as it was published. So a
file that others fetched is not fetched again, a newer one is noticed, and `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they mean elsewhere. Only numbers and class names are read; nothing in a repository names
what is opened next.

`model.save("hf://user/repository")` and `keras.saving.load_model("hf://user/repository")` are Keras's own. Where
TensorFlow is not installed, Keras refuses to load from an address; load the folder
`huggingface_hub.snapshot_download("user/repository")` instead.
"""

import contextlib
import errno
import re
import shutil
import textwrap
from pathlib import Path
from urllib.parse import unquote

from keras_video_focalnet.weights.addresses import without_secret
from keras_video_focalnet.weights.download import OFFLINE_VARIABLE, check_sha256, file_sha256, is_offline
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.formats import SUFFIXES

SCHEME = "hf://"
# Keras writes these two beside each other for `model.save("hf://user/repository")`.
KERAS_WEIGHTS = "model.weights.h5"
KERAS_CONFIG = "config.json"
# What Transformers writes is called so too, and beside its old files lie those of other frameworks.
PREFERRED_FILES = ("model.safetensors", KERAS_WEIGHTS, "model.keras", "pytorch_model.bin")

_ADDRESS = re.compile(r"(?P<repository>hf://(?P<name>[^/@#?]+/[^/@#?]+)(@(?P<revision>[^/#?]+))?)(/(?P<file>[^#?]*))?")
_CACHE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def fetch_from_hub(address: str, sha256: str | None = None) -> tuple[Path, str]:
    """Fetches a file of weights into the hub's cache, or finds it there."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(
            f"weights={without_secret(address)!r} names no repository; write hf://user/repository, with @revision and "
            "/file as needed."
        )
    check_sha256(sha256)
    try:
        from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise ImportError(
            f"weights={address!r} needs the library huggingface_hub; install it: "
            "pip install 'keras-video-focalnet[hub]'"
        ) from error
    where = {"repo_id": match["name"], "revision": match["revision"] and unquote(match["revision"])}
    file = unquote(match["file"] or "").strip("/")
    try:
        file = file or _choose(_file_names(where), address)
        folder, _, name = file.rpartition("/")
        cached = try_to_load_from_cache(**where, filename=file)
        path = hf_hub_download(**where, filename=file, local_files_only=is_offline())
        if name == KERAS_WEIGHTS:
            with contextlib.suppress(errors.EntryNotFoundError):
                config = f"{folder}/{KERAS_CONFIG}".lstrip("/")
                hf_hub_download(**where, filename=config, local_files_only=is_offline())
    except WeightsFileError:
        raise
    except Exception as error:  # The library raises errors of its own, of the system and of its network library.
        raise WeightsDownloadError(f"{address}: {_explain(error)}") from error
    address = f"{match['repository']}/{file}"
    if sha256 and (digest := file_sha256(path)) != sha256.lower():
        if path != cached:
            _forget(Path(path), depth=len(file.split("/")))
        raise WeightsFileError(
            f"{address}: its SHA-256 is {digest}, but {sha256.lower()} is expected; the file is damaged or was "
            "changed: name the revision that has this digest, or pass the digest that its publisher tells."
        )
    return Path(path), address


def _file_names(where: dict[str, str | None]) -> list[str]:
    """Lists a repository's files: those at the hub, or those in the cache where the hub cannot be asked."""
    from huggingface_hub import HfApi, errors, snapshot_download

    reason = None
    if not is_offline():
        try:
            # `list_repo_files` would wait half a minute for a hub that cannot be reached.
            return [file.rfilename for file in HfApi().model_info(**where).siblings]
        except (errors.HFValidationError, errors.RevisionNotFoundError):
            raise
        except Exception as error:
            reason = error
    try:
        folder = snapshot_download(**where, local_files_only=True, allow_patterns=[])
    except errors.LocalEntryNotFoundError as error:
        raise reason or error from None
    return [path.name for path in Path(folder).iterdir()]


def _choose(names: list[str], address: str) -> str:
    names = sorted(name for name in names if name.lower().endswith(SUFFIXES) and not set(name) & set("/\\"))
    for name in PREFERRED_FILES:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    found = f"{', '.join(names)} are in it" if names else "it has no file of weights outside its folders"
    raise WeightsFileError(f"{address}: {found}; name the file: {address.rstrip('/')}/FILE")


def _explain(error: Exception) -> str:
    from huggingface_hub import errors

    # Kinds that come first are kinds of later ones too.
    remedies = {
        errors.GatedRepoError: f"its owner must grant access: ask for it on the repository's page, then {_LOG_IN}",
        errors.RepositoryNotFoundError: f"there is no such repository, or it is private: check the name, or {_LOG_IN}",
        errors.RevisionNotFoundError: "the repository has no such revision: check what follows the @",
        (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled): (
            f"it is not in the cache, and the hub cannot be asked: unset {OFFLINE_VARIABLE} and HF_HUB_OFFLINE, and "
            "check the connection"
        ),
        errors.EntryNotFoundError: "the repository has no such file: check its name",
        errors.HFValidationError: "it is not the name of a repository: write hf://user/repository",
    }
    remedy = next((text for kinds, text in remedies.items() if isinstance(error, kinds)), None)
    if isinstance(error, OSError) and error.errno in _CACHE_ERRORS:
        where = f"{error.filename} " if error.filename else ""
        remedy = f"its cache {where}cannot be used: make room or give access there, or set HF_HOME to another folder"
    remedy = remedy or "it cannot be fetched: check the connection and try again, or set HF_ENDPOINT to a mirror"
    reason = textwrap.shorten(str(error), 300, placeholder=" ...")
    return f"{remedy} ({type(error).__name__}: {reason})"


def _forget(path: Path, depth: int) -> None:
    """Takes a file out of the hub's cache: `models--user--repository/snapshots/COMMIT/FILE`, or a link to a blob."""
    blob = path.parent / path.readlink() if path.is_symlink() else None
    path.unlink()
    repository = path.parents[depth + 1]
    left = [entry for entry in (repository / "snapshots").rglob("*") if not entry.is_dir()]
    if not left:
        shutil.rmtree(repository, ignore_errors=True)
    # Equal files share one blob.
    elif blob is not None and blob.name not in {entry.readlink().name for entry in left if entry.is_symlink()}:
        blob.unlink(missing_ok=True)
