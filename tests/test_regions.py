from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from biasbench import DataError
from biasbench.regions import Regions, expand, shrink


def boxes(*rows: tuple[str, float, float, float, float]) -> Regions:
    return Regions(pd.DataFrame(rows, columns=["id", "x0", "y0", "x1", "y1"]), "person-box")


def masks(*rows: tuple[str, np.ndarray]) -> Regions:
    encoded = [(i, *m.shape, coco.encode(np.asfortranarray(m.astype(np.uint8)))["counts"]) for i, m in rows]
    return Regions(pd.DataFrame(encoded, columns=["id", "height", "width", "counts"]), "person")


def overlaps(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """By the definition, pixel by pixel, in exact integer arithmetic."""
    native_h, native_w = mask.shape
    out = np.zeros((height, width), bool)
    for y, x in np.argwhere(mask):
        for i in range(height):
            for j in range(width):
                rows = i * native_h < (y + 1) * height and y * height < (i + 1) * native_h
                columns = j * native_w < (x + 1) * width and x * width < (j + 1) * native_w
                out[i, j] |= rows and columns
    return out


sizes = st.integers(1, 9)


@given(sizes, sizes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_shrink_is_any_overlap(native_h: int, native_w: int, height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((native_h, native_w)) < 0.2
    assert (shrink(mask, height, width) == overlaps(mask, height, width)).all()


@given(sizes, sizes, sizes, sizes, st.data())
def test_boxes_follow_the_rule_of_masks(h: int, w: int, height: int, width: int, data: st.DataObject) -> None:
    x0, x1 = sorted(data.draw(st.tuples(st.integers(0, w), st.integers(0, w))))
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, h), st.integers(0, h))))
    mask = np.zeros((h, w), bool)
    mask[y0:y1, x0:x1] = True
    drawn = boxes(("a", x0, y0, x1, y1)).rasterise("a", height, width, (h, w))
    assert (drawn == overlaps(mask, height, width)).all()


def test_box_edges_right_and_lower_are_exclusive() -> None:
    drawn = boxes(("a", 1, 1, 3, 2), ("a", 3.5, 0, 9, 1), ("b", 0, 0, 4, 3)).rasterise("a", 3, 4, (3, 4))
    assert drawn.astype(int).tolist() == [[0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]  # clipped at the image's border


def test_masks_at_native_size_are_untouched() -> None:
    mask = np.random.default_rng(0).random((30, 40)) < 0.5
    regions = masks(("a", mask), ("b", ~mask))
    assert (regions.rasterise("a", 30, 40, (30, 40)) == mask).all()
    assert (regions.rasterise("b", 30, 40, (30, 40)) == ~mask).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_decoding_is_the_inverse_of_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    assert (masks(("a", mask)).rasterise("a", height, width, (height, width)) == mask).all()


@pytest.mark.parametrize("height", [100, 5000])
def test_long_runs(height: int) -> None:
    mask = np.zeros((height, 700), bool)
    mask[3:-7, 20:650] = True
    mask[:, 100:400] = False
    assert (masks(("a", mask)).rasterise("a", height, 700, (height, 700)) == mask).all()


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(counts: bytes) -> None:
    frame = pd.DataFrame({"id": ["a"], "height": [3], "width": [4], "counts": [counts]})
    try:
        drawn = Regions(frame).rasterise("a", 3, 4, (3, 4))
    except DataError:
        return
    assert drawn.shape == (3, 4)


def test_bytes_and_text_say_the_same() -> None:
    for counts in (b"132", "132"):
        frame = pd.DataFrame({"id": ["a"], "height": [2], "width": [3], "counts": [counts]})
        drawn = Regions(frame).rasterise("a", 2, 3, (2, 3))
        assert drawn.astype(int).tolist() == [[0, 1, 0], [1, 1, 0]]  # down the columns: 1 off, 3 on, 2 off
    assert expand(b"").tolist() == []


def test_an_image_without_rows_has_an_empty_region() -> None:
    for regions in (boxes(("a", 0, 0, 1, 1)), masks(("a", np.ones((2, 2))))):
        drawn = regions.rasterise("other", 5, 6, (2, 2))
        assert drawn.shape == (5, 6)
        assert not drawn.any()


def test_degenerate_boxes_draw_nothing() -> None:
    assert not boxes(("a", 2, 0, 2, 3), ("a", 3, 3, 1, 1), ("a", -4, -4, -1, -1)).rasterise("a", 4, 4, (4, 4)).any()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="region person, image 'a': the mask is 3x2, the image 4x2"):
        masks(("a", np.ones((2, 3)))).rasterise("a", 2, 2, (2, 4))


def test_damaged_geometry_is_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        boxes(("a", 0, 0, float("nan"), 1))
    with pytest.raises(DataError, match="two masks"):
        masks(("a", np.ones((2, 2))), ("a", np.ones((2, 2))))
    with pytest.raises(DataError, match="has columns"):
        Regions(pd.DataFrame({"id": ["a"]}))
    frame = pd.DataFrame({"id": ["a"], "height": [20], "width": [20], "counts": [b"\xff\xff\xff"]})
    with pytest.raises(DataError, match="cannot be decoded"):
        Regions(frame, "person").rasterise("a", 2, 2, (20, 20))
