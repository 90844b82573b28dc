"""Feature taps of a built model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_video_focalnet.models.network import find_network
from keras_video_focalnet.models.opening import opened


def feature_taps(model: keras.Model) -> dict[str, Any]:
    """Name every tensor inside a model that is worth a look.

    Args:
        model: A built `VideoClassifier`, a clone, or a model read from a `.keras` file; or what `open_model`
            takes.

    Returns:
        Dict of Keras tensors in the order of the network. Of a Video-FocalNet they are `(batch, frames, height * width,
        channels)`: each block's output `"stage0_block0"` and its modulators `"stage0_block0/spatial_modulator"` and
        `"stage0_block0/temporal_modulator"`, or what modulators its `design` has; the block's layer has `(height,
        width)` as `grid_size`.

    Raises:
        ValueError: The model holds no network of ours, or more than one.

    Example:
        >>> model = VideoFocalNetNano(weights=None)
        >>> feature_taps(model)["stage3_block0"].shape
        (None, 8, 4, 128)
    """
    return find_network(opened(model)).taps()


def feature_extractor(model: keras.Model, names: str | Sequence[str]) -> keras.Model:
    """Build a model that gives some taps of `model`, sharing its weights.

    Args:
        model: As in `feature_taps`.
        names: One name or a list of names from `feature_taps(model)`.

    Returns:
        A `keras.Model` from clips to a dict of those features. Of a network inside another model, it takes what the
        network takes: layers before the network are left out.

    Raises:
        ValueError: A name is not among the taps, or there is none at all.

    Example:
        >>> extractor = feature_extractor(VideoFocalNetNano(weights=None), ["stage0_block0"])
        >>> extractor.predict(np.zeros((1, 8, 64, 64, 3), "uint8"), verbose=0)["stage0_block0"].shape
        (1, 8, 256, 16)
    """
    model = opened(model)
    taps = feature_taps(model)
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"names is empty; pass some of: {', '.join(taps)}.")
    unknown = [name for name in names if name not in taps]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r}, which is no tap of {model.name}; there are: {', '.join(taps)}.")
    clip = find_network(model).model.input
    return keras.Model(clip, {name: taps[name] for name in names}, name=f"{model.name}_features")
