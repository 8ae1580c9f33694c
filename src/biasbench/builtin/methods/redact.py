"""Methods that take people out of the pixels: painted over, blurred, grey or as an outline."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from biasbench import Method, UsageError

Pixels = NDArray[np.uint8]  # [H, W, 3]


class Redact(Method):
    """A region of every picture replaced, in training and evaluation alike.

    A picture without the region stays as it is.

    Args:
        region: Name of the region, as the data set provides it.
    """

    source = "Wang et al., ICCV 2019, section 5.3"

    def __init__(self, region: str) -> None:
        super().__init__()
        self.region = region
        self.requires = frozenset({f"masks:{region}"})
        self.regions = (region,)

    @abstractmethod
    def replacement(self, image: Pixels, scale: float) -> Pixels | int:
        """What the region shows instead: a picture of the same size, or one value for every channel."""

    def edit(self, image: Pixels, masks: Mapping[str, NDArray[np.bool_]], scale: float) -> Pixels:
        inside = masks[self.region]  # [H, W]
        if not inside.any():
            return image
        painted: NDArray[Any] = image.copy()
        new = self.replacement(image, scale)
        painted[inside] = new if isinstance(new, int) else new[inside]
        return painted


class Blackout(Redact):
    """A region of every picture painted black.

    The paper's rows are `blackout-segm` (the union of the people's segments), `blackout-box` (one
    rectangle around all people, as released; `blackout-box(region='person-box-each')` paints every
    annotated box) and `blackout-face`.

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

    def __init__(self, region: str = "person") -> None:
        super().__init__(region)

    def replacement(self, image: Pixels, scale: float) -> Pixels | int:
        return 0


class Blur(Redact):
    """A region of every picture blurred; the paper's row is `blur-segm`.

    The whole picture is blurred and pasted inside the region, as released: near the rim a person's
    colours mix with what surrounds them.

    Args:
        region: Name of the region, as the data set provides it.
        radius: Standard deviation of the Gaussian in pixels of the original picture; 10 as released.

    Example:
        >>> image = np.zeros((9, 9, 3), np.uint8)
        >>> image[4, 4] = 255
        >>> inside = np.ones((9, 9), bool)
        >>> 0 < int(Blur("person", 2.0).edit(image, {"person": inside}, 1.0)[4, 4, 0]) < 255
        True
    """

    name = "blur"

    def __init__(self, region: str = "person", radius: float = 10.0) -> None:
        super().__init__(region)
        if not radius > 0:
            raise UsageError(f"blur: radius must be above 0, not {radius}")
        self.radius = radius

    def replacement(self, image: Pixels, scale: float) -> Pixels | int:
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(self.radius * scale)))


class Gray(Redact):
    """A region of every picture without colour; an option of the released code, not in the paper.

    Args:
        region: Name of the region, as the data set provides it.

    Example:
        >>> image = np.zeros((1, 1, 3), np.uint8)
        >>> image[0, 0, 0] = 100  # luma of ITU-R 601: 0.299 of the red
        >>> Gray("person").edit(image, {"person": np.ones((1, 1), bool)}, 1.0)[0, 0].tolist()
        [30, 30, 30]
    """

    name = "gray"
    source = "code released with Wang et al., ICCV 2019"

    def __init__(self, region: str = "person") -> None:
        super().__init__(region)

    def replacement(self, image: Pixels, scale: float) -> Pixels | int:
        return np.asarray(ImageOps.grayscale(Image.fromarray(image)).convert("RGB"))


class Edges(Redact):
    """A region of every picture as its edges; an option of the released code, not in the paper.

    Args:
        region: Name of the region, as the data set provides it.

    Example:
        >>> image = np.full((5, 5, 3), 80, np.uint8)  # without an edge nothing is left
        >>> int(Edges("person").edit(image, {"person": np.ones((5, 5), bool)}, 1.0)[1:-1, 1:-1].max())
        0
    """

    name = "edges"
    source = "code released with Wang et al., ICCV 2019"

    def __init__(self, region: str = "person") -> None:
        super().__init__(region)

    def replacement(self, image: Pixels, scale: float) -> Pixels | int:
        gray = ImageOps.grayscale(Image.fromarray(image))
        return np.asarray(gray.filter(ImageFilter.FIND_EDGES).convert("RGB"))
