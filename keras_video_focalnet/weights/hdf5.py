"""Reads tensors out of an HDF5 file that nobody vouches for.

The format may point at other files, declare terabytes that take no room, and name one tensor a thousand times, and the
HDF5 library may crash or never end on damage. So the library looks at the file in a process of its own, see
`hdf5_child`, which says only where in the file the numbers of each tensor lie; they are read here, as plain bytes.
Files of weights do none of the above, so a tensor is what lies in the file itself, in one piece, uncompressed and once:
what is read in all then never exceeds the file's size.

That process is bounded in time everywhere. Its memory is bounded on Linux; macOS sets limits of memory and does not
enforce them, and Windows has none.
"""

import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_video_focalnet.weights.errors import WeightsFileError

# A listing takes a few hundred bytes a tensor, some hundredths of a second, and some megabytes.
MAX_LISTING_BYTES = 16 << 20
MEMORY_BYTES = 192 << 20
CPU_SECONDS = 10
WALL_SECONDS = 16
# Python and h5py come from a disk that may be cold, before the file is opened and its time runs.
START_SECONDS = 120
# A slow disk may take longer over a large file.
BYTES_A_SECOND = 50 << 20

_START = b'{"kind": "start"}'
_CHILD = Path(__file__).with_name("hdf5_child.py")


@dataclass
class Group:
    """A group: what it lists by name, and those of its attributes that say how the file is to be read."""

    path: tuple[str, ...]
    attributes: dict[str, str | list[str]]
    members: dict[str, "Group | Tensor | None"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path as text."""
        return "/".join(self.path)


@dataclass
class Tensor:
    """A tensor, not read yet: its type in words and as NumPy's code, its shape, and its place in the file."""

    file: BinaryIO
    path: tuple[str, ...]
    type: str
    code: str | None
    shape: tuple[int, ...] | None
    entry: dict

    @property
    def is_bfloat16(self) -> bool:
        """NumPy has no such type, so Keras saves the bytes and says what they are."""
        return self.code == "|V2" and self.entry["attributes"].get("dtype", "bfloat16") == "bfloat16"

    @property
    def is_integer(self) -> bool:
        """Seeds, counters and quantized numbers are integers."""
        return self.code is not None and self.code[1] in "iu"

    @property
    def bytes(self) -> int:
        """What its numbers take."""
        return math.prod(self.shape) * np.dtype(self.code).itemsize


class TensorFile:
    """The groups and tensors of an HDF5 file, or of several as one, each checked before it is given out.

    Args:
        root: The tree.
        file_bytes: The size of all files, which all tensors together may not exceed.
    """

    def __init__(self, root: Group, file_bytes: int):
        """Keeps the tree."""
        self.root = root
        self._budget = file_bytes
        self._seen: set[tuple[BinaryIO, int]] = set()

    def has(self, parent: Group, name: str) -> bool:
        """Tells whether a group lists a name, whatever it stands for."""
        return name in parent.members

    def group(self, parent: Group, path: str) -> Group:
        """Gives a group inside another."""
        found = self._find(parent, path, "group")
        if not isinstance(found, Group):
            raise WeightsFileError(f"{_name(parent, path)!r} is a tensor where a group is expected")
        return found

    def tensor(self, parent: Group, path: str, rank: int | None = None) -> Tensor:
        """Gives a tensor, not read yet."""
        found, name = self._find(parent, path, "tensor"), _name(parent, path)
        if not isinstance(found, Tensor):
            raise WeightsFileError(f"tensor {name!r} is a group")
        shape, entry = found.shape, found.entry
        if shape is None or not (found.is_bfloat16 or (found.code and found.code[1] == "f")):
            raise WeightsFileError(f"tensor {name!r} is of type {found.type} and shape {shape}, not a weight")
        if rank is not None and len(shape) != rank:
            raise WeightsFileError(f"tensor {name!r} has shape {shape} where {rank} axes are expected")
        if entry["external"] or entry["virtual"]:
            raise WeightsFileError(f"tensor {name!r} has no numbers of its own in the file; save a plain copy of it")
        if entry["filters"]:
            raise WeightsFileError(
                f"tensor {name!r} is compressed, as Keras saves none; unpack it (h5repack -f NONE -l CONTI)"
            )
        if found.bytes > entry["bytes"]:
            raise WeightsFileError(
                f"tensor {name!r} of shape {shape} has no numbers of its own in the file "
                f"({entry['bytes']} of {found.bytes} bytes); fetch or save it again"
            )
        if not entry["contiguous"]:
            raise WeightsFileError(
                f"tensor {name!r} is not in one piece, as Keras saves it; join it (h5repack -l CONTI)"
            )
        place = found.file, entry["address"]
        if place in self._seen:
            raise WeightsFileError(f"tensor {name!r} is one that occurred before; each is saved once")
        self._seen.add(place)
        self._budget -= found.bytes
        if self._budget < 0:
            raise WeightsFileError(f"with tensor {name!r} of shape {shape} there are more numbers than bytes")
        return found

    def _find(self, parent: Group, path: str, kind: str) -> "Group | Tensor":
        found, name = parent, _name(parent, path)
        for part in filter(None, path.split("/")):
            if not isinstance(found, Group) or part not in found.members:
                raise WeightsFileError(f"{kind} {name!r} is missing")
            found = found.members[part]
            if found is None:
                raise WeightsFileError(f"{kind} {name!r} is a link: it has no numbers of its own in the file")
        return found


@contextlib.contextmanager
def open_hdf5(*paths: str | os.PathLike) -> Iterator[TensorFile]:
    """Opens an HDF5 file, or several as one, to read tensors; an `OSError` where the library cannot take it."""
    with contextlib.ExitStack() as stack:
        root, size = Group((), {}), 0
        for path in paths:
            file = stack.enter_context(open(path, "rb"))
            _add(listing(path), file, root)
            size += os.fstat(file.fileno()).st_size
        yield TensorFile(root, size)


def read(tensor: Tensor) -> np.ndarray:
    """Reads a tensor that `TensorFile.tensor` gave, in its own element type; bfloat16 is widened to float32."""
    buffer = bytearray(tensor.bytes)
    if buffer:
        tensor.file.seek(tensor.entry["offset"])
        if tensor.file.readinto(buffer) != len(buffer):
            raise WeightsFileError(f"tensor {'/'.join(tensor.path)!r} is cut short; fetch or save it again")
    array = np.ndarray(tensor.shape, "<u2" if tensor.is_bfloat16 else tensor.code, buffer)
    if tensor.is_bfloat16:
        return np.asarray(array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def names_in(group: Group, attribute: str) -> list[str] | None:
    """Gives a list of names, which Keras cuts into `names0`, `names1`, ... where it is too long for one attribute."""
    if attribute in group.attributes:
        return list(group.attributes[attribute])
    parts = itertools.takewhile(group.attributes.__contains__, (f"{attribute}{index}" for index in itertools.count()))
    found = [group.attributes[part] for part in parts]
    return [name for names in found for name in names] if found else None


def listing(path: str | os.PathLike) -> list[dict]:
    """Lists what an HDF5 file holds, as `hdf5_child` finds it within its bounds."""
    seconds = os.path.getsize(path) // BYTES_A_SECOND
    limits = [str(MEMORY_BYTES), str(CPU_SECONDS + seconds)]
    output, ending = _run([os.path.abspath(path), *limits], WALL_SECONDS + seconds)
    if len(output) > MAX_LISTING_BYTES:
        raise OSError(f"what it lists takes over {MAX_LISTING_BYTES:,} bytes, which no model's file does")
    lines = output.splitlines()
    if lines[:1] != [_START]:
        raise WeightsFileError(f"the process that reads HDF5 files did not start ({ending}); is h5py installed for it?")
    last = lines.pop()
    if last.startswith(b'{"kind": "error"'):
        raise OSError(json.loads(last)["error"])
    if last != b'{"kind": "end"}':
        raise OSError(f"the HDF5 library does not come to an end with it: {ending}")
    return [json.loads(line) for line in lines[1:]]


def _run(arguments: list[str], seconds: int) -> tuple[bytes, str]:
    """Runs the child; gives what it wrote, up to the limit, and how it ended in words."""
    if getattr(sys, "frozen", False):
        raise WeightsFileError(
            "HDF5 files are read by a Python of their own, which a frozen application does not have; "
            "convert the weights to safetensors"
        )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HDF5_USE_FILE_LOCKING": "FALSE",
        # The library would load programs that unpack what is compressed.
        "HDF5_PLUGIN_PRELOAD": "::",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", os.fspath(_CHILD), *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        process = subprocess.Popen(command, env=environment, **pipes)
    except (OSError, ValueError) as error:
        raise WeightsFileError(
            f"the process that reads HDF5 files does not start ({error}); check sys.executable"
        ) from error
    output = bytearray()
    with process:
        try:
            with _killing(process, START_SECONDS):
                output += process.stdout.readline(MAX_LISTING_BYTES)
            with _killing(process, seconds) as late:
                while len(output) <= MAX_LISTING_BYTES and (chunk := process.stdout.read1(1 << 16)):
                    output += chunk
                if len(output) > MAX_LISTING_BYTES:
                    process.kill()
                code = process.wait()
        except BaseException:
            process.kill()
            raise
    if late.is_set():
        return bytes(output), f"it took over {seconds} seconds"
    return bytes(output), f"it ended with {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"


@contextlib.contextmanager
def _killing(process: subprocess.Popen, seconds: int) -> Iterator[threading.Event]:
    """Kills a process that is not done when the block has taken so long; the event tells whether that was so."""
    late = threading.Event()
    timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _add(entries: list[dict], file: BinaryIO, root: Group) -> None:
    """Puts what a file lists into a tree, which may hold what other files list."""
    for entry in entries:
        path = tuple(entry["path"])
        if not path:
            root.attributes |= entry["attributes"]
            continue
        parent = root
        for part in path[:-1]:
            parent = parent.members[part]
        known = parent.members.get(path[-1])
        if entry["kind"] == "link":
            found = None
        elif entry["kind"] == "group":
            found = known if isinstance(known, Group) else Group(path, entry["attributes"])
        else:
            shape = None if entry["shape"] is None else tuple(entry["shape"])
            found = Tensor(file, path, entry["type"], entry["code"], shape, entry)
        if known is not None and known is not found:
            raise WeightsFileError(f"{'/'.join(path)!r} is in more than one of the files")
        parent.members[path[-1]] = found


def _name(parent: Group, path: str) -> str:
    return "/".join([*parent.path, path])
