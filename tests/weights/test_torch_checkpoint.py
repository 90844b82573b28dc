import collections
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safe_pickle import Placeholder
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict, read_torch_checkpoint
from tests.golden import golden
from tests.weights.torch_files import SIX, Attribute, Call, Storage, legacy, tensor, write_zip

pytestmark = pytest.mark.backend_free

GOLDEN = (
    "micro",
    "micro_16f_rect",
    "micro_tubelet2",
    "micro_options",
    "micro_levels",
    "training",
    "focalnet_image",
)


class ThirdParty:
    """Stands for a configuration class of a package that the reader does not have."""

    def __init__(self):
        self.depths = [2, 2, 6, 2]


def same(read, torch_tensor):
    expected = torch_tensor.detach()
    expected = expected.float() if str(expected.dtype) == "torch.bfloat16" else expected
    expected = expected.numpy()
    assert read.dtype == expected.dtype
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read, expected)


# --- Files of torch.save ---


def many_tensors(torch):
    base = torch.arange(24, dtype=torch.float32)
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    parameter.note = "kept as state of the parameter"
    return collections.OrderedDict(
        [
            ("a.whole", base),
            ("a.slice", base[5:11]),
            ("a.grid", base.view(4, 6)),
            ("a.transposed", base.view(4, 6).t()),
            ("a.stepped", base.view(4, 6)[1:, ::2]),
            ("a.expanded", torch.ones(1).expand(3, 2)),
            ("a.half", torch.randn(3).half()),
            ("a.bfloat", torch.randn(2, 2).bfloat16()),
            ("a.bfloat_scalar", torch.tensor(1.5, dtype=torch.bfloat16)),
            ("a.double", torch.randn(2, dtype=torch.float64)),
            ("a.long", torch.tensor([1, -(2**40)])),
            ("a.byte", torch.tensor([255], dtype=torch.uint8)),
            ("a.short", torch.tensor([-3], dtype=torch.int16)),
            ("a.bool", torch.tensor([True, False])),
            ("a.bool_scalar", torch.tensor(True)),
            ("a.complex", torch.tensor([1 + 2j])),
            ("a.scalar", torch.tensor(2.5)),
            ("a.empty", torch.empty(0, 4)),
            ("a.parameter", torch.nn.Parameter(torch.randn(2))),
            ("a.parameter_with_state", parameter),
            ("a.buffer_with_attribute", base.clone()),
        ]
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_reads_what_torch_writes(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    state = many_tensors(torch)
    state["a.buffer_with_attribute"].note = 3
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    read = read_state_dict(path)
    assert list(read) == list(state)
    for name in state:
        same(read[name], state[name])
    assert all(array.flags.writeable for array in read.values())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_finds_the_state_and_strips_the_prefix(tmp_path, zipped, key):
    torch = pytest.importorskip("torch")
    state = {"module.head.weight": torch.randn(2, 3), "module.head.bias": torch.randn(2)}
    saved = {key: state, "epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.randn(2)}}}} if key else state
    torch.save(saved, tmp_path / "state.pth", _use_new_zipfile_serialization=zipped)
    read = read_state_dict(tmp_path / "state.pth")
    assert list(read) == ["head.weight", "head.bias"]
    same(read["head.weight"], state["module.head.weight"])


def test_a_bare_state_beside_other_values(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"head.bias": torch.ones(2), "epoch": 3, "config": ThirdParty()}, tmp_path / "state.pth")
    assert list(read_state_dict(tmp_path / "state.pth")) == ["head.bias"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whole_checkpoint(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": ThirdParty(),
        "shape": torch.Size([1, 2]),
        "lr": np.float64(0.5),
        "device": torch.device("cpu"),
        "type": torch.float32,
        "seen": {1, 2},
        "history": collections.defaultdict(list, {"loss": [1.0]}),
        "pair": (torch.ones(1), [torch.zeros(1)]),
    }
    torch.save(saved, tmp_path / "state.pth", _use_new_zipfile_serialization=zipped)
    read = read_torch_checkpoint(tmp_path / "state.pth")
    same(read["model"]["weight"], layer.weight)
    same(read["optimizer"]["state"][0]["momentum_buffer"], optimizer.state_dict()["state"][0]["momentum_buffer"])
    assert read["optimizer"]["param_groups"][0]["lr"] == 0.1
    assert isinstance(read["config"], Placeholder) and read["config"].name.endswith("ThirdParty")
    assert read["shape"] == (1, 2)
    assert isinstance(read["lr"], Placeholder)
    assert isinstance(read["history"], Placeholder)
    np.testing.assert_array_equal(read["pair"][1][0], np.zeros(1, np.float32))


def test_tied_tensors_are_one_array_and_views_are_copies(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(4.0)
    torch.save({"a.x": base, "b.x": base, "c.x": base[1:]}, tmp_path / "state.pth")
    read = read_state_dict(tmp_path / "state.pth")
    assert read["a.x"] is read["b.x"]
    read["a.x"][:] = 9
    np.testing.assert_array_equal(read["c.x"], [1, 2, 3])


@settings(max_examples=25)
@given(st.data())
def test_any_view_reads_as_torch_has_it(tmp_path_factory, data):
    torch = pytest.importorskip("torch")
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    view = torch.arange(int(np.prod(shape))).view(shape).float()
    view = view.permute(data.draw(st.permutations(range(len(shape)))))
    axis = data.draw(st.integers(0, len(shape) - 1))
    view = view.narrow(axis, start := data.draw(st.integers(0, view.shape[axis] - 1)), view.shape[axis] - start)
    path = tmp_path_factory.mktemp("view") / "view.pth"
    torch.save({"a.x": view}, path, _use_new_zipfile_serialization=data.draw(st.booleans()))
    same(read_state_dict(path)["a.x"], view)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_checkpoints_equal_torch_load(name, monkeypatch):
    torch = pytest.importorskip("torch")
    path = golden(name) / "checkpoint.pth"
    read = read_state_dict(path)
    # torch.load cannot import the config's package either: its own safe mode refuses the file, so the class is faked.
    monkeypatch.setitem(__import__("sys").modules, "yacs", type(os)("yacs"))
    config = type(os)("yacs.config")
    config.CfgNode = type("CfgNode", (dict,), {})
    monkeypatch.setitem(__import__("sys").modules, "yacs.config", config)
    expected = torch.load(path, weights_only=False)
    expected = expected.get("model", expected)
    assert list(read) == list(expected)
    for key, value in expected.items():
        same(read[key], value)


def test_golden_config_object_is_inert():
    checkpoint = read_torch_checkpoint(golden("micro") / "checkpoint.pth")
    assert checkpoint["epoch"] == 119
    config = checkpoint["config"]
    assert isinstance(config, Placeholder) and config.name == "yacs.config.CfgNode"
    assert isinstance(config(1), Placeholder) and {config: 1}[config] == 1
    with pytest.raises(AttributeError):
        config.anything  # noqa: B018


# --- Hand-made files ---


def test_any_folder_and_missing_byteorder(tmp_path):
    value = {"a.x": tensor("0", (2, 3), (3, 1))}
    for folder, byteorder in (("archive", b"little"), ("some name", None)):
        write_zip(tmp_path / "x.pth", value, {"0": SIX.tobytes()}, folder, byteorder)
        np.testing.assert_array_equal(read_state_dict(tmp_path / "x.pth")["a.x"], SIX.reshape(2, 3))


def test_big_endian_is_honoured_and_other_orders_refused(tmp_path):
    value = {"a.x": tensor("0", (6,), (1,))}
    write_zip(tmp_path / "x.pth", value, {"0": SIX.astype(">f4").tobytes()}, byteorder=b"big")
    read = read_state_dict(tmp_path / "x.pth")["a.x"]
    assert read.dtype == np.float32 and read.dtype.isnative
    np.testing.assert_array_equal(read, SIX)
    write_zip(tmp_path / "x.pth", value, {"0": SIX.tobytes()}, byteorder=b"middle")
    with pytest.raises(WeightsFileError, match="byteorder"):
        read_state_dict(tmp_path / "x.pth")


def test_legacy_storage_views(tmp_path):
    # Torch before 0.4 wrote a storage's view as the root and where the view begins in it.
    view = Storage("FloatStorage", "root", 6)
    view.pid = (*view.pid, ("view", 2, 3))
    value = {"a.x": Call((Attribute("torch._utils", "_rebuild_tensor"), view, 1, (2,), (1,)))}
    path = tmp_path / "old.pth"
    path.write_bytes(legacy(value, ["root"], struct.pack("<q", 6) + SIX.tobytes()))
    np.testing.assert_array_equal(read_state_dict(path)["a.x"], [3, 4])
    view.pid = (*view.pid[:5], ("view", 2, 5))
    path.write_bytes(legacy(value, ["root"], struct.pack("<q", 6) + SIX.tobytes()))
    with pytest.raises(WeightsFileError, match="view of storage 'root' reaches beyond"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magic": 5}, "no magic number"),
        ({"protocol": 1002}, "version 1001"),
        ({"little": False}, "big-endian"),
        ({"count": -1}, "storage '0'"),
        ({"count": 2**60}, "storage '0'"),
        ({"keys": ["0", "1"]}, "storage '1'"),
        ({"keys": 7}, "list of storages"),
    ],
)
def test_broken_legacy_files(tmp_path, options, message):
    body = struct.pack("<q", options.pop("count", 6)) + SIX.tobytes()
    keys = options.pop("keys", ["0"])
    path = tmp_path / "old.pth"
    path.write_bytes(legacy({"a.x": tensor("0", (6,), (1,))}, keys, body, **options))
    with pytest.raises(WeightsFileError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
