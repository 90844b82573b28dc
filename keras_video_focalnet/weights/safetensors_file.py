"""A reader and a writer of the safetensors format: a JSON table of tensors, then their bytes.

The layout: 8 bytes with the table's length, the table (`{"name": {"dtype", "shape", "data_offsets"}, ...}`), the data.
It holds nothing that could execute, and it is what converted weights are cached in.
"""

import json
import math
import os
from collections.abc import Mapping

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, atomic_write, sniff

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # NumPy has none: read as bits, then widened to float32.
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}

_MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"
_AGAIN = "download or save the file again"


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads every tensor of a safetensors file.

    Args:
        path: a `.safetensors` file.

    Returns:
        Arrays by name in the order of the file's table, each of the file's element type; bfloat16, which NumPy lacks,
        is widened to float32 (the values are the same).

    Raises:
        WeightsFileError: not a safetensors file, or a damaged one; names the file and what is wrong first.
        OSError: the file cannot be opened.

    Example:
        >>> write_safetensors("scale.safetensors", {"scale": np.float32([1, 2])})
        >>> read_safetensors("scale.safetensors")
        {'scale': array([1., 2.], dtype=float32)}
    """
    return _read(path)[0]


def read_safetensors_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Reads the texts that a safetensors file carries beside its tensors, without reading the tensors.

    Args:
        path: a `.safetensors` file.

    Returns:
        The texts by key; empty where the file has none.

    Raises:
        WeightsFileError: not a safetensors file, or a damaged one.
        OSError: the file cannot be opened.

    Example:
        >>> write_safetensors("scale.safetensors", {"scale": np.ones(2)}, {"labels": "kinetics400"})
        >>> read_safetensors_metadata("scale.safetensors")
        {'labels': 'kinetics400'}
    """
    return _read(path, tensors=False)[1]


def write_safetensors(
    path: str | os.PathLike, state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays as a safetensors file, whole or not at all.

    The same arrays and texts give the same bytes.

    Args:
        path: where the file shall be; an existing one is replaced in one step, and stays as it is on any error.
        state: arrays by name, of any shape, of a float, integer or bool type.
        metadata: texts to carry along.

    Raises:
        ValueError: an array's type has no place in the format, or a name or text is not a string.
        OSError: the file cannot be written.

    Example:
        >>> write_safetensors("scale.safetensors", {"scale": np.float32([1, 2])}, {"by": "me"})
    """
    header: dict[str, dict] = {}
    if metadata:
        wrong = next((item for item in metadata.items() if not all(isinstance(text, str) for text in item)), None)
        if wrong is not None:
            raise ValueError(f"metadata takes strings only but has {wrong!r}; write str() or JSON of it.")
        header[_METADATA] = dict(metadata)
    arrays = {}
    for name, array in state.items():
        array = np.asarray(array)
        little = array.dtype.newbyteorder("<")
        if not isinstance(name, str) or name == _METADATA:
            raise ValueError(f"state has the name {name!r}; give each array a string other than {_METADATA!r}.")
        if little not in _NAMES:
            raise ValueError(f"state[{name!r}] is of type {array.dtype}, which has no place here; cast it to float32.")
        arrays[name] = array.astype(little, order="C", copy=False)
        header[name] = {"dtype": _NAMES[little], "shape": list(array.shape), "data_offsets": None}
    # Wide elements first: every tensor then begins at a multiple of its element size, as memory maps like it.
    layout = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    position = 0
    for name in layout:
        header[name]["data_offsets"] = [position, position + arrays[name].nbytes]
        position += arrays[name].nbytes
    table = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    table += b" " * (-len(table) % 8)
    with atomic_write(path) as file:
        file.write(len(table).to_bytes(8, "little"))
        file.write(table)
        for name in layout:
            file.write(np.ascontiguousarray(arrays[name]).data)


def _read(path: str | os.PathLike, tensors: bool = True) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    kind = sniff(path)
    try:
        if kind not in ("safetensors", "unknown", "text"):
            raise WeightsFileError(f"not a safetensors file: it is {DESCRIPTIONS[kind]}")
        with open(path, "rb") as file:
            header, metadata, start, data_bytes = _header(file)
            spans = _spans(header, data_bytes)
            if not tensors:
                return {}, metadata
            state = {}
            for name, (dtype, shape, begin, end) in spans.items():
                buffer = bytearray(end - begin)
                file.seek(start + begin)
                if file.readinto(buffer) != len(buffer):
                    raise WeightsFileError(f"tensor {name!r} is cut short; {_AGAIN}")
                state[name] = _array(buffer, dtype, shape)
            return state, metadata
    except WeightsFileError as error:
        raise WeightsFileError(f"{os.fspath(path)}: {error}") from error


def _header(file) -> tuple[dict, dict[str, str], int, int]:
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if file_bytes < 8 or length > min(file_bytes - 8, _MAX_HEADER_BYTES):
        raise WeightsFileError(
            f"not a safetensors file, or cut short: its table would take {length:,} of {file_bytes:,} bytes; {_AGAIN}"
        )
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(f"its table is not valid JSON ({error}); {_AGAIN}") from error
    metadata = header.pop(_METADATA, {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise WeightsFileError(f"its table is not one of tensors with texts beside; {_AGAIN}")
    return header, metadata, 8 + length, file_bytes - 8 - length


def _unique(pairs: list) -> dict:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return table


def _spans(header: dict, data_bytes: int) -> dict[str, tuple[str, list[int], int, int]]:
    spans = {}
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
        except (TypeError, KeyError, ValueError) as error:
            raise WeightsFileError(f"tensor {name!r} has no valid dtype, shape and data_offsets; {_AGAIN}") from error
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise WeightsFileError(f"tensor {name!r} is of type {dtype!r}; save it as one of {', '.join(_DTYPES)}")
        if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) or len(shape) > 32:
            raise WeightsFileError(f"tensor {name!r} has no valid shape or data_offsets; {_AGAIN}")
        if end - begin != math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize:
            raise WeightsFileError(f"tensor {name!r} of shape {shape} has {end - begin} bytes of {dtype}; {_AGAIN}")
        spans[name] = (dtype, shape, begin, end)
    # Without gaps and overlaps the tensors take no more memory than the file has bytes.
    position = 0
    for name, (_, _, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != position or end > data_bytes:
            raise WeightsFileError(
                f"tensor {name!r} takes bytes {begin} to {end}, where {position} to at most {data_bytes} are; {_AGAIN}"
            )
        position = end
    if position != data_bytes:
        raise WeightsFileError(f"{data_bytes - position} bytes at its end belong to no tensor; {_AGAIN}")
    return spans


def _array(buffer: bytearray, dtype: str, shape: list[int]) -> np.ndarray:
    array = np.frombuffer(buffer, _DTYPES[dtype])
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif dtype == "BOOL":
        array = array.view(np.uint8) != 0
    return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)
