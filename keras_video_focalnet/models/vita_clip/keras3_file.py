"""Keras 3 files of Vita-CLIP: variables by their paths, of which one is called by the reference's name."""

from __future__ import annotations

import os

from keras_video_focalnet.models.vita_clip.weights import TEXT_FEATURES
from keras_video_focalnet.weights.keras3_file import read_keras3_variables
from keras_video_focalnet.weights.slots import State

_PATH = "layers/vita_clip_head/kept/vars/0"


def read_keras3(path: str | os.PathLike) -> tuple[State, list[str] | None]:
    """Read a Keras 3 file: its arrays by the paths of variables, but for the text features, which tell how many classes
    there are; and the class names, or None.
    """
    state, labels = read_keras3_variables(path)
    if _PATH in state:
        state[TEXT_FEATURES] = state.pop(_PATH)
    return state, labels
