"""blackout, against a pixel-by-pixel reading of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biasbench.builtin.methods.original import Original
from biasbench.builtin.methods.redact import Blackout

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
