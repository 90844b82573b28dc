"""The way out of a network: features pooled and, where the model has a classifier, turned into one score a class."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.replayable_dropout import ReplayableDropout
from keras_video_focalnet.models.inputs import exact_dtype
from keras_video_focalnet.utils.checks import check_choice, check_integer

POOLINGS = (None, "avg", "max")


def classify_or_pool(
    features: Any,
    grid: tuple[int, int],
    include_top: bool,
    pooling: str | None,
    classes: int | None,
    classifier_activation: Any,
    policy: keras.dtype_policies.DTypePolicy,
    name: str = "head",
    drop_rate: float = 0.0,
    **dense: Any,
) -> Any:
    """End a functional model: from features to scores, or without a classifier to pooled features.

    Args:
        features: Keras tensor, `(batch, frames, height * width, channels)`.
        grid: `(height, width)` of `features`.
        include_top: Whether the model has a classifier, which reads the mean over space, then over frames.
        pooling: Without the classifier: `"avg"` and `"max"` reduce over space, then over frames; None keeps the grid.
        classes: Number of classes of the classifier.
        classifier_activation: Activation of the classifier; None gives logits.
        policy: The dtype policy of the model's layers; scores are at least float32.
        name: Name of the classifier's layer.
        drop_rate: Dropout before the classifier, drawn for each frame.
        **dense: Further arguments of the classifier's `keras.layers.Dense`.

    Returns:
        Keras tensor: `(batch, classes)` of a classifier, `(batch, channels)` where pooled, else `(batch, frames,
        height, width, channels)`.

    Example:
        >>> features = keras.Input((8, 7 * 7, 32))
        >>> policy = keras.dtype_policies.get("float32")
        >>> classify_or_pool(features, (7, 7), True, None, 5, "softmax", policy).shape
        (None, 5)
        >>> classify_or_pool(features, (7, 7), False, None, None, None, policy).shape
        (None, 8, 7, 7, 32)
    """
    check_choice("pooling", pooling, POOLINGS)
    if include_top:
        of_frames = ops.mean(features, axis=2)
        if drop_rate:
            of_frames = ReplayableDropout(drop_rate, dtype=policy, name=f"{name}_dropout")(of_frames)
        pooled = ops.mean(of_frames, axis=1)
        classes = check_integer("classes", classes, 1)
        return keras.layers.Dense(classes, classifier_activation, dtype=exact_dtype(policy), name=name, **dense)(pooled)
    if pooling is None:
        shape = (features.shape[1] or -1, *grid, features.shape[-1])
        return keras.layers.Reshape(shape, dtype=policy, name="grid")(features)
    reduce = ops.mean if pooling == "avg" else ops.max
    return reduce(reduce(features, axis=2), axis=1)
