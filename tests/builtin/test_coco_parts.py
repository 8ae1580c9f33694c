"""Pieces of the COCO reader on their own: words, run lengths, remembered hashes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from biasbench import DataError, UsageError, io
from biasbench.builtin.datasets import coco_segments
from biasbench.builtin.datasets.captions import load_words, mentions, shipped_lists, tokens
from biasbench.builtin.datasets.coco_files import content_hashes

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LETTERS = st.characters(categories=["L"])
OTHERS = st.characters(exclude_categories=["L", "Nl", "No", "Cs"])


# -- words -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", shipped_lists())
def test_shipped_lists_are_pairs_with_a_source(name):
    words = load_words(name)
    assert words.id == name
    assert words.source
    assert len(words.words[0]) == len(words.words[1])
    assert not words.words[0] & words.words[1]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A woman on a bench", (False, True)),
        ("a MAN.", (True, False)),
        ("The man's dog", (True, False)),
        ("man/woman", (True, True)),
        ("humane salesman mangling a manhole, no womanizer", (False, False)),
        ("a man-made lake", (True, False)),  # a hyphen ends a word: the price of not guessing
        ("snowman and mañana man2man", (True, False)),
        ("", (False, False)),
    ],
)
def test_mentions(caption, expected):
    assert mentions([caption], load_words("man-woman")) == expected


@example("İ", "", "man")  # two characters when lower-cased, the second no letter
@given(st.text(LETTERS, max_size=5), st.text(LETTERS, max_size=5), st.sampled_from(["man", "woman", "WOMAN", "Man"]))
def test_a_word_within_a_longer_one_never_counts(before, after, word):
    words = load_words("man-woman")
    whole = (before + word + after).lower()
    expected = (whole == "man", whole == "woman")
    assert mentions([f"{before}{word}{after}"], words) == expected


@given(st.text(OTHERS, max_size=5), st.text(OTHERS, max_size=5))
def test_woman_is_never_a_man(before, after):
    assert mentions([f"{before}woman{after}"], load_words("man-woman")) == (False, True)
    assert tokens(f"{before}Woman{after}") == {"woman"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml [", "not a TOML file"),
        ("id = 'x'", "incomplete"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman=['man']\nwoman=['man']", "'man' stands in both"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman=['Man']\nwoman=['woman']", "not one lower-case word"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman=['a man']\nwoman=['woman']", "not one lower-case word"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman='man'\nwoman=['woman']", "not a list"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman=[]\nwoman=['woman']", "not a list"),
        ("id='x'\nversion='1'\nsource='s'\n[words]\nman=['man']\nwoman=['woman']\nchild=['boy']", "incomplete"),
    ],
)
def test_wrong_word_lists(tmp_path, text, message):
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        load_words("w.toml", tmp_path)


def test_missing_word_lists(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_words("w.toml", tmp_path)
    with pytest.raises(UsageError, match=r"unknown word list 'adult'\. Did you mean 'adults'"):
        load_words("adult")


# -- run lengths -----------------------------------------------------------------------------
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_run_lengths_come_back(mask):
    height, width = mask.shape
    packed = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    runs = coco_segments.expand(packed)
    assert (mask == np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T).all()
    for counts in (runs, packed):
        segment = json.dumps({"size": [height, width], "counts": counts}).encode()
        assert coco_segments.problem(segment, height, width) is None
        assert coco_segments.union([segment], height, width) == packed.encode()
        assert coco_segments.problem(segment, height, width + 1)
    x0, y0, x1, y1 = coco_segments.bounds(packed.encode(), height, width)
    ys, xs = np.nonzero(mask)
    expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if mask.any() else (0, 0, 0, 0)
    assert (x0, y0, x1, y1) == expected


@given(st.lists(hnp.arrays(bool, (9, 13)), min_size=1, max_size=4))
def test_union_is_or(masks):
    packed = [coco_mask.encode(np.asfortranarray(m, dtype=np.uint8))["counts"].decode() for m in masks]
    segments = [json.dumps({"size": [9, 13], "counts": c}).encode() for c in packed]
    union = coco_mask.decode({"size": [9, 13], "counts": coco_segments.union(segments, 9, 13)})
    assert (union == np.logical_or.reduce(masks)).all()


@given(st.text(max_size=30))
def test_any_text_as_run_lengths_is_refused_or_exact(text):
    segment = json.dumps({"size": [5, 7], "counts": text}).encode()
    if coco_segments.problem(segment, 5, 7) is None:
        runs = coco_segments.expand(text)
        assert sum(runs) == 35
        decoded = coco_mask.decode({"size": [5, 7], "counts": text.encode()})
        assert decoded.sum() == sum(runs[1::2])


def test_no_segments_are_an_empty_mask():
    assert coco_segments.bounds(coco_segments.union([b"[]"], 4, 5), 4, 5) == (0, 0, 0, 0)


# -- remembered hashes -------------------------------------------------------------------------
def old(path: Path) -> Path:
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_hashes_are_remembered_only_once_files_have_settled(tmp_path, monkeypatch):
    path, memory = tmp_path / "a.json", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    assert content_hashes([path], memory) == {"a.json": io.hash_bytes(b"one")}
    assert not memory.exists()  # a file this young may change again without a trace in its times
    monkeypatch.setattr("biasbench.builtin.datasets.coco_files._SETTLED", -60.0)
    content_hashes([path], memory)
    assert memory.exists()
    monkeypatch.setattr(io, "hash_file", lambda _: "read again")
    assert content_hashes([path], memory) == {"a.json": io.hash_bytes(b"one")}
    path.write_bytes(b"longer")
    assert content_hashes([path], memory) == {"a.json": "read again"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"x": 3}'])
def test_a_damaged_memory_is_done_without(tmp_path, content):
    path, memory = tmp_path / "a.json", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    memory.write_bytes(content)
    assert content_hashes([path], memory) == {"a.json": io.hash_bytes(b"one")}
