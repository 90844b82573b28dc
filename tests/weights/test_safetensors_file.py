import json
import os

import numpy as np
import pytest
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
    assert list(read) == list(state)
    equal(read, state)
    assert all(array.flags.writeable and array.dtype.isnative for array in read.values())
    assert read_safetensors_metadata(path) == {"labels": "kinetics400", "note": "ünï"}


def test_the_library_reads_ours(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    library = pytest.importorskip("safetensors")
    state = state_of_every_type()
    path = tmp_path / "x.safetensors"
    write_safetensors(path, state, {"a": "b"})
    equal(numpy.load_file(path), state)
    with library.safe_open(path, "numpy") as file:
        assert file.metadata() == {"a": "b"}


def test_we_read_the_library(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    state = {name: np.ascontiguousarray(array) for name, array in state_of_every_type().items() if name != "big endian"}
    path = tmp_path / "x.safetensors"
    numpy.save_file(state, path, {"a": "b"})
    equal(read_safetensors(path), state)
    assert read_safetensors_metadata(path) == {"a": "b"}


def test_bfloat16_is_widened(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    tensor = torch.randn(3, 2).bfloat16()
    library.save_file({"x": tensor, "scalar": tensor[0, 0].clone()}, tmp_path / "x.safetensors")
    read = read_safetensors(tmp_path / "x.safetensors")
    assert read["x"].dtype == np.float32
    np.testing.assert_array_equal(read["x"], tensor.float().numpy())
    assert read["scalar"].shape == () and read["scalar"] == tensor[0, 0].float().item()


def test_same_state_gives_same_bytes(tmp_path):
    for name in "ab":
        write_safetensors(tmp_path / name, state_of_every_type(), {"k": "v"})
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


def hand_made(path, header, data=b"", length=None):
    table = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(table) if length is None else length).to_bytes(8, "little") + table + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"x": entry()}, bytes(7), "'x' takes bytes 0 to 8"),
        ({"x": entry()}, bytes(9), "1 bytes at its end"),
        ({"x": entry(), "y": entry()}, bytes(8), "'y' takes bytes 0 to 8"),
        ({"x": entry(), "y": entry(offsets=(12, 20))}, bytes(20), "'y' takes bytes 12 to 20"),
        ({"x": entry(shape=(3,))}, bytes(8), r"'x' of shape \[3\] has 8 bytes"),
        ({"x": entry(shape=(2**40,), offsets=(0, 2**42))}, bytes(8), "takes bytes"),
        ({"x": entry(offsets=(8, 0))}, bytes(8), "'x' of shape"),
        ({"x": entry(offsets=(-8, 0))}, bytes(8), "'x' has no valid"),
        ({"x": entry(shape=(-2, -1))}, bytes(8), "'x' has no valid"),
        ({"x": entry(shape=(2.0,))}, bytes(8), "'x' has no valid"),
        ({"x": entry(shape=(True, 2))}, bytes(8), "'x' has no valid"),
        ({"x": entry(shape=(10**400,))}, bytes(8), "'x' has no valid"),
        ({"x": entry(dtype="F8_E4M3", offsets=(0, 2))}, bytes(2), "'x' is of type 'F8_E4M3'"),
        ({"x": entry(dtype=["F32"])}, bytes(8), "'x' is of type"),
        ({"x": {"dtype": "F32"}}, bytes(8), "'x' has no valid"),
        ({"x": 3}, bytes(8), "'x' has no valid"),
        ([1], b"", "not one of tensors"),
        ({"__metadata__": {"a": 1}}, b"", "not one of tensors"),
        (b'{"x": 1, "x": 1}', b"", "'x' occurs twice"),
        (b"{", b"", "not valid JSON"),
        (b'{"\xff": 1}', b"", "not valid JSON"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "not valid JSON"),
    ],
)
def test_broken_files(tmp_path, header, data, message):
    path = hand_made(tmp_path / "bad.safetensors", header, data)
    for read in (read_safetensors, read_safetensors_metadata):
        with pytest.raises(WeightsFileError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)


def test_a_table_longer_than_the_file(tmp_path):
    path = hand_made(tmp_path / "bad.safetensors", {"x": entry()}, bytes(8), length=2**39)
    with pytest.raises(WeightsFileError, match="its table would take"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!doctype html>", "an HTML page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"abc", "not a safe"),
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


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, length):
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(length.to_bytes(8, "little") + b"{" + content)
    try:
        read_safetensors(path)
    except WeightsFileError as error:
        assert str(path) in str(error)
