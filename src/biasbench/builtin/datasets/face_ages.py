"""Ages: from a date of birth and the year of a photo, and the classes that age is told in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import UsageError

YOUNGEST, OLDEST = 1, 100  # whole years that a dated photo can show; anything else is a wrong date
EDGES = tuple(range(15, 66, 5))  # first age of every class but the youngest
AGE_CLASSES = ("0-14", *(f"{a}-{a + 4}" for a in EDGES[:-1]), f"{EDGES[-1]}+")
THRESHOLDS = {"30/40": (30, 40), "35/45": (35, 45)}  # young below the first, old from the second on
_UNIX_DAY = 719_529  # Matlab's day number of 1970-01-01
_DATED = 4_000_000  # day numbers beyond it, about the year 10,950, are no dates


def birth_years(datenum: NDArray[Any]) -> NDArray[np.float64]:
    """Calendar years of Matlab's serial day numbers, in the proleptic Gregorian calendar.

    Args:
        datenum: [N] days, 1 = 1 January of year 0; fractions are times of day.

    Returns:
        [N] whole years; NaN where the number is not finite or no date.

    Example:
        >>> birth_years(np.array([719529, 719528, np.nan]))
        array([1970., 1969.,   nan])
    """
    days = np.asarray(datenum, np.float64)
    dated = np.isfinite(days) & (np.abs(days) <= _DATED)
    since = np.where(dated, np.floor(days), _UNIX_DAY).astype(np.int64) - _UNIX_DAY
    years = since.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    return np.where(dated, years, np.nan)


def ages(datenum: NDArray[Any], photo_year: NDArray[Any]) -> NDArray[np.float64]:
    """Year of the photo minus year of birth: the age reached in the year of the photo.

    The photos of IMDB-WIKI have a year and no day, so that half of these ages are one more than on the day.

    Args:
        datenum: [N] dates of birth as Matlab's serial day numbers.
        photo_year: [N] calendar years.

    Returns:
        [N] whole years, also impossible ones; NaN where either is no date.

    Source: Alvi et al. 2018, section 3.2.

    Example:
        >>> ages(np.array([723671]), np.array([2009]))  # born 5 May 1981
        array([28.])
    """
    taken = np.asarray(photo_year, np.float64)
    return np.where(np.isfinite(taken), taken, np.nan) - birth_years(datenum)


def possible(years: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] whether an age can be one: from 1 to 100. NaN is none.

    Example:
        >>> possible(np.array([-3, 0, 1, 100, 101, np.nan])).tolist()
        [False, False, True, True, False, False]
    """
    return (years >= YOUNGEST) & (years <= OLDEST)


def age_classes(years: NDArray[Any]) -> NDArray[np.int64]:
    """Classes of five years, wider at both ends, as codes of `AGE_CLASSES`.

    The paper gives no number of classes; its chance level of 0.08 allows 12 and 13. Here they are 12, and
    every published threshold of the extreme biases is an edge between two.

    Args:
        years: [N] ages of at least 0.

    Returns:
        [N] int64 in 0..11.

    Source: Alvi et al. 2018, section 5.4 and Table 1.

    Example:
        >>> [AGE_CLASSES[k] for k in age_classes(np.array([3, 14, 15, 29.5, 30, 64, 65, 99]))]
        ['0-14', '0-14', '15-19', '25-29', '30-34', '60-64', '65+', '65+']
    """
    return np.searchsorted(EDGES, np.asarray(years, np.float64), side="right").astype(np.int64)


def sides(years: NDArray[Any], thresholds: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is young and who is old under a published pair of thresholds; between them ten years are neither.

    Args:
        years: [N] ages.
        thresholds: `"30/40"` (section 5.2) or `"35/45"` (caption of Figure 4).

    Returns:
        [N] younger than the first, and [N] at least as old as the second.

    Raises:
        UsageError: For other thresholds.

    Source: Alvi et al. 2018.

    Example:
        >>> young, old = sides(np.array([29, 30, 39, 40]), "30/40")
        >>> young.tolist(), old.tolist()
        ([True, False, False, False], [False, False, False, True])
    """
    if thresholds not in THRESHOLDS:
        raise UsageError(f"unknown thresholds {thresholds!r}", fix=f"Known: {', '.join(THRESHOLDS)}")
    low, high = THRESHOLDS[thresholds]
    exact = np.asarray(years, np.float64)
    return exact < low, exact >= high
