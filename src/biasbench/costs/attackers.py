"""How many attackers a cell's measurement trains, and on how many rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from biasbench.costs.counts import Attacks, Part
from biasbench.costs.rows import Rows
from biasbench.costs.sketch import Sketches
from biasbench.data import SPLITS, attribute
from biasbench.grammar import parse
from biasbench.measures.certified import Certified
from biasbench.measures.checks import FEW
from biasbench.measures.named import LEAKAGE_PROTOCOLS, AnyProtocol, protocol_named
from biasbench.measures.protocol import Protocol
from biasbench.planned import Cell, Data

ABLATION = 7  # attackers of Table 2 of Wang et al. 2019


class AttackerCounts:
    """Counts attackers; what reads true labels alone is the same for all models of a seed and trained once.

    Args:
        sketches: Of the models, for the width of the embedding.
        rows: Of the data.
    """

    def __init__(self, sketches: Sketches, rows: Rows) -> None:
        self.sketches, self.rows = sketches, rows
        self._shared: set[tuple[object, ...]] = set()

    def known(self, cell: Cell) -> None:
        """The cell is measured: what it shares with others need not be trained again."""
        for name in cell.attributes:
            self._shared.add(self._common(cell, name))

    def part(self, cell: Cell) -> Part:
        """The attackers of a cell's measurement."""
        found: list[Attacks] = []
        for metric in cell.metrics:
            for name in cell.attributes:
                found += self._attacks(cell, parse(metric)[0].name, name)
        return Part("measure", rows=len(cell.data.tables["test"]), attacks=tuple(a for a in found if a.count))

    def _attacks(self, cell: Cell, metric: str, name: str) -> list[Attacks]:
        other, data = self._of(cell, name)
        if metric not in ("leakage", "attackers", "embedding") or parse(cell.protocol)[0].name not in LEAKAGE_PROTOCOLS:
            return []
        if other and metric != "embedding":
            return []  # it compares with labels that another data set does not have
        task, k = cell.data.dataset.task, len(cell.data.dataset.label_names)
        single = task == "multiclass"
        protocol = protocol_named(cell.protocol, single)
        groups, rows = self._draws(cell, data, name.removeprefix(f"{other}:"), protocol)
        if not rows[0]:
            return []
        rounds = protocol.rounds
        if metric == "embedding":
            width = self.sketches.of(cell, cell.spec.method).model.backbone.channels["embedding"]
            return [Attacks(cell.protocol, single, width, groups, rows, 2 * rounds)]
        if metric == "attackers":
            return [Attacks(cell.protocol, single, k, groups, rows, ABLATION * rounds)]
        # Beside lambda_M: perturbed labels, decoded labels, two nulls, and one control; beside lambda_D, two nulls
        # and one control. Certificates are for the first round of what is neither null nor control.
        own = Attacks(cell.protocol, single, k, groups, rows, 5 * rounds + 1, 3)
        common = self._common(cell, name)
        shared = Attacks(cell.protocol, single, k, groups, rows, 0 if common in self._shared else 3 * rounds + 1, 1)
        self._shared.add(common)
        return [own, shared]

    def _common(self, cell: Cell, name: str) -> tuple[object, ...]:
        return (cell.data.fingerprint, self.rows.resampling(cell), cell.spec.seed, name, cell.protocol)

    @staticmethod
    def _of(cell: Cell, name: str) -> tuple[str, Data]:
        """The data set whose attribute it is, and its name if it is another than the cell's."""
        for other, data in cell.secondary.items():
            if name.startswith(f"{other}:"):
                return other, data
        return "", cell.data

    def _draws(self, cell: Cell, data: Data, name: str, protocol: AnyProtocol) -> tuple[int, tuple[int, int, int]]:
        """Groups that are measured, and rows drawn from train, val and test; none where a split lacks a group."""
        size = len(data.groups[name])
        found = []
        for split in SPLITS:
            codes = attribute(data.tables[split], name)
            codes = codes[self.rows.train(cell)] if split == "train" and data is cell.data else codes
            found.append(np.bincount(codes[codes >= 0], minlength=size))
        least = np.min(found, axis=0)
        kept = least >= FEW if size > 2 else np.ones(size, bool)
        groups = int(kept.sum())
        if groups < 2:
            return groups, (0, 0, 0)
        caps = protocol.caps or (None, None, None)
        drawn = [groups * min(int(c[kept].min()), cap or 2**62) for c, cap in zip(found, caps, strict=True)]
        if not min(drawn):
            return groups, (0, 0, 0)
        share = protocol.share if isinstance(protocol, Protocol) else 1.0
        return groups, (groups * max(1, round(share * (drawn[0] // groups))), drawn[1], drawn[2])


def size(attacks: Attacks) -> float:
    """What one attacker is in multiplications, forwards once and backwards twice; a round figure for `certified`.

    Attackers of a protocol take time in proportion to it: rows, labels, units and epochs are all in it.
    """
    protocol = protocol_named(attacks.protocol, attacks.single)
    train, val, test = attacks.rows
    if isinstance(protocol, Certified):
        return float((train + val) * (attacks.width + protocol.width))
    inner = [protocol.width] * (protocol.layers - 1)
    ends = [attacks.width, *inner, attacks.groups]
    one = sum(a * b for a, b in pairwise(ends))
    return float(one * (protocol.epochs * (3 * train + val) + 2 * test))


def models(attacks: Attacks) -> float:
    """Attackers, a certificate counting as the share of one that its further models are."""
    protocol = protocol_named(attacks.protocol, attacks.single)
    if isinstance(protocol, Certified) and protocol.plateau:
        return attacks.count + attacks.certified * 3 / len(protocol.kinds)
    return float(attacks.count)
