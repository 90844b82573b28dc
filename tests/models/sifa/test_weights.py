"""SIFA's weights: the original's checkpoints there and back, and the start from an image model."""

import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.weights.errors import WeightsFileError
from tests.models.sifa.models import net, transformer
from tests.sifa_golden import checkpoint, config

NETS = {"sifa_net_micro": net}
TRANSFORMERS = ("sifa_transformer_square", "sifa_transformer_rect")
TINY_NET = {"width": 4, "depths": (1, 2, 2, 1), "classes": 3, "input_shape": (16, 64, 64, 3), "weights": None}
TINY_TRANSFORMER = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 4), "classes": 3}
TINY_TRANSFORMER |= {"input_shape": (8, 64, 64, 3), "weights": None}


@pytest.mark.parametrize("name", ["sifa_net_micro", *TRANSFORMERS])
def test_the_originals_checkpoint_there_and_back(name):
    """Bit for bit; of the parameters that nothing uses there are as many, of the same shapes."""
    state = checkpoint(name)
    model = net() if name == "sifa_net_micro" else transformer(name)
    written = model.state(unused=True)
    assert written.keys() == state.keys()
    unused = config(name).get("unused_parameters", ())
    for key, array in state.items():
        assert written[key].shape == array.shape and written[key].dtype == array.dtype, key
        if key not in unused:
            assert written[key].tobytes() == array.tobytes(), key
        else:
            assert not written[key].any(), key
    assert not any(key in model.state() for key in unused)


def test_a_checkpoint_of_a_longer_clip_loads():
    """What is as long as the clip is not learnt."""
    state, model = checkpoint("sifa_net_micro"), net()
    longer = {key: np.repeat(array, 2, 1) if "def_cor" in key else array for key, array in state.items()}
    assert model.load_state({f"module.{key}": array for key, array in longer.items()}) == []


def resnet(model):
    """A ResNet of random numbers, of the size of a SIFA-Net, in the names of torchvision."""
    rng, state = np.random.default_rng(0), {}
    for name, array in model.state(unused=True).items():
        if "_dual" in name or any(part in name for part in (".fc1.", ".fc2.", "conv_offset", "def_cor")):
            continue
        shape = [*array.shape[:2], *array.shape[3:]] if array.ndim == 5 else array.shape
        state[name] = rng.normal(size=shape).astype("float32") if array.dtype == "float32" else array
    return {**state, "fc.weight": np.zeros((1000, 128), "float32"), "fc.bias": np.zeros(1000, "float32")}


def test_a_net_starts_from_an_image_resnet(tmp_path):
    torch = pytest.importorskip("torch")
    model = kvf.SIFANetNano(**TINY_NET)
    image, before = resnet(model), model.state()
    torch.save({name: torch.from_numpy(array) for name, array in image.items()}, tmp_path / "resnet.pth")
    with pytest.warns(UserWarning, match="has no classifier: the model's keeps its random weights"):
        model = kvf.SIFANetNano(**{**TINY_NET, "weights": tmp_path / "resnet.pth"})
    state = model.state()
    stem = state["conv1.weight"]
    np.testing.assert_array_equal(stem[:, :, 2], image["conv1.weight"])
    assert not stem[:, :, [0, 1, 3]].any()
    for name, array in state.items():
        source = name.replace("layer4_dual", "layer4")
        if name != "conv1.weight" and source in image and not name.startswith("fc"):
            np.testing.assert_array_equal(array, image[source].reshape(array.shape), name)
    missing = [name for name in before if any(part in name for part in ("fc", "conv_offset"))]
    assert kvf.load_weights(model, tmp_path / "resnet.pth") == missing
    del image["layer3.0.conv1.weight"]
    with pytest.raises(WeightsFileError, match="tensor 'layer3.0.conv1.weight' is missing"):
        model.load_state(image)


def swin(model, timm):
    """A Swin of random numbers, of the size of a SIFA-Transformer, in the names of its authors or of timm."""
    rng, state = np.random.default_rng(0), {}
    for name, array in model.state(unused=True).items():
        if any(part in name for part in (".conv.", "tda_norm", "def_cor")) or name.startswith("fc."):
            continue
        place = name.split(".")
        if timm and "downsample" in name:
            name = name.replace(f"layers.{place[1]}.", f"layers.{int(place[1]) + 1}.")
        shape = [*array.shape[:2], *array.shape[3:]] if array.ndim == 5 else array.shape
        state[name] = rng.normal(size=shape).astype("float32") if array.dtype == "float32" else array
    for name, size in (("patch_embed.norm.weight", 8), ("patch_embed.norm.bias", 8), ("head.bias", 1000)):
        state[name] = np.zeros(size, "float32")
    return {**state, ("head.fc.weight" if timm else "head.weight"): np.zeros((1000, 64), "float32")}


@pytest.mark.parametrize("timm", [False, True])
def test_a_transformer_starts_from_an_image_swin(timm):
    model = kvf.SIFATransformerNano(**TINY_TRANSFORMER)
    image, before = swin(model, timm), model.state()
    with pytest.warns(UserWarning, match="has no classifier"):
        missing = model.load_state(image)
    state = model.state()
    np.testing.assert_array_equal(state["patch_embed.proj.weight"][:, :, 2], image["patch_embed.proj.weight"])
    assert not state["patch_embed.proj.weight"][:, :, [0, 1, 3]].any()
    looks = [name for name in state if ".conv." in name or "tda_norm" in name]
    assert looks and not any(state[name].any() for name in looks)
    assert missing == [*looks, "fc.weight", "fc.bias"]
    for name, array in state.items():
        source = name
        if timm and "downsample" in name:
            source = name.replace(f"layers.{name.split('.')[1]}.", f"layers.{int(name.split('.')[1]) + 1}.")
        if source in image and name != "patch_embed.proj.weight":
            np.testing.assert_array_equal(array, image[source], name)
    np.testing.assert_array_equal(state["fc.weight"], before["fc.weight"])
    with pytest.raises(WeightsFileError, match="tensor 'norm.weight' is missing"):
        model.load_state({name: array for name, array in image.items() if name != "norm.weight"})
