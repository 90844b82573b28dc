"""What a PyTorch checkpoint's pickle may say: tensors as views of storages, parameters, ordered dictionaries.

The unpickler here gives descriptions of tensors; `torch_checkpoint` checks them and reads their numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safe_pickle import BoundedReader, Builder, Placeholder, SafeUnpickler
from keras_video_focalnet.weights.torch_script import SCRIPT_CLASSES, ScriptObject

_MAX_KEY_LENGTH = 100


@dataclass(frozen=True)
class ScalarType:
    """An element type: how its elements lie in the file, and whether NumPy has it."""

    name: str
    code: str

    @property
    def itemsize(self) -> int:
        """The number of bytes of one element in the file."""
        return np.dtype(self.code).itemsize


_SCALAR_TYPES = {
    name: ScalarType(name, code)
    for name, code in (
        ("float64", "f8"),
        ("float32", "f4"),
        ("float16", "f2"),
        ("bfloat16", "u2"),  # NumPy has no such type: it is read as bits and then widened.
        ("int64", "i8"),
        ("int32", "i4"),
        ("int16", "i2"),
        ("int8", "i1"),
        ("uint8", "u1"),
        ("uint16", "u2"),
        ("uint32", "u4"),
        ("uint64", "u8"),
        ("bool", "?"),
        ("complex64", "c8"),
        ("complex128", "c16"),
    )
}
_STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class Storage:
    """A run of elements in the file; a legacy view begins `start` elements into its root storage."""

    key: str
    type: ScalarType
    count: int
    start: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor as the pickle describes it; nothing of it is checked or read yet."""

    storage: Any
    type: Any
    offset: Any
    size: Any
    stride: Any


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    if not isinstance(storage, Storage):
        return Placeholder("torch.Tensor of an unknown element type")
    if metadata:
        return Placeholder("torch.Tensor, a conjugate or negative view")
    return Tensor(storage, storage.type, offset, size, stride)


def _rebuild_tensor_with_type(storage, offset, size, stride, requires_grad, hooks, scalar_type, metadata=None):
    if not isinstance(storage, Storage) or not isinstance(scalar_type, ScalarType) or metadata:
        return Placeholder("torch.Tensor of an unknown element type")
    return Tensor(storage, scalar_type, offset, size, stride)


def _rebuild_with_state(function, cls, args, state):
    return function(args) if isinstance(function, Builder) else Placeholder("torch.Tensor of a subclass")


def _size(size=()):
    # A tuple is kept as it is, which costs nothing: a pickle may ask a thousand times for a copy of one long list.
    return size if type(size) is tuple else Placeholder("torch.Size")


def _ordered_dict(*items):
    # torch.save sets the items afterwards; a pickle that gives a list here may again ask for many copies of it.
    return Placeholder("collections.OrderedDict, made of a list") if items else {}


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(_ordered_dict),
    ("torch", "Size"): Builder(_size),
    ("torch._utils", "_rebuild_tensor"): Builder(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Builder(_rebuild_tensor_with_type),
    ("torch._utils", "_rebuild_parameter"): Builder(lambda data, *rest: data),
    ("torch._utils", "_rebuild_parameter_with_state"): Builder(lambda data, *rest: data),
    ("torch._tensor", "_rebuild_from_type_v2"): Builder(_rebuild_with_state),
}
_NAMES |= {("torch", name): scalar_type for name, scalar_type in _SCALAR_TYPES.items()}
_NAMES |= {
    (module, name): _SCALAR_TYPES[scalar]
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, scalar in _STORAGE_TYPES.items()
}


class CheckpointUnpickler(SafeUnpickler):
    """The unpickler of checkpoints: a persistent object of theirs is a storage.

    Attributes:
        itemsizes: The number of bytes of one element of every storage met, by the storage's key.
    """

    def __init__(self, file: BoundedReader):
        """Reads the pickle that begins where `file` stands."""
        super().__init__(file, _NAMES)
        self.itemsizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Gives what stands for a name; of a TorchScript archive's own class, what keeps an object's attributes."""
        found = super().find_class(module, name)
        of_script = module == SCRIPT_CLASSES or module.startswith(f"{SCRIPT_CLASSES}.")
        return ScriptObject(module, name) if of_script else found

    def persistent_load(self, pid: Any) -> Any:
        """Describes the storage that a persistent id names."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            return Placeholder("persistent object")
        _, scalar_type, key, _, count = pid[:5]
        if not isinstance(scalar_type, ScalarType):
            return Placeholder("torch.Storage of an unknown element type")
        # A name is repeated in the error of each tensor of the storage.
        if not is_size(count) or not isinstance(key, (str, int)) or len(key := str(key)) > _MAX_KEY_LENGTH:
            raise WeightsFileError("a storage has no valid key or length")
        start = 0
        if len(pid) > 5 and pid[5] is not None:
            _, start, view_count = pid[5]
            if not is_size(start) or not is_size(view_count) or start + view_count > count:
                raise WeightsFileError(f"a view of storage {key!r} reaches beyond its {count} elements")
            count = view_count
        self.itemsizes.setdefault(key, scalar_type.itemsize)
        return Storage(key, scalar_type, count, start)


def is_size(value: Any) -> bool:
    """Tells whether a value out of a pickle can be a count of elements."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
