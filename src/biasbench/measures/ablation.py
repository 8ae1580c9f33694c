"""Table 2 of Wang et al. 2019: the same leakage by weaker and stronger attackers, on more and fewer data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from biasbench.data import Progress
from biasbench.errors import CellError, UsageError
from biasbench.measures.checks import about_draws
from biasbench.measures.figure import Figure
from biasbench.measures.named import AnyProtocol
from biasbench.measures.prepared import prepare
from biasbench.measures.protocol import Protocol
from biasbench.measures.rounds import Attack, Reads, Rounds
from biasbench.measures.run import figure_of, run
from biasbench.measures.sample import Samples
from biasbench.metric import Memo

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "1 layer, all data": {"layers": 1},
    "2 layers, 100 units, all data": {"layers": 2, "width": 100},
    "2 layers, 300 units, all data": {"layers": 2, "width": 300},
    "4 layers, 300 units, all data": {"layers": 4, "width": 300},
    "4 layers, 300 units, 75 % of data": {"layers": 4, "width": 300, "share": 0.75},
    "4 layers, 300 units, 50 % of data": {"layers": 4, "width": 300, "share": 0.5},
    "4 layers, 300 units, 25 % of data": {"layers": 4, "width": 300, "share": 0.25},
}
"""The rows of the table; `share` is of the training draw."""


def leakage_by_attacker(
    samples: Samples,
    protocol: str | AnyProtocol = "wang2019",
    *,
    groups: Sequence[str] = (),
    minimum: int | None = None,
    seed: int = 0,
    memo: Memo | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Figure]:
    """Model leakage (dataset leakage where there are no scores) by each attacker of the table.

    Args:
        samples: Train, val and test.
        protocol: Constants other than those that the table varies.
        groups: As in `leakage`.
        minimum: As in `leakage`: small groups are left out.
        seed: As in `leakage`: the draws are the same.
        memo: As in `leakage`.
        progress: Called with attackers done and due.
        threads: As in `leakage`.
        device: As in `leakage`.

    Raises:
        CellError: When a split has no example of a group.
        UsageError: When the protocol's attackers are no networks to vary.

    Example:
        >>> import numpy as np
        >>> from biasbench import Sample
        >>> group = np.random.default_rng(0).integers(0, 2, 200)
        >>> part = Sample(np.stack([group, 1 - group], 1), group)
        >>> found = leakage_by_attacker({"train": part, "val": part, "test": part}, "smoke(batch_size=8)")
        >>> len(found), found["2 layers, 100 units, all data"].mean
        (7, 100.0)
    """
    ready = prepare(samples, protocol, groups, minimum)
    constants = ready.protocol
    if not isinstance(constants, Protocol):
        raise UsageError(f"protocol {constants.name} has no attacker to vary", fix="Use wang2019 or quick")
    reads: Reads = "targets" if samples["train"].scores is None else "scores"
    figures = {}
    for number, (name, changes) in enumerate(VARIANTS.items()):
        rounds = Rounds(ready.samples, ready.width, len(ready.names), replace(constants, **changes), seed, "flips")
        if problem := about_draws(rounds, ready.names)["undefined"]:
            raise CellError(f"leakage by attacker is {problem}")
        attacks = [Attack(r, reads) for r in range(constants.rounds)]
        figures[name] = figure_of(run(rounds, attacks, memo, None, threads, device), attacks, rounds)
        if progress is not None:
            progress(number + 1, len(VARIANTS))
    return figures
