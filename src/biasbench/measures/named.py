"""Protocols by name, with options as the user writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from biasbench.errors import UsageError, did_you_mean, printable
from biasbench.grammar import parse
from biasbench.measures.certified import CERTIFIED, Certified
from biasbench.measures.protocol import PROTOCOLS, WANG2019, Protocol, wang2019

AnyProtocol = Protocol | Certified
LEAKAGE_PROTOCOLS: tuple[str, ...] = (WANG2019, *PROTOCOLS, *CERTIFIED)
"""Every name that `protocol_named` knows."""


def protocol_named(text: str, single: bool) -> AnyProtocol:
    """The protocol that a text such as `wang2019` or `wang2019(layers=4, epochs=50)` names.

    Where the paper and the released code disagree, the code decides and an option gives the other:
    the paper has 4 layers for imSitu too, `wang2019(layers=4)`.

    Args:
        text: A name from `LEAKAGE_PROTOCOLS`, with constants to change in parentheses.
        single: Whether an example has exactly one label; `wang2019` has other constants then.

    Raises:
        UsageError: For an unknown name or constant, or a value of the wrong type or out of range.

    Example:
        >>> protocol_named("wang2019(epochs=50)", single=True).epochs
        50
    """
    component, *more = parse(text)
    if more:
        raise UsageError(f"{printable(text)!r} names several protocols", fix="Name one")
    known: Mapping[str, AnyProtocol] = {**PROTOCOLS, **CERTIFIED, WANG2019: wang2019(single)}
    if component.name not in known:
        fix = f"{did_you_mean(component.name, known)} Known: {', '.join(LEAKAGE_PROTOCOLS)}".strip()
        raise UsageError(f"no leakage protocol {printable(component.name)!r}", fix=fix)
    chosen = known[component.name]
    if component.args:
        raise UsageError(f"{printable(text)!r}: write NAME=VALUE", where="protocol")
    if not component.kwargs:
        return chosen
    constants = {f.name: getattr(chosen, f.name) for f in fields(chosen) if f.name != "name"}
    for name, value in component.kwargs.items():
        if name not in constants:
            fix = f"{did_you_mean(name, constants)} Known: {', '.join(constants)}".strip()
            raise UsageError(f"protocol {component.name} has no constant {printable(name)!r}", fix=fix)
        if not _fits(value, constants[name]):
            raise UsageError(f"protocol {component.name}: {name} must be like {constants[name]!r}, not {value!r}")
    return replace(chosen, name=printable(component.text), **component.kwargs)


def _fits(value: object, like: object) -> bool:
    """Whether a literal has the type of a constant; whole numbers stand for fractions too."""
    if isinstance(like, bool):
        return isinstance(value, bool)
    if like is None:  # no caps
        return value is None or (isinstance(value, tuple) and all(_fits(v, 1) for v in value))
    if isinstance(like, tuple) and isinstance(value, tuple):
        return all(_fits(v, like[0]) for v in value)  # how many, the protocol checks itself
    return not isinstance(value, bool) and isinstance(value, (int, float) if isinstance(like, float) else type(like))
