"""Reads and writes safetensors files with the format's own library.

The format is a JSON table of tensors and their bytes: it holds nothing that could execute. Converted weights are
cached in it, and runs are saved in it. The library checks that the tensors cover the file exactly, so what they take
in memory is at most the file's size (twice that where bfloat16 is widened). The table is checked here beforehand: it
has a size that models keep to, no name occurs twice, and every shape is one that an array can have.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  The library finds NumPy's bfloat16 once this is imported.
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff

# A table grows some 25 times in memory; the table of a model of a thousand tensors has a tenth of a megabyte.
MAX_HEADER_BYTES = 4 << 20

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_METADATA = "__metadata__"
# More elements than an array has.
_MOST = 1 << 48


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads every tensor of a safetensors file."""
    with _opened(path) as file:
        return {name: _tensor(file, name) for name in sorted(file.keys())}


def read_safetensors_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Reads the texts that a safetensors file carries beside its tensors, without reading the tensors."""
    with _opened(path) as file:
        return file.metadata() or {}


def write_safetensors(
    path: str | os.PathLike, state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays as a safetensors file, completely or not at all.

    The same arrays and texts give the same bytes.
    """
    path, metadata = Path(path), dict(metadata or {})
    wrong = next((item for item in metadata.items() if not all(isinstance(text, str) for text in item)), None)
    if wrong is not None:
        raise ValueError(f"metadata takes strings only but has {wrong!r}; write str() or JSON of it.")
    # The library writes the memory that an array begins at, so it must lie there in order.
    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    for name, array in arrays.items():
        if not isinstance(name, str) or name == _METADATA:
            raise ValueError(f"state has the name {name!r}; give each array a string other than {_METADATA!r}.")
        if array.dtype.kind not in "fiub" or array.itemsize > 8:
            raise ValueError(f"state[{name!r}] is of type {array.dtype}, which has no place here; cast it to float32.")
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:100]}.", dir=path.parent) as folder:
        temporary = Path(folder) / "file"
        # The library's file is readable by its owner alone; this one has the permissions that the umask gives.
        temporary.touch()
        permissions = temporary.stat().st_mode
        try:
            save_file(arrays, temporary, metadata or None)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written ({error}); check the disk.") from error
        with open(temporary, "r+b") as file:
            if len(metadata) > 1:
                _sort_metadata(file)
            os.fsync(file.fileno())
        temporary.chmod(permissions)
        os.replace(temporary, path)


def _sort_metadata(file) -> None:
    """Rewrites the table of an open file with its texts in order: the library writes them in an order of chance."""
    length = int.from_bytes(file.read(8), "little")
    table = json.loads(file.read(length))
    table[_METADATA] = dict(sorted(table[_METADATA].items()))
    file.seek(8)
    # Both writers escape the same characters in the same way, so the length stays.
    file.write(json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))
    file.flush()


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[safe_open]:
    kind = sniff(path)
    with named_errors(path, "safetensors file"):
        if kind not in ("safetensors", "unknown"):
            raise WeightsFileError(f"not a safetensors file: it is {DESCRIPTIONS[kind]}")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise WeightsFileError(
                f"not a safetensors file, or none of a model: its table would take {length:,} bytes, where at most "
                f"{MAX_HEADER_BYTES:,} are read; download or save it again"
            )
        _check_table(path, length)
        with safe_open(path, framework="numpy") as file:
            yield file


def _check_table(path: str | os.PathLike, length: int) -> None:
    """Refuses names that occur twice, and tensors that no array can be."""
    with open(path, "rb") as file:
        file.seek(8)
        table = json.loads(file.read(length), object_pairs_hook=_distinct)
    for name, entry in table.items():
        sides = entry["shape"] if name != _METADATA else []
        # A product of much else than a few small numbers takes minutes or gigabytes.
        numbers = isinstance(sides, list) and len(sides) <= 32 and all(type(n) is int and 0 <= n < _MOST for n in sides)
        if not numbers or math.prod(side for side in sides if side) >= _MOST:
            raise ValueError(f"tensor {name[:100]!r} has the shape {str(sides)[:100]}, which no tensor has")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Makes a dictionary of the names and values that an object of JSON lists."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in its table")
    return found


def _tensor(file: safe_open, name: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise WeightsFileError(f"tensor {name!r} is of type {dtype}; save it as one of {', '.join(_DTYPES)}")
    array = file.get_tensor(name)
    if dtype == "BOOL":
        # Any byte but 0 and 1 in an array of bools is undefined in NumPy.
        return array.view(np.uint8) != 0
    return array.astype(np.float32) if dtype == "BF16" else array
