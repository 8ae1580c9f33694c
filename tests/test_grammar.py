"""Method strings: literals only, canonical text that reads back, and one clear line for the rest."""

from __future__ import annotations

import ast
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from biasbench.errors import UsageError
from biasbench.grammar import Component, bind, canonical, parse

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:/@\-]{0,10}", fullmatch=True)
scalars = st.one_of(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3).map(tuple))
keys = st.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True).filter(lambda k: k.isidentifier() and k not in _KEYWORDS)
_KEYWORDS = {"as", "if", "in", "is", "or", "and", "def", "del", "for", "not", "try", "elif", "else", "from", "pass",
             "with", "async", "await", "break", "class", "raise", "while", "yield", "assert", "except", "global",
             "import", "lambda", "return", "finally", "continue", "nonlocal"}  # fmt: skip


# ------------------------------------------------------------------ reading
@given(st.lists(st.tuples(names, st.dictionaries(keys, values, max_size=3)), min_size=1, max_size=4))
def test_canonical_text_reads_back(components):
    text = "+".join(canonical(name, options) for name, options in components)
    again = parse(text)
    assert [(c.name, c.args, dict(c.kwargs)) for c in again] == [(n, (), o) for n, o in components]
    assert "+".join(canonical(c.name, c.kwargs) for c in again) == text
    assert [c.text for c in again] == [canonical(n, o) for n, o in components]


@given(st.text(st.characters(exclude_categories=()), max_size=60))
@example("f(" * 300)
@example("f(" + "[" * 900 + "]" * 900 + ")")
@example("f(" + "-" * 1500 + "1)")
@example("f(x='\ud800')")
@example("f(\0)")
@example("a" * 3000)
def test_hostile_text_is_read_or_refused(text):
    message = ""
    try:
        assert parse(text)
    except UsageError as error:
        message = str(error)
    assert message == "" or message.isprintable()
    assert len(message) < 700


pieces = [
    "adv",
    "(",
    ")",
    "[",
    "]",
    "'",
    '"',
    "\\",
    ",",
    "=",
    "+",
    "#",
    "\n",
    "1",
    "x",
    "f",
    "*",
    "**",
    ":=",
    "'''",
    " ",
]


@given(st.lists(st.sampled_from(pieces), max_size=16).map("".join))
def test_scraps_of_syntax_are_read_or_refused(text):
    try:
        components = parse(text)
    except UsageError:
        return
    for c in components:
        for value in (*c.args, *c.kwargs.values()):
            assert ast.literal_eval(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("  ", 3),
        ("+adv", 1),
        ("adv+", 5),
        ("adv adv", 5),
        ("adv)", 4),
        ("adv(at='conv5'", 4),
        ("adv(at=conv5)", 4),
        ("adv(**{'at': 1})", 4),
        ("adv(*[1])", 4),
        ("adv(at=__import__('os'))", 4),
        ("adv(at=1, at=2)", 4),
        ("adv(x for x in 'ab')", 4),
        ("adv(weight=1+1)", 4),
        ("a+adv(weight=)", 6),
    ],
)
def test_says_where_it_cannot_be_read(text, column):
    with pytest.raises(UsageError, match=rf"column {column}\b"):
        parse(text)


def test_nothing_is_evaluated(tmp_path):
    marker = tmp_path / "ran"
    for code in (f"open({str(marker)!r}, 'w')", f"(lambda: open({str(marker)!r}, 'w'))()", "f'{1}'"):
        with pytest.raises(UsageError):
            parse(f"adv(at={code})")
    assert not marker.exists()


def test_quotes_may_hold_anything():
    (c,) = parse("""blackout(region="a)+b('#\\"")""")
    assert c.kwargs == {"region": "a)+b('#\""}
    assert [c.text for c in parse(" alpha-1  + adv ( weight = 2 ) ")] == ["alpha-1", "adv ( weight = 2 )"]


def test_positional_values():
    (c,) = parse("adv('conv4', weight=2.0)")
    assert c == Component("adv", ("conv4",), {"weight": 2.0}, "adv('conv4', weight=2.0)")


# ------------------------------------------------------------------ binding
class Target:
    name = "target"

    def __init__(
        self,
        at: str = "conv5",
        weight: float = 0.5,
        steps: int = 3,
        mode: Literal["one", "two"] = "one",
        parts: tuple[str, ...] = (),
        attribute: str | None = None,
    ) -> None:
        pass


def bound(text, presets=None, target=Target):
    (component,) = parse(text)
    return bind(target, component, presets or {})


def test_defaults_are_filled_in_in_the_order_of_the_signature():
    options = bound("target(weight=2)")
    assert options == {"at": "conv5", "weight": 2.0, "steps": 3, "mode": "one", "parts": (), "attribute": None}
    assert list(options) == ["at", "weight", "steps", "mode", "parts", "attribute"]
    assert isinstance(options["weight"], float)
    assert canonical("target", bound("target(weight=2)")) == canonical("target", bound("target('conv5', 2.0)"))


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(st.characters(codec="utf-8"), max_size=9)
)
def test_bound_options_read_back(weight, steps, at):
    options = bind(Target, Component("target", (), {"weight": weight, "steps": steps, "at": at}), {})
    assert bound(canonical("target", options)) == options


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("target(weight='2')", r"weight: .*valid number"),
        ("target(weight=True)", r"weight: .*valid number"),
        ("target(weight=1e999)", r"weight: .*finite"),
        ("target(steps=2.5)", r"steps: .*valid integer"),
        ("target(steps=True)", r"steps: .*valid integer"),
        ("target(at=5)", r"at: .*valid string"),
        ("target(mode='three')", r"mode: .*'one' or 'two'"),
        ("target(parts='ab')", r"parts: .*valid tuple"),
        ("target(wieght=2)", r"wieght: .*not permitted"),
        ("target(1, 2, 3, 4, 5, 6, 7)", r"at most 6 values, got 7"),
        ("target('conv4', at='conv5')", r"at is given twice"),
        ("target(weight='2', steps='x')", r"weight: .*; steps: "),
    ],
)
def test_wrong_options(text, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        bound(text)
    assert "Options: at: str = conv5, weight: float = 0.5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_presets():
    assert bound("target-4", {"at": "conv4"})["at"] == "conv4"
    assert bound("target-4(2.0)", {"at": "conv4"})["weight"] == 2.0
    with pytest.raises(UsageError, match="at is set by the name itself"):
        bound("target-4(at='conv5')", {"at": "conv4"})


def test_nan_from_a_preset_is_refused():
    with pytest.raises(UsageError, match="finite"):
        bound("target", {"weight": float("nan")})


def test_without_options():
    class Plain:
        pass

    assert bound("plain", target=Plain) == {}
    with pytest.raises(UsageError, match="Options: none"):
        bound("plain(x=1)", target=Plain)


def test_hidden_options_are_refused():
    class Hiding:
        def __init__(self, **options: int) -> None:
            pass

    with pytest.raises(UsageError, match=r"\*\*kwargs"):
        bound("hiding(x=1)", target=Hiding)


def test_missing_option_without_default():
    class Needy:
        def __init__(self, rate: float) -> None:
            pass

    with pytest.raises(UsageError, match="rate: Field required"):
        bound("needy", target=Needy)
    assert bound("needy(0.5)", target=Needy) == {"rate": 0.5}


def test_options_may_have_the_names_of_model_attributes():
    class Odd:
        def __init__(self, copy: int = 1, json: int = 2, model_size: int = 3, schema: str = "x") -> None:
            pass

    assert bound("odd(json=5)", target=Odd) == {"copy": 1, "json": 5, "model_size": 3, "schema": "x"}


@pytest.mark.torch
def test_a_module_that_takes_nothing():
    from biasbench.builtin.methods.original import Original

    assert bound("original", target=Original) == {}
    with pytest.raises(UsageError, match="Options: none"):
        bound("original(weight=1)", target=Original)
