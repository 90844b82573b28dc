"""What the blocks of a network compute for one clip, as arrays over the places of frames."""

from __future__ import annotations

import collections
import functools
import math
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_video_focalnet.models.classifier import VideoClassifier
from keras_video_focalnet.models.kept import refresh_kept
from keras_video_focalnet.models.maps import TOKENS, LayerMap
from keras_video_focalnet.models.network import Network
from keras_video_focalnet.ops.autodiff.formulation import force
from keras_video_focalnet.ops.autodiff.input_gradient import input_gradient
from keras_video_focalnet.ops.once import run_once

# Parts of models that were looked at: beside the models, not in them, since Keras counts what is in them.
_PARTS: weakref.WeakKeyDictionary[keras.Model, collections.OrderedDict] = weakref.WeakKeyDictionary()
_MOST_PARTS = 8


def _part_of(model, inputs, outputs):
    """The model between tensors of a model; of each model the last few are kept, since a backend compiles them."""
    # What was compiled of a model computes with the weights of before it was quantized.
    dtypes = tuple(str(weight.dtype) for weight in model.weights)
    key = (*map(id, keras.tree.flatten([inputs, outputs])), dtypes)
    parts = _PARTS.setdefault(model, collections.OrderedDict())
    if key not in parts:
        parts[key] = keras.Model(inputs, outputs)
    parts.move_to_end(key)
    if len(parts) > _MOST_PARTS:
        parts.popitem(last=False)
    return parts[key]


def layer_values(network: Network, maps: Sequence[LayerMap], clip: np.ndarray) -> list[np.ndarray]:
    """Compute what maps of a network hold for one clip.

    Args:
        network: The network.
        maps: Some of `network.maps()`.
        clip: As the network takes it, `(frames, height, width, 3)`.

    Returns:
        List of float32 arrays `(frames, height, width, channels)`, one a map; of a map of pairs of frames there is one
        frame less.
    """
    tensors = {str(id(tensor)): tensor for found in maps for tensor in found.tensors}
    extractor = _part_of(network.model, network.model.input, list(tensors.values()))
    given = keras.tree.flatten(run_once(extractor, np.asarray(clip, np.float32)[None]))
    held = dict(zip(tensors, given, strict=True))
    arrays = []
    for found in maps:
        values = [held[str(id(tensor))] for tensor in found.tensors]
        array = values[0] if found.compute is None else found.compute(*map(keras.ops.convert_to_tensor, values))
        arrays.append(on_grid(keras.ops.convert_to_numpy(array)[0], found, clip.shape[1:3]))
    return arrays


def on_grid(values: np.ndarray, found: LayerMap, sides: tuple[int, int]) -> np.ndarray:
    """What a map holds, `(frames, tokens, channels)`, with its places as a grid, in float32.

    Raises:
        ValueError: The map tells no grid, and its places are no grid of the shape of a frame.
    """
    values = np.asarray(values, np.float32)[:, found.first :]
    frames, places, channels = values.shape
    height, width = found.grid or _grid_like(places, sides)
    return values.reshape(frames, height, width, channels)


def _grid_like(places, sides):
    """The height and width of a grid of so many places that is most like a frame in shape."""
    wanted = math.log(sides[0] / sides[1])
    heights = [height for height in range(1, places + 1) if places % height == 0]
    height = min(heights, key=lambda height: abs(math.log(height**2 / places) - wanted))
    return height, places // height


def grad_cam(
    network: Network, found: LayerMap, clip: np.ndarray, target: int | None = None
) -> tuple[np.ndarray, int, float]:
    """Compute where a block's tokens speak for a class (Grad-CAM, Selvaraju et al., ICCV 2017, Eq. 1 and 2).

    The gradient of the class's logit, averaged over places and here over frames too, weights each channel of the
    tokens; of their weighted sum what is above zero is kept.

    Args:
        network: A network with a classifier.
        found: The block's tokens.
        clip: As the network takes it, `(frames, height, width, 3)`.
        target: Index of the class; None for that of the highest logit.

    Returns:
        The map, float32 `(frames, height, width, 1)` of at least 0, the index of the class, and its logit.

    Raises:
        ValueError: The network has no classifier, or is quantized.
    """
    model = network.model
    if not isinstance(model, VideoClassifier) or model.classifier is None:
        raise ValueError(
            f"what has 'grad-cam', for which the model {model.name!r} has no classifier of ours; build it with "
            "include_top=True, or choose another map."
        )
    if any("int8" in str(weight.dtype) for weight in model.weights):
        raise ValueError(
            f"what has 'grad-cam', and the model {model.name!r} is quantized, through which gradients are not right; "
            "take it as it was before model.quantize, or choose another map."
        )
    (tokens,) = found.tensors
    clip = np.asarray(clip, np.float32)
    values, pooled = run_once(_part_of(model, model.input, [tokens, model.pooled]), clip[None])
    # From the tokens on: the clip too, since other ways than by this block may lead from it to the end.
    rest = _part_of(model, [tokens, model.input], model.pooled)
    refresh_kept(model)
    with force(kept_features="stored"):
        logits = keras.ops.convert_to_numpy(model.logits(keras.ops.convert_to_tensor(pooled)))[0]
        index = int(logits.argmax()) if target is None else target
        number = functools.partial(_logit, model, index)
        logit, gradient = input_gradient(rest, [values, clip[None]], number)
    # With the class token, where there is one: it is no place, and weighs no channel.
    weights = np.asarray(gradient, np.float32)[:, :, found.first :].mean(axis=(0, 1, 2))
    cam = np.maximum(np.asarray(values[0], np.float32) @ weights, 0)[..., None]
    return on_grid(cam, found, clip.shape[1:3]), index, logit


def _logit(model: Any, index: int, pooled: Any) -> Any:
    return keras.ops.cast(model.logits(pooled)[0, index], "float32")


def tokens_of(maps: dict[str, LayerMap]) -> LayerMap | None:
    """The map of a block's tokens, which Grad-CAM reads; None where there is none."""
    return next((found for found in maps.values() if found.kind == TOKENS and found.compute is None), None)
