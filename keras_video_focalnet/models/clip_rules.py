"""What the clips of a Keras model are, by the networks of ours at or inside it."""

from __future__ import annotations

import os

import keras

from keras_video_focalnet.data.clip_rule import ClipRule, clip_rule, clip_sides
from keras_video_focalnet.models.around import preprocessing_inside, takes_pixels


@clip_rule.register(str)
@clip_rule.register(os.PathLike)
def rule_for_path(path: str | os.PathLike) -> ClipRule:
    """The rule of the model at a path, see `open_model`."""
    from keras_video_focalnet.models.opening import opened

    return clip_rule(opened(path, "like"))


@clip_rule.register(keras.Model)
def rule_for_model(model: keras.Model) -> ClipRule:
    """The rule of the networks of ours in a model, else that of most models, which are taken to prepare pixels."""
    frames, height, width = clip_sides(model)
    rule = preprocessing_inside(model)
    return ClipRule(
        num_frames=frames or rule.frames,
        size=(height or rule.size[0], width or rule.size[1]),
        prepare=None if takes_pixels(model) else rule.normalize,
        **rule.resize_rule,
    )
