"""Feature taps of a built model."""

import keras

from keras_video_focalnet.layers import FocalBlock


def feature_taps(model):
    """Name every tensor inside a model that is worth a look: each block's output and two modulators.

    Args:
        model: a built `VideoFocalNet`, a clone, or a model read from a `.keras` file.

    Returns:
        Dict of Keras tensors `(batch, frames, height * width, channels)`: `"stage0_block0"`,
        `"stage0_block0/spatial_modulator"`, `"stage0_block0/temporal_modulator"` and so on, in the order of the
        network. A block's layer tells `(height, width)` as `grid_size`.

    Example:
    >>> model = VideoFocalNetNano(weights=None)
    >>> feature_taps(model)["stage3_block0"].shape
    (None, 8, 4, 128)
    """
    taps = {}
    for layer in model.layers:
        if isinstance(layer, FocalBlock):
            tokens, spatial, temporal = layer.output
            taps[layer.name] = tokens
            taps[f"{layer.name}/spatial_modulator"] = spatial
            taps[f"{layer.name}/temporal_modulator"] = temporal
    return taps


def feature_extractor(model, names):
    """Build a model that gives some taps of `model`, sharing its weights.

    Args:
        model: as in `feature_taps`.
        names: one name or a list of names from `feature_taps(model)`.

    Returns:
        A `keras.Model` from clips to a dict of those features.

    Raises:
        ValueError: for a name that is not among the taps, or for none at all.

    Example:
    >>> extractor = feature_extractor(VideoFocalNetNano(weights=None), ["stage0_block0"])
    >>> extractor.predict(np.zeros((1, 8, 64, 64, 3), "uint8"), verbose=0)["stage0_block0"].shape
    (1, 8, 256, 16)
    """
    taps = feature_taps(model)
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"names is empty; pass some of: {', '.join(taps)}.")
    unknown = [name for name in names if name not in taps]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r}, which is no tap of {model.name}; there are: {', '.join(taps)}.")
    return keras.Model(model.input, {name: taps[name] for name in names}, name=f"{model.name}_features")
