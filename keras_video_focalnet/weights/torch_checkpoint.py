"""A reader of PyTorch checkpoints that needs no PyTorch and executes nothing.

`torch.save` writes a zip archive: `data.pkl` describes the objects, each tensor as a view (offset, size, stride) of a
storage, and `data/N` holds the bytes of storage N. Before version 1.6 it wrote one stream: a few pickles, the object,
the list of storages, then the bytes of each. Both are read here with an allow-listed unpickler (see `safe_pickle`), and
so are the archives of `torch.jit.save`, whose modules' tensors alone are read (see `torch_script`).
Nothing is trusted: every view is checked against its storage, every storage against the file, and the sum of what is
read against the file's size.
"""

import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, HEAD_BYTES, sniff_bytes
from keras_video_focalnet.weights.safe_pickle import MAX_PICKLE_BYTES, BoundedReader, Placeholder
from keras_video_focalnet.weights.torch_pickle import CheckpointUnpickler, ScalarType, Storage, Tensor, is_size
from keras_video_focalnet.weights.torch_script import ScriptObject, module_entries
from keras_video_focalnet.weights.wrappers import COUNTERS

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# An expanded tensor is larger in memory than in the file; this is how much larger all tensors together may be.
_GROWTH = 8
_SLACK_BYTES = 64 << 20

STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "module", "net")
"""Under what training programs keep a model's parameters, in the order in which they are looked for."""

AVERAGE_KEYS = ("ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_state")
"""Under what they keep an average of the parameters; it is read where there is nothing else."""

_AGAIN = "download or save the file again"


@dataclass
class _Checkpoint:
    """An open checkpoint: the object tree, and where in the file each storage lies."""

    file: BinaryIO
    byte_order: str = "<"
    root: Any = None
    storages: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> (offset, bytes)
    budget: int = 0
    arrays: dict[Tensor, np.ndarray] = field(default_factory=dict)

    def tensor(self, tensor: Tensor) -> np.ndarray:
        """Reads one tensor; equal views of one storage give one array."""
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
        if tensor not in self.arrays:
            self.arrays[tensor] = self._read(tensor)
        return self.arrays[tensor]

    def _read(self, tensor: Tensor) -> np.ndarray:
        storage, itemsize = tensor.storage, tensor.type.itemsize
        position, storage_bytes = self.storages.get(storage.key, (0, None))
        if storage_bytes is None:
            raise WeightsFileError(f"its storage 'data/{storage.key}' is missing from the file; {_AGAIN}")
        base, length = storage.start * storage.type.itemsize, storage.count * storage.type.itemsize
        if base + length > storage_bytes:
            raise WeightsFileError(
                f"its storage 'data/{storage.key}' declares {base + length} bytes but holds {storage_bytes}; {_AGAIN}"
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
        self.file.seek(position + base + tensor.offset * itemsize)
        if self.file.readinto(buffer) != len(buffer):
            raise WeightsFileError(f"its storage 'data/{storage.key}' is cut short; {_AGAIN}")
        flat = np.frombuffer(buffer, dtype)
        if last + 1 == count and _is_contiguous(size, stride):
            return _native(flat.reshape(size), tensor.type)
        steps = tuple(step * itemsize for step in stride)
        return _native(np.lib.stride_tricks.as_strided(flat, size, steps).copy(), tensor.type)

    def resolve(self, value: Any, memo: dict) -> Any:
        """Copies a tree with every tensor read; one that cannot be becomes a placeholder with the reason."""
        if not isinstance(value, (Tensor, dict, list, tuple)):
            return Placeholder("torch.Storage") if isinstance(value, Storage) else value
        if id(value) in memo:
            return memo[id(value)]
        if isinstance(value, Tensor):
            try:
                copy = self.tensor(value)
            except WeightsFileError as error:
                copy = Placeholder(f"torch.Tensor: {error}")
            memo[id(value)] = copy
        elif isinstance(value, dict):
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
    """Reads everything that a `torch.save` file holds; of an archive of `torch.jit.save`, the tensors by name."""
    return _with_checkpoint(path, lambda checkpoint: checkpoint.resolve(checkpoint.root, {}))


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the parameters of a model from a file of `torch.save` or `torch.jit.save`, and nothing else of it.

    The parameters are looked for under the keys of `STATE_KEYS` in their order, then at the top, then under those of
    `AVERAGE_KEYS`; the prefix `module.` that data-parallel training adds is taken off. Optimizer state and the like is
    skipped without being read. A TorchScript archive gives every tensor that its modules hold: parameters, buffers, and
    other attributes, which it does not tell apart.
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


def _find_entries(root: Any, depth: int, seen: set[tuple[int, int]]) -> dict | None:
    """Looks for a dictionary that holds tensors, also where it lies in another; each is looked at once at a depth."""
    if not isinstance(root, dict) or not depth or (id(root), depth) in seen:
        return None
    seen.add((id(root), depth))
    own = any(
        isinstance(value, Tensor) or (isinstance(value, Placeholder) and "." in str(name))
        for name, value in root.items()
        if name not in COUNTERS
    )
    inside = [_find_entries(root.get(key), depth - 1, seen) for key in STATE_KEYS]
    inside += [root if own else None, *(_find_entries(root.get(key), depth - 1, seen) for key in AVERAGE_KEYS)]
    return next((entries for entries in inside if entries is not None), None)


def _entries(root: Any) -> dict:
    entries = _find_entries(root, 3, set())
    if entries is not None:
        return entries
    remedy = "save model.state_dict(), bare or under the key 'model'"
    if isinstance(root, dict):
        pickled = next((root[key] for key in STATE_KEYS if isinstance(root.get(key), Placeholder)), None)
        if pickled is not None:
            raise WeightsFileError(f"its model is a pickled object of {pickled.name}, not parameters; {remedy}")
        keys = ", ".join(repr(str(key)[:40]) for key in list(root)[:8])
        raise WeightsFileError(f"it has no tensors under 'model', 'state_dict' or at its top (keys: {keys}); {remedy}")
    found = root.name if isinstance(root, Placeholder) else type(root).__name__.strip("_")
    raise WeightsFileError(f"it holds an object of {found}, not a dictionary of parameters; {remedy}")


def _with_checkpoint(path: str | os.PathLike, use: Callable[[_Checkpoint], Any]) -> Any:
    with open(path, "rb") as file, named_errors(path):
        try:
            return use(_open(file))
        except RecursionError as error:
            raise WeightsFileError(f"its containers are nested too deeply; {_AGAIN}") from error


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
        spans[name] = (0, 0) if _is_program(name) else _span(checkpoint.file, member, file_bytes)
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
    if isinstance(checkpoint.root, ScriptObject):
        checkpoint.root = module_entries(checkpoint.root, Tensor)


def _is_program(name: str) -> bool:
    """Tells whether a member is of a TorchScript archive's program, which may be compressed and is never read."""
    _, _, inside = name.partition("/")
    return inside.startswith("code/")


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
    if member.header_offset + 30 + member.file_size > file_bytes:
        raise WeightsFileError(f"archive member {name!r} reaches beyond the end of the file; {_AGAIN}")
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
    bounded = BoundedReader(file, file_bytes)

    def unpickler() -> CheckpointUnpickler:
        return CheckpointUnpickler(bounded)

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
