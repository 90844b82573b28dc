"""CLIP's tokenizer: text as ids of byte-pair encoding, by the 48,894 merges in `data`.

A text is cleaned and split into pieces: words, single digits, runs of other signs. A piece is bytes, its last one
marked as the end, whose ids are merged pair by pair. An id is a place in the vocabulary: the 256 bytes, the same as
ends of pieces, one entry for each merge in the order of the file, start, end. Neither Keras nor a backend is imported.
"""

import functools
import gzip
import heapq
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_video_focalnet.utils.checks import check_choice, check_integer, fail
from keras_video_focalnet.utils.extras import require

VOCABULARY_SIZE = 49408
START = 49406
END = 49407
CONTEXT_LENGTH = 77

_MERGES = Path(__file__).parent / "data" / "clip_merges.txt.gz"
# Bytes in the order of their ids. In the file of merges those of `_SHOWN` are written as the characters of the same
# number, the others as characters from number 256 on.
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = [*_SHOWN, *sorted({*range(256)} - {*_SHOWN})]
_BYTE_IDS = {byte: place for place, byte in enumerate(_BYTES)}
_ENDS_PIECE = 256
_SPECIAL_IDS = {"<|startoftext|>": START, "<|endoftext|>": END}

# Printable ASCII but for the ampersand, and what becomes a space anyway: in these ftfy finds nothing to mend.
_PLAIN = re.compile(r"[ -%'-~\t\n\r]*")
# The reference ignores case, and the long s is another case of s.
_SPECIAL = re.compile(r"<\|[sſ]tartoftext\|>|<\|endoftext\|>|'(?:[sſtmd]|re|ve|ll)")
# The same of a text that has L for each letter, N for each number and S for any other sign.
_RUN = re.compile(r"L+|N|S+")
# Python reads no number of thousands of digits, and the first eight without zeros tell that it is no character.
_LONG_NUMBER = re.compile(r"(?<=&#)(?:0+(?=[0-9]))?([0-9]{1,8})[0-9]*")

_CACHED_PIECES = 8192
_LONGEST_CACHED = 64
_LONGEST_SHOWN = 60


def tokenize(texts: str | Iterable[str], context_length: int = CONTEXT_LENGTH, truncate: bool = False) -> np.ndarray:
    """Make the rows of ids that CLIP's text tower takes, as in Vita-CLIP.

    A row is the start id, the ids of the text, the end id, and zeros behind it. Source: Wasim et al., "Vita-CLIP: Video
    and text adaptive CLIP via Multimodal Prompting", CVPR 2023, which takes the tokenizer of Radford et al., "Learning
    Transferable Visual Models From Natural Language Supervision", ICML 2021.

    Args:
        texts: Strings, or a single one. Upper and lower case are the same, and so is white space of any kind and
            length. The texts `<|startoftext|>` and `<|endoftext|>` are read as the start and the end id.
        context_length: Length of a row, at least 2.
        truncate: Cut a text that is too long, so that its row ends with the end id; otherwise it is an error.

    Returns:
        int32 array `(len(texts), context_length)` of ids from 0 to 49407, `(1, context_length)` for a single string.

    Raises:
        ValueError: `texts` has something that is no string, a text is too long for its row, or another argument is not
            one of those above.
        ImportError: A text has an ampersand or anything outside printable ASCII, and the package ftfy, which mends
            such texts, is missing; the extra `text` installs it.

    Example:
        >>> tokenize(["air drumming", "zumba"], context_length=6)
        array([[49406,  1922, 35480, 49407,     0,     0],
               [49406, 32976, 49407,     0,     0,     0]], dtype=int32)
    """
    length = check_integer("context_length", context_length, minimum=2)
    truncate = check_choice("truncate", truncate, (True, False))
    if isinstance(texts, str):
        texts = [texts]
    elif not isinstance(texts, Iterable):
        raise fail("texts", "a string or strings", texts)
    texts = list(texts)
    rows = np.zeros((len(texts), length), "int32")
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        ids = _encode(f"texts[{index}]", text)
        room = length - 2
        if len(ids) > room and not truncate:
            raise ValueError(
                f"texts[{index}] must have at most {room} tokens, as context_length={length} counts start and end too, "
                f"received the {len(ids)} tokens of {shown(text)}; cut it with truncate=True."
            )
        ids = [START, *ids[:room], END]
        row[: len(ids)] = ids
    return rows


def encode(text: str) -> list[int]:
    """Make the ids of a text by CLIP's byte-pair encoding, without start and end, however many they are.

    Source: as of `tokenize`.

    Args:
        text: A string of any length, read as by `tokenize`.

    Returns:
        The ids, from 0 to 49407; none for an empty text.

    Raises:
        ValueError: `text` is no string.
        ImportError: As in `tokenize`.

    Example:
        >>> encode("Air  Drumming")
        [1922, 35480]
        >>> encode("hurling (sport)"), encode("hurling (sport).")
        ([24738, 263, 2364, 264], [24738, 263, 2364, 1818])
    """
    return _encode("text", text)


def _encode(name, text):
    if not isinstance(text, str):
        raise fail(name, "a string", text)
    ids = []
    for word in _clean(text).split():
        for piece in _pieces(word):
            ids += _piece_ids(piece) if len(piece) <= _LONGEST_CACHED else _merge(piece)
    return ids


def _clean(text: str) -> str:
    """A text as it is split: mended, without HTML entities, with single spaces, in lower case."""
    if not is_plain(text):
        require(f"The text {shown(text)}, which is not printable ASCII without ampersands,", "text", "ftfy")
        import ftfy

        text = ftfy.fix_text(text)
        for _ in range(2):  # An ampersand of an entity may be an entity itself.
            text = html.unescape(_LONG_NUMBER.sub(r"\1", text))
    return " ".join(text.split()).lower()


def is_plain(text: str) -> bool:
    """Whether a text is read without ftfy: printable ASCII but for the ampersand, and white space."""
    return _PLAIN.fullmatch(text) is not None


def _pieces(word: str) -> Iterator[str]:
    """The pieces of a cleaned text that has no space, which are encoded each by itself."""
    categories = (unicodedata.category(sign)[0] for sign in word)
    kinds = "".join(category if category in "LN" else "S" for category in categories)
    position = 0
    while position < len(word):
        end = (_SPECIAL.match(word, position) or _RUN.match(kinds, position)).end()
        yield word[position:end]
        position = end


@functools.lru_cache(maxsize=_CACHED_PIECES)
def _piece_ids(piece: str) -> tuple[int, ...]:
    return tuple(_merge(piece))


def _merge(piece: str) -> list[int]:
    """The ids of a piece, in time that grows as n log(n) with its length.

    Ids of merges are in the order of the merges, so the pair to merge next is the one with the least id. A round merges
    all pairs of that id from left to right, and the pairs that arise wait for the next round.
    """
    if piece in _SPECIAL_IDS:
        return [_SPECIAL_IDS[piece]]
    merges = _merges()
    ids = [_BYTE_IDS[byte] for byte in piece.encode()]
    ids[-1] += _ENDS_PIECE
    count = len(ids)
    # An id that was merged into the one before it becomes None, as is what stands beyond both ends: no pair has it.
    ids.append(None)
    before, after = list(range(-1, count)), list(range(1, count + 1))
    pairs = [(merges.get((ids[place], ids[place + 1])), place) for place in range(count)]
    pairs = [pair for pair in pairs if pair[0] is not None]
    heapq.heapify(pairs)
    while pairs:
        merged, changed = pairs[0][0], []
        while pairs and pairs[0][0] == merged:
            _, left = heapq.heappop(pairs)
            # The pair may have lost a part to another merge.
            if ids[left] is None or merges.get((ids[left], ids[after[left]])) != merged:
                continue
            right = after[left]
            ids[left], ids[right] = merged, None
            after[left] = after[right]
            before[after[left]] = left
            changed += [before[left], left]
        for left in changed:
            if ids[left] is not None:
                merged = merges.get((ids[left], ids[after[left]]))
                if merged is not None:
                    heapq.heappush(pairs, (merged, left))
    return [token for token in ids if token is not None]


@functools.cache
def _merges() -> dict[tuple[int, int], int]:
    """The id that a pair of neighbouring ids becomes."""
    written = [chr(byte) for byte in _SHOWN] + [chr(256 + place) for place in range(256 - len(_SHOWN))]
    ids = {entry: place for place, entry in enumerate([*written, *(f"{sign}</w>" for sign in written)])}
    merges = {}
    lines = gzip.decompress(_MERGES.read_bytes()).decode().splitlines()
    for place, line in enumerate(lines, len(ids)):
        left, right = line.split(" ")
        merges[ids[left], ids[right]] = ids[left + right] = place
    return merges


def shown(text):
    """A text in quotes for a message, without what goes beyond its first signs."""
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")
