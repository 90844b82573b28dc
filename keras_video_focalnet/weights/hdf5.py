"""Reads tensors out of an HDF5 file that nobody vouches for.

The format may point at other files, declare terabytes that take no room, and name one tensor a thousand times. Files of
weights do none of this, so here a tensor is what lies in the file itself, uncompressed and once: what is read in all
then never exceeds the file's size.
"""

import contextlib
import os
from collections.abc import Iterator

import h5py
import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError


@contextlib.contextmanager
def named_errors(path: str | os.PathLike, what: str = "HDF5 file") -> Iterator[None]:
    """Makes every error of the block a `WeightsFileError` that begins with the file's name.

    Raises:
        WeightsFileError: The block raised something.
    """
    try:
        yield
    except WeightsFileError as error:
        raise WeightsFileError(f"{os.fspath(path)}: {error}") from error
    # Damage shows as OSError, KeyError, RuntimeError, ValueError, TypeError, RecursionError, zlib.error, ...
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise WeightsFileError(
            f"{os.fspath(path)}: the {what} is damaged or cut short ({why}); fetch or save it again"
        ) from error


class TensorFile:
    """The groups and tensors of an open HDF5 file, each checked before it is given out.

    Args:
        file: the open file.
        file_bytes: its size, which all tensors together may not exceed.
    """

    def __init__(self, file: h5py.File, file_bytes: int):
        """Keeps the file."""
        self.root = file
        self._budget = file_bytes
        self._seen: set[int] = set()

    def has(self, parent: h5py.Group, name: str) -> bool:
        """Tells whether a group lists a name, whatever it stands for."""
        return parent.id.links.exists(name.encode())

    def group(self, parent: h5py.Group, path: str) -> h5py.Group:
        """Gives a group inside another.

        Raises:
            WeightsFileError: there is none, or it is a tensor or a link.
        """
        found = self._open(parent, path, "group")
        if not isinstance(found, h5py.Group):
            raise WeightsFileError(f"{_name(parent, path)!r} is a tensor where a group is expected")
        return found

    def tensor(self, parent: h5py.Group, path: str, rank: int | None = None) -> h5py.Dataset:
        """Gives a tensor, not read yet.

        Args:
            parent: the group that it lies in.
            path: its path there.
            rank: its number of axes, where only one will do.

        Raises:
            WeightsFileError: there is none, or it is no floating-point tensor of that rank with numbers of its own.
        """
        found, name = self._open(parent, path, "tensor"), _name(parent, path)
        if not isinstance(found, h5py.Dataset):
            raise WeightsFileError(f"tensor {name!r} is a group")
        if found.shape is None or not (found.dtype.kind == "f" or _is_bfloat16(found)):
            raise WeightsFileError(f"tensor {name!r} is of type {found.dtype} and shape {found.shape}, not a weight")
        if rank is not None and found.ndim != rank:
            raise WeightsFileError(f"tensor {name!r} has shape {found.shape} where {rank} axes are expected")
        if found.external or found.is_virtual:
            raise WeightsFileError(f"tensor {name!r} has no numbers of its own in the file; save a plain copy of it")
        # The library inflates a chunk to whatever its bytes say, so no bound on the tensor bounds the memory.
        if found.id.get_create_plist().get_nfilters():
            raise WeightsFileError(f"tensor {name!r} is compressed, as Keras saves none; unpack it (h5repack -f NONE)")
        if found.nbytes > found.id.get_storage_size():
            raise WeightsFileError(
                f"tensor {name!r} of shape {found.shape} has no numbers of its own in the file "
                f"({found.id.get_storage_size()} of {found.nbytes} bytes); fetch or save it again"
            )
        address = h5py.h5o.get_info(found.id).addr
        if address in self._seen:
            raise WeightsFileError(f"tensor {name!r} is one that occurred before; each is saved once")
        self._seen.add(address)
        self._budget -= found.id.get_storage_size()
        if self._budget < 0:
            raise WeightsFileError(f"with tensor {name!r} of shape {found.shape} there are more numbers than bytes")
        return found

    def _open(self, parent: h5py.Group, path: str, kind: str) -> h5py.Group | h5py.Dataset:
        found, name = parent, _name(parent, path)
        for part in filter(None, path.split("/")):
            links = found.id.links if isinstance(found, h5py.Group) else None
            if links is None or not links.exists(part.encode()):
                raise WeightsFileError(f"{kind} {name!r} is missing")
            # Other links lead to other files, or to what is listed elsewhere.
            if links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
                raise WeightsFileError(f"{kind} {name!r} is a link: it has no numbers of its own in the file")
            found = found[part]
        return found


def read(tensor: h5py.Dataset) -> np.ndarray:
    """Reads a tensor that `TensorFile.tensor` gave: as it is, but bfloat16 widened to float32."""
    array = np.asarray(tensor[()])
    if _is_bfloat16(tensor):
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def _is_bfloat16(tensor: h5py.Dataset) -> bool:
    # NumPy has no such type, so Keras saves the bytes and says what they are.
    return tensor.dtype == np.dtype("V2") and tensor.attrs.get("dtype", "bfloat16") == "bfloat16"


def _name(parent: h5py.Group, path: str) -> str:
    return f"{parent.name.strip('/')}/{path}".lstrip("/")
