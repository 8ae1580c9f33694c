"""Figures that may be undefined: ratios, means and the lines that report them. NaN is undefined, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> FloatArray:
    """`part / whole`, NaN where `whole` is 0.

    Example:
        >>> ratio(np.array([1, 0]), np.array([2, 0]))
        array([0.5, nan])
    """
    shape = np.broadcast_shapes(part.shape, whole.shape)
    out = np.full(shape, np.nan)
    np.divide(part, whole, out=out, where=np.broadcast_to(whole, shape) != 0)
    return out


def mean_defined(values: FloatArray) -> float:
    """Mean of the values that are not NaN; NaN when there is none.

    Example:
        >>> mean_defined(np.array([1.0, np.nan, 3.0])), mean_defined(np.array([np.nan]))
        (2.0, nan)
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def undefined(values: FloatArray) -> int:
    """How many values are NaN."""
    return int(np.isnan(values).sum())


def why_undefined(value: float, groups: int, what: str) -> str:
    """Why a mean over what the reference and the predictions share is NaN; empty when it is not.

    Args:
        value: The mean.
        groups: How many groups occur.
        what: What the mean runs over, such as "label".

    Example:
        >>> why_undefined(float("nan"), 1, "label")
        '1 group with examples, two are needed'
    """
    if not np.isnan(value):
        return ""
    if groups < 2:
        return f"{groups} group{'' if groups == 1 else 's'} with examples, two are needed"
    return f"no {what} occurs in the reference and in the predictions"


def said(value: float, name: str, notes: Iterable[tuple[int, str]], reason: str) -> str:
    """One line on a figure: its value, or why it has none, and what was left out.

    Example:
        >>> said(1.5, "gap", [(0, "undefined labels"), (2, "left out")], "")
        'gap 1.50 points (left out: 2)'
        >>> said(float("nan"), "gap", [], "no example")
        'gap undefined: no example'
    """
    if np.isnan(value):
        return f"{name} undefined: {reason}"
    found = "; ".join(f"{text}: {count}" for count, text in notes if count)
    return f"{name} {value:.2f} points" + (f" ({found})" if found else "")
