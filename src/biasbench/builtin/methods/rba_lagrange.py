"""Corpus-level constraints on the groups of predicted labels, by Lagrangian relaxation.

Zhao et al. 2017 (section 5) ask that among the pictures predicted to carry a label, the share of a
group stays within a margin of its share b in training. Of n such pictures, n_g in the group:

    (b - margin) n <= n_g <= (b + margin) n

Both sides are linear in what is predicted, so that a multiplier on each only lowers or raises the
potentials of label and group, the same for all pictures, and decoding stays exact per picture. A
label that is predicted nowhere obeys. The value of the lowered potentials' decoding bounds every
prediction that obeys from above (weak duality).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from biasbench.builtin.methods.crf_fields import Field


@dataclass(frozen=True)
class Constraints:
    """Bounds on the groups' shares among the pictures predicted to carry a label.

    Attributes:
        shares: [K, C] float64 shares of the first C groups to stay near; NaN leaves a label free. Two
            groups need C = 1: the second's share is what is left.
        margin: How far a share may stray.
    """

    shares: Tensor
    margin: float

    @property
    def count(self) -> int:
        """Number of constraints: two for each share."""
        return 2 * int((~self.shares.isnan()).sum())

    def excess(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """How many pictures each share is below and above its bounds, [K, C] each; negative inside, from [K, G]."""
        inside, total = counts[:, : self.shares.shape[1]], counts.sum(1, keepdim=True)
        low = (self.shares - self.margin) * total - inside
        high = inside - (self.shares + self.margin) * total
        slack = 1e-9 * total.clamp(min=1)  # the bounds are rounded; counts are not
        low, high = (torch.where(e.abs() <= slack, 0.0, e).nan_to_num(0.0) for e in (low, high))
        return low, high

    def beyond(self, counts: Tensor) -> float:
        """How far the worst share lies outside its bounds, 0 inside, from [K, G]; NaN without a share to judge."""
        total = counts.sum(1, keepdim=True)
        judged = ~self.shares.isnan() & (total > 0)
        if not judged.any():
            return math.nan
        low, high = self.excess(counts)
        worst = torch.maximum(low, high).clamp(min=0) / total.clamp(min=1)
        return float(worst[judged].max())

    def penalty(self, multipliers: Tensor, groups: int) -> Tensor:
        """[K, G] to take off the potentials: multipliers [K, C] above 0 act on lower bounds, below 0 on upper ones."""
        low, high, shares = multipliers.clamp(min=0), (-multipliers).clamp(min=0), self.shares.nan_to_num(0.0)
        off = (low * (shares - self.margin) - high * (shares + self.margin)).sum(1, keepdim=True)
        off = off.repeat(1, groups)
        off[:, : multipliers.shape[1]] -= multipliers
        return off


@dataclass(frozen=True)
class Relaxed:
    """What the relaxation found.

    Attributes:
        penalty: [K, G] to take off every picture's potentials.
        constraints: Number of constraints.
        before: How many the plain decoding violates.
        after: How many are still violated.
        beyond_before: How far outside its bounds the plain decoding's worst share lies; NaN without a share.
        beyond_after: The same of the constrained prediction.
        iterations: Decodings made.
        score: Sum of the original potentials of the constrained prediction.
        bound: No prediction that obeys all constraints scores more.
    """

    penalty: Tensor
    constraints: int
    before: int
    after: int
    beyond_before: float
    beyond_after: float
    iterations: int
    score: float
    bound: float


def relax(field: Field, constraints: Constraints, step: float, iterations: int) -> Relaxed:
    """The prediction of highest potential that obeys, as far as one is found.

    Each iteration decodes with the lowered potentials and moves the multipliers along the dual's
    subgradient, counted in shares; steps shrink with the squares summed so far (AdaGrad), so that a
    first step is `step` whatever the number of pictures. The two bounds of a share have one signed
    multiplier: both at once never help.

    In the second half multipliers whose bounds are kept are left alone; otherwise predictions would
    hover about the bounds, with some constraint violated at any time. There a step also halves when it
    leads from below the lower bound to above the upper one, so that pictures that are nearly alike can
    be told apart. Of all iterations the one with the fewest violations, and among these the highest
    score, is kept.

    Args:
        field: Potentials of the whole split, on the CPU.
        constraints: What to obey.
        step: Size of a multiplier's first step, in units of the potentials.
        iterations: Decodings at most.

    Returns:
        The kept iteration, whether or not everything is obeyed.

    Example:
        >>> from biasbench.builtin.methods.crf_fields import JointField
        >>> field = JointField(torch.tensor([[[2.0, 0.0]], [[2.0, 1.0]]], dtype=torch.float64))
        >>> found = relax(field, Constraints(torch.tensor([[0.5]], dtype=torch.float64), 0.05), 0.5, 100)
        >>> (found.before, found.after, found.score)
        (1, 0, 3.0)
    """
    groups = field.pairwise.shape[2]
    multipliers = _Multipliers(constraints.shares, step)
    best: tuple[int, float, Tensor] | None = None
    before, bound, done = 0, float("inf"), 0
    beyond_before = beyond_after = math.nan
    for done in range(1, iterations + 1):
        penalty = constraints.penalty(multipliers.values, groups)
        labels, chosen, values = field.lowered(penalty).decode()
        counts = field.counts(labels, chosen)
        low, high = constraints.excess(counts)
        violated = int((low > 0).sum() + (high > 0).sum())
        bound = min(bound, float(values.sum()))
        score = float(values.sum() + (penalty * counts).sum())
        if best is None:
            before, beyond_before = violated, constraints.beyond(counts)
        if best is None or (violated, -score) < best[:2]:
            best, beyond_after = (violated, -score, penalty), constraints.beyond(counts)
        settled = violated == 0 and (done > iterations // 2 or bound - score <= 1e-9 * max(1.0, abs(bound)))
        if settled:
            break
        multipliers.move(low, high, counts, hold=done > iterations // 2)
    assert best is not None
    return Relaxed(best[2], constraints.count, before, best[0], beyond_before, beyond_after, done, -best[1], bound)


class _Multipliers:
    """One signed multiplier for each share, [K, C], and the size of its steps."""

    def __init__(self, like: Tensor, step: float) -> None:
        self.values, self.squares, self.side = (torch.zeros_like(like) for _ in range(3))
        self.size = torch.full_like(like, step)

    def move(self, low: Tensor, high: Tensor, counts: Tensor, *, hold: bool) -> None:
        """One step; `hold` leaves those whose bounds are kept alone and bisects between the two sides."""
        side = torch.where(low > 0, 1.0, torch.where(high > 0, -1.0, 0.0))
        push = low.clamp(min=0) - high.clamp(min=0)
        slack = torch.where(self.values > 0, low, torch.where(self.values < 0, -high, 0.0))  # towards 0
        gradient = torch.where(side != 0, push, torch.zeros_like(slack) if hold else slack)
        gradient = gradient / counts.sum(1, keepdim=True).clamp(min=1)
        self.squares += gradient**2
        if hold:
            self.size = torch.where(side * self.side < 0, self.size / 2, self.size)
            self.side = torch.where(side != 0, side, self.side)
        after = self.values + self.size * gradient / self.squares.sqrt().clamp(min=1e-12)
        crossed = (side == 0) & (after.sign() != self.values.sign())  # slack alone never turns a multiplier round
        self.values = torch.where(crossed, 0.0, after)
