"""Prefixes of wrapped models, in every format that has names of the reference's kind."""

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.building import load_weights, read_weights
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import write_safetensors
from keras_video_focalnet.weights.torch_checkpoint import read_state_dict
from keras_video_focalnet.weights.wrappers import beginnings, without_prefix
from tests.golden import golden, options
from tests.states import state_of
from tests.weights.torch_files import tensor, write_zip

PREFIXES = (
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "model.module.",
    "net.backbone.",
)
KEYS = ("model", "state_dict", "model_state_dict", "model_state", "module", "ema", "model_ema", "state_dict_ema")


@pytest.fixture(scope="module")
def reference():
    return read_state_dict(golden("micro") / "checkpoint.pth")


@pytest.fixture(scope="module")
def model():
    return kvf.VideoFocalNet(**options("micro"))


def write(path, state, wrap=lambda entries: entries):
    if path.suffix == ".safetensors":
        write_safetensors(path, state)
        return path
    views, storages = {}, {}
    for index, (name, array) in enumerate(state.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
        views[name] = tensor(str(index), array.shape, strides, kind=kind, count=array.size)
        storages[str(index)] = array.tobytes()
    return write_zip(path, wrap(views), storages)


def same(model, reference):
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, reference[name], err_msg=name)


def cleared(model):
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    return model


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share(tmp_path, model, reference, prefix, suffix):
    state = {prefix + name: array for name, array in reference.items()}
    if prefix.startswith("module."):
        state["n_averaged"] = np.array(3)
    path = write(tmp_path / f"x{suffix}", state)
    # The classifier tells the names already where there is no model yet.
    assert sorted(read_weights(path, "VideoFocalNetT")[0]) == sorted(reference)
    assert load_weights(cleared(model), path) == []
    same(model, reference)


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_hold_the_parameters(tmp_path, model, reference, key):
    wrap = {"plain": lambda entries: {key: entries, "epoch": 3}, "nested": lambda entries: {key: {"model": entries}}}
    for name, function in wrap.items():
        assert load_weights(cleared(model), write(tmp_path / f"{name}.pth", reference, function)) == []
        same(model, reference)


def test_parameters_come_before_their_average(tmp_path, reference):
    names = dict(list(reference.items())[:2])
    path = write(tmp_path / "x.pth", names, lambda entries: {"ema": {"other.x": entries[min(names)]}, "model": entries})
    assert sorted(read_state_dict(path)) == sorted(names)


def test_a_wrapped_model_without_a_classifier(tmp_path, reference):
    body = {f"model.{name}": array for name, array in reference.items() if not name.startswith("head.")}
    headless = kvf.VideoFocalNet(**{**options("micro"), "include_top": False})
    assert load_weights(headless, write(tmp_path / "x.safetensors", body)) == []
    np.testing.assert_array_equal(state_of(headless)["norm.bias"], reference["norm.bias"])


@pytest.mark.filterwarnings("ignore:.* has no classifier")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_that_share_no_prefix_are_told(tmp_path, model, reference, suffix):
    state = {f"model.{name}": array for name, array in reference.items()} | {"loss.weight": np.ones(2, "f4")}
    path = write(tmp_path / f"x{suffix}", state)
    with pytest.raises(WeightsFileError, match="is missing, its names begin with 'loss.', 'model.'. Is it") as error:
        load_weights(model, path)
    assert str(path) in str(error.value)


EXPECTED = {"a.x", "a.y", "model.z"}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.x", "a.y"], ["a.x", "a.y"]),
        # The architecture's own names may begin with what is a wrapper's elsewhere.
        (["model.z"], ["model.z"]),
        (["module.model.z"], ["model.z"]),
        (["model.a.x", "model.a.y"], ["a.x", "a.y"]),
        (["model.a.x", "other.a.y"], ["model.a.x", "other.a.y"]),
        (["model.b.x", "model.b.y"], ["model.b.x", "model.b.y"]),
        (["a._orig_mod.x", "a.y"], ["a.x", "a.y"]),
        (["a.x", "n_averaged"], ["a.x", "n_averaged"]),
        (["a._orig_mod.x", "a._orig_mod.y"], ["a.x", "a.y"]),
        (["model.model.z"], ["model.z"]),
        (["_orig_mod.q", "q"], ["_orig_mod.q", "q"]),
        (["n_averaged"], ["n_averaged"]),
        ([], []),
    ],
)
def test_nothing_is_guessed(names, found):
    assert list(without_prefix(dict.fromkeys(names), EXPECTED)) == found


def test_beginnings():
    assert beginnings(["b.x", "a.y", "c", "d.x", "e.x"]) == "'a.', 'b.', 'd.', ..."
    assert beginnings(["b.x"]) == "'b.'"
