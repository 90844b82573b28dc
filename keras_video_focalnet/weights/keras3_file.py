"""Safe reading of Keras 3's `.weights.h5` and `.keras` files: their numbers alone, no object of theirs is made."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_video_focalnet.utils.archives import unpack
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import Group, Tensor, TensorFile, open_hdf5, read

# JSON grows some 25 times in memory; the configuration of a model with a thousand names has a tenth of a megabyte.
MAX_CONFIG_BYTES = 4 << 20
# What a member may take when it is unpacked: this, or ten times the file, whichever is more.
MAX_UNPACKED_BYTES = 256 << 20
_GROWTH = 10


@contextlib.contextmanager
def open_keras3(path: str | os.PathLike) -> Iterator[tuple[TensorFile, list[str] | None]]:
    """Open a `.weights.h5`, `.weights.json` or `.keras` file of a functional model."""
    kind = sniff(path)
    with named_errors(path, "file"), contextlib.ExitStack() as stack:
        labels = None
        if kind == "zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            labels = parse_config(_member(archive, "config.json")).get("labels")
            file = stack.enter_context(_member_tensors(archive, "model.weights.h5"))
        elif kind == "hdf5":
            file = stack.enter_context(open_hdf5(path))
        elif kind == "text" and os.fspath(path).endswith(".json"):
            file = stack.enter_context(open_hdf5(*_shards(Path(path))))
        else:
            raise WeightsFileError(f"this is {DESCRIPTIONS[kind]}, not a Keras 3 .weights.h5 or .keras file")
        if not file.has(file.root, "layers"):
            raise WeightsFileError("no group 'layers'; it is not a Keras 3 weights file of a functional model")
        yield file, labels


def read_keras3_variables(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Read the variables of the layers of a `.weights.h5` or `.keras` file."""
    with open_keras3(path) as (file, labels):
        state = {}
        _collect(file, file.group(file.root, "layers"), "layers", state)
        check_labels(labels, None)
        return state, labels


def _shards(index: Path) -> list[Path]:
    """Find the files that the index of sharded weights lists, which lie beside it and are called after it."""
    if index.stat().st_size > MAX_CONFIG_BYTES:
        raise WeightsFileError(f"it is longer than {MAX_CONFIG_BYTES} bytes, which no index of weights is")
    listed = json.loads(index.read_bytes())["weight_map"].values()
    listed = {name for names in listed for name in ([names] if isinstance(names, str) else names)}
    stem = index.name.removesuffix(".json").removesuffix(".weights")
    # The names are made here and not taken from the index, which may name any file.
    expected = [f"{stem}_{number:05d}.weights.h5" for number in range(len(listed))]
    other = sorted(listed - set(expected))
    if other:
        raise WeightsFileError(
            f"it names {str(other[0])[:100]!r}, but the parts of {index.name} are called {stem}_00000.weights.h5 and "
            "so on; keep the names that save_weights gave, or save one file with save_weights('model.weights.h5')"
        )
    for name in expected:
        if not index.with_name(name).is_file():
            raise WeightsFileError(f"its part {name} is not beside it; put it there, it holds the numbers")
    return [index.with_name(name) for name in expected]


def _collect(file: TensorFile, group: Group, path: str, state: dict[str, np.ndarray]) -> None:
    for name, member in group.members.items():
        inner = f"{path}/{name}"
        if path.endswith("/vars"):
            # Seeds and counters are integers, and no weights.
            if not (isinstance(member, Tensor) and member.is_integer):
                state[inner] = read(file.tensor(group, name)).astype("float32", copy=False)
        else:
            _collect(file, file.group(group, name), inner, state)


def check_keras_file(path: str | os.PathLike) -> int:
    """Check that a `.keras` file of any model can be read by Keras itself, which trusts archives and the HDF5 library.

    Gives the number of its tensors. A `WeightsFileError` names the file: its configuration or its numbers are damaged,
    unpack to far more, or lie in other files.
    """
    tensors = 0
    with named_errors(path), zipfile.ZipFile(path) as archive:
        parse_config(_member(archive, "config.json"))
        if sum(info.file_size for info in archive.infolist()) > _most_unpacked(archive):
            raise WeightsFileError("its members unpack to far more than the file, which no model's do")
        for name in archive.namelist():
            for _ in unpack(archive, _member_info(archive, name)):
                pass
        with _member_tensors(archive, "model.weights.h5") as file:
            waiting = [file.root]
            while waiting:
                group = waiting.pop()
                for name, member in group.members.items():
                    if isinstance(member, Group):
                        waiting.append(member)
                    elif member is None or member.entry["external"] or member.entry["virtual"]:
                        raise WeightsFileError(f"{group.name}/{name} lies in another place; save it with model.save")
                    else:
                        tensors += 1
    return tensors


def read_keras_config(path: str | os.PathLike) -> dict[str, Any]:
    """Read the configuration of the model in a `.keras` file."""
    with named_errors(path), zipfile.ZipFile(path) as archive:
        return parse_config(_member(archive, "config.json"))


def variable_paths(model) -> dict[int, str]:
    """Tell where Keras saves each variable of a model."""
    from keras.src.saving import saving_lib

    paths = {}

    class Entry:
        def __init__(self, path):
            self.path = path

        def __setitem__(self, key, variable):
            paths[id(variable)] = f"{self.path}/vars/{key}"

    class Recorder(saving_lib.NpzIOStore):
        """A store of Keras's that writes down the paths and nothing else."""

        def __init__(self):
            pass

        def __bool__(self):
            return True

        def make(self, path, metadata=None):
            return Entry(path)

    saving_lib._save_state(model, Recorder(), None, inner_path="", visited_saveables=set())
    return paths


def _file_bytes(archive: zipfile.ZipFile) -> int:
    return os.fstat(archive.fp.fileno()).st_size


def _most_unpacked(archive: zipfile.ZipFile) -> int:
    return max(MAX_UNPACKED_BYTES, _GROWTH * _file_bytes(archive))


def _member_info(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Finds a member whose claims the archive can keep."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise WeightsFileError(f"the archive has no {name}; it is not a .keras file") from None
    limit = MAX_CONFIG_BYTES if name.endswith(".json") else _most_unpacked(archive)
    # Keras stores members uncompressed: a large ratio is a bomb.
    if info.file_size > limit or info.file_size > 100 * max(info.compress_size, 1):
        raise WeightsFileError(
            f"{name} unpacks to {info.file_size} bytes out of {info.compress_size}, which no model does"
        )
    if info.header_offset + info.compress_size > _file_bytes(archive):
        raise WeightsFileError(f"{name} reaches beyond the end of the file; fetch or save it again")
    return info


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    return b"".join(unpack(archive, _member_info(archive, name)))


@contextlib.contextmanager
def _member_tensors(archive: zipfile.ZipFile, name: str) -> Iterator[TensorFile]:
    """Opens an HDF5 member, unpacked into a temporary file."""
    info = _member_info(archive, name)
    with tempfile.TemporaryDirectory(prefix="weights.") as folder:
        unpacked = Path(folder) / "member.h5"
        with open(unpacked, "wb") as target:
            target.writelines(unpack(archive, info))
        with open_hdf5(unpacked) as file:
            yield file


def check_labels(labels: object, classes: int | None) -> None:
    """Check that class names out of a file are one text a class, or None."""
    if labels is None:
        return
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WeightsFileError(f"its labels are {str(labels)[:80]!r}, not a list of names; save it with labels or None")
    if classes is not None and len(labels) != classes:
        raise WeightsFileError(
            f"its labels are {len(labels)} names, but the classifier has {classes} classes; save it "
            "with one name a class, or None"
        )


def parse_config(content: bytes) -> dict[str, Any]:
    """Read the configuration of a model out of the `config.json` that Keras saves."""
    config = json.loads(content)
    config = config.get("config") if isinstance(config, dict) else None
    if not isinstance(config, dict):
        raise WeightsFileError("its config.json describes no model; save it again with model.save")
    return config
