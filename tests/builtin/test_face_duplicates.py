"""Same images: hashes against a plain loop, and drawn pictures changed in known ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from biasbench.builtin.datasets import face_duplicates
from biasbench.builtin.datasets.face_duplicates import (
    DISTANCE,
    difference_hash,
    difference_hashes,
    duplicates,
    near_groups,
    near_pairs,
)
from biasbench.builtin.datasets.face_files import hashes


def picture(seed, size=(120, 100)):
    """Soft blobs: as smooth as a portrait."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def apart(a, b):
    return int((difference_hash(a) != difference_hash(b)).sum())


CHANGES = {
    "smaller": lambda p: p.resize((60, 50)),
    "larger": lambda p: p.resize((300, 250)),
    "other aspect": lambda p: p.resize((90, 100)),
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "less colour": lambda p: ImageEnhance.Color(p).enhance(0.7),
    "a mark in the corner": lambda p: p.copy() if p.paste((255, 255, 255), (0, 0, 12, 10)) is None else p,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_near(change):
    assert all(apart(picture(seed), CHANGES[change](picture(seed))) <= DISTANCE for seed in range(20))


def test_other_pictures_are_not_near():
    distances = [apart(picture(a), picture(b)) for a in range(20) for b in range(a)]
    assert min(distances) > 2 * DISTANCE


def test_mirrored_pictures_are_not_found():
    """A limit, stated in the documentation."""
    assert apart(picture(0), picture(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > DISTANCE


@given(st.integers(0, 40), st.integers(0, 12), st.integers(0, 2**32))
def test_pairs_are_those_of_a_plain_loop(n, distance, seed):
    bits = np.random.default_rng(seed).random((n, 16)) < 0.3
    wanted = [[a, b] for a in range(n) for b in range(a + 1, n) if (bits[a] != bits[b]).sum() <= distance]
    assert sorted(near_pairs(bits, distance).tolist()) == wanted


def test_pairs_across_blocks(monkeypatch):
    bits = np.random.default_rng(0).random((50, 256)) < 0.5
    bits[40] = bits[3]
    bits[49] = bits[48]
    whole = near_pairs(bits)
    monkeypatch.setattr(face_duplicates, "_BLOCK", 7)
    assert near_pairs(bits).tolist() == whole.tolist() == [[3, 40], [48, 49]]


def test_the_limit_is_included():
    bits = np.zeros((2, 256), bool)
    bits[1, :DISTANCE] = True
    assert len(near_pairs(bits)) == 1
    bits[1, DISTANCE] = True
    assert len(near_pairs(bits)) == 0


def test_groups_connect_through_others():
    bits = np.zeros((4, 256), bool)
    bits[1, :20] = bits[2, :40] = bits[3, :200] = True
    group = near_groups(bits)
    assert group[0] == group[1] == group[2] != group[3]
    assert near_groups(bits[:0]).tolist() == []


@pytest.fixture
def folder(tmp_path):
    """a and b are the same file, c is a smaller copy, d another picture, e no picture, f missing."""
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    picture(1).resize((60, 50)).save(tmp_path / "c.jpg")
    picture(2).save(tmp_path / "d.jpg")
    (tmp_path / "e.jpg").write_bytes(b"no picture")
    return tmp_path


ROWS = pd.DataFrame(
    {
        "path": ["a.png", "b.png", "c.jpg", "d.jpg", "e.jpg", "f.jpg"],
        "split": ["train", "train", "test", "train", "train", "test"],
        "label": [0, 0, 1, 1, 1, 1],
    }
)


def test_exact_and_near_duplicates_by_hand(folder):
    found = duplicates(folder, ROWS, "label", folder / "cache")
    assert found["images compared"] == 5
    assert found["exact duplicates"] == {
        "groups": 1,
        "images beyond the first": 1,
        "groups in two splits": 0,
        "groups of two classes": 0,
    }
    near = {k: v for k, v in found["near duplicates"].items() if k != "rule"}
    assert near == {
        "not opened": 1,
        "groups": 1,
        "images beyond the first": 2,
        "groups in two splits": 1,
        "groups of two classes": 1,
    }
    assert duplicates(folder, ROWS, "label", folder / "cache") == found  # from memory
    for kept in (folder / "cache").iterdir():
        kept.write_bytes(b"damaged")
    assert duplicates(folder, ROWS, "label", folder / "cache") == found


def test_what_changed_is_read_again(folder):
    paths = ROWS["path"].tolist()
    before, (bits, opened) = hashes(folder, paths, folder / "c"), difference_hashes(folder, paths, folder / "c")
    assert opened.tolist() == [True, True, True, True, False, False]
    assert [bool(text) for text in before] == [True] * 5 + [False]
    again, _ = difference_hashes(folder, paths, folder / "c")
    assert (again == bits).all()
    picture(9).save(folder / "d.jpg")
    assert hashes(folder, paths, folder / "c") != before
    changed, _ = difference_hashes(folder, paths, folder / "c")
    assert (changed != bits).any(axis=1).tolist() == [False, False, False, True, False, False]


def test_nothing_to_compare(tmp_path):
    assert duplicates(tmp_path, ROWS, "label", tmp_path / "cache") == {"images compared": 0}
    (tmp_path / "a.png").write_bytes(b"no picture")
    found = duplicates(tmp_path, ROWS, "label", tmp_path / "cache")
    assert (found["images compared"], found["near duplicates"]["groups"]) == (1, 0)


def test_a_path_that_leaves_the_folder_is_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    picture(1).save(tmp_path / "out.png")
    assert hashes(tmp_path / "in", ["../out.png"], tmp_path / "cache") == [""]
    assert not difference_hashes(tmp_path / "in", ["../out.png"], tmp_path / "cache")[1].any()
