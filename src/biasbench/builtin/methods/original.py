"""The plain model."""

from __future__ import annotations

from biasbench import Method


class Original(Method):
    """The plain model: nothing is mitigated. The neutral element of composition.

    Example:
        >>> Original().phases()
        ()
    """

    name = "original"
    source = "Wang et al., ICCV 2019, Table 1, rows 'original'"
