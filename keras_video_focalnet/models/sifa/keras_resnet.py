"""A reader of the ImageNet weights of `keras.applications` ResNets, as a state in the names of torchvision.

Such a file is a group a layer, `conv3_block1_2_conv` and so on, each with its tensors. Three things differ from the
ResNet whose names they get: convolutions have biases, which a batch normalization's mean takes in; its variance has
another small number added; and the first kernel reads blue, green, red in pixels less another mean, which becomes red,
green, blue less ImageNet's mean over its standard deviation. All of it leaves what the model computes as it is, but
that what lies outside the frame was of another, nearly equal colour, and that in the first block of three stages the
stride stood on the 1x1 convolution, where SIFA-Net has it on the 3x3.
"""

import os
import re

import numpy as np

from keras_video_focalnet.models.preprocessing import IMAGENET
from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.files import DESCRIPTIONS, sniff
from keras_video_focalnet.weights.hdf5 import names_in, open_hdf5, read

# What `keras.applications` subtracts from blue, green and red, and adds to a variance.
_MEAN, _EPSILON = (103.939, 116.779, 123.68), 1.001e-5
_AGAIN = "give the .h5 of a ResNet of keras.applications, or a .pth in the names of torchvision"
_BLOCK = re.compile(r"conv(\d)_block(\d+)_(\d)_(conv|bn)")
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_CLASSIFIERS = ("predictions", "probs", "fc1000")


def read_keras_resnet(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], None]:
    """Read a ResNet's `.h5` of `keras.applications` as a state in torchvision's names; no class names are in it.

    A `WeightsFileError` names the file and the first tensor that is missing or has no place.
    """
    kind = sniff(path)
    with named_errors(path):
        if kind != "hdf5":
            raise WeightsFileError(f"not an HDF5 file: it is {DESCRIPTIONS[kind]}; {_AGAIN}")
        with open_hdf5(path) as file:
            layers = dict(_layers(file))
        return _state(layers), None


def _layers(file):
    """Each layer's arrays by their names."""
    root = file.root
    if "layer_names" not in root.attributes and file.has(root, "model_weights"):
        root = file.group(root, "model_weights")
    for layer in names_in(root, "layer_names") or ():
        group = file.group(root, layer)
        paths = names_in(group, "weight_names") or ()
        arrays = {path.rpartition("/")[2].partition(":")[0]: read(file.tensor(group, path)) for path in paths}
        if arrays:
            yield layer, arrays


def _state(layers):
    state = {}
    for layer, arrays in layers.items():
        if layer in _CLASSIFIERS:
            continue
        if layer not in ("conv1_conv", "conv1_bn") and not _BLOCK.fullmatch(layer):
            raise WeightsFileError(f"the layer {layer!r} has no place in a ResNet; {_AGAIN}")
        if layer.endswith("_conv"):
            kernel, shift = _kernel(layer, arrays)
            norm = layer.removesuffix("conv") + "bn"
            if norm not in layers or not layers[norm].keys() >= _NORM.keys():
                raise WeightsFileError(f"the layer {norm!r} behind {layer!r} is missing; {_AGAIN}")
            state[_reference(layer)] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), "float32")
            for name, part in _NORM.items():
                state[f"{_reference(norm)}.{part}"] = _statistic(name, layers[norm][name], shift)
    if "conv1.weight" not in state:
        raise WeightsFileError(f"the layer 'conv1_conv' is missing; {_AGAIN}")
    return state


def _kernel(layer, arrays):
    """A convolution's kernel for pixels as SIFA-Net has them, and what its output lacks then."""
    if np.ndim(arrays.get("kernel")) != 4:
        raise WeightsFileError(f"the layer {layer!r} has no kernel of four axes; {_AGAIN}")
    kernel, bias = arrays["kernel"].astype("float64"), arrays.get("bias", np.zeros(1)).astype("float64")
    if layer != "conv1_conv":
        return kernel, bias
    # From blue, green, red to red, green, blue.
    kernel, mean = kernel[:, :, ::-1], np.array(_MEAN[::-1])
    bias = bias + np.einsum("rcio,i->o", kernel, np.array(IMAGENET.mean) - mean)
    return kernel * np.array(IMAGENET.std)[:, None], bias


def _statistic(name, array, shift):
    if name == "moving_mean":
        return np.float32(array - shift)
    # SIFA-Net adds 1e-5 to a variance.
    return np.float32(array + (_EPSILON - 1e-5)) if name == "moving_variance" else np.float32(array)


def _reference(layer):
    """The name in torchvision's ResNet of a convolution's kernel, or of a batch normalization."""
    if layer in ("conv1_conv", "conv1_bn"):
        return "conv1.weight" if layer == "conv1_conv" else "bn1"
    stage, block, number, kind = _BLOCK.fullmatch(layer).groups()
    prefix = f"layer{int(stage) - 1}.{int(block) - 1}"
    if number == "0":
        return f"{prefix}.downsample.0.weight" if kind == "conv" else f"{prefix}.downsample.1"
    return f"{prefix}.conv{number}.weight" if kind == "conv" else f"{prefix}.bn{number}"
