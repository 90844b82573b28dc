"""Tells whether an ONNX file keeps numbers in other files, without loading it and without the `onnx` package.

ONNX Runtime opens the files that a tensor names and hands their bytes out. Only the skeleton of the protocol buffer is
walked here: tensors' own bytes are passed over.
"""

import mmap

# Where tensors lie: message -> field -> message, after onnx.proto.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_FIXED_BYTES = {1: 8, 5: 4}


# Models have tens of thousands of fields, and few graphs inside others.
_MOST_FIELDS = 1_000_000
_MOST_NESTED = 100


def names_other_files(path):
    """Return whether a tensor of the file at `path` lies elsewhere; a `ValueError` where the file is no ONNX model."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        fields = 0
        messages = [("model", 0, len(content))]
        while messages:
            kind, place, end = messages.pop()
            if place == end:
                continue
            field, value, start, after = _field(content, place, end)
            if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
                return True
            fields += 1
            messages.append((kind, after, end))
            if field in _INSIDE[kind]:
                messages.append((_INSIDE[kind][field], start, after))
            if fields > _MOST_FIELDS or len(messages) > _MOST_NESTED:
                raise ValueError("it has more parts than any model")
    return False


def _field(content, place, end):
    """Read a field; return its number, its value where that is a number, and where its content begins and ends."""
    key, start = _integer(content, place, end)
    value, wire = 0, key & 7
    if wire == 0:
        value, after = _integer(content, start, end)
    elif wire == 2:
        length, start = _integer(content, start, end)
        after = start + length
    else:
        after = start + _FIXED_BYTES.get(wire, end)
    if after > end:
        raise ValueError(f"no protocol buffer at byte {place}")
    return key >> 3, value, start, after


def _integer(content, place, end):
    """Read a number of seven bits a byte; return it and where it ends."""
    value = 0
    for position in range(place, min(place + 10, end)):
        value |= (content[position] & 127) << 7 * (position - place)
        if content[position] < 128:
            return value, position + 1
    raise ValueError(f"no number at byte {place}")
