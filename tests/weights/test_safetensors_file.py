import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import (
    read_safetensors,
    read_safetensors_metadata,
    write_safetensors,
)

pytestmark = pytest.mark.backend_free

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


def state_of_every_type():
    random = np.random.default_rng(0)
    state = {f"of.{code}": (random.random((3, 2)) * 2).astype(code) for code in DTYPES}
    state["scalar"] = np.float32(2.5)
    state["empty"] = np.zeros((0, 4), np.float32)
    state["transposed"] = np.arange(6, dtype=np.float32).reshape(2, 3).T
    state["big endian"] = np.arange(3, dtype=">f4")
    state["odd ünïcode \n name"] = np.ones(3, np.int8)
    return state


def hand_made(path, header, data=b"", length=None):
    table = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(table) if length is None else length).to_bytes(8, "little") + table + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def equal(read, state):
    assert set(read) == set(state)
    for name, array in state.items():
        assert read[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        np.testing.assert_array_equal(read[name], array)


def test_round_trip(tmp_path):
    state = state_of_every_type()
    path = tmp_path / "x.safetensors"
    write_safetensors(path, state, {"labels": "kinetics400", "note": "ünï"})
    read = read_safetensors(path)
    assert list(read) == sorted(state)
    equal(read, state)
    assert all(array.flags.writeable and array.dtype.isnative for array in read.values())
    assert read_safetensors_metadata(path) == {"labels": "kinetics400", "note": "ünï"}


def test_a_file_of_version_0_1_0():
    path = Path(__file__).parents[1] / "data" / "formats" / "every_type.safetensors"
    equal(read_safetensors(path), state_of_every_type())
    assert read_safetensors_metadata(path) == {"labels": "kinetics400", "note": "ünï"}


def test_the_library_reads_ours(tmp_path):
    state = state_of_every_type()
    path = tmp_path / "x.safetensors"
    write_safetensors(path, state, {"a": "b", "ünï": '\n\x01\x7f"\\\u2028', "b": ""})
    equal(safetensors.numpy.load_file(path), state)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"a": "b", "ünï": '\n\x01\x7f"\\\u2028', "b": ""}


def test_we_read_the_library(tmp_path):
    state = {name: np.ascontiguousarray(array) for name, array in state_of_every_type().items() if name != "big endian"}
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(state, path, {"a": "b"})
    equal(read_safetensors(path), state)
    assert read_safetensors_metadata(path) == {"a": "b"}


def test_bfloat16_is_widened(tmp_path):
    values = np.float32([1.5, -2, 1e30, np.inf])
    header = {"x": entry("BF16", (4,), (0, 8)), "scalar": entry("BF16", (), (8, 10))}
    # A bfloat16 is the upper half of a float32.
    halves = np.append(values, np.float32(-0.5)).view("<u2")[1::2]
    read = read_safetensors(hand_made(tmp_path / "x", header, halves.tobytes()))
    assert read["x"].dtype == read["scalar"].dtype == np.float32
    np.testing.assert_array_equal(read["x"], (values.view("u4") >> 16 << 16).view("f4"))
    assert read["scalar"].shape == () and read["scalar"] == -0.5


def test_same_state_gives_same_bytes(tmp_path):
    for name in "ab":
        write_safetensors(tmp_path / name, state_of_every_type(), {str(n): "v" for n in range(20)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"x": np.ones(2)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_safetensors(path, {"x": np.zeros(2)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


@pytest.mark.parametrize(
    ("state", "metadata", "message"),
    [
        ({"x": np.array(["a"])}, None, "'x'"),
        ({"x": np.array([object()])}, None, "'x'"),
        ({"x": np.ones(1, np.complex64)}, None, "complex64"),
        ({1: np.ones(1)}, None, "name 1"),
        ({"__metadata__": np.ones(1)}, None, "__metadata__"),
        ({"x": np.ones(1)}, {"a": 1}, "metadata"),
    ],
)
def test_what_cannot_be_written(tmp_path, state, metadata, message):
    with pytest.raises(ValueError, match=message):
        write_safetensors(tmp_path / "x", state, metadata)
    assert os.listdir(tmp_path) == []


DAMAGED = {
    "too few bytes": ({"x": entry()}, bytes(7)),
    "too many bytes": ({"x": entry()}, bytes(9)),
    "an overlap": ({"x": entry(), "y": entry()}, bytes(8)),
    "a gap": ({"x": entry(), "y": entry(offsets=(12, 20))}, bytes(20)),
    "another shape": ({"x": entry(shape=(3,))}, bytes(8)),
    "far more than there is": ({"x": entry(shape=(2**40,), offsets=(0, 2**42))}, bytes(8)),
    "offsets turned round": ({"x": entry(offsets=(8, 0))}, bytes(8)),
    "a negative offset": ({"x": entry(offsets=(-8, 0))}, bytes(8)),
    "negative sides": ({"x": entry(shape=(-2, -1))}, bytes(8)),
    "a side that is a float": ({"x": entry(shape=(2.0,))}, bytes(8)),
    "a side that is a bool": ({"x": entry(shape=(True, 2))}, bytes(8)),
    "a side of 400 digits": ({"x": entry(shape=(10**400,))}, bytes(8)),
    "a side of 5000 digits": (json.dumps({"x": entry(shape=(77,))}).replace("77", "7" * 5000).encode(), bytes(8)),
    "sides that overflow": ({"x": entry(shape=(2**40, 2**40, 0), offsets=(0, 0))}, b""),
    "a type that is no text": ({"x": entry(dtype=["F32"])}, bytes(8)),
    "a type that there is not": ({"x": entry(dtype="F33")}, bytes(8)),
    "a tensor without a shape": ({"x": {"dtype": "F32"}}, bytes(8)),
    "a tensor that is a number": ({"x": 3}, bytes(8)),
    "a list": ([1], b""),
    "a text that is a number": ({"__metadata__": {"a": 1}}, b""),
    "a key twice": (b'{"x": 1, "x": 1}', b""),
    "a key twice with other bytes": (
        b'{"x":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}}',
        bytes(2),
    ),
    "no end": (b"{", b""),
    "no text": (b'{"\xff": 1}', b""),
    "lists in lists": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
}


@pytest.mark.parametrize(("header", "data"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_files(tmp_path, header, data):
    path = hand_made(tmp_path / "bad.safetensors", header, data)
    for read in (read_safetensors, read_safetensors_metadata):
        with pytest.raises(WeightsFileError, match="^(.*): the safetensors file is damaged or cut short") as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("tensor", "data", "message"),
    [
        (entry(dtype="F8_E4M3", offsets=(0, 2)), bytes(2), "tensor 'x' is of type F8_E4M3; save it as one of F64, F32"),
        (entry(dtype="C64", offsets=(0, 16)), bytes(16), "tensor 'x' is of type C64"),
        # No memory is taken for what holds nothing.
        (entry(shape=(0, 2**62), offsets=(0, 0)), b"", "damaged or cut short"),
        (entry(shape=(1,) * 70, offsets=(0, 4)), bytes(4), "damaged or cut short"),
    ],
)
def test_tensors_that_numpy_cannot_hold(tmp_path, tensor, data, message):
    path = hand_made(tmp_path / "bad.safetensors", {"x": tensor}, data)
    with pytest.raises(WeightsFileError, match=message) as error:
        read_safetensors(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_name_that_occurs_sixty_thousand_times(tmp_path):
    tensor = json.dumps(entry(dtype="I8", shape=(0,), offsets=(0, 0)), separators=(",", ":"))
    path = hand_made(tmp_path / "x", b"{" + b",".join([f'"x":{tensor}'.encode()] * 60_000) + b"}")
    with pytest.raises(WeightsFileError, match="/x: .*a name occurs twice"):
        read_safetensors(path)


def test_bytes_of_a_bool_are_true_or_false(tmp_path):
    path = hand_made(tmp_path / "x", {"x": entry(dtype="BOOL", shape=(4,), offsets=(0, 4))}, bytes([0, 1, 2, 255]))
    assert read_safetensors(path)["x"].view("u1").tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("length", "message"),
    [(2**39, "its table would take 549,755,813,888 bytes"), (2**22 + 1, "where at most 4,194,304 are read")],
)
def test_a_table_that_is_too_long(tmp_path, length, message):
    path = hand_made(tmp_path / "bad.safetensors", {"x": entry()}, bytes(8), length=length)
    # The file is as long as it says, but takes no room on the disk.
    os.truncate(path, min(length, 2**25) + 16)
    with pytest.raises(WeightsFileError, match=message):
        read_safetensors(path)


def test_a_table_longer_than_the_file(tmp_path):
    path = hand_made(tmp_path / "bad.safetensors", {"x": entry()}, bytes(8), length=1000)
    with pytest.raises(WeightsFileError, match="damaged or cut short"):
        read_safetensors(path)


def test_folders_and_files_that_are_not_there(tmp_path):
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "absent", FileNotFoundError)):
        with pytest.raises(error):
            read_safetensors(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_written_files_honour_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_safetensors(tmp_path / "x", {"x": np.ones(2)})
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!doctype html>", "an HTML page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"abc", "not a safetensors file"),
    ],
)
def test_files_of_other_kinds(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsFileError, match=message):
        read_safetensors(tmp_path / "x.safetensors")


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"x": np.ones(2), "y": np.ones(3, np.float32)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsFileError, match=r"x\.safetensors: "):
            read_safetensors(path)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.integers(0, 60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, length):
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(length.to_bytes(8, "little") + b"{" + content)
    try:
        read_safetensors(path)
    except WeightsFileError as error:
        assert str(path) in str(error)
