"""Running attackers: those already known are not trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import Progress
from biasbench.measures.figure import Figure, fold
from biasbench.measures.intervals import bootstrap_difference, bootstrap_interval
from biasbench.measures.rounds import Attack, Rounds
from biasbench.metric import Memo, NoMemo
from biasbench.rng import generator


@dataclass(frozen=True)
class Known:
    """What is kept of an attacker.

    Attributes:
        accuracy: On the balanced test draw, 0..1, unfolded.
        last: The same at the last epoch; NaN where no epoch is selected.
        epoch: Selected epoch, from 1; 0 where none is.
        right: [n] rows of the test draw it got right.
        details: JSON values.
    """

    accuracy: float
    last: float
    epoch: int
    right: NDArray[np.bool_]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        last = self.last if np.isfinite(self.last) else None
        bits = np.packbits(self.right).tobytes().hex()
        kept = {"accuracy": self.accuracy, "last": last, "epoch": self.epoch, "n": len(self.right)}
        return {**kept, "right": bits, "details": dict(self.details)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Known:
        """What `to_json` wrote.

        Example:
            >>> known = Known(0.5, 0.25, 3, np.array([True, False, True]))
            >>> Known.from_json(known.to_json()).right
            array([ True, False,  True])
        """
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(stored["right"]), np.uint8), count=stored["n"])
        last = float("nan") if stored["last"] is None else stored["last"]
        return cls(stored["accuracy"], last, stored["epoch"], bits.astype(bool), stored["details"])


def run(
    rounds: Rounds,
    attacks: Sequence[Attack],
    memo: Memo | None,
    progress: Progress | None,
    threads: int | None,
    device: str,
) -> list[Known]:
    """The outcome of each attack: from the memo, or trained and put there as soon as it is known."""
    from biasbench.measures.certified import Certified

    memo = NoMemo() if memo is None else memo
    known: dict[Attack, Known] = {}
    for attack in dict.fromkeys(attacks):
        stored = memo.get(rounds.key(attack))
        if stored is not None:
            known[attack] = Known.from_json(stored)
    todo = [attack for attack in dict.fromkeys(attacks) if attack not in known]

    def done(number: int, outcome: Any) -> None:
        details = getattr(outcome, "details", {})
        kept = Known(outcome.accuracy, outcome.last, getattr(outcome, "epoch", 0), outcome.right, details)
        known[todo[number]] = kept
        memo.put(rounds.key(todo[number]), kept.to_json())

    jobs, protocol = [rounds.job(attack) for attack in todo], rounds.protocol
    if isinstance(protocol, Certified):
        from biasbench.measures.certified_attack import certified_attack

        first = [i for i, a in enumerate(todo) if not (a.round_ or a.shuffled or a.noise or a.planted)]
        certified_attack(jobs, protocol, threads=threads, device=device, certify=first, done=done, progress=progress)
    else:
        from biasbench.measures.attackers import train_attackers

        train_attackers(jobs, protocol, threads=threads, device=device, done=done, progress=progress)
    return [known[attack] for attack in attacks]


def figure_of(outcomes: Sequence[Known], attacks: Sequence[Attack], rounds: Rounds) -> Figure:
    """Percent by round, and an interval over test images unless their attribute is shuffled."""
    groups = rounds.groups if _folds(rounds) else 0
    last = np.array([o.last for o in outcomes])
    interval = None
    if attacks[0].shuffled != "all":
        rows, codes = zip(*(rounds.tested(attack) for attack in attacks), strict=True)
        found = bootstrap_interval(_rights(outcomes, rounds), codes, _rng(rounds), rows=rows)
        interval = (100 * found.low, 100 * found.high)
    return Figure(
        fold(np.array([o.accuracy for o in outcomes]), groups),
        None if np.isnan(last).any() else fold(last, groups),
        tuple(o.epoch for o in outcomes if o.epoch),
        interval,
    )


def difference_of(
    one: Sequence[Known], other: Sequence[Known], attacks: Sequence[Attack], rounds: Rounds
) -> tuple[float, float]:
    """95 % interval of a difference between two figures, paired by test image, points."""
    rows, codes = zip(*(rounds.tested(attack) for attack in attacks), strict=True)
    found = bootstrap_difference(_rights(one, rounds), _rights(other, rounds), codes, _rng(rounds), rows=rows)
    return 100 * found.low, 100 * found.high


def _folds(rounds: Rounds) -> bool:
    return rounds.groups == 2 and bool(getattr(rounds.protocol, "fold", False))


def _rights(outcomes: Sequence[Known], rounds: Rounds) -> list[NDArray[np.bool_]]:
    """Right answers by round; an attacker that is folded counts its wrong ones."""
    return [~o.right if _folds(rounds) and o.accuracy < 0.5 else o.right for o in outcomes]


def _rng(rounds: Rounds) -> np.random.Generator:
    return generator(rounds.seed, "leakage", "bootstrap")
