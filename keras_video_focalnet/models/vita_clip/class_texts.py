"""The texts of classes as tokens, with room for a learned context (Wasim et al., Vita-CLIP, 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.models.vita_clip.tokenizer import CONTEXT_LENGTH, encode, is_plain, shown, tokenize
from keras_video_focalnet.utils.checks import fail

POSITIONS = ("end", "middle", "front")
_PLACE_HOLDER = "X"


@dataclass(frozen=True)
class ClassTexts:
    """One text a class, as the text tower takes it.

    Attributes:
        ids: Ids in their order, `(classes, tokens)`; 0 where a learned vector stands.
        learned: `(classes, tokens, context_tokens)`: 1 where a token is a learned vector, at that vector's number; or
            None without learned vectors.
        ends: Where the end token of each text is, `(classes,)`.
        suffix_ids: The ids that follow the context in the reference's order, `(classes, 77 - 1 - context_tokens)`; None
            without learned vectors.
        words: The ids that a context of words starts from, or None.
    """

    ids: np.ndarray
    learned: np.ndarray | None
    ends: np.ndarray
    suffix_ids: np.ndarray | None = None
    words: tuple[int, ...] | None = None


def plain_texts(names: Sequence[str], template: str = "{}") -> ClassTexts:
    """Texts that a template makes of class names, without a learned context."""
    check_template("templates", template)
    return _shortened(_tokenized([template.replace("{}", _readable(name)) for name in names], names), None)


def context_length(context_tokens: int, context_init: str | None) -> int:
    """How many learned vectors a context has: those that are asked for, or one for each of the words it starts from."""
    return context_tokens if context_init is None else len(_readable(context_init).split(" "))


def texts_with_context(
    names: Sequence[str], context_tokens: int, position: str = "end", context_init: str | None = None
) -> ClassTexts:
    """Texts with room for learned vectors behind the start, in the middle of a name's tokens, or behind these.

    The name ends with a full stop. How many tokens it has is counted of the name alone, as the reference does.
    """
    count = context_length(context_tokens, context_init)
    phrase = " ".join([_PLACE_HOLDER] * count) if context_init is None else _readable(context_init)
    rows = _tokenized([f"{phrase} {_readable(name)}." for name in names], names)
    words = None if context_init is None else tuple(int(token) for token in rows[0, 1 : 1 + count])
    suffix = rows[:, 1 + count :]
    ids, learned = np.zeros_like(rows), np.zeros((*rows.shape, count), "float32")
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    for row, name in enumerate(names):
        of_name = 0 if position == "end" else len(encode(_readable(name)))
        # In turn: the start, some of the context, the name, the rest of the context, what is left.
        order = [*range(-before, 0), *range(of_name), *range(-count, -before), *range(of_name, suffix.shape[1])]
        number = 0
        ids[row, 0] = rows[row, 0]
        for place, source in enumerate(order, 1):
            if source < 0:
                learned[row, place, number] = 1
                number += 1
            else:
                ids[row, place] = suffix[row, source]
    texts = _shortened(rows, learned)
    return ClassTexts(ids[:, : texts.ids.shape[1]], texts.learned, texts.ends, suffix, words)


def check_template(argument: str, template: str) -> str:
    """Checks that a text has a place for a class name."""
    if not isinstance(template, str) or template.count("{}") != 1:
        raise fail(argument, 'texts with one "{}" each, such as "a video of {}."', template)
    return template


def _readable(name):
    return name.replace("_", " ")


def _tokenized(texts, names):
    try:
        return tokenize(texts)
    except ImportError as error:
        # It may be of what stands around the names.
        place = next((place for place, name in enumerate(names) if not is_plain(name)), None)
        if place is None:
            raise
        raise ImportError(f"class_names[{place}]={shown(names[place])}: {error}") from error
    except ValueError as error:
        longest = max(range(len(texts)), key=lambda place: len(encode(texts[place])))
        raise ValueError(
            f"class_names[{longest}]={shown(names[longest])} is too long: with its start, its end and what stands "
            f"around it, it has {len(encode(texts[longest])) + 2} tokens of {CONTEXT_LENGTH}; shorten the name, the "
            "template or the context."
        ) from error


def _shortened(rows, learned):
    """Without what stands behind the last end: nothing depends on it."""
    ends = rows.argmax(axis=1)
    length = int(ends.max()) + 1
    return ClassTexts(rows[:, :length], None if learned is None else learned[:, :length], ends)
