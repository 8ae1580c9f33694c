"""The generative model of `scenes`, and what follows from it exactly.

One scene is drawn in this order:

1. gender g: man with probability `MEN`, whatever the dial says;
2. a **cue** c in none, masculine, feminine, given g: a piece of clothing that is painted but
   never annotated and never named in a caption;
3. for each label k, whether it is pictured, independently given (g, c):
   logit P(o_k | g, c) = logit(rate_k) + bias (gender_k s(g) + cue_k s(c)), s = +1 for the
   masculine, -1 for the feminine and 0 for no cue;
4. label noise, independent of everything above: a pictured object is left out of the
   annotations with probability η, an absent one is claimed with probability
   η rate_k / (1 - rate_k), so that labels stay about as frequent;
5. steps 3 and 4 are repeated until 1 to `MOST` labels are annotated.

Step 5 conditions given (g, c), so P(g) and P(c | g) stay as planted and

    P(y | g) = Σ_c P(c | g) Π_k q_k(g, c)^y_k (1 - q_k(g, c))^(1 - y_k) / Z(g, c)

for every annotated vector y with 1 to `MOST` ones, where q is o's probability after the
noise. `Model.law` lists it for all 2^K vectors. At bias 0 neither gender nor cue moves an
object and the cue does not depend on gender: labels and pictures, people apart, say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MEN = 0.6
NO_CUE = 0.1
CUE_SKEW = 0.95  # at full bias, 0.5 ± half of this is the share of a gender's cues that are its own
MOST = 6
GENDERS = ("man", "woman")
CUES = ("none", "masculine", "feminine")
_SIGN = {"man": 1.0, "woman": -1.0, "none": 0.0, "masculine": 1.0, "feminine": -1.0}


@dataclass(frozen=True)
class Label:
    """One label: how often it is pictured and which way it leans.

    Attributes:
        name: What annotations call it.
        group: COCO's supercategory.
        rate: Probability of being pictured where nothing leans.
        gender: Log-odds for a man (negative: for a woman), at full bias.
        cue: Log-odds for the masculine cue (negative: for the feminine one), at full bias.
    """

    name: str
    group: str
    rate: float
    gender: float = 0.0
    cue: float = 0.0


LABELS = (
    Label("ball", "sports", 0.14, 0.9, 0.6),
    Label("car", "vehicle", 0.12, 0.5, 1.1),
    Label("truck", "vehicle", 0.09, 0.0, 1.5),
    Label("bike", "vehicle", 0.12, 0.7, 0.5),
    Label("tool", "tool", 0.12, 0.5, 1.1),
    Label("camera", "electronic", 0.11, 0.0, 1.3),
    Label("instrument", "music", 0.12, 0.5, 0.5),
    Label("flower", "plant", 0.15, -0.7, -0.8),
    Label("handbag", "accessory", 0.12, -0.9, -0.9),
    Label("cat", "animal", 0.14, -0.6, -0.4),
    Label("cake", "food", 0.12, 0.0, -1.4),
    Label("umbrella", "accessory", 0.12, -0.5, -0.9),
    Label("glass", "kitchen", 0.11, 0.0, -1.3),
    Label("book", "indoor", 0.12, -0.4, -0.6),
    Label("dog", "animal", 0.16),
    Label("bird", "animal", 0.12),
    Label("fruit", "food", 0.14),
    Label("snack", "food", 0.12),
    Label("clock", "indoor", 0.11),
    Label("boat", "vehicle", 0.09),
)
NAMES = tuple(label.name for label in LABELS)


@dataclass(frozen=True)
class Content:
    """What one scene is about.

    Attributes:
        gender: Of the person the captions name.
        cue: The unlabelled cue.
        pictured: Labels that are painted.
        annotated: Labels that the annotations claim.
    """

    gender: str
    cue: str
    pictured: tuple[str, ...]
    annotated: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """The law of contents at one setting of the dials.

    Args:
        bias: 0 (nothing leans) to 1.
        label_noise: η, the probability that a pictured object is not annotated, in [0, 0.5].

    Example:
        >>> model = Model(bias=0.0)
        >>> round(model.leakage(), 6), round(model.man_share()["ball"], 3)
        (50.0, 0.6)
    """

    bias: float
    label_noise: float = 0.0
    labels: tuple[Label, ...] = LABELS

    # -- drawing ---------------------------------------------------------------------------
    def draw(self, rng: np.random.Generator) -> Content:
        """The content of one scene."""
        gender = GENDERS[int(rng.random() >= MEN)]
        cue = CUES[int((rng.random() >= np.cumsum(self.cues(gender))).sum())]
        chance, (kept, claimed) = self.pictured(gender, cue), self._annotated
        while True:
            u = rng.random((2, len(self.labels)))
            there = u[0] < chance
            noted = u[1] < np.where(there, kept, claimed)
            if 1 <= noted.sum() <= MOST:
                return Content(gender, cue, self._names(there), self._names(noted))

    def _names(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(label.name for label, yes in zip(self.labels, chosen, strict=True) if yes)

    # -- parameters ------------------------------------------------------------------------
    def cues(self, gender: str) -> Floats:
        """[3] P(c | g) in the order of `CUES`."""
        own = 0.5 * (1 + CUE_SKEW * self.bias * _SIGN[gender])
        return np.array([NO_CUE, (1 - NO_CUE) * own, (1 - NO_CUE) * (1 - own)])

    def pictured(self, gender: str, cue: str) -> Floats:
        """[K] P(o_k | g, c) before step 5."""
        lean = self.bias * (
            _SIGN[gender] * np.array([label.gender for label in self.labels])
            + _SIGN[cue] * np.array([label.cue for label in self.labels])
        )
        out: Floats = 1 / (1 + np.exp(-(np.log(self._rates / (1 - self._rates)) + lean)))
        return out

    def annotated(self, gender: str, cue: str) -> Floats:
        """[K] q_k(g, c): the same after label noise."""
        chance, (kept, claimed) = self.pictured(gender, cue), self._annotated
        out: Floats = chance * kept + (1 - chance) * claimed
        return out

    @cached_property
    def _rates(self) -> Floats:
        return np.array([label.rate for label in self.labels])

    @cached_property
    def _annotated(self) -> tuple[Floats, Floats]:
        """P(annotated | pictured) and P(annotated | not), each [K]."""
        return np.full_like(self._rates, 1 - self.label_noise), self.label_noise * self._rates / (1 - self._rates)

    # -- exact consequences ----------------------------------------------------------------
    @cached_property
    def law(self) -> Floats:
        """[2, 2^K] P(y | g), genders as in `GENDERS`; bit k of the column is label k."""
        ones = np.zeros(1, np.uint8)
        for _ in self.labels:
            ones = np.concatenate([ones, ones + 1])
        allowed = (ones >= 1) & (ones <= MOST)
        rows = []
        for gender in GENDERS:
            row = np.zeros(len(allowed))
            for share, product in self._products(gender):
                product *= allowed
                row += share / product.sum() * product
            rows.append(row)
        return np.stack(rows)

    def _products(self, gender: str) -> Iterator[tuple[float, Floats]]:
        for cue, share in zip(CUES, self.cues(gender), strict=True):
            product = np.ones(1)
            for q in self.annotated(gender, cue):
                product = np.concatenate([product * (1 - q), product * q])
            yield float(share), product

    def frequencies(self) -> Floats:
        """[2, K] P(y_k = 1 | g) in the annotations."""
        k = len(self.labels)
        grid = self.law.reshape(2, *(2,) * k)  # axis 1 is the last label
        axes = range(1, k + 1)
        return np.stack([grid.sum(axis=tuple(a for a in axes if a != k - i))[:, 1] for i in range(k)], axis=1)

    def man_share(self) -> dict[str, float]:
        """P(man | y_k = 1) by label, in the natural mix of genders."""
        man, woman = self.frequencies() * np.array([[MEN], [1 - MEN]])
        return {label.name: float(s) for label, s in zip(self.labels, man / (man + woman), strict=True)}

    def leakage(self, flip: float = 0.0) -> float:
        """Bayes-optimal dataset leakage: accuracy in % of the best guess of gender from annotations.

        The draw is gender-balanced, as in Wang et al. 2019, section 3, so that guessing is 50.

        Args:
            flip: Probability with which each of the K bits is flipped first, independently;
                what `lambda_D(F1)` does to the labels.
        """
        law = self.law
        for i in range(len(self.labels) if flip else 0):
            pair = law.reshape(2, -1, 2, 1 << i)
            law = ((1 - flip) * pair + flip * pair[:, :, ::-1]).reshape(2, -1)
        return float(50 * np.maximum(law[0], law[1]).sum())

    def odds(self, annotated: NDArray[np.integer | np.bool_]) -> Floats:
        """[N] log P(y | man) - log P(y | woman) for annotated vectors [N, K]: the best attacker's score."""
        y = np.asarray(annotated, np.int64)
        law: Floats = self.law[:, y @ (1 << np.arange(y.shape[1]))]
        if not (law > 0).all():
            raise ValueError(f"a vector has fewer than 1 or more than {MOST} labels")
        out: Floats = np.log(law[0]) - np.log(law[1])
        return out
