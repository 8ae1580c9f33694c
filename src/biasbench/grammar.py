"""Reading what users write: `alpha-1+adv-conv5(weight=2.0)`.

A component is a name, optionally with options in parentheses; `+` joins components, left
to right. Values are literals only; nothing is evaluated.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from biasbench.errors import UsageError, printable

_LONGEST = 2_000  # characters; also keeps integers short enough to be printed again
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@\-]*")


@dataclass(frozen=True)
class Component:
    """A name with the options that the user wrote.

    Attributes:
        name: As typed.
        args: Positional values.
        kwargs: Named values.
        text: The component as typed, spaces trimmed.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


def parse(text: str) -> tuple[Component, ...]:
    """Split a string into components.

    Raises:
        UsageError: Saying at which column the text cannot be read.

    Example:
        >>> [c.name for c in parse("alpha-1 + adv-conv5(weight=2.0)")]
        ['alpha-1', 'adv-conv5']
        >>> parse("adv(at='conv4')")[0].kwargs
        {'at': 'conv4'}
    """
    if len(text) > _LONGEST:
        raise _unreadable(text[:40], 0, f"longer than {_LONGEST:,} characters, which starts")
    components, at = [], 0
    while True:
        at = _skip(text, at)
        match = _NAME.match(text, at)
        if match is None:
            found = repr(printable(text[at])) if at < len(text) else "the end"
            raise _unreadable(text, at, f"expected a name, found {found}")
        start, at = at, match.end()
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        at = _skip(text, at)
        if at < len(text) and text[at] == "(":
            end = _closing(text, at)
            args, kwargs = _options(text, at, end)
            at = _skip(text, end + 1)
        components.append(Component(match.group(), args, kwargs, text[start:at].strip()))
        if at == len(text):
            return tuple(components)
        if text[at] != "+":
            raise _unreadable(text, at, f"expected '+', found {printable(text[at])!r}")
        at += 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _closing(text: str, start: int) -> int:
    """Position of the parenthesis that closes the one at `start`, quotes respected."""
    depth, quote, at = 0, "", start
    while at < len(text):
        c = text[at]
        if quote:
            if c == "\\":
                at += 1
            elif c == quote:
                quote = ""
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise _unreadable(text, start, "this parenthesis is never closed")


def _options(text: str, start: int, end: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    kwargs: dict[str, Any]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the Python parser, about what the user typed
            call = ast.parse(f"f({text[start + 1 : end]})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a list of options")
        args = tuple(ast.literal_eval(a) for a in call.args)
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        raise _unreadable(text, start, "options are written name=value with literal values") from None
    names = [k.arg for k in call.keywords]
    if None in names:
        raise _unreadable(text, start, "options are written name=value with literal values")
    if len(set(names)) < len(names):
        raise _unreadable(text, start, "an option is given twice")
    return args, kwargs


def _unreadable(text: str, at: int, why: str) -> UsageError:
    return UsageError(
        f"cannot read {printable(text)!r}: {why} at column {at + 1}",
        fix="Write name, name(option=value), or names joined with '+'",
    )


def bind(
    target: type[Any], component: Component, presets: Mapping[str, Any], skip: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Every option of `target.__init__`, validated, defaults filled in.

    Args:
        target: The class to construct.
        component: What the user wrote.
        presets: Options that the name itself sets; the user may not contradict them.
        skip: Leading parameters that the harness supplies.

    Returns:
        Options in the order of the signature.

    Raises:
        UsageError: Listing everything that is wrong with the options.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    signature = inspect.signature(target.__init__)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", *skip)]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        if target.__init__ is object.__init__ or _inherits_module_init(target):
            parameters = []
        else:
            raise UsageError(f"{component.name}: {target.__name__} takes *args or **kwargs, which hides its options")
    names = [p.name for p in parameters]
    given = dict(component.kwargs)
    free = [n for n in names if n not in presets]
    if len(component.args) > len(free):
        raise _wrong(component, parameters, f"takes at most {len(free)} values, got {len(component.args)}")
    for name, value in zip(free, component.args, strict=False):
        if name in given:
            raise _wrong(component, parameters, f"{name} is given twice")
        given[name] = value
    for name in given:
        if name in presets:
            raise _wrong(component, parameters, f"{name} is set by the name itself")
    hints = typing.get_type_hints(target.__init__) if parameters else {}
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default) for p in parameters
    }
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an option may be called as a method of pydantic's models is
            shape = create_model(target.__name__, __config__=config, **fields)
        model = shape(**{**presets, **given})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20])
        raise _wrong(component, parameters, printable(problems)) from None
    return {name: getattr(model, name) for name in names}


def _inherits_module_init(target: type[Any]) -> bool:
    return getattr(target.__init__, "__module__", "").startswith("torch.")


def _wrong(component: Component, parameters: list[inspect.Parameter], why: str) -> UsageError:
    options = ", ".join(str(p) for p in parameters).replace("'", "")
    return UsageError(f"{component.text or component.name}: {why}", fix=f"Options: {options or 'none'}")


def canonical(name: str, options: Mapping[str, Any]) -> str:
    """The text that identifies a component: the class's own name and every option.

    Example:
        >>> canonical("alpha", {"ratio": 1.0})
        'alpha(ratio=1.0)'
    """
    inside = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{name}({inside})" if options else name
