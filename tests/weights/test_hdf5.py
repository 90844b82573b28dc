"""The process that looks at HDF5 files: what ends it, what it may take, and what comes back."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_video_focalnet.weights import hdf5, hdf5_child
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.hdf5 import open_hdf5, read

pytestmark = pytest.mark.backend_free

DAMAGED = Path(__file__).parents[1] / "data" / "damaged_hdf5"


def refused(path, message):
    with pytest.raises(WeightsFileError, match=message) as error, named_errors(path), open_hdf5(path):
        pass
    assert str(error.value).startswith(f"{path}: ")


def write(path, **tensors):
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            file[name] = array
    return path


@pytest.mark.parametrize("name", ["crash", "hang_1", "hang_2"])
def test_files_that_end_the_library_or_never_let_it_return(name, monkeypatch):
    monkeypatch.setattr(hdf5, "CPU_SECONDS", 2)
    refused(DAMAGED / f"{name}.h5", "damaged or cut short")


def test_a_process_that_waits_for_ever(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text('import time\nprint(\'{"kind": "start"}\', flush=True)\ntime.sleep(600)\n')
    monkeypatch.setattr(hdf5, "_CHILD", child)
    monkeypatch.setattr(hdf5, "WALL_SECONDS", 1)
    refused(write(tmp_path / "x.h5", a=np.ones(2)), "it took over 1 seconds")


def test_the_time_of_a_file_begins_when_everything_is_imported(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text('import time\ntime.sleep(3)\nprint(\'{"kind": "start"}\\n{"kind": "end"}\', flush=True)\n')
    monkeypatch.setattr(hdf5, "_CHILD", child)
    monkeypatch.setattr(hdf5, "WALL_SECONDS", 2)
    path = write(tmp_path / "x.h5", a=np.ones(2))
    assert hdf5.listing(path) == []
    child.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(hdf5, "START_SECONDS", 1)
    refused(path, "did not start")


def test_the_child_says_that_it_starts_before_it_opens_the_file(tmp_path):
    """Whoever opens a pipe that nobody writes to waits for ever; the word arrives all the same."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with a name")
    pipe = tmp_path / "x.h5"
    os.mkfifo(pipe)
    command = [sys.executable, "-P", hdf5._CHILD, str(pipe), str(hdf5.MEMORY_BYTES), "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b'{"kind": "start"}\n'
        finally:
            process.kill()


def test_no_process_is_left_where_no_thread_starts(tmp_path, monkeypatch):
    path, started = write(tmp_path / "x.h5", a=np.ones(2)), []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    def start(timer):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(hdf5.threading.Timer, "start", start)
    refused(path, "can't start new thread")
    (process,) = started
    assert process.returncode is not None and process.stdout.closed


def test_a_frozen_application_does_not_start_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    refused(write(tmp_path / "x.h5", a=np.ones(2)), "frozen application.*convert the weights to safetensors")


def test_a_process_that_lists_without_end(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("print('{\"kind\": \"start\"}')\nwhile True: print('{}' * 1000)\n")
    monkeypatch.setattr(hdf5, "_CHILD", child)
    refused(write(tmp_path / "x.h5", a=np.ones(2)), "takes over 16,777,216 bytes")


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_no_process_at_all(tmp_path, monkeypatch, executable):
    path = write(tmp_path / "x.h5", a=np.ones(2))
    monkeypatch.setattr(sys, "executable", executable)
    refused(path, "the process that reads HDF5 files does not start .*check sys.executable")


def test_a_process_without_h5py(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", a=np.ones(2))
    (tmp_path / "h5py.py").write_text("raise ImportError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    refused(path, "did not start .*is h5py installed")


def test_an_attribute_that_claims_gigabytes(tmp_path):
    path = tmp_path / "x.h5"
    value = np.empty(1, object)
    value[0] = np.array([1, 2, 3], "i4")
    with h5py.File(path, "w") as file:
        file.attrs.create("a", value, (1,), h5py.vlen_dtype("i4"))
    content = path.read_bytes()
    # The number of elements stands before the address and index of the heap that holds them.
    heap = struct.pack("<Q", content.index(b"GCOL"))
    place = content.index(struct.pack("<I", 3) + heap)
    path.write_bytes(content[:place] + struct.pack("<I", 2**31 - 1) + content[place + 4 :])
    refused(path, "damaged or cut short")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_what_the_process_may_not_do(tmp_path):
    write(tmp_path / "x.h5", a=np.ones(2))
    code = (
        "import h5py, os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from hdf5_child import _limit, listing\n"
        "_limit(64 << 20, 5)\n"
        "file = h5py.File('x.h5')\n"
        "assert len(list(listing(file))) == 2\n"
        "for act in (lambda: open('x.h5'), lambda: os.socketpair(), lambda: bytearray(1 << 30)):\n"
        "    try:\n"
        "        act()\n"
        "    except (OSError, MemoryError, AttributeError):\n"
        "        continue\n"
        "    sys.exit(3)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
    )
    folder = str(Path(hdf5_child.__file__).parent)
    done = subprocess.run([sys.executable, "-P", "-c", code, folder], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_numbers_come_back_bit_for_bit(tmp_path, dtype, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    path = write(tmp_path / "x.h5", other=np.ones(5), a=array)
    with open_hdf5(path) as file:
        found = read(file.tensor(file.root, "a"))
    assert found.dtype == np.dtype(dtype).newbyteorder("=") and found.shape == shape and found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_other_numbers_are_no_weights(tmp_path):
    path = write(tmp_path / "x.h5", a=np.ones(2, "i4"), b=np.array([True]), c=np.ones(2, "c8"))
    with open_hdf5(path) as file:
        assert file.root.members["a"].is_integer and not file.root.members["c"].is_integer
        for name in "abc":
            with pytest.raises(WeightsFileError, match=f"'{name}' is of type .*, not a weight"):
                file.tensor(file.root, name)


def test_a_number_of_another_layout_is_no_weight(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        # The library would widen these: their bytes are those of no type of NumPy.
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        h5py.h5d.create(file.id, b"a", kind, h5py.h5s.create_simple((2,)))
    with open_hdf5(path) as file, pytest.raises(WeightsFileError, match="'a' is of type .*, not a weight"):
        file.tensor(file.root, "a")


def test_chunks_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.ones((4, 4), "f4"), chunks=(2, 2))
    with open_hdf5(path) as file, pytest.raises(WeightsFileError, match="'a' is not in one piece.*h5repack -l CONTI"):
        file.tensor(file.root, "a")


def test_groups_in_a_circle(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group["again"] = file["a"]
    with open_hdf5(path) as file:
        assert file.group(file.root, "a/b/again").members == {}


def test_groups_nested_too_deeply(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a/" * 70)
    refused(path, "nested more than 64 deep")


def test_a_file_that_lists_too_much(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", **{f"a{number}": np.float32(1) for number in range(100)})
    child = Path(hdf5_child.__file__).read_text().replace("MAX_OBJECTS = 50_000", "MAX_OBJECTS = 99")
    (tmp_path / "child.py").write_text(child)
    monkeypatch.setattr(hdf5, "_CHILD", tmp_path / "child.py")
    refused(path, "more than 99 objects")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name tells whether the library opens it")
def test_other_files_are_not_opened(tmp_path):
    """Whoever opens a pipe that nobody writes to waits for ever, the library included."""
    pipe, path = tmp_path / "secret", tmp_path / "x.h5"
    os.mkfifo(pipe)
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(pipe), "x", (2,))
    with h5py.File(path, "w") as file:
        file.create_dataset("external", (2,), "f4", external=[(str(pipe), 0, 8)])
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink(str(pipe), "x")
        file["soft"] = h5py.SoftLink("/external")
    with open_hdf5(path) as file:
        for name in ("external", "virtual"):
            with pytest.raises(WeightsFileError, match=f"'{name}' has no numbers of its own"):
                file.tensor(file.root, name)
        for name in ("link", "soft"):
            with pytest.raises(WeightsFileError, match=f"'{name}' is a link"):
                file.tensor(file.root, name)


def test_what_is_listed(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        file.attrs["weight_names0"], file.attrs["weight_names1"] = ["x"], ["y", "z"]
        file["a"] = np.ones(2, "f4")
    root, tensor = hdf5.listing(path)
    assert root["attributes"] == {"layer_names": ["a", "b"], "weight_names0": ["x"], "weight_names1": ["y", "z"]}
    assert (tensor["path"], tensor["code"], tensor["shape"], tensor["bytes"]) == (["a"], "<f4", [2], 8)
    assert path.read_bytes()[tensor["offset"] :][:8] == np.ones(2, "f4").tobytes()
    assert json.dumps(tensor)
    with open_hdf5(path) as file:
        assert hdf5.names_in(file.root, "weight_names") == ["x", "y", "z"]
        assert hdf5.names_in(file.root, "other") is None
