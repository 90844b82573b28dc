"""Small files that would take gigabytes or minutes, read in a process that measures what each takes."""

import bz2
import importlib.util
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_video_focalnet.exporting.contract import KEY
from keras_video_focalnet.utils.archives import unpack
from keras_video_focalnet.weights import hdf5
from keras_video_focalnet.weights.torch_checkpoint import (
    AVERAGE_KEYS,
    STATE_KEYS,
    read_state_dict,
    read_torch_checkpoint,
)
from tests.weights.torch_files import SIX, legacy, pickled, tensor, write_zip

pytestmark = pytest.mark.backend_free

MEGABYTE = 1 << 20
SECONDS = 20
TENSOR = '{"dtype":"I8","shape":[0],"data_offsets":[0,0]}'
LISTS = b"[" + b",".join([b"[]"] * 1_300_000) + b"]"
# Left to `make verify`, being like others; what is packed unpacks in `make test` to little more than may be taken.
ALIKE = {"many mark", "many list", "many dict", "many item", "fewer mark", "fewer list", "fewer item"}
ALIKE |= {"many integers", "many wide names", "arguments"}
MODULE = b"X" + struct.pack("<I", MEGABYTE) + b"m" * MEGABYTE + b"q\x00"

READ = """
import json, os, sys, time
from keras_video_focalnet.exporting.runtime import load_exported
from keras_video_focalnet.weights.keras3_file import check_keras_file, read_keras3_variables
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict, read_torch_checkpoint

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) << 10

readers = {
    ".pth": (read_state_dict, read_torch_checkpoint),
    ".safetensors": (read_safetensors,),
    ".keras": (read_keras3_variables, check_keras_file),
    ".h5": (read_keras3_variables,),
    ".tflite": (load_exported,),
    ".onnx": (load_exported,),
}
for path in sys.argv[1:]:
    for read in readers[os.path.splitext(path)[1]]:
        open("/proc/self/clear_refs", "w").write("5")
        before, start = peak(), time.monotonic()
        try:
            read(path)
            message = ""
        except ValueError as error:
            message = str(error)
        print(json.dumps([path, read.__name__, message, peak() - before, time.monotonic() - start]), flush=True)
"""


def pickles():
    """Pickles by name: whole ones of 8 MB, and ones that stay within the number of operations."""
    for name, operation in {"set": b"\x8f", "mark": b"(", "list": b"]", "dict": b"}", "item": b"}(NNu"}.items():
        yield f"many {name}", b"\x80\x04" + operation * ((8 * MEGABYTE - 10) // len(operation)) + b"."
        yield f"fewer {name}", b"\x80\x04" + operation * (590_000 // len(operation)) + b"."
    yield "kept", b"\x80\x04N" + b"\x94" * MEGABYTE + b"."
    yield "one long key", b"\x80\x04}" + MODULE + b"Ns" + b"h\x00Ns" * 100_000 + b"."
    yield "one long integer", b"\x80\x04}\x8b" + struct.pack("<I", MEGABYTE) + b"\x01" * MEGABYTE + b"q\x00Ns."
    yield "names of classes", b"\x80\x04]" + MODULE + b"0" + b"h\x00h\x00\x93a" * 100_000 + b"."
    yield "digits", b"I" + b"1" * 5000 + b"\n."
    yield "digits as a key", b"}\x8b" + struct.pack("<I", 3000) + b"\x01" * 3000 + b"Ns."
    # Python's hash of each of these integers is 0.
    yield "equal hashes", b"\x80\x02}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(60_000)) + b"u."
    ordered = b"\x80\x02ccollections\nOrderedDict\nq\x00("
    yield "arguments", ordered + b"N" * 300_000 + b"tq\x01" + b"h\x00h\x01R" * 75_000 + b"."
    wide = "\N{GRINNING FACE}".encode() + b"m" * 985
    wide = b"\x80\x04X" + struct.pack("<I", len(wide)) + wide + b"q\x00(X\x01\x00\x00\x00bq\x01"
    yield "wide names", wide + b"h\x00h\x01\x93" * 140_000 + b"l."
    names = b"".join(b"h\x00X\x03\x00\x00\x00%03x\x93" % (k % 4096) for k in range(140_000))
    yield "many wide names", wide + names + b"l."
    for length in (90, MEGABYTE):
        missing = pickled(tensor("k" * length, (1,), (1,)))[2:-1]
        yield f"a storage of {length}", b"\x80\x02](" + missing + b"q\x70" + b"h\x70" * 290_000 + b"e."
    keys = (*STATE_KEYS, *AVERAGE_KEYS)
    itself = b"".join(b"X" + struct.pack("<I", len(key)) + key.encode() + b"h\x00" for key in keys)
    itself += b"cany\nname\nq\x010" + b"".join(number(k + 2**40) + b"h\x01" for k in range(140_000))
    yield "in itself", b"\x80\x02}q\x00(" + itself + b"u."
    yield "many integers", b"\x80\x02](" + b"M\xff\xff" * ((8 * MEGABYTE - 10) // 3) + b"e."


def number(value):
    """A pickle's operation that pushes an integer."""
    packed = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(packed)]) + packed


def keras_file(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"config": b'{"config":{}}', "weights": b"x", **members}.items():
            archive.writestr({"config": "config.json", "weights": "model.weights.h5"}[name], content)
    return path


def changed(path, offset, value):
    """Changes 4-byte numbers in the last entry of an archive's table."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + offset
    content[place : place + len(value)] = value
    path.write_bytes(content)


def packed(compressor, megabytes):
    return b"".join(compressor.compress(bytes(MEGABYTE)) for _ in range(megabytes)) + compressor.flush()


def lying(path, member, content, method, claim):
    """An archive whose table says of a packed member that it unpacks to `claim` zeros."""
    others = {"config.json": b'{"config":{}}', "model.weights.h5": b"x"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, other in others.items():
            if name != member:
                archive.writestr(name, other)
        archive.writestr(member, content)
    checksum = zlib.crc32(bytes(claim))
    written = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place += written.rindex(signature)
        written[place : place + 2] = struct.pack("<H", method)
        written[place + 6 : place + 18] = struct.pack("<III", checksum, len(content), claim)
    path.write_bytes(written)


def lying_archives(folder, everything):
    sizes = (1000, 600) if everything else (300, 300)
    deflated, squeezed = (
        packed(zlib.compressobj(9, zlib.DEFLATED, -15), sizes[0]),
        packed(bz2.BZ2Compressor(), sizes[1]),
    )
    for name, content, method in (("deflate", deflated, 8), ("bzip2", squeezed + bytes(45_000), 12)):
        lying(folder / f"{name} configuration.keras", "config.json", content, method, 4 * MEGABYTE)
        lying(folder / f"{name} numbers.keras", "model.weights.h5", content, method, 4 * MEGABYTE)
        lying(folder / f"{name} asset.keras", "assets/x", content, method, 4 * MEGABYTE)
    if importlib.util.find_spec("ai_edge_litert"):
        lying(folder / "deflate.tflite", f"{KEY}.json", deflated, 8, 1000)


def far_offset(path):
    """Gives every member of an archive an offset of 2**62, for which its table has a field of 8 bytes."""
    content = bytearray(path.read_bytes())
    place = len(content)
    while (place := content.rfind(b"PK\x01\x02", 0, place)) >= 0:
        name = int.from_bytes(content[place + 28 : place + 30], "little")
        content[place + 30 : place + 32] = struct.pack("<H", 12)
        content[place + 42 : place + 46] = b"\xff" * 4
        content[place + 46 + name : place + 46 + name] = struct.pack("<HHQ", 1, 8, 2**62)
    table, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    content[end + 12 : end + 20] = struct.pack("<II", end - table, table)
    path.write_bytes(content)


def make(folder, everything):
    for name, content in pickles():
        if everything or name not in ALIKE:
            write_zip(folder / f"{name}.pth", None, {}, raw=content)
    (folder / "legacy.pth").write_bytes(legacy({}, [], b"", magic=0)[:-1] + b"\x8f" * 8 * MEGABYTE)
    with zipfile.ZipFile(folder / "members.pth", "w") as archive:
        for number in range(60_000):
            archive.writestr(zipfile.ZipInfo(f"a{number}"), b"")
    tables = {
        "equal": "{" + ",".join([f'"x":{TENSOR}'] * 60_000) + "}",
        "equal inside": '{"__metadata__":{' + ",".join(['"x":"y"'] * 400_000) + "}}",
        "lists": '{"x":' + LISTS.decode() + "}",
        "digits": '{"x":{"dtype":"I8","shape":[' + "1" * 5000 + '],"data_offsets":[0,0]}}',
        "lists multiplied": '{"x":{"dtype":"I8","shape":[[1,2],150000000],"data_offsets":[0,0]}}',
        "texts multiplied": '{"x":{"dtype":"I8","shape":["aa",1000000000],"data_offsets":[0,0]}}',
        "numbers multiplied": '{"x":{"dtype":"I8","shape":[' + "9," * 620_000 + '9],"data_offsets":[0,0]}}',
        "zero": '{"x":{"dtype":"I8","shape":[0,4611686018427387904],"data_offsets":[0,0]}}',
    }
    for name, table in tables.items():
        (folder / f"{name}.safetensors").write_bytes(len(table).to_bytes(8, "little") + table.encode())
    random = np.random.default_rng(0).bytes(1000)
    keras_file(folder / "lists.keras", config=b'{"config":{"a":' + LISTS + b"}}")
    keras_file(folder / "packed lists.keras", zipfile.ZIP_DEFLATED, config=b"[" + b"[]," * 20_000_000 + b"[]]")
    keras_file(folder / "packed.keras", zipfile.ZIP_DEFLATED, weights=random * 300_000)
    keras_file(folder / "digits.keras", config=b'{"config":{"labels":[' + b"1" * 5000 + b"]}}")
    keras_file(folder / "nested.keras", config=b'{"config":' + b"[" * 100_000)
    # Sizes of 2 GB, packed and not, in the archive's table.
    changed(keras_file(folder / "claim.keras"), 20, struct.pack("<II", 2**31 - 1, 2**31 - 1))
    far_offset(keras_file(folder / "offset.keras"))
    far_offset(write_zip(folder / "offset.pth", None, {}, raw=b"N."))
    lying_archives(folder, everything)
    many_names(folder / "names.h5")
    if importlib.util.find_spec("onnxruntime"):
        (folder / "nodes.onnx").write_bytes(b":" + varint(8 * MEGABYTE) + b"\n\x00" * 4 * MEGABYTE)
        nested = b""
        for _ in range(5000):
            nested = b"2" + varint(len(nested)) + nested
            for key in (b"*", b"\n"):
                nested = key + varint(len(nested)) + nested
        (folder / "nested.onnx").write_bytes(b":" + varint(len(nested)) + nested)
    return sorted(folder.iterdir())


def varint(value):
    """A number as a protocol buffer has it."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def many_names(path):
    with h5py.File(path, "w", libver="latest") as file:
        for group in range(3):
            file.create_group(f"g{group}").attrs["weight_names"] = np.array([b"ab"] * 850_000)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process took since it was last asked")
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_reading_takes(tmp_path, everything):
    paths = make(tmp_path, everything)
    command = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=SECONDS * len(paths)
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {result[0] for result in results} == set(map(str, paths))
    for path, reader, message, memory, seconds in results:
        size = Path(path).stat().st_size
        assert size < 12 * MEGABYTE
        assert memory < max(10 * size, 256 * MEGABYTE), (path, memory)
        assert seconds < SECONDS, (path, seconds)
        # What is within all bounds is read whole, but none of these holds the tensors of a model.
        assert message.startswith((f"{path}: ", f"{path} ")) or (reader == "read_torch_checkpoint" and not message), (
            path
        )


CHILD = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-P", *sys.argv[1:]], stdout=subprocess.PIPE, timeout=60)
print(len(done.stdout), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound the memory of a process")
def test_what_the_process_that_looks_at_hdf5_takes(tmp_path):
    """A process tells what its own child took, which is more than what it took itself."""
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["a"] = np.ones(2, "f4")
    with h5py.File(tmp_path / "wide.h5", "w", libver="latest") as file:
        file.attrs["a"] = np.zeros(120 * MEGABYTE, "i1")
    taken = {}
    for path in (tmp_path / "plain.h5", tmp_path / "wide.h5", many_names(tmp_path / "names.h5")):
        command = [sys.executable, "-c", CHILD, hdf5._CHILD, path, hdf5.MEMORY_BYTES, hdf5.CPU_SECONDS]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        written, taken[path.stem] = map(int, done.stdout.split())
        assert written > 0
    assert taken["wide"] > taken["plain"] + 100 * MEGABYTE
    assert max(taken.values()) < taken["plain"] + 256 * MEGABYTE


def test_what_is_unpacked_is_what_was_packed(tmp_path):
    contents = {"empty": b"", "short": b"a", "long": np.random.default_rng(0).bytes(3 * MEGABYTE)}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            assert {info.filename: b"".join(unpack(archive, info)) for info in archive.infolist()} == contents


@pytest.mark.parametrize("claim", [0, 99, 101])
def test_a_member_of_another_length_than_it_claims(tmp_path, claim):
    path = tmp_path / "x.zip"
    lying(path, "x", zlib.compress(bytes(100), wbits=-15), 8, claim)
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile, match="'x'"):
        list(unpack(archive, archive.getinfo("x")))


def test_a_checkpoint_with_a_long_history_is_read(tmp_path):
    value = {
        "model": {"a.x": tensor("0", (6,), (1,))},
        "losses": [0.5 + step for step in range(650_000)],
        "steps": list(range(300_000)),
    }
    path = write_zip(tmp_path / "x.pth", value, {"0": SIX.tobytes()})
    np.testing.assert_array_equal(read_state_dict(path)["a.x"], SIX)


def test_integers_of_64_bits_are_keys(tmp_path):
    path = write_zip(tmp_path / "x.pth", {2**64 - 1: 1, -(2**62): 2, 0.5: 3}, {})
    assert read_torch_checkpoint(path) == {2**64 - 1: 1, -(2**62): 2, 0.5: 3}


def test_one_dictionary_under_two_keys_is_found(tmp_path):
    shared = {"a.x": tensor("0", (6,), (1,))}
    for value in ({"net": shared, "ema": shared}, {"model": {"other": 1}, "ema": {"model": shared}}):
        path = write_zip(tmp_path / "x.pth", value, {"0": SIX.tobytes()})
        np.testing.assert_array_equal(read_state_dict(path)["a.x"], SIX)
