"""Which of a file's names means what: ids, split, scores, targets, labels, attributes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from biasbench.audit.source import Source
from biasbench.errors import DataError, printable

ROLES = {
    "id": "id", "ids": "id",
    "split": "split", "splits": "split",
    "logit": "logit", "logits": "logit",
    "score": "score", "scores": "score",
    "prob": "score", "probs": "score", "probability": "score", "probabilities": "score",
    "target": "target", "targets": "target",
    "label": "label", "labels": "label",
    "label_names": "label_names",
    "attribute": "attribute", "attributes": "attribute",
}  # fmt: skip
EXPECTED = {
    "npz": "ids, split, logits or scores [N, K], targets [N, K] or [N], attribute/<name> [N]; if wanted labels, "
    "label_names",
    "table": "id, split, logit/<label> or score/<label>, target/<label> or target, attribute/<name>; if wanted "
    "label/<label> or label",
}
FAMILY = {"npz": ("attribute",), "table": ("logit", "score", "target", "label", "attribute")}
"""Roles with one column for each label or attribute, `role/name`."""


@dataclass(frozen=True)
class Layout:
    """Names of a file by what they mean.

    Attributes:
        whole: Role to the name that carries it alone: `id`, `target`, …
        parts: Role to its parts by label or attribute: `{"logit": {"dog": "logit/dog"}}`.
        ignored: Names that mean nothing here.
    """

    whole: Mapping[str, str]
    parts: Mapping[str, Mapping[str, str]]
    ignored: tuple[str, ...]


def recognise(source: Source) -> Layout:
    """The layout of a file.

    Case, the plural and the sign after a role (`/`, `:` or `.`) do not matter. What is near a
    known name without being one is refused: to ignore it could change a figure.

    Raises:
        DataError: When a name is nearly a known one, two names mean the same, or ids, split,
            scores or targets are missing.
    """
    family = FAMILY["npz" if source.format == "npz" else "table"]
    whole: dict[str, str] = {}
    parts: dict[str, dict[str, str]] = {}
    ignored = []
    for name in source.names:
        base, sign, rest = re.fullmatch(r"\s*([^/:.]*)([/:.]?)\s*(.*?)\s*", name, re.DOTALL).groups()  # type: ignore[union-attr]
        role = ROLES.get(base.casefold())
        known = role is not None and (role != "label_names" or source.format == "npz")
        if not known or (sign and (role not in family or not rest)):
            if known or _nearly(base.casefold()):
                refuse(source, f"cannot tell what the {source.word} {printable(name)!r} is")
            ignored.append(name)
            continue
        assert role is not None
        same = parts.setdefault(role, {}) if sign else whole
        key = rest if sign else role
        if key in same:
            refuse(source, f"{printable(same[key])!r} and {printable(name)!r} mean the same")
        same[key] = name
    layout = Layout(whole, parts, tuple(ignored))
    _check_complete(source, layout)
    return layout


def _nearly(base: str) -> bool:
    return bool(difflib.get_close_matches(base, ROLES, n=1, cutoff=0.8)) or bool(
        re.match(r"(logit|score|prob|target|label|attribute)s?[\s_-]", base)
    )


def _check_complete(source: Source, layout: Layout) -> None:
    """Refuse a layout that lacks a role, or carries one twice."""
    has = {*layout.whole, *layout.parts}
    if "id" not in has:
        refuse(source, "there are no ids")
    if "split" not in has:
        refuse(source, "there is no split")
    if "target" not in has:
        hint = ": labels are what the model says, targets are the truth" if "label" in has else ""
        refuse(source, f"there are no targets{hint}")
    if not has & {"logit", "score"}:
        refuse(source, "there are neither logits nor scores")
    if {"logit", "score"} <= has:
        refuse(source, "there are both logits and scores", "Keep one of them")
    if "attribute" not in has:
        refuse(source, "there is no attribute")
    for role in ("logit", "score", "target", "label"):
        if role in layout.whole and role in layout.parts:
            one, other = layout.whole[role], next(iter(layout.parts[role].values()))
            refuse(source, f"{printable(one)!r} and {printable(other)!r} mean the same", "Keep one of them")
    for role in ("logit", "score"):
        if source.format != "npz" and role in layout.whole:
            name = printable(layout.whole[role])
            refuse(source, f"the column {name!r} has no label", f"Write one column a label, as {role}/dog")


def refuse(source: Source, what: str, fix: str | None = None) -> NoReturn:
    """Raise an error that lists what the file holds and what an audit expects.

    Raises:
        DataError: Always.
    """
    shown = ", ".join(printable(name, 40) for name in source.names[:12])
    found = f"Found: {shown or 'nothing'}{', …' if len(source.names) > 12 else ''}"
    expected = f"Expected: {EXPECTED['npz' if source.format == 'npz' else 'table']}"
    raise DataError(what, where=source.where, fix=fix or f"{found}. {expected}")
