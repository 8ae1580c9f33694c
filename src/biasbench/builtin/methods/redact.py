"""Methods that take people out of the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import Method


class Blackout(Method):
    """A region of every picture painted black, in training and evaluation alike.

    The paper's rows are `blackout-segm` (the union of the people's segments) and
    `blackout-box` (one rectangle around all people). A picture without the region stays
    as it is.

    Args:
        region: Name of the region, as the data set provides it.

    Example:
        >>> image = np.full((2, 2, 3), 7, np.uint8)
        >>> inside = np.array([[True, False], [False, False]])
        >>> Blackout("person").edit(image, {"person": inside}, 1.0)[:, :, 0]
        array([[0, 7],
               [7, 7]], dtype=uint8)
    """

    name = "blackout"
    source = "Wang et al., ICCV 2019, section 5.3"

    def __init__(self, region: str = "person") -> None:
        super().__init__()
        self.region = region
        self.requires = frozenset({f"masks:{region}"})
        self.regions = (region,)

    def edit(self, image: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]], scale: float) -> NDArray[np.uint8]:
        inside = masks[self.region]  # [H, W]
        if not inside.any():
            return image
        painted: NDArray[Any] = image.copy()
        painted[inside] = 0
        return painted
