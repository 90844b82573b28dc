"""What can be seen at a block of Vita-CLIP: what the class token attends to, and the tokens of patches."""

from __future__ import annotations

import keras

from keras_video_focalnet.models.maps import ATTENTION, TOKENS, LayerMap
from keras_video_focalnet.models.vita_clip.prompted_block import PromptedBlock


def layer_maps(layer: keras.layers.Layer) -> dict[str, LayerMap]:
    """The shares of its attention that the class token has for each patch, and, where the block computes more than
    class tokens, the patches' tokens.
    """
    if not isinstance(layer, PromptedBlock):
        return {}
    maps = {ATTENTION: LayerMap(ATTENTION, tuple(keras.tree.flatten(layer.input)), compute=layer.class_attention)}
    if not layer.class_token_only:
        maps[TOKENS] = LayerMap(TOKENS, (layer.output,), first=1)
    return maps
