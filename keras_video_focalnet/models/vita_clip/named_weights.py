"""How weights that are there score clips against names, without any training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.labels import plain_name
from keras_video_focalnet.models.cloning import take_weights
from keras_video_focalnet.models.vita_clip.checkpoint_options import told_options
from keras_video_focalnet.models.vita_clip.class_texts import MOST_CONTEXT_TOKENS, texts_with_context
from keras_video_focalnet.models.vita_clip.weights import (
    CLASS_TOKEN,
    CONTEXT,
    EMBEDDING,
    SUFFIX,
    TIMES,
    copy_texts,
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
    kind = told["context"]
    if kind is None or (kind == "class" and not _in_order(learned_rows(names, state, labels), state)):
        return {**options, "context": None}
    return {**options, "context": kind, "context_tokens": told["context_tokens"]}


def learned_rows(names: Sequence[str], state: State, labels: Sequence[str] | None) -> list[int] | None:
    """Which of the contexts of a state in Vita-CLIP's names was learned for each of the names, in whatever order.

    None where one of the names is none of those, or nothing tells which they are: neither `labels` nor, in a
    checkpoint, the vectors that follow each context.
    """
    if labels is not None:
        return places_of(names, labels)
    context, suffix, embedding = (state.get(name) for name in (CONTEXT, SUFFIX, EMBEDDING))
    if context is None or suffix is None or embedding is None:
        return None
    count = np.shape(context)[1]
    if not 1 <= count <= MOST_CONTEXT_TOKENS:
        return None
    ids = texts_with_context(names, count).suffix_ids
    embedding, suffix = np.asarray(embedding, "float32"), np.asarray(suffix, "float32")
    if suffix.shape != (len(context), ids.shape[1], embedding.shape[-1]) or embedding.shape[0] <= ids.max():
        return None
    rows = {vectors.tobytes(): row for row, vectors in enumerate(suffix)}
    found = [rows.get(embedding[each].tobytes()) for each in ids]
    return None if None in found else found


def places_of(names: Sequence[str], labels: Sequence[str] | None) -> list[int] | None:
    """At which place of `labels` each name is, spelled as there or otherwise; None where one is not there."""
    known = {plain_name(label): place for place, label in enumerate(labels or ())}
    found = [known.get(plain_name(name)) for name in names]
    return None if None in found else found


def _in_order(rows, state):
    """Whether rows are all of a state's contexts as they are, so that it can be loaded as a whole."""
    return rows is not None and rows == list(range(len(state[CONTEXT])))


def told_names(model: Any, names: Any) -> Any:
    """A model that scores clips against names, with a warning where its context is of other ones."""
    told = model.set_class_names(names)
    if model.context is not None and told.context is None:
        _tell_of_lost_context()
    return told


def with_learned(model: Any, state: State, labels: Sequence[str] | None) -> Any:
    """A model of `options_for_names` with the contexts of its names, out of those of all or in another order."""
    state = in_own_names(state)
    if CONTEXT not in state:
        return model
    if model.context is None:
        rows = learned_rows(model.labels, state, labels)
        if rows is None:
            _tell_of_lost_context()
            return model
        context = np.asarray(state[CONTEXT], "float32")[rows]
        bare, model = model, model.rebuild(context="class", context_tokens=context.shape[1])
        take_weights(model, (layer for layer in bare.layers if layer is not bare.classifier))
        copy_texts(bare.classifier, model.classifier)
        model.classifier.ctx.assign(context)
    warnings.warn(
        "the weights do not tell where the learned context stands, and it is taken to stand before the name; where it "
        'was trained in the middle or behind the name (context_position="middle", "front"), the scores are wrong: save '
        "the whole model as .keras then, which knows it.",
        stacklevel=4,
    )
    return model


def _tell_of_lost_context():
    warnings.warn(
        "the learned context is of other class names: the names are scored by their texts alone. Pass none but names "
        "that it was trained for, in any order, to score with it.",
        stacklevel=5,
    )
