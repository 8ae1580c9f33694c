"""Options that several methods share."""

from __future__ import annotations

from biasbench import UsageError


def named(attribute: str | None, method: str) -> str:
    """The protected attribute's name; the harness has filled in None by the time a method runs.

    Raises:
        UsageError: When it has not.

    Example:
        >>> named("gender", "alpha")
        'gender'
    """
    if attribute is None:
        raise UsageError(f"{method}: no protected attribute is named", fix="Give attribute='...'")
    return attribute
