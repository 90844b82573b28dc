"""A reader of PyTorch checkpoints that needs no PyTorch and executes nothing.

`torch.save` writes a zip archive: `data.pkl` describes the objects, each tensor as a view (offset, size, stride) of a
storage, and `data/N` holds the bytes of storage N. Before version 1.6 it wrote one stream: a few pickles, the object,
the list of storages, then the bytes of each. Both are read here with an allow-listed unpickler (see `safe_pickle`).
Nothing is trusted: every view is checked against its storage, every storage against the file, and what is read in
all against the file's size.
"""

import io
import math
import os
import zipfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import DESCRIPTIONS, HEAD_BYTES, sniff_bytes
from keras_video_focalnet.weights.safe_pickle import MAX_PICKLE_BYTES, BoundedReader, Placeholder
from keras_video_focalnet.weights.torch_pickle import CheckpointUnpickler, ScalarType, Storage, Tensor, is_size

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# An expanded tensor is larger in memory than in the file; this is how much larger all tensors together may be.
_GROWTH = 8
_SLACK_BYTES = 64 << 20

_AGAIN = "download or save the file again"


@dataclass
class _Checkpoint:
    """An open checkpoint: the object tree, and where in the file each storage lies."""

    file: BinaryIO
    byte_order: str = "<"
    root: Any = None
    storages: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> (offset, bytes)
    budget: int = 0
    done: dict = field(default_factory=dict)

    def tensor(self, tensor: Tensor) -> np.ndarray:
        """Reads one tensor; equal views of one storage give one array.

        Raises:
            WeightsFileError: the view does not fit its storage, or its storage the file.
        """
        size, stride = tensor.size, tensor.stride
        if not (
            is_size(tensor.offset)
            and isinstance(size, tuple)
            and isinstance(stride, tuple)
            and len(size) == len(stride) <= 32
            and all(map(is_size, size + stride))
            and math.prod(n for n in size if n) < 1 << 48
        ):
            raise WeightsFileError("its offset, size or stride is not valid")
        if tensor not in self.done:
            self.done[tensor] = self._read(tensor)
        return self.done[tensor]

    def _read(self, tensor: Tensor) -> np.ndarray:
        storage, itemsize = tensor.storage, tensor.type.itemsize
        place, held = self.storages.get(storage.key, (0, None))
        if held is None:
            raise WeightsFileError(f"its storage 'data/{storage.key}' is missing from the file; {_AGAIN}")
        base, length = storage.start * storage.type.itemsize, storage.count * storage.type.itemsize
        if base + length > held:
            raise WeightsFileError(
                f"its storage 'data/{storage.key}' declares {base + length} bytes but holds {held}; {_AGAIN}"
            )
        size, stride = tensor.size, tensor.stride
        dtype = np.dtype(tensor.type.code).newbyteorder(self.byte_order)
        if 0 in size:
            return _native(np.empty(size, dtype), tensor.type)
        last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if (tensor.offset + last + 1) * itemsize > length:
            raise WeightsFileError(
                f"it reads element {tensor.offset + last} of storage 'data/{storage.key}', "
                f"which has {length // itemsize}; {_AGAIN}"
            )
        count = math.prod(size)
        # bfloat16 doubles when it is widened.
        self.budget -= max(count, last + 1) * itemsize * (2 if tensor.type.name == "bfloat16" else 1)
        if self.budget < 0:
            raise WeightsFileError(
                f"with it (shape {size}) the tensors take far more memory than the file has bytes; "
                "save clones of them (tensor.clone()) instead of views"
            )
        buffer = bytearray((last + 1) * itemsize)
        self.file.seek(place + base + tensor.offset * itemsize)
        if self.file.readinto(buffer) != len(buffer):
            raise WeightsFileError(f"its storage 'data/{storage.key}' is cut short; {_AGAIN}")
        flat = np.frombuffer(buffer, dtype)
        if last + 1 == count and _is_contiguous(size, stride):
            return _native(flat.reshape(size), tensor.type)
        steps = tuple(step * itemsize for step in stride)
        return _native(np.lib.stride_tricks.as_strided(flat, size, steps).copy(), tensor.type)

    def resolve(self, value: Any, memo: dict) -> Any:
        """Copies a tree with every tensor read; one that cannot be becomes a placeholder with the reason."""
        if isinstance(value, Tensor):
            try:
                return self.tensor(value)
            except WeightsFileError as error:
                return Placeholder(f"torch.Tensor: {error}")
        if not isinstance(value, (dict, list, tuple)):
            return Placeholder("torch.Storage") if isinstance(value, Storage) else value
        if id(value) in memo:
            return memo[id(value)]
        if isinstance(value, dict):
            memo[id(value)] = copy = {}
            copy.update((key, self.resolve(item, memo)) for key, item in value.items())
        elif isinstance(value, list):
            memo[id(value)] = copy = []
            copy.extend(self.resolve(item, memo) for item in value)
        else:
            memo[id(value)] = copy = tuple(self.resolve(item, memo) for item in value)
        return copy


def _is_contiguous(size: tuple, stride: tuple) -> bool:
    expected = 1
    for n, step in zip(reversed(size), reversed(stride), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= n
    return True


def _native(array: np.ndarray, scalar_type: ScalarType) -> np.ndarray:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if scalar_type.name == "bfloat16":
        return np.asarray(array.astype(np.uint32) << 16).view(np.float32)
    # Any byte but 0 and 1 in a bool array is undefined in NumPy.
    return np.asarray(array.view(np.uint8) != 0) if scalar_type.name == "bool" else array


def read_torch_checkpoint(path: str | os.PathLike) -> Any:
    """Reads everything that a `torch.save` file holds.

    Args:
        path: a `.pth` or `.pt` file, of the zip or the legacy format.

    Returns:
        The saved object: dictionaries, lists, tuples, strings and numbers, with each tensor a `np.ndarray` of its own
        element type (bfloat16, which NumPy lacks, is widened to float32; the values are the same). An object of any
        other class, and a tensor that cannot be read, is a `safe_pickle.Placeholder`.

    Raises:
        WeightsFileError: not a PyTorch checkpoint, or a damaged one; names the file and what is wrong first.
        OSError: the file cannot be opened.

    Example:
        >>> checkpoint = read_torch_checkpoint("tests/data/micro/checkpoint.pth")
        >>> checkpoint["epoch"]
        119
    """
    return _with_checkpoint(path, lambda checkpoint: checkpoint.resolve(checkpoint.root, {}))


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the parameters of a model from a `torch.save` file, and nothing else of it.

    The parameters are looked for under the key `model`, then `state_dict`, then at the top; the prefix `module.` that
    data-parallel training adds is taken off. Optimizer state and the like is skipped without being read.

    Args:
        path: a `.pth` or `.pt` file, of the zip or the legacy format.

    Returns:
        Arrays by name, in the file's order, each with the file's element type (bfloat16 as float32).

    Raises:
        WeightsFileError: not a PyTorch checkpoint, a damaged one, without parameters, or with a parameter that is
            an object of another class; names the file and the first such thing.
        OSError: the file cannot be opened.

    Example:
        >>> state = read_state_dict("tests/data/micro/checkpoint.pth")
        >>> state["head.weight"].shape
        (7, 64)
    """
    return _with_checkpoint(path, _state)


def _state(checkpoint: _Checkpoint) -> dict[str, np.ndarray]:
    entries = _entries(checkpoint.root)
    prefix = "module." if entries and all(str(name).startswith("module.") for name in entries) else ""
    state = {}
    for name, value in entries.items():
        name = str(name).removeprefix(prefix)
        if isinstance(value, Tensor):
            try:
                state[name] = checkpoint.tensor(value)
            except WeightsFileError as error:
                raise WeightsFileError(f"tensor {name!r}: {error}") from error
        # Every parameter's name has a dot in it.
        elif isinstance(value, Placeholder) and "." in name:
            raise WeightsFileError(
                f"tensor {name!r} is not a plain tensor but an object of {value.name}; "
                "save the model's state_dict() with plain dense tensors"
            )
    return state


def _entries(root: Any) -> dict:
    for entries in (root.get("model"), root.get("state_dict"), root) if isinstance(root, dict) else ():
        if isinstance(entries, dict) and any(
            isinstance(value, Tensor) or (isinstance(value, Placeholder) and "." in str(name))
            for name, value in entries.items()
        ):
            return entries
    remedy = "save model.state_dict(), bare or under the key 'model'"
    if isinstance(root, dict):
        pickled = next((root[key] for key in ("model", "state_dict") if isinstance(root.get(key), Placeholder)), None)
        if pickled is not None:
            raise WeightsFileError(f"its model is a pickled object of {pickled.name}, not parameters; {remedy}")
        keys = ", ".join(repr(str(key)[:40]) for key in list(root)[:8])
        raise WeightsFileError(f"it has no tensors under 'model', 'state_dict' or at its top (keys: {keys}); {remedy}")
    what = root.name if isinstance(root, Placeholder) else type(root).__name__.strip("_")
    raise WeightsFileError(f"it holds an object of {what}, not a dictionary of parameters; {remedy}")


def _with_checkpoint(path: str | os.PathLike, use) -> Any:
    with open(path, "rb") as file:
        try:
            return use(_open(file))
        except WeightsFileError as error:
            raise WeightsFileError(f"{os.fspath(path)}: {error}") from error
        except RecursionError as error:
            raise WeightsFileError(f"{os.fspath(path)}: its containers are nested too deeply; {_AGAIN}") from error


def _open(file: BinaryIO) -> _Checkpoint:
    head = file.read(HEAD_BYTES)
    file_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    checkpoint = _Checkpoint(file, budget=_GROWTH * file_bytes + _SLACK_BYTES)
    kind = sniff_bytes(head)
    if kind == "zip":
        _open_zip(checkpoint, file_bytes)
    elif kind == "pickle":
        _open_legacy(checkpoint, file_bytes)
    else:
        raise WeightsFileError(f"not a PyTorch checkpoint: it is {DESCRIPTIONS[kind]}; give a file of torch.save")
    return checkpoint


def _open_zip(checkpoint: _Checkpoint, file_bytes: int):
    try:
        with zipfile.ZipFile(checkpoint.file) as archive:
            members = archive.infolist()
    except Exception as error:  # Damage in the directory shows as BadZipFile, struct.error, ValueError, ...
        raise WeightsFileError(f"the zip archive is damaged or cut short ({error}); {_AGAIN}") from error
    spans: dict[str, tuple[int, int]] = {}
    for member in members:
        name = member.filename
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or ".." in parts or name in spans:
            raise WeightsFileError(f"archive member {name[:100]!r} is not one that torch.save writes; {_AGAIN}")
        spans[name] = _span(checkpoint.file, member, file_bytes)
    pickles = [name for name in spans if name.split("/")[-1] == "data.pkl" and name.count("/") <= 1]
    if len(pickles) != 1:
        raise WeightsFileError("not a PyTorch checkpoint: a zip archive without data.pkl; give a file of torch.save")
    folder = pickles[0].removesuffix("data.pkl")
    checkpoint.storages = {
        name.removeprefix(folder + "data/"): span for name, span in spans.items() if name.startswith(folder + "data/")
    }
    if folder + "byteorder" in spans:
        order = _bytes(checkpoint.file, spans[folder + "byteorder"], 16)
        if order not in (b"little", b"big"):
            raise WeightsFileError(f"its byteorder is {order!r}, neither 'little' nor 'big'; {_AGAIN}")
        checkpoint.byte_order = "<" if order == b"little" else ">"
    data = _bytes(checkpoint.file, spans[pickles[0]], MAX_PICKLE_BYTES)
    checkpoint.root = CheckpointUnpickler(BoundedReader(io.BytesIO(data), len(data))).load()


def _span(file: BinaryIO, member: zipfile.ZipInfo, file_bytes: int) -> tuple[int, int]:
    """Gives where in the file a member's bytes lie.

    They are read from there and not through `zipfile`: a slice of a storage then costs no more than the slice, and
    files that torch wrote without checksums are read too.
    """
    name = member.filename[:100]
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise WeightsFileError(
            f"archive member {name!r} is compressed ({member.compress_size} bytes that claim to be "
            f"{member.file_size}); torch.save never compresses: save the file again with torch.save"
        )
    if member.flag_bits & 0x1:
        raise WeightsFileError(f"archive member {name!r} is encrypted; save the file again with torch.save")
    header = _bytes(file, (member.header_offset, 30), 30)
    if header[:4] != b"PK\x03\x04":
        raise WeightsFileError(f"archive member {name!r} is not where the archive says; {_AGAIN}")
    name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    start = member.header_offset + 30 + name_bytes + extra_bytes
    if start + member.file_size > file_bytes:
        raise WeightsFileError(f"archive member {name!r} reaches beyond the end of the file; {_AGAIN}")
    return start, member.file_size


def _bytes(file: BinaryIO, span: tuple[int, int], limit: int) -> bytes:
    start, count = span
    if start < 0 or count > limit:
        raise WeightsFileError(f"a record of {count:,} bytes, where at most {limit:,} are read; {_AGAIN}")
    file.seek(start)
    return file.read(count)


def _open_legacy(checkpoint: _Checkpoint, file_bytes: int):
    file = checkpoint.file

    def unpickler() -> CheckpointUnpickler:
        return CheckpointUnpickler(BoundedReader(file, file_bytes))

    if unpickler().load() != _LEGACY_MAGIC:
        raise WeightsFileError("a pickle, but not a PyTorch checkpoint (no magic number); give a file of torch.save")
    protocol = unpickler().load()
    if protocol != _LEGACY_PROTOCOL:
        raise WeightsFileError(f"its legacy format is not of version 1001; {_AGAIN}")
    system = unpickler().load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsFileError("a legacy checkpoint of a big-endian machine; save it again with a recent torch.save")
    objects = unpickler()
    checkpoint.root = objects.load()
    keys = unpickler().load()
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise WeightsFileError(f"its list of storages is not valid; {_AGAIN}")
    for key in map(str, keys):
        count = int.from_bytes(file.read(8), "little", signed=True)
        start = file.tell()
        # Without the size of an element nothing tells where the storage ends.
        if key not in objects.itemsizes:
            raise WeightsFileError(f"storage {key[:40]!r} has an element type that is not read; save dense floats")
        length = count * objects.itemsizes[key]
        if count < 0 or start + length > file_bytes:
            raise WeightsFileError(f"storage {key[:40]!r} is cut short or has a wrong length; {_AGAIN}")
        checkpoint.storages[key] = (start, length)
        file.seek(start + length)
