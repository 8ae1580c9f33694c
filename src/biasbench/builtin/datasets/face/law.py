"""The law of the four attributes of `faces`, and what follows from it exactly.

Age, gender, skin tone and pose are drawn in this order. Age is uniform over its classes. Each of the
others is tied to one of those before it, or to none, and which is drawn first:

    P(x_j | x_1 .. x_{j-1}) = Σ_i |d_ij| T_ij(x_j | x_i) + (1 - Σ_i |d_ij|) / n_j

where d_ij in [-1, 1] is the dial of the pair. T_ij is the strongest tie that two uniform variables of n_i and n_j
ordered classes can have: both stand for the same number u in [0, 1), x_i = floor(n_i u) and x_j = floor(n_j u),
so that T_ij(x_j | x_i) is the share of the interval of x_i that the interval of x_j covers. Under a negative dial
the order of x_j is reversed. Every T_ij carries uniform to uniform, so that

* every attribute is uniform, whatever the dials say;
* if no other path of dials joins them, P(x_i, x_j) = (|d_ij| T_ij(x_j | x_i) + (1 - |d_ij|) / n_j) / n_i;
* the joint law is the product of four such factors, 200 numbers (`Law.joint`), from which everything else is summed.

In the order of ties women come before men: a positive `age_gender` makes young women and old men more frequent.
With it alone P(woman | child or adult) = (1 + d) / 2, and at 1 nobody else is drawn: the extreme bias EB1 of Alvi et
al. 2018, section 5.2. At -1 it is EB2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biasbench import UsageError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
# Alvi et al. 2018, section 3.3; left and right are where the nose points in the picture.
POSES = ("profile left", "near-frontal left", "frontal", "near-frontal right", "profile right")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "gender": ("man", "woman"),
    "age": ("child", "adult", "middle-aged", "older"),
    "skin": ("light", "medium-light", "medium", "medium-dark", "dark"),
    "pose": POSES,
}
NAMES = tuple(GROUPS)  # axes of `Law.joint`
ORDER = ("age", "gender", "skin", "pose")  # in which they are drawn
PAIRS = tuple((a, b) for j, b in enumerate(ORDER) for a in ORDER[:j])
_REVERSED = "gender"  # ties put women before men


@dataclass(frozen=True)
class Law:
    """The law of age, gender, skin tone and pose at one setting of the dials.

    Args:
        dials: From pairs of `PAIRS` to [-1, 1]; a pair that is left out is 0.

    Raises:
        UsageError: When a dial is out of range, or those into one attribute add up to more than 1.

    Example:
        >>> law = Law({("age", "gender"): 0.5})
        >>> law.pair("age", "gender")[0].round(4).tolist(), round(law.best_guess("gender", given="age"), 4)
        ([0.0625, 0.1875], 0.75)
    """

    dials: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (a, b), value in self.dials.items():
            if (a, b) not in PAIRS:
                raise UsageError(f"faces: no dial {a}_{b}", fix=f"Known: {', '.join('_'.join(p) for p in PAIRS)}")
            if not -1 <= value <= 1:
                raise UsageError(f"faces: {a}_{b} must be from -1 to 1, not {value!r}")
        for b in ORDER:
            into = {a: d for a in ORDER if (d := self.dial(a, b))}
            if sum(map(abs, into.values())) > 1 + 1e-9:
                told = " + ".join(f"{a}_{b}={d:g}" for a, d in into.items())
                raise UsageError(f"faces: {told} is more than 1 without signs: {b} follows one attribute at a time")

    def dial(self, a: str, b: str) -> float:
        """The dial of a pair in the order of `ORDER`."""
        return float(self.dials.get((a, b), 0.0))

    def conditional(self, name: str) -> Floats:
        """P(`name` | those before it in `ORDER`): one axis for each of these, then its own."""
        before = ORDER[: ORDER.index(name)]
        n = len(GROUPS[name])
        out = np.zeros((*(len(GROUPS[b]) for b in before), n))
        rest = 1.0
        for axis, other in enumerate(before):
            dial = self.dial(other, name)
            rest -= abs(dial)
            shape = [1] * out.ndim
            shape[axis], shape[-1] = len(GROUPS[other]), n
            out += abs(dial) * tie(other, name, reverse=dial < 0).reshape(shape)
        return out + max(rest, 0.0) / n

    @cached_property
    def joint(self) -> Floats:
        """[2, 4, 5, 5] P(gender, age, skin, pose), codes as in `GROUPS`."""
        out = np.ones(())
        for name in ORDER:
            out = out[..., None] * self.conditional(name)
        return np.ascontiguousarray(out.transpose([ORDER.index(name) for name in NAMES]))

    def pair(self, a: str, b: str) -> Floats:
        """[n_a, n_b] P(a, b), every path of dials included."""
        rest = tuple(k for k, name in enumerate(NAMES) if name not in (a, b))
        out: Floats = self.joint.sum(axis=rest)
        return out if NAMES.index(a) < NAMES.index(b) else out.T

    def association(self, a: str, b: str) -> float:
        """Cramér's V of a pair: 0 where independent, 1 where the attribute of fewer classes follows from the other."""
        p = self.pair(a, b)
        chance = 1 / p.size
        return float(np.sqrt(((p - chance) ** 2 / chance).sum() / (min(p.shape) - 1)))

    def best_guess(self, name: str, given: str) -> float:
        """Accuracy of the best guess of one attribute from another alone.

        As every attribute is uniform, this is the Bayes-optimal dataset leakage of `given` about `name` on a draw
        that is balanced over `name`; and what a classifier of `name` that sees nothing but `given` can reach.
        """
        return float(self.pair(name, given).max(axis=0).sum())

    def draw(self, u: Floats) -> dict[str, Codes]:
        """Attributes from uniform numbers [N, 4], one column for each of `ORDER`; the codes are [N] int64."""
        out: dict[str, Codes] = {}
        for k, name in enumerate(ORDER):
            steps = self.conditional(name)[tuple(out.values())]  # [N, n]
            steps = np.broadcast_to(steps, (len(u), steps.shape[-1])).cumsum(axis=1)
            chosen: Codes = (u[:, k, None] >= steps[:, :-1]).sum(axis=1)  # the last step is 1, up to rounding
            out[name] = chosen
        return {name: out[name] for name in NAMES}


def tie(a: str, b: str, reverse: bool = False) -> Floats:
    """[n_a, n_b] T(b | a), the strongest tie of two uniform attributes, codes as in `GROUPS`.

    Args:
        a: The attribute that is known.
        b: The one that follows.
        reverse: Whether the order of `b` is reversed.

    Example:
        >>> tie("age", "gender").tolist()
        [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
        >>> tie("gender", "pose")[1].round(1).tolist()
        [0.4, 0.4, 0.2, 0.0, 0.0]
    """
    n, m = len(GROUPS[a]), len(GROUPS[b])
    low, high = np.arange(n)[:, None] / n, np.arange(1, n + 1)[:, None] / n
    shared = np.minimum(high, np.arange(1, m + 1) / m) - np.maximum(low, np.arange(m) / m)
    out: Floats = n * np.maximum(shared, 0)
    if a == _REVERSED:
        out = out[::-1]
    return out[:, ::-1] if reverse != (b == _REVERSED) else out
