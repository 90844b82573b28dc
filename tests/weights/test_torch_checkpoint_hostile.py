import collections
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safe_pickle import MAX_PICKLE_BYTES, Placeholder
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict, read_torch_checkpoint
from tests.weights.torch_files import SIX, Attack, Attribute, Call, legacy, pickled, tensor, write_zip

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_would_run_a_command_does_not(tmp_path, protocol, zipped):
    marker = tmp_path / "it ran"
    attack = Attack(f"echo > '{marker}'")
    careless = pickle.dumps(attack, protocol)
    pickle.loads(careless)
    assert marker.exists(), "the attack itself must work, or this test shows nothing"
    marker.unlink()
    path = tmp_path / "attack.pth"
    value = {"model": {"a.x": tensor("0", (6,), (1,))}, "config": attack}
    if zipped:
        write_zip(path, None, {"0": SIX.tobytes()}, raw=pickled(value, protocol))
    else:
        path.write_bytes(legacy(value, ["0"], struct.pack("<q", 6) + SIX.tobytes(), pickle_protocol=protocol))
    np.testing.assert_array_equal(read_state_dict(path)["a.x"], SIX)
    assert isinstance(read_torch_checkpoint(path)["config"], Placeholder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n(S'touch {}'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch {}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {}'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nS'touch {}'\n\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93S'touch {}'\n\x85R.",  # STACK_GLOBAL
        b"\x80\x04cos\nsystem\nS'touch {}'\n\x85}\x92.",  # NEWOBJ_EX
        b'cbuiltins\neval\n(S\'__import__("os").system("touch {}")\'\ntR.',
        b"cbuiltins\ngetattr\n(cos\nS'system'\ntR(S'touch {}'\ntR.",
        # Through what is allowed: a listed builder given the attack to call, and state set on a listed class.
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN(S'touch {}'\ntNtR.",
        b"ccollections\nOrderedDict\n)R}S'__setstate__'\ncos\nsystem\nsbS'touch {}'\nb.",
        b"ccollections\nOrderedDict\n}S'__reduce__'\ncos\nsystem\nsb.",
    ],
)
def test_no_opcode_reaches_a_command(tmp_path, raw):
    marker = tmp_path / "ran"
    path = write_zip(tmp_path / "attack.pth", None, {}, raw=raw.replace(b"{}", str(marker).encode()))
    # Some are no valid pickles to the end: an error is as good as a placeholder.
    try:
        read_torch_checkpoint(path)
    except WeightsFileError as error:
        assert str(path) in str(error)
    assert not marker.exists()
    assert not hasattr(collections.OrderedDict, "__setstate__")


def test_a_needed_tensor_of_another_class(tmp_path):
    value = {"a.x": tensor("0", (6,), (1,)), "a.y": Call((Attribute("other", "Tensor"), 1)), "config": Attack("true")}
    path = write_zip(tmp_path / "x.pth", {"model": value}, {"0": SIX.tobytes()})
    with pytest.raises(WeightsFileError, match=r"x\.pth: tensor 'a\.y' .* other\.Tensor"):
        read_state_dict(path)


def test_a_sparse_tensor_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.ok": torch.ones(1), "a.odd": torch.eye(2).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(WeightsFileError, match=r"tensor 'a\.odd' .* torch\._utils\._rebuild_sparse_tensor"):
        read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor("0", (7,), (1,)), "reads element 6"),
        (tensor("0", (2, 3), (4, 1)), "reads element 6"),
        (tensor("0", (6,), (1,), offset=1), "reads element 6"),
        (tensor("0", (6,), (1,), offset=-1), "offset, size or stride"),
        (tensor("0", (6,), (-1,)), "offset, size or stride"),
        (tensor("0", (-6,), (1,)), "offset, size or stride"),
        (tensor("0", (6, 1), (1,)), "offset, size or stride"),
        (tensor("0", [6], (1,)), "offset, size or stride"),
        (tensor("0", (True,), (1,)), "offset, size or stride"),
        (tensor("0", (10**30,), (0,)), "offset, size or stride"),
        (tensor("0", (0, 2**60), (1, 1)), "offset, size or stride"),
        (tensor("0", (2**40,), (0,)), "far more memory"),
        (tensor("0", (2**20, 2**20), (0, 0)), "far more memory"),
        (tensor("0", (6,), (1,), count=10**12), "declares 4000000000000 bytes but holds 24"),
        (tensor("0", (6,), (1,), kind="DoubleStorage"), "declares 48 bytes but holds 24"),
        (tensor("1", (6,), (1,)), "'data/1' is missing"),
        (tensor("0", (6,), (1,), count=-1), "no valid key or length"),
        (tensor("0", (6,), (1,), kind="Float8_e5m2Storage"), "not a plain tensor"),
    ],
)
def test_views_that_do_not_fit(tmp_path, bad, message):
    path = write_zip(
        tmp_path / "bad.pth", {"model": {"a.fine": tensor("0", (6,), (1,)), "a.bad": bad}}, {"0": SIX.tobytes()}
    )
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
    if "key or length" not in message:
        assert "'a.bad'" in str(error.value)
        # Read as a whole, only that tensor is lost.
        whole = read_torch_checkpoint(path)["model"]
        np.testing.assert_array_equal(whole["a.fine"], SIX)
        assert isinstance(whole["a.bad"], Placeholder)


def test_many_views_of_one_storage_are_bounded_together(tmp_path):
    # 2000 overlapping views of one megabyte: two gigabytes out of a file of one megabyte.
    count = 1 << 18
    value = {f"a.{i}": tensor("0", (count - 2000,), (1,), offset=i, count=count) for i in range(2000)}
    path = write_zip(tmp_path / "bomb.pth", value, {"0": bytes(4 * count)})
    with pytest.raises(WeightsFileError, match="far more memory"):
        read_state_dict(path)


def test_zip_bomb(tmp_path):
    value = {"a.x": tensor("0", (25_000_000,), (1,), count=25_000_000)}
    path = write_zip(tmp_path / "bomb.pth", value, {"0": bytes(100_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with pytest.raises(WeightsFileError, match=r"bomb\.pth: archive member 'any/data.pkl' is compressed"):
        read_state_dict(path)


def test_zip_member_that_lies_about_its_size(tmp_path):
    path = write_zip(tmp_path / "lie.pth", {"a.x": tensor("0", (6,), (1,))}, {"0": SIX.tobytes()})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(WeightsFileError, match="'any/data/0' reaches beyond the end"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "any/../../outside", "any\\data\\0"])
def test_member_names_that_leave_the_archive(tmp_path, name):
    path = write_zip(tmp_path / "x.pth", {"a.x": tensor("0", (6,), (1,))}, {"0": SIX.tobytes()})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, b"x")
    with pytest.raises(WeightsFileError, match="not one that torch.save writes"):
        read_state_dict(path)


def test_pickles_out_of_proportion(tmp_path):
    path = write_zip(tmp_path / "x.pth", None, {}, raw=b"]" * (MAX_PICKLE_BYTES + 1))
    with pytest.raises(WeightsFileError, match="at most"):
        read_state_dict(path)
    for raw in (
        b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b".",  # BYTEARRAY8
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",  # BINBYTES8
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".",  # FRAME
        b"\x80\x02r" + struct.pack("<I", 2**32 - 1) + b".",  # LONG_BINPUT
        b"\x80\x02\x82\x01.",  # EXT1
        b"\xff.",
        b"N",
    ):
        write_zip(path, None, {}, raw=raw)
        with pytest.raises(WeightsFileError, match=r"x\.pth: its pickle cannot be read"):
            read_state_dict(path)


def test_nested_tuples_as_keys_take_no_exponential_time(tmp_path):
    raw = b")" + b"2\x86" * 200 + b"q\x00}h\x00Ns."
    path = write_zip(tmp_path / "x.pth", None, {}, raw=raw)
    with pytest.raises(WeightsFileError, match="no tensors"):
        read_state_dict(path)
    read_torch_checkpoint(path)


def test_containers_nested_too_deeply(tmp_path):
    path = write_zip(tmp_path / "x.pth", None, {}, raw=b"]" * 100_000 + b"a" * 99_999 + b".")
    with pytest.raises(WeightsFileError, match="nested too deeply"):
        read_torch_checkpoint(path)


def test_a_list_that_holds_itself(tmp_path):
    path = write_zip(tmp_path / "x.pth", None, {}, raw=b"]q\x00h\x00a.")
    read = read_torch_checkpoint(path)
    assert read[0] is read


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_files(tmp_path, zipped):
    path = tmp_path / "whole.pth"
    value = {"model": {"a.x": tensor("0", (6,), (1,)), "a.y": tensor("1", (3, 2), (2, 1))}, "config": Attack("true")}
    if zipped:
        write_zip(path, value, {"0": SIX.tobytes(), "1": SIX.tobytes()})
    else:
        body = struct.pack("<q", 6) + SIX.tobytes()
        path.write_bytes(legacy(value, ["0", "1"], body + body))
    whole = path.read_bytes()
    assert len(read_state_dict(path)) == 2
    cut = tmp_path / "cut.pth"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightsFileError, match=r"cut\.pth: "):
            read_state_dict(cut)


@settings(max_examples=300)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), zipped=st.booleans())
def test_a_changed_byte_is_read_or_refused(tmp_path_factory, position, byte, zipped):
    path = tmp_path_factory.mktemp("changed") / "x.pth"
    value = {"model": {"a.x": tensor("0", (6,), (1,))}, "config": Attack("true")}
    if zipped:
        write_zip(path, value, {"0": SIX.tobytes()})
    else:
        path.write_bytes(legacy(value, ["0"], struct.pack("<q", 6) + SIX.tobytes()))
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] = byte
    path.write_bytes(data)
    try:
        state = read_state_dict(path)
    except WeightsFileError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(array, np.ndarray) and array.nbytes <= 48 for array in state.values())


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle_are_read_or_refused(tmp_path_factory, raw):
    path = write_zip(tmp_path_factory.mktemp("any") / "x.pth", None, {"0": SIX.tobytes()}, raw=raw)
    try:
        read_torch_checkpoint(path)
    except WeightsFileError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (b"\n  <html>quota exceeded</html>", "an HTML page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(100), "a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"hello", "a text file"),
        (bytes(range(200)), "unknown format"),
        (b"PK\x03\x04" + bytes(100), "damaged or cut short"),
        (pickle.dumps({"a.x": 1}), "no magic number"),
    ],
)
def test_files_of_other_kinds(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    for read in (read_state_dict, read_torch_checkpoint):
        with pytest.raises(WeightsFileError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)


def test_other_zip_archives(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsFileError, match=r"without data\.pkl"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": Attack("true")}, "pickled object of"),
        (Attack("true"), "holds an object of"),
        ([1], "an object of list"),
        ({"epoch": 1}, "keys: 'epoch'"),
        ({}, "no tensors"),
    ],
)
def test_checkpoints_without_a_state(tmp_path, value, message):
    path = write_zip(tmp_path / "x.pth", value, {})
    with pytest.raises(WeightsFileError, match=message):
        read_state_dict(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["torch Size", "collections OrderedDict"])
def test_one_long_list_given_to_many_calls_is_not_copied(tmp_path, name):
    # A list of pairs in the memo, then 2,000 calls that each are given it: 12 bytes of pickle a call.
    module, attribute = name.split()
    pairs = [["a", 1]] + [[f"k{index}", 1] for index in range(2000)]
    items = pickle.dumps(pairs, 2)[:-1] + b"r\xff\xff\xff\x7f0"
    call = f"c{module}\n{attribute}\n".encode() + b"j\xff\xff\xff\x7f\x85R"
    raw = items + b"}(U\x01m](" + call * 2000 + b"eU\x03a.xK\x01u."
    path = write_zip(tmp_path / "bomb.pth", None, {}, raw=raw)
    tracemalloc.start()
    root = read_torch_checkpoint(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(root["m"]) == 2000
    assert all(isinstance(value, Placeholder) for value in root["m"])
    assert held < 20 << 20
