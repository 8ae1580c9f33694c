"""The rounds of a measurement: balanced draws, and one attacker a round on what it may read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import SPLITS, Split
from biasbench.measures.draws import IntArray, balanced_rows, per_group
from biasbench.measures.noise import noisy
from biasbench.measures.perturb import Kind, perturb
from biasbench.measures.protocol import Protocol
from biasbench.measures.sample import Sample, Samples
from biasbench.rng import Part, generator

if TYPE_CHECKING:
    from biasbench.measures.attackers import Job
    from biasbench.measures.certified import Certified
    from biasbench.measures.reader import Draw

Reads = Literal["targets", "scores", "labels"]
Shuffled = Literal["", "train", "all"]
_STREAM: Mapping[Kind, str] = {"flips": "flip", "replacement": "replacement"}


@dataclass(frozen=True)
class Attack:
    """What one round's attacker reads, and of which attribute.

    Attributes:
        round_: From 0.
        reads: True labels, logits or decoded labels.
        perturbed: Rate at which the labels are perturbed first, or None.
        shuffled: Splits in which the attribute is shuffled: none, training, all.
        shuffle: Which shuffle, from 0.
        noise: Share of attributes replaced by another group's before anything is drawn.
        planted: Strength of a planted leak, or None.
    """

    round_: int
    reads: Reads = "targets"
    perturbed: float | None = None
    shuffled: Shuffled = ""
    shuffle: int = 0
    noise: float = 0.0
    planted: float | None = None


class Rounds:
    """Everything that the attackers of one measurement have in common.

    Draws, initial weights and batch orders of a round are the same whatever is attacked, and
    depend on no model: dataset leakage is one figure for all models, and differences between
    figures are paired.

    Args:
        samples: Train, val and test.
        width: K labels.
        groups: G groups.
        protocol: Constants.
        seed: Base of all streams.
        kind: How labels are perturbed.
    """

    def __init__(
        self, samples: Samples, width: int, groups: int, protocol: Protocol | Certified, seed: int, kind: Kind
    ) -> None:
        self.samples, self.width, self.groups = samples, width, groups
        self.protocol, self.seed, self.kind = protocol, seed, kind
        self._tables: dict[tuple[str, ...], Callable[[], NDArray[Any]]] = {}

    # -- draws -----------------------------------------------------------------------------
    def per_group(self) -> dict[str, int]:
        """Rows drawn per group, by split."""
        return {s: per_group(self.samples[s].attribute, self.groups, self._cap(s)) for s in SPLITS}

    def rows(self, round_: int, split: Split) -> IntArray:
        """The round's draw from a split."""
        return self._drawn(self.samples[split].attribute, round_, split)

    def tested(self, attack: Attack) -> tuple[IntArray, IntArray]:
        """Rows of the test split that an attacker is read on, and their attribute, unshuffled."""
        codes = self._codes("test", attack.noise)
        rows = self._drawn(codes, attack.round_, "test")
        return rows, codes[rows]

    def stream(self, round_: int, *purpose: Part) -> tuple[Part, ...]:
        """Name of a random stream of a round."""
        return (self.seed, "leakage", round_, *purpose)

    def perturbed(self, round_: int, split: Split, rate: float) -> NDArray[Any]:
        """Labels of the round's draw, perturbed at a rate."""
        return self._perturbed(round_, split, rate, self.rows(round_, split))

    def _drawn(self, codes: IntArray, round_: int, split: Split) -> IntArray:
        rows = balanced_rows(codes, self.groups, self._cap(split), generator(*self.stream(round_, "draw", split)))
        share = getattr(self.protocol, "share", 1.0)
        if split != "train" or share == 1:
            return rows
        each = len(rows) // self.groups
        return np.concatenate([rows[g * each : g * each + max(1, round(share * each))] for g in range(self.groups)])

    def _cap(self, split: Split) -> int | None:
        return None if self.protocol.caps is None else self.protocol.caps[SPLITS.index(split)]

    # -- attackers -------------------------------------------------------------------------
    def job(self, attack: Attack) -> Job:
        """The attacker to train."""
        from biasbench.measures.attackers import Job
        from biasbench.measures.control import planted

        draws = {split: self._draw(attack, split) for split in SPLITS}
        width = self.width
        if attack.planted is not None:
            stream = self.stream(attack.round_, "control")
            draws, width = planted(draws, width, self.groups, attack.planted, stream)
        return Job(self.stream(attack.round_), draws, width, self.groups)

    def _draw(self, attack: Attack, split: Split) -> Draw:
        from biasbench.measures.reader import Draw

        codes = self._codes(split, attack.noise)
        rows = self._drawn(codes, attack.round_, split)
        drawn = codes[rows]
        if attack.shuffled == "all" or attack.shuffled == split:
            stream = self.stream(attack.round_, "shuffle", attack.shuffle, split)
            drawn = generator(*stream).permutation(drawn)
        if attack.perturbed is not None:
            rate = attack.perturbed
            made = partial(self._perturbed, attack.round_, split, rate, rows)
            return Draw(made, np.arange(len(rows)), drawn, self.kind)
        kind = "scores" if attack.reads == "scores" else "labels"
        return Draw(self._table(attack, split), rows, drawn, kind)

    def _codes(self, split: Split, noise: float) -> IntArray:
        codes = self.samples[split].attribute
        return noisy(codes, noise, self.groups, generator(self.seed, "attribute noise", split)) if noise else codes

    def _perturbed(self, round_: int, split: Split, rate: float, rows: IntArray) -> NDArray[Any]:
        rng = generator(*self.stream(round_, _STREAM[self.kind], split))
        return perturb(self.samples[split].targets[rows], self.kind, rate, rng, self.width)

    def _table(self, attack: Attack, split: Split) -> Callable[[], NDArray[Any]]:
        """One function object for one table: draws that name the same share it in memory."""
        sample = self.samples[split]
        view = (
            attack.round_ % len(sample.views) if attack.reads == "scores" and split == "train" and sample.views else -1
        )
        key = (attack.reads, split, str(view))
        return self._tables.setdefault(key, lambda: _array(sample, attack.reads, view))

    # -- keys ------------------------------------------------------------------------------
    def key(self, attack: Attack) -> str:
        """A text that names every input of an attacker's outcome, by which it is found again."""
        return io.canonical_json(
            {
                "measure": "attacker/4",
                "attack": asdict(attack),
                "kind": self.kind if attack.perturbed is not None else None,
                "truth": self._digests["targets"],
                "reads": self._digests[attack.reads],
                "width": self.width,
                "groups": self.groups,
                "protocol": {k: v for k, v in asdict(self.protocol).items() if k not in ("name", "fold", "rounds")},
                "certified": type(self.protocol).__name__,
                "seed": self.seed,
                "versions": _versions(),
            }
        )

    @cached_property
    def _digests(self) -> Mapping[str, list[str] | None]:
        parts = [self.samples[s] for s in SPLITS]
        return {
            "targets": [_digest(p.targets, p.attribute) for p in parts],
            "scores": None if parts[0].scores is None else [_digest(p.scores, *p.views) for p in parts],
            "labels": None if parts[0].labels is None else [_digest(p.labels) for p in parts],
        }


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("torch", "numpy", "scikit-learn")}


def _array(sample: Sample, reads: Reads, view: int) -> NDArray[Any]:
    found = sample.views[view] if view >= 0 else getattr(sample, reads)
    assert found is not None
    return found.astype(np.uint8, copy=False) if found.ndim == 2 and reads != "scores" else found


def _digest(*arrays: NDArray[Any] | None) -> str:
    """SHA-256 of content; integers of any width are equal."""
    digest = hashlib.sha256()
    for array in arrays:
        assert array is not None
        plain = array.astype(np.int64 if array.dtype.kind in "biu" else array.dtype)
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(np.ascontiguousarray(plain).tobytes())
    return digest.hexdigest()
