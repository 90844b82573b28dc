"""The texts of classes as tokens, with room for a learned context (Wasim et al., Vita-CLIP, 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.models.vita_clip.tokenizer import (
    CONTEXT_LENGTH,
    END,
    START,
    encode,
    is_plain,
    shown,
    tokenize,
)
from keras_video_focalnet.utils.checks import check_integer, fail

POSITIONS = ("end", "middle", "front")
# A text also has its start, its end and at least one token of a name.
MOST_CONTEXT_TOKENS = CONTEXT_LENGTH - 3
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
    texts = [template.replace("{}", _readable(name)) for name in names]
    return _shortened(_tokenized(texts, names, "a template"), None)


def check_context(context_tokens: int, context_init: str | None) -> tuple[int, str]:
    """Checks a learned context: how many vectors it has, and the phrase that stands in their place for the tokenizer.

    They are as many as are asked for, or one for each of the words that they start from. The reference counts the
    pieces between single spaces, which the tokenizer joins: so with a space too many its context would take in tokens
    of the names. Here words are counted as the tokenizer reads them. Of a word of several tokens the phrase has all,
    and the context starts from as many of the phrase's first tokens as there are words, as in the reference.
    """
    if context_init is None:
        count = check_integer("context_tokens", context_tokens, 1, MOST_CONTEXT_TOKENS)
        return count, " ".join([_PLACE_HOLDER] * count)
    words = _readable(context_init).split() if isinstance(context_init, str) else []
    if not words:
        raise fail("context_init", 'words such as "a video of", or None', context_init)
    if len(words) <= MOST_CONTEXT_TOKENS:
        ids = encode(" ".join(words))
        if len(ids) < len(words) or not {START, END}.isdisjoint(ids):
            raise fail("context_init", "words of at least one token each, or None", context_init)
        if len(ids) <= MOST_CONTEXT_TOKENS:
            return len(words), " ".join(words)
    raise ValueError(
        f"context_init must have at most {MOST_CONTEXT_TOKENS} tokens, as names need the rest of {CONTEXT_LENGTH}, "
        f"received {shown(context_init)}; pass fewer words."
    )


def texts_with_context(
    names: Sequence[str], context_tokens: int, position: str = "end", context_init: str | None = None
) -> ClassTexts:
    """Texts with room for learned vectors behind the start, in the middle of a name's tokens, or behind these.

    The name ends with a full stop. How many tokens it has is counted of the name alone, as the reference does.
    """
    count, phrase = check_context(context_tokens, context_init)
    around = "context_tokens" if context_init is None else "context_init"
    rows = _tokenized([f"{phrase} {_readable(name)}." for name in names], names, around)
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


def check_different(names: Sequence[str], keys: Iterable[Hashable]) -> None:
    """Checks that no two names have the same key."""
    places: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        first = places.setdefault(key, place)
        if first != place:
            raise ValueError(
                f"class_names has {names[first]!r} twice, at last as {names[place]!r}, which CLIP reads alike, since "
                "case, spaces, underscores and how a sign is written are the same to it; two classes of one name "
                "cannot be told apart, so name each once."
            )


def _tokenized(texts, names, around):
    """The ids of texts that have a name and something `around` it each, which must all differ."""
    try:
        rows = tokenize(texts)
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
            f"around it, it has {len(encode(texts[longest])) + 2} tokens of {CONTEXT_LENGTH}; shorten the name or "
            f"{around}."
        ) from error
    for name in names:
        if not encode(_readable(name)):
            raise fail("class_names", "names that say something", name)
    check_different(names, (row[: row.argmax()].tobytes() for row in rows))
    return rows


def _shortened(rows, learned):
    """Without what stands behind the last end: nothing depends on it."""
    ends = rows.argmax(axis=1)
    length = int(ends.max()) + 1
    return ClassTexts(rows[:, :length], None if learned is None else learned[:, :length], ends)
