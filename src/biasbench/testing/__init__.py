"""Conformance kit: what a plugin's author runs in one line.

    from biasbench.testing import check_method

    def test_conforms():
        check_method("groupdro")

Every check is a function of a method string and raises a `ConformanceError` that says what
the harness, or other methods, would trip over.
"""

from __future__ import annotations

from biasbench.testing.checks import (
    BUILT_INS,
    CHECKS,
    ConformanceError,
    check_composition,
    check_determinism,
    check_edit,
    check_method,
    check_points,
    check_postprocess,
    check_prepare,
    check_reload,
    check_resample,
)

__all__ = [
    "BUILT_INS",
    "CHECKS",
    "ConformanceError",
    "check_composition",
    "check_determinism",
    "check_edit",
    "check_method",
    "check_points",
    "check_postprocess",
    "check_prepare",
    "check_reload",
    "check_resample",
]
