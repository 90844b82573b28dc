"""Which layers learn: freezing by stage, and the linear probe.

A frozen layer keeps its weights and computes as before. It also draws as before: stochastic depth and dropout inside
frozen blocks still drop at random in training, which varies the features that the layers above see. Build the model
with `drop_path_rate=0` to have it the same each time.
"""

import re

import keras

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.models.arguments import STAGES, whole

_NAMES = re.compile(r"patch_embed|stage(\d)_(block\d+|downsample)|norm|head")


def network_layers(model):
    """The layers of a Video-FocalNet that have weights, in the order of the network.

    Args:
        model: a built `VideoFocalNet`, a clone of one, or a model around one.

    Returns:
        Dict of layers by name: `patch_embed`, `stage0_block0`, `stage0_downsample`, ..., `norm` and `head`, as far as
        the model has them.

    Raises:
        ValueError: the model holds no Video-FocalNet, or more than one.

    Example:
    >>> list(network_layers(VideoFocalNetNano(weights=None)))[:4]
    ['patch_embed', 'stage0_block0', 'stage0_downsample', 'stage1_block0']
    """
    networks = _networks(model)
    if len(networks) != 1:
        raise ValueError(
            f"the model {model.name!r} holds {len(networks)} Video-FocalNets where one is needed; pass a built "
            "VideoFocalNet, or a model around one. Layers of other models are frozen by layer.trainable = False."
        )
    return {layer.name: layer for layer in networks[0].layers if _NAMES.fullmatch(layer.name)}


def _networks(model):
    """All models at or inside `model` that have focal blocks among their own layers."""
    inside = [network for layer in model.layers if isinstance(layer, keras.Model) for network in _networks(layer)]
    return inside + [model] * any(isinstance(layer, FocalBlock) for layer in model.layers)


def freeze_stages(model, count):
    """Freeze the stem and the first `count` stages, and let the rest of the network learn.

    A stage is all that its name begins with `stage{S}_`: its blocks and the patch embedding after them. Compile the
    model after it, not before: Keras notes then what learns.

    Args:
        model: a built `VideoFocalNet`, or a model around one; layers around it are left as they are.
        count: int from 0 (the stem alone) to 4 (all but the classifier: the final norm too).

    Raises:
        ValueError: `count` is outside 0 to 4, or the model holds no Video-FocalNet, or more than one.

    Example:
    >>> model = VideoFocalNetNano(weights=None)
    >>> freeze_stages(model, 3)
    >>> [layer.name for layer in model.layers if layer.trainable_weights]
    ['stage3_block0', 'norm', 'head']
    """
    if whole("count", count, 0) > STAGES:
        raise ValueError(f"count must be from 0 (the stem alone) to {STAGES} (all stages), received {count!r}.")
    for name, layer in network_layers(model).items():
        layer.trainable = _frozen_from(name) > count


def _frozen_from(name):
    """The least `count` that freezes a layer."""
    ends = {"patch_embed": 0, "norm": STAGES, "head": STAGES + 1}
    return ends[name] if name in ends else int(_NAMES.fullmatch(name)[1]) + 1


def linear_probe(model):
    """Freeze all but the classifier. Compile the model after it.

    Args:
        model: a built `VideoFocalNet` with its classifier, or a model around one.

    Raises:
        ValueError: the model has no classifier, or holds no Video-FocalNet, or more than one.

    Example:
    >>> model = VideoFocalNetNano(weights=None, classes=4)
    >>> linear_probe(model)
    >>> [weight.path for weight in model.trainable_weights]
    ['head/kernel', 'head/bias']
    """
    if "head" not in network_layers(model):
        raise ValueError(
            f"the model {model.name!r} has no classifier to train; build it with include_top=True, or use "
            f"freeze_stages(model, {STAGES}) where a classifier of your own stands on it."
        )
    freeze_stages(model, STAGES)
