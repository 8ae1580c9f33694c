"""From a scene's content to its cast: who is there, which drawings, how large and how turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from biasbench import Split
from biasbench.builtin.datasets.scene import cast
from biasbench.builtin.datasets.scene.model import Content

_T = TypeVar("_T")
_SECOND = 0.08  # probability that a label is pictured twice
_COMPANION, _BYSTANDERS, _CROWD = 0.10, 0.15, 0.08  # probabilities of further people, whatever the gender
_SCENERY = 0.25  # probability of something that means nothing
# Longer side of a drawing as a share of the picture's side.
_SIZES = {
    "figure": (0.48, 0.72), "bust": (0.38, 0.54), "face": (0.32, 0.45), "object": (0.34, 0.50),
    "second": (0.20, 0.30), "cue": (0.28, 0.42), "scenery": (0.18, 0.36), "bystander": (0.26, 0.40),
    "crowd": (0.13, 0.20),
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """The person whom the captions name."""

    gender: str
    tone: str
    age: str
    doing: str


@dataclass(frozen=True)
class Actor:
    """One drawing in a scene.

    Attributes:
        stem: The drawing's file stem.
        role: `main`, `companion`, `bystander`, `crowd`, `object`, `cue` or `scenery`.
        category: What annotations call it; empty: it is not annotated.
        side: Longer side as a share of the picture's.
        turn: Rotation in degrees, counter-clockwise.
        flip: Whether it is mirrored.
        colour: Hue shift in turns, factors of saturation and brightness.
        heads: Where the faces are, as in `Family`; empty for a thing.
    """

    stem: str
    role: str
    category: str
    side: float
    turn: float
    flip: bool
    colour: tuple[float, float, float]
    heads: tuple[cast.Head | None, ...] = ()


def choose(content: Content, split: Split, rng: np.random.Generator) -> tuple[Person, list[Actor]]:
    """The person and all drawings of a scene, in the order in which they are placed.

    Age, tone, family, companions and everything about sizes are drawn alike for both genders.
    """
    family, tone, age = _someone(split, rng)
    person = Person(content.gender, tone, age, family.doing)
    main = _actor(rng, family.stem(content.gender, tone), "main", "person", _SIZES[family.kind], family.heads)
    actors = [main, *_others(content.gender, split, rng)]
    for label in content.pictured:
        drawings = cast.OBJECTS[label].split()
        actors.append(_actor(rng, _pick(drawings, rng), "object", label, _SIZES["object"]))
        if rng.random() < _SECOND:
            actors.append(_actor(rng, _pick(drawings, rng), "object", label, _SIZES["second"]))
    if content.cue != "none":
        actors.append(_actor(rng, _pick(cast.CLOTHES[content.cue].split(), rng), "cue", "", _SIZES["cue"]))
    scenery = cast.SCENERY.split()
    actors += [
        _actor(rng, _pick(scenery, rng), "scenery", "", _SIZES["scenery"]) for _ in range(int(rng.random() < _SCENERY))
    ]
    return person, actors


def _others(gender: str, split: Split, rng: np.random.Generator) -> list[Actor]:
    """Further people: a companion of the same gender, some without a gender, a crowd of these."""
    out = []
    if rng.random() < _COMPANION:
        family, tone, _ = _someone(split, rng)
        out.append(_actor(rng, family.stem(gender, tone), "companion", "person", _SIZES["bystander"], family.heads))
    passers = cast.bystanders(split)
    if rng.random() < _BYSTANDERS:
        size, count = _SIZES["bystander"], rng.integers(1, 3)
        out += [_passer(rng, _pick(passers, rng), "bystander", size) for _ in range(count)]
    if rng.random() < _CROWD:
        size = _SIZES["crowd"]
        out += [_passer(rng, _pick(passers, rng), "crowd", size) for _ in range(rng.integers(5, 11))]
    return out


def _passer(rng: np.random.Generator, stem: str, role: str, sides: tuple[float, float]) -> Actor:
    return _actor(rng, stem, role, "person", sides, cast.bystander_heads(stem))


def _someone(split: Split, rng: np.random.Generator) -> tuple[cast.Family, str, str]:
    """A family, a tone and an age that a split has."""
    age = str(rng.choice(cast.AGES, p=[cast.AGE_SHARES[a] for a in cast.AGES]))
    tone = _pick(cast.tones(split, age), rng)
    return _pick(cast.families(split, age, tone), rng), tone, age


def _pick(items: Sequence[_T], rng: np.random.Generator) -> _T:
    return items[int(rng.integers(len(items)))]


def _actor(
    rng: np.random.Generator,
    stem: str,
    role: str,
    category: str,
    sides: tuple[float, float],
    heads: tuple[cast.Head | None, ...] = (),
) -> Actor:
    """A drawing with a random size, turn, side and colour; people are not tilted much and keep their hue."""
    thing = category != "person"
    tilt = 20.0 if thing else 8.0
    hue = 0.04 if thing else 0.0
    return Actor(
        stem,
        role,
        category,
        side=float(rng.uniform(*sides)),
        turn=float(rng.uniform(-tilt, tilt)),
        flip=bool(rng.random() < 0.5),
        colour=(float(rng.uniform(-hue, hue)), float(rng.uniform(0.75, 1.2)), float(rng.uniform(0.82, 1.08))),
        heads=heads,
    )
