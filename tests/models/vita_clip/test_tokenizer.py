"""CLIP's tokenizer: the reference's ids, its merges by a second implementation, hostile and impossible texts."""

import functools
import gzip
import hashlib
import importlib.util
import json
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import ftfy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_video_focalnet.models.vita_clip import tokenizer
from keras_video_focalnet.models.vita_clip.tokenizer import (
    CONTEXT_LENGTH,
    END,
    START,
    VOCABULARY_SIZE,
    encode,
    tokenize,
)
from tests.golden import ROOT, golden

pytestmark = pytest.mark.backend_free

DATA = Path(tokenizer.__file__).parent / "data"
EXPECTED = json.loads((golden("vita_clip/clip_tokens") / "expected.json").read_text())
CASES = EXPECTED["cases"]
TEXTS = st.text(max_size=40) | st.text(alphabet="abcdest'’ſ.!)12 &;<|>\t", max_size=40)


@functools.cache
def vocabulary():
    """Every entry as it is written in the file of merges, and the merges themselves with their rank."""
    shown = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    signs = shown + [chr(number) for number in range(256, 256 + 256 - len(shown))]
    lines = gzip.decompress((DATA / "clip_merges.txt.gz").read_bytes()).decode().split("\n")[:-1]
    merges = [tuple(line.split(" ")) for line in lines]
    entries = [*signs, *(sign + "</w>" for sign in signs), *(left + right for left, right in merges)]
    return [*entries, "<|startoftext|>", "<|endoftext|>"], {pair: rank for rank, pair in enumerate(merges)}


@functools.cache
def written_bytes():
    hidden = [*range(33), *range(127, 161), 173]
    signs = vocabulary()[0][:256]
    return dict(zip(signs, [byte for byte in range(256) if byte not in hidden] + hidden, strict=True))


def decoded(ids):
    """The text of ids, without white space."""
    written = "".join(vocabulary()[0][id].removesuffix("</w>") for id in ids)
    return bytes(written_bytes()[sign] for sign in written).decode()


def merged_plainly(piece):
    """The ids of a piece, merged as they are defined: all occurrences of the best pair, again and again."""
    entries, ranks = vocabulary()
    signs = {byte: sign for sign, byte in written_bytes().items()}
    parts = [signs[byte] for byte in piece.encode()]
    parts[-1] += "</w>"
    while pairs := [pair for pair in zip(parts, parts[1:], strict=False) if pair in ranks]:
        best, joined = min(pairs, key=ranks.get), []
        while parts:
            count = 2 if tuple(parts[:2]) == best else 1
            joined.append("".join(parts[:count]))
            parts = parts[count:]
        parts = joined
    return [entries.index(part) for part in parts]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_every_text_of_the_reference(case):
    assert encode(case["text"]) == case["ids"]
    if not case.get("too_long"):
        row = [START, *case["ids"], END]
        assert tokenize(case["text"]).tolist() == [row + [0] * (CONTEXT_LENGTH - len(row))]


def test_a_text_that_is_too_long():
    (case,) = [case for case in CASES if case.get("too_long")]
    shown = re.escape(case["text"][:40])
    message = (
        rf"^texts\[1\] must have at most 75 tokens, .* received the 100 tokens of '{shown}.*…'; .*truncate=True\.$"
    )
    with pytest.raises(ValueError, match=message):
        tokenize(["short", case["text"]])
    rows = tokenize(["short", case["text"]], truncate=True)
    assert rows[1].tolist() == case["truncated"]
    assert rows[0].tolist() == tokenize("short")[0].tolist()


def test_a_text_that_just_fits():
    assert tokenize("word " * 75)[0, -1] == END
    with pytest.raises(ValueError, match="received the 76 tokens"):
        tokenize("word " * 76)
    assert tokenize("", context_length=2).tolist() == [[START, END]]
    assert tokenize("word", context_length=2, truncate=True).tolist() == [[START, END]]


@pytest.mark.parametrize(("data_set", "count"), [("k400", 400), ("hmdb51", 51), ("ucf101", 101)])
def test_every_class_name_of_the_reference(data_set, count):
    names = EXPECTED["class_names"][data_set]
    assert len(names) == count
    assert {name: encode(name.replace("_", " ")) for name in names} == names


def test_rows():
    rows = tokenize(["a", "b c"])
    assert (rows.dtype, rows.shape) == (np.int32, (2, 77))
    np.testing.assert_array_equal(tokenize(text for text in ("a", "b c")), rows)
    np.testing.assert_array_equal(tokenize(np.array(["a", "b c"])), rows)
    assert tokenize([]).shape == (0, 77)


def test_fixed_points_of_the_vocabulary():
    assert (START, END, VOCABULARY_SIZE, CONTEXT_LENGTH) == (49406, 49407, 49408, 77)
    entries, _ = vocabulary()
    assert (len(entries), len(set(entries))) == (VOCABULARY_SIZE, VOCABULARY_SIZE)
    assert (entries.index("!"), entries.index(chr(256)), entries.index("!</w>")) == (0, 188, 256)
    merges = tokenizer._merges()
    assert sorted(merges.values()) == list(range(512, START))
    assert (encode("!"), encode("x"), encode(")."), encode("!)")[-1]) == ([256], [343], [1818], encode("!)")[0])
    assert encode("<|startoftext|> <|ENDOFTEXT|>") == [START, END]
    # With a long s it is one piece of the text, and among signs it is none of its own.
    assert START not in encode("<|ſtartoftext|>") + encode("!<|startoftext|>")


def test_the_data_are_openais_with_their_licence():
    packed = (DATA / "clip_merges.txt.gz").read_bytes()
    text = gzip.decompress(packed)
    assert len(text) == 524_605
    assert hashlib.sha256(text).hexdigest() == "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"
    assert packed[4:8] == bytes(4), "the time is in the file, so that it differs each time it is made"
    notice = (DATA / "NOTICE").read_text()
    assert "MIT License" in notice and "Copyright (c) 2021 OpenAI" in notice


def test_the_data_are_part_of_the_package():
    package = "keras_video_focalnet"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][package]
    shipped = {path for pattern in patterns for path in (ROOT / package).glob(pattern)}
    assert set(DATA.iterdir()) <= shipped


@given(TEXTS)
def test_ids_hold_the_whole_text(text):
    specials = ("<|startoftext|>", "<|endoftext|>")
    ids = encode(text)
    if not any(special in tokenizer._clean(text) for special in specials):
        assert decoded(ids) == tokenizer._clean(text).replace(" ", "")
    assert all(0 <= id < VOCABULARY_SIZE for id in ids)


@given(st.text(alphabet="abeilnorst'!?#é日", min_size=1, max_size=30))
def test_merges_are_those_of_the_definition(text):
    assert tokenizer._merge(text) == merged_plainly(text)


@given(
    st.text(alphabet=[*map(chr, range(32, 127)), "\t", "\n", "\r"], max_size=60).map(lambda text: text.replace("&", ""))
)
def test_ftfy_mends_nothing_in_plain_text(text):
    assert ftfy.fix_text(text).split() == text.split()
    assert tokenizer._PLAIN.fullmatch(text)


@pytest.fixture
def without_ftfy(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ftfy" else find(name))
    monkeypatch.setitem(sys.modules, "ftfy", None)


def test_plain_text_without_ftfy(without_ftfy):
    count = 0
    for case in CASES:
        if tokenizer._PLAIN.fullmatch(case["text"]):
            assert encode(case["text"]) == case["ids"]
            count += 1
    assert count >= 15
    assert all(encode(name) == ids for name, ids in EXPECTED["class_names"]["k400"].items())


@pytest.mark.parametrize("text", ["café", "salt & pepper", "it’s", "\x1b[31mred", "a\x0bb", "日本"])
def test_other_text_without_ftfy(without_ftfy, text):
    message = rf"^The text {re.escape(repr(text))}, .* needs ftfy: pip install 'keras-video-focalnet\[text\]'\.$"
    with pytest.raises(ImportError, match=message):
        encode(text)
    with pytest.raises(ImportError, match=message):
        tokenize(["plain", text])


@pytest.mark.parametrize("letters", ["a", "ab", "etaoinshrdlu", "é", "'", "&", "&#", "<|"])
def test_long_texts(letters):
    """Merging a piece of this length one pair at a time, each found by looking through all, would never end."""
    drawn = "".join(random.Random(0).choices(letters, k=100_000))
    for text in (letters * (100_000 // len(letters)), drawn):
        assert decoded(encode(text)) == tokenizer._clean(text)
        assert tokenize(text, truncate=True)[0, -1] == END
    assert tokenizer._piece_ids.cache_info().maxsize == tokenizer._CACHED_PIECES


@pytest.mark.parametrize(
    ("number", "sign"), [("0" * 9000 + "65", "A"), ("9" * 9000, "\ufffd"), ("00", "\ufffd"), ("65", "A")]
)
def test_long_numbers_of_entities(number, sign):
    assert encode(f"x&#{number};y") == encode(f"x{sign}y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["a", 1]}, r"texts\[1\] must be a string, received 1\."),
        ({"texts": b"ab"}, r"texts\[0\] must be a string, received 97\."),
        ({"texts": None}, "texts must be a string or strings, received None"),
        ({"texts": "a", "context_length": 1}, "context_length must be an integer of at least 2, received 1"),
        ({"texts": "a", "truncate": 1}, "truncate must be one of True, False; received 1"),
    ],
)
def test_arguments_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        tokenize(**arguments)


def test_a_text_that_is_no_string():
    with pytest.raises(ValueError, match="text must be a string, received None"):
        encode(None)


def test_importing_it_imports_no_backend_and_reads_no_merges():
    code = "import sys; from keras_video_focalnet.models.vita_clip import tokenizer\n"
    code += "print({'keras', 'torch', 'jax', 'tensorflow', 'ftfy', 'regex'} & set(sys.modules))\n"
    code += "print(tokenizer._merges.cache_info().currsize, len(tokenizer.encode('zumba')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "set()\n0 1\n", result.stderr
