"""Which layers learn: freezing by stage, and the linear probe.

A frozen layer keeps its weights and computes as before. It also draws as before: stochastic depth and dropout inside
frozen blocks still drop at random in training, which varies the features that the layers above see. Build the model
with `drop_path_rate=0` to have it the same each time.
"""

from __future__ import annotations

import keras

from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.utils.checks import check_integer


def freeze_stages(model: keras.Model, count: int) -> None:
    """Freeze the stem and the first `count` stages, and let the rest of the network learn.

    A stage is its blocks and the transition after them; the last one is followed by the final norm, which freezes with
    it. Compile the model after it, not before: Keras notes then what learns.

    Args:
        model: A built `VideoClassifier`, a clone of one, or a model around one; layers around it are left as they are.
        count: From 0 (the stem alone) to the number of stages (all but the classifier).

    Raises:
        ValueError: `count` is outside that range, or the model holds no network of ours, or more than one.

    Example:
        >>> model = VideoFocalNetNano(weights=None)
        >>> freeze_stages(model, 3)
        >>> [layer.name for layer in model.layers if layer.trainable_weights]
        ['stage3_block0', 'norm', 'head']
    """
    network = find_network(model)
    remedy = f"0 freezes the stem alone, {network.stages} all stages"
    count = check_integer("count", count, minimum=0, maximum=network.stages, remedy=remedy)
    for layer in network.roles:
        layer.trainable = network.frozen_from(layer) > count


def linear_probe(model: keras.Model) -> None:
    """Freeze all but the classifier. Compile the model after it.

    Args:
        model: A built `VideoClassifier` with its classifier, a clone of one, or a model around one.

    Raises:
        ValueError: The model has no classifier, or holds no network of ours, or more than one.

    Example:
        >>> model = VideoFocalNetNano(weights=None, classes=4)
        >>> linear_probe(model)
        >>> [weight.path for weight in model.trainable_weights]
        ['head/kernel', 'head/bias']
    """
    network = find_network(model)
    if network.classifier is None:
        raise ValueError(
            f"the model {model.name!r} has no classifier to train; build it with include_top=True, or use "
            f"freeze_stages(model, {network.stages}) where a classifier of your own stands on it."
        )
    freeze_stages(model, network.stages)
