"""blackout, blur, gray and edges, against a pixel-by-pixel reading of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biasbench import UsageError
from biasbench.builtin.methods.original import Original
from biasbench.builtin.methods.redact import Blackout, Blur, Edges, Gray, Redact

pytestmark = pytest.mark.torch


@given(arrays(np.uint8, (4, 5, 3)), arrays(bool, (4, 5)), st.sampled_from([0.25, 1.0]))
def test_black_inside_and_untouched_outside(image, inside, scale):
    before, mask = image.copy(), inside.copy()
    out = Blackout("person").edit(image, {"person": inside, "other": ~inside}, scale)
    for y in range(4):
        for x in range(5):
            assert out[y, x].tolist() == ([0, 0, 0] if mask[y, x] else before[y, x].tolist())
    assert out.dtype == np.uint8
    assert (image == before).all()
    assert (inside == mask).all()


def test_asks_for_its_region():
    method = Blackout("person-box-union")
    assert method.requires == {"masks:person-box-union"}
    assert method.regions == ("person-box-union",)
    assert method.masks == ()  # the picture is edited before it is cropped


def test_original_changes_nothing():
    image = np.full((2, 2, 3), 9, np.uint8)
    assert Original().edit(image, {}, 1.0) is image
    assert Original().requires == frozenset()


EVERY = [Blackout("person"), Blur("person", 2.0), Gray("person"), Edges("person")]


@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.name)
@given(image=arrays(np.uint8, (6, 7, 3)), inside=arrays(bool, (6, 7)))
def test_outside_the_region_nothing_changes(method, image, inside):
    before = image.copy()
    out = method.edit(image, {"person": inside}, 0.5)
    assert (out[~inside] == before[~inside]).all()
    assert (image == before).all()
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert method.edit(image, {"person": np.zeros_like(inside)}, 0.5) is image


def gaussian(image, sigma):
    """An independent blur: scipy's, with the border repeated as Pillow does."""
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(image[:, :, c].astype(float), sigma, mode="nearest") for c in range(3)], 2)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_blur_is_a_gaussian_of_the_radius_at_the_pictures_scale(scale):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    out = Blur("person", 6.0).edit(image, {"person": np.ones((40, 50), bool)}, scale)
    wanted, other = gaussian(image, 6.0 * scale), gaussian(image, 12.0 * scale)
    off = np.abs(out - wanted)[8:-8, 8:-8]  # Pillow blurs by repeated boxes: near, not equal
    assert off.max() < 4
    assert off.mean() < np.abs(out - other)[8:-8, 8:-8].mean() / 2


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_blur_needs_a_radius(radius):
    with pytest.raises(UsageError, match="radius must be above 0"):
        Blur("person", radius)


@given(arrays(np.uint8, (3, 4, 3)))
def test_gray_is_the_luma_in_every_channel(image):
    out = Gray("person").edit(image, {"person": np.ones((3, 4), bool)}, 1.0).astype(int)
    assert (out == out[:, :, :1]).all()
    luma = image.astype(float) @ [0.299, 0.587, 0.114]  # ITU-R 601
    assert np.abs(out[:, :, 0] - luma).max() <= 1


def test_edges_are_where_the_brightness_changes():
    image = np.zeros((9, 9, 3), np.uint8)
    image[:, 5:] = 200
    out = Edges("person").edit(image, {"person": np.ones((9, 9), bool)}, 1.0)[1:-1, 1:-1, 0]
    assert (out[:, 3:5] > 0).any()
    assert (out[:, :3] == 0).all()
    assert (out[:, 5:] == 0).all()


@pytest.mark.parametrize("cls", [Blur, Gray, Edges])
def test_every_redaction_asks_for_its_region(cls):
    method: Redact = cls("person-box-each")
    assert (method.requires, method.regions) == ({"masks:person-box-each"}, ("person-box-each",))
