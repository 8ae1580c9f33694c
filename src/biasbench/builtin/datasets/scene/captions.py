"""What people would say about a scene: one person, what they do, the objects around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biasbench.builtin.datasets.scene.plan import Person

_NOUNS = {
    ("man", "child"): "young man", ("woman", "child"): "young woman",
    ("man", "adult"): "man", ("woman", "adult"): "woman",
    ("man", "older"): "old man", ("woman", "older"): "old woman",
}  # fmt: skip
_NAMING = (
    "{Noun} {doing} near {things}.",
    "{Noun} {doing}, with {things}.",
    "There is {noun} {doing} next to {things}.",
)
_NEUTRAL = (
    "A person {doing} beside {things}.",
    "Someone {doing}, and {things}.",
    "A colourful picture of a person and {things}.",
    "{Things} around a person.",
)


def captions(person: Person, things: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Three captions, the first of which, at least, says "man" or "woman".

    Args:
        person: Whom they speak of; others in the picture are not mentioned.
        things: Labels that are pictured; annotators may have missed them.
        rng: Chooses the wording.

    Example:
        >>> captions(Person("woman", "dark", "older", "smiling"), ["dog"], np.random.default_rng(0))[0]
        'There is an old woman smiling next to a dog.'
    """
    order = [things[i] for i in rng.permutation(len(things))]
    listed = _listed([_article(t) for t in order]) if order else "nothing else"
    noun = _article(_NOUNS[person.gender, person.age])
    patterns = [_pick(_NAMING, rng), _pick(_NEUTRAL, rng), _pick((*_NAMING, *_NEUTRAL), rng)]
    words = {"noun": noun, "Noun": _upper(noun), "doing": person.doing, "things": listed, "Things": _upper(listed)}
    return [p.format(**words) for p in patterns]


def _pick(items: Sequence[str], rng: np.random.Generator) -> str:
    return items[int(rng.integers(len(items)))]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
