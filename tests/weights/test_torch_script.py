"""TorchScript archives: the tensors of their modules by name, and nothing of their programs."""

import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.files import sniff
from keras_video_focalnet.weights.formats import weights_format
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict, read_torch_checkpoint
from tests.weights.torch_files import SIX, Attack, Attribute, Call, ScriptModule, tensor, write_zip

pytestmark = pytest.mark.backend_free

PROGRAM = b"class Module(Module):\n  __parameters__ = []\n" * 20


def script(path, attributes, **options):
    return write_zip(path, ScriptModule(attributes), {"0": SIX.tobytes()}, program=PROGRAM, **options)


def six(**options):
    return tensor("0", (6,), (1,), **options)


@pytest.fixture(params=["script", "trace"])
def saved(request, tmp_path):
    """An archive that PyTorch wrote, and the module in it."""
    torch = pytest.importorskip("torch")

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3)).half()
            self.scale = torch.nn.Parameter(torch.tensor(0.5).half())
            self.wide = torch.nn.Parameter(torch.tensor([1.5, 2.0, 3.0]).bfloat16())
            self.register_buffer("input_resolution", torch.tensor(224))
            self.count = 7
            self.sizes = [1, 2]

        def forward(self, x):
            return self.layers(x) * self.scale

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.norm = Scaled(), torch.nn.LayerNorm(3)
            self.tied = self.visual.layers

        def forward(self, x):
            return self.tied(self.visual(x))

    torch.manual_seed(0)
    module = Outer().eval()
    if request.param == "script":
        archive = torch.jit.script(module)
    else:
        archive = torch.jit.trace(module, torch.ones(2, 3).half())
    path = tmp_path / "archive.pt"
    archive.save(str(path))
    return path, module


def test_an_archive_of_pytorch(saved):
    path, module = saved
    assert weights_format(path) == "torch" and sniff(path) == "zip"
    state, expected = read_state_dict(path), module.state_dict()
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].dtype == ("float32" if name.endswith("wide") else array.numpy().dtype)
        np.testing.assert_array_equal(state[name], array.float().numpy(), name)
    assert state["visual.input_resolution"].shape == ()
    whole = read_torch_checkpoint(path)
    assert whole.keys() == expected.keys()


def test_the_name_of_an_archive_needs_no_ending(saved, tmp_path):
    path, _ = saved
    path = path.rename(tmp_path / "archive")
    assert weights_format(path) == "torch"
    assert "visual.scale" in read_state_dict(path)


def test_a_data_parallel_module(tmp_path):
    path = script(tmp_path / "x.pt", {"module": ScriptModule({"a": ScriptModule({"x": six()})})})
    np.testing.assert_array_equal(read_state_dict(path)["a.x"], SIX)


def test_a_frozen_module(tmp_path):
    torch = pytest.importorskip("torch")
    torch.jit.freeze(torch.jit.script(torch.nn.Linear(2, 2).eval())).save(str(tmp_path / "frozen.pt"))
    with pytest.raises(WeightsFileError, match=r"frozen\.pt: the module .*Linear .* no parameters.*torch\.jit\.freeze"):
        read_state_dict(tmp_path / "frozen.pt")


def test_nothing_runs(tmp_path):
    """Neither the pickle of the modules nor the program beside it, nor what stands in the place of a state."""
    marker = tmp_path / "it ran"
    attack = Attack(f"echo > '{marker}'")
    pickle.loads(pickle.dumps(attack))
    assert marker.exists(), "the attack itself must work, or this test shows nothing"
    marker.unlink()
    inner = ScriptModule({"x": six(), "config": attack, "__setstate__": attack, "__class__": attack})
    for attributes in ({"a": inner, "__reduce__": attack}, {"a": inner, "b": ScriptModule(attack)}):
        path = script(tmp_path / "x.pt", attributes)
        assert list(read_state_dict(path)) == ["a.x"]
        read_torch_checkpoint(path)
    with pytest.raises(WeightsFileError, match="no parameters"):
        read_state_dict(write_zip(path, ScriptModule(attack), {}, program=PROGRAM))
    assert not marker.exists()


def test_the_program_is_not_even_read(tmp_path):
    path = script(tmp_path / "x.pt", {"x": six()})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("any/code/__torch__/some.py")
    assert member.compress_type == zipfile.ZIP_DEFLATED
    start = member.header_offset
    path.write_bytes(content[:start] + bytes(30 + member.compress_size) + content[start + 30 + member.compress_size :])
    np.testing.assert_array_equal(read_state_dict(path)["x"], SIX)
    with pytest.raises(WeightsFileError, match=r"'any/data.pkl' is compressed"):
        read_state_dict(script(path, {"x": six()}, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (six(count=7), r"tensor 'a\.bad': .*declares 28 bytes but holds 24"),
        (tensor("0", (2**40,), (0,)), r"tensor 'a\.bad': .*far more memory"),
        (tensor("9", (6,), (1,)), r"tensor 'a\.bad': .*'data/9' is missing"),
        (six(kind="QInt8Storage"), r"tensor 'a\.bad' is not a plain tensor but an object of torch\.Tensor"),
        (Call((Attribute("torch._utils", "_rebuild_qtensor"), 1)), r"tensor .* torch\._utils\._rebuild_qtensor"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, bad, message):
    path = script(tmp_path / "x.pt", {"a": ScriptModule({"fine": six(), "bad": bad})})
    with pytest.raises(WeightsFileError, match=rf"x\.pt: {message}"):
        read_state_dict(path)


def test_modules_in_modules_are_bounded(tmp_path):
    """A few hundred bytes may say that a module has a million names, or that it holds itself."""
    module = ScriptModule({"x": six()})
    for _ in range(20):
        module = ScriptModule({"a": module, "b": module})
    chain = ScriptModule({"x": six()})
    for _ in range(150):
        chain = ScriptModule({"a": chain})
    itself = {}
    itself["a"] = ScriptModule(itself)
    long = {"a" * 900: ScriptModule({"b" * 900: six()})}
    for attributes in ({"m": module}, {"m": chain}, itself, long):
        path = script(tmp_path / "bomb.pt", attributes)
        for read in (read_state_dict, read_torch_checkpoint):
            tracemalloc.start()
            with pytest.raises(WeightsFileError, match=r"bomb\.pt: the modules of the TorchScript archive have more"):
                read(path)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert most < 100 << 20


def test_attributes_that_are_no_dictionary(tmp_path):
    path = write_zip(tmp_path / "x.pt", ScriptModule([1, 2]), {}, program=PROGRAM)
    with pytest.raises(WeightsFileError, match="no parameters"):
        read_state_dict(path)
