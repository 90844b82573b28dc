"""How weights that are there score clips against names, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.models.vita_clip.checkpoint_options import told_options
from keras_video_focalnet.models.vita_clip.class_texts import MOST_CONTEXT_TOKENS, texts_with_context
from keras_video_focalnet.models.vita_clip.weights import (
    CLASS_TOKEN,
    CONTEXT,
    EMBEDDING,
    SUFFIX,
    TIMES,
    in_own_names,
)
from keras_video_focalnet.weights.slots import State


def options_for_names(names: Sequence[str], state: State, labels: Sequence[str] | None) -> dict[str, Any]:
    """The constructor's arguments with which weights score clips against names, as far as shapes tell them."""
    state = in_own_names(state)
    if CLASS_TOKEN not in state:
        return {}
    if TIMES not in state:
        return {"prompts": (), "context": None}
    told = told_options({name: np.shape(array) for name, array in state.items()})
    options = {name: told[name] for name in ("prompts", "num_frames", "num_global_prompts") if name in told}
    learned = told["context"] == "shared" or (told["context"] == "class" and _are_learned(names, state, labels))
    if not learned:
        return {**options, "context": None}
    return {**options, "context": told["context"], "context_tokens": told["context_tokens"]}


def _are_learned(names, state, labels):
    """Whether the learned context of each class is of these names in their order."""
    if labels is not None:
        return list(labels) == list(names)
    context, suffix, embedding = (state.get(name) for name in (CONTEXT, SUFFIX, EMBEDDING))
    if suffix is None or embedding is None or len(context) != len(names):
        return False
    count = np.shape(context)[1]
    if not 1 <= count <= MOST_CONTEXT_TOKENS:
        return False
    ids = texts_with_context(names, count).suffix_ids
    return ids.shape == np.shape(suffix)[:2] and bool((np.asarray(embedding)[ids] == suffix).all())
