"""Lists what an HDF5 file holds and where its numbers lie; `hdf5` runs this as a program of its own.

The HDF5 library may crash on a damaged file, never end, or take gigabytes. Here it does so in a process that has bounds
on its time. On Linux its memory is bounded too, and it can open no other file and write none; macOS keeps all of that
but the bound on memory, and Windows has no such limits: there only the time that `hdf5` gives it is left. The list goes
to the standard output, an object of JSON in each line, the first once everything is imported; no number of a tensor is
read. Only h5py and the standard library are imported: that takes a third of a second.
"""

import codecs
import contextlib
import json
import os
import sys
import time

import h5py
import numpy as np

MAX_OBJECTS = 50_000
MAX_DEPTH = 64
MAX_TEXT = 1000

# Attributes whose values are listed: the names of layers and weights, and what says how the file is to be read.
_NAMES = ("layer_names", "weight_names")
_TEXTS = ("dtype", "keras_version", "model_config")
_MAX_TEXTS = {"model_config": 4 << 20}


def listing(file: h5py.File):
    """Yields what lies at each path, groups before what is in them; an object that occurred before is not entered."""
    seen = set()
    waiting = [((), file)]
    while waiting:
        path, found = waiting.pop()
        address = h5py.h5o.get_info(found.id).addr
        entry = {"path": path, "address": address, **_attributes(found)}
        if isinstance(found, h5py.Dataset):
            yield entry | _dataset(found)
            continue
        yield entry | {"kind": "group"}
        if address in seen:
            continue
        seen.add(address)
        if len(path) > MAX_DEPTH:
            raise ValueError(f"its groups are nested more than {MAX_DEPTH} deep")
        inside = []
        for name in found:
            inner, links = (*path, name), found.id.links
            # Other links lead to other files, or to what is listed elsewhere.
            if links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
                yield {"path": inner, "kind": "link"}
            elif isinstance(item := found[name], (h5py.Group, h5py.Dataset)):
                inside.append((inner, item))
            if len(waiting) + len(inside) + len(seen) > MAX_OBJECTS:
                raise ValueError(f"it has more than {MAX_OBJECTS:,} objects")
        waiting.extend(reversed(inside))


def _attributes(found) -> dict:
    """Reads every attribute, so that one that the library cannot take shows here, and keeps those of use."""
    kept = {}
    for name in found.attrs:
        value = found.attrs[name]
        if name.startswith(_NAMES):
            kept[name] = [_text(item) for item in np.asarray(value).ravel().tolist()]
        elif name in _TEXTS:
            kept[name] = _text(value)[: _MAX_TEXTS.get(name, MAX_TEXT)]
    return {"attributes": kept}


def _text(value) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _dataset(found: h5py.Dataset) -> dict:
    plan = found.id.get_create_plist()
    return {
        "kind": "tensor",
        "type": str(found.dtype),
        # What NumPy calls the type, where the bytes in the file are of that type and need no conversion.
        "code": found.dtype.str if h5py.h5t.py_create(found.dtype).equal(found.id.get_type()) else None,
        "shape": found.shape,
        "contiguous": plan.get_layout() == h5py.h5d.CONTIGUOUS,
        "external": plan.get_external_count() > 0,
        "virtual": plan.get_layout() == h5py.h5d.VIRTUAL,
        "filters": plan.get_nfilters(),
        "offset": found.id.get_offset(),
        "bytes": found.id.get_storage_size(),
    }


def _limit(memory: int, seconds: int) -> None:
    """Sets what this process may take, where the system has such limits; a file that is open stays so."""
    try:
        import resource
    except ImportError:
        return
    try:
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        used = 1 << 30
    for encoding in ("ascii", "utf-8", "latin-1"):
        codecs.lookup(encoding)  # Python opens a file for each when it first needs it.
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    limits = {
        resource.RLIMIT_AS: used + memory,
        resource.RLIMIT_CPU: int(time.process_time()) + 1 + seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        # The file takes the one number that is left.
        resource.RLIMIT_NOFILE: free + 1,
    }
    for kind, limit in limits.items():
        # A lower limit may be in force, and not every system knows each of them.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, limit))


def main(path: str, memory: str, seconds: str) -> None:
    """Writes the listing of the file at `path`."""

    def tell(entry):
        print(json.dumps(entry))

    tell({"kind": "start"})
    sys.stdout.flush()
    _limit(int(memory), int(seconds))
    try:
        with h5py.File(path, "r") as file:
            for entry in listing(file):
                tell(entry)
        tell({"kind": "end"})
    except Exception as error:  # The library shows damage as nearly any exception.
        tell({"kind": "error", "error": f"{type(error).__name__}: {str(error)[:MAX_TEXT]}"})
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
