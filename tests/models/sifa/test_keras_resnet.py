"""The reader of ResNet weights of `keras.applications`, by what that model computes."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from keras.src.legacy.saving import legacy_h5_format

import keras_video_focalnet as kvf
from keras_video_focalnet.models.sifa.bottleneck import SIFABottleneck, TubeletStem
from keras_video_focalnet.models.sifa.keras_resnet import read_keras_resnet
from keras_video_focalnet.models.sifa.weights import complete_net, net_slots
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.slots import load_into_slots

SIDE = 64
# What `keras.applications` subtracts from blue, green and red.
MEAN = (103.939, 116.779, 123.68)


@pytest.fixture(scope="module")
def resnet():
    """A ResNet of one stage, with weights that all have a say."""

    def one_stage(x):
        return stack_residual_blocks_v1(x, 64, 2, stride1=1, name="conv2")

    model = ResNet(one_stage, False, True, include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            values = rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)
        else:
            values = rng.uniform(0.5, 1.5, weight.shape)
        # Pixels count to 255.
        weight.assign(values / (64 if weight.path.startswith("conv1_conv") else 1))
    return model


@pytest.fixture(scope="module")
def path(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, resnet)
    return path


def test_an_image_gives_what_the_resnet_gives(resnet, path):
    """Far from the borders, outside which both see nearly the same colour."""
    rng = np.random.default_rng(1)
    clip = rng.uniform(0, 255, (1, 4, SIDE, SIDE, 3)).astype("float32")
    wanted = resnet.predict(clip[:, 2, :, :, ::-1] - np.float32(MEAN), verbose=0)
    layers = [TubeletStem(64, (SIDE, SIDE), name="stem")]
    layers += [SIFABottleneck(64, (16, 16), name=f"stage0_block{block}") for block in range(2)]
    x = keras.ops.convert_to_tensor(kvf.preprocess_input(clip).reshape(1, 4, -1, 3))
    state, labels = read_keras_resnet(path)
    assert labels is None
    shape = tuple(x.shape)
    slots = {}
    for layer in layers:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
        slots |= net_slots(layer)
    state, missing = complete_net(slots, state)
    assert missing == []
    load_into_slots(slots, state)
    for layer in layers:
        x = layer(x)
    given = np.asarray(keras.ops.convert_to_numpy(x)).reshape(wanted.shape)
    inside = (slice(None), slice(6, 10), slice(6, 10))
    assert np.abs(given - wanted)[inside].max() < 1e-4 * np.abs(wanted).max()
    assert np.abs(given - wanted).max() < 0.02 * np.abs(wanted).max()


def test_a_builder_takes_such_a_file_and_says_what_is_missing(path):
    with pytest.raises(WeightsFileError, match="'conv1.weight' has shape .64, 3, 4, 7, 7. where the model has .8, 3"):
        kvf.SIFANetNano(weights=path)


def test_files_of_other_kinds(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = ["dense/kernel:0"]
        group["dense/kernel:0"] = np.zeros((2, 3), "float32")
    with pytest.raises(WeightsFileError, match="other.h5.*layer 'dense' has no place in a ResNet; give the .h5"):
        read_keras_resnet(tmp_path / "other.h5")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(WeightsFileError, match="text.h5.*not an HDF5 file"):
        read_keras_resnet(tmp_path / "text.h5")
    with h5py.File(tmp_path / "headless.h5", "w") as file:
        file.attrs["layer_names"] = ["conv1_conv"]
        group = file.create_group("conv1_conv")
        group.attrs["weight_names"] = ["conv1_conv/kernel:0"]
        group["conv1_conv/kernel:0"] = np.zeros((7, 7, 3, 4), "float32")
    with pytest.raises(WeightsFileError, match="layer 'conv1_bn' behind 'conv1_conv' is missing"):
        read_keras_resnet(tmp_path / "headless.h5")
