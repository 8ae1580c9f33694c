"""What can be read off a frozen embedding by the best classifier trained afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import IntArray, Progress, Split
from biasbench.errors import CellError
from biasbench.measures.checks import about_draws
from biasbench.measures.figure import Figure
from biasbench.measures.named import AnyProtocol
from biasbench.measures.prepared import prepare
from biasbench.measures.rounds import Attack, Rounds
from biasbench.measures.run import figure_of, run
from biasbench.measures.sample import Sample
from biasbench.metric import Memo


@dataclass(frozen=True)
class EmbeddingLeakage:
    """What attackers read off an embedding, in percent of test draws with equally many rows of every group.

    Attributes:
        embedding: Their accuracy.
        null: The same with the attribute shuffled in training.
        groups: Names of the groups that were told apart.
        dropped: What was left out for its size; see `leakage`.
    """

    embedding: Figure
    null: Figure
    groups: tuple[str, ...]
    dropped: Mapping[str, Any]

    @property
    def chance(self) -> float:
        """Percent that guessing scores."""
        return 100 / len(self.groups)

    def __str__(self) -> str:
        return f"{self.embedding}; chance {self.chance:.1f}, null {self.null}"


def embedding_leakage(
    embeddings: Mapping[Split, NDArray[Any]],
    attribute: Mapping[Split, IntArray],
    protocol: str | AnyProtocol = "certified",
    *,
    groups: Sequence[str] = (),
    minimum: int | None = None,
    seed: int = 0,
    memo: Memo | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> EmbeddingLeakage:
    """Accuracy of attackers on the embedding, and of attackers whose training attributes are shuffled.

    Alvi et al. 2018 report the accuracy of classifiers trained on the embedding (Table 1, "baseline") and, after
    unlearning, that of the classifiers that took part in it ("blind"). A classifier that the representation
    has learnt to confuse says little of what another would find: this is that other, for both columns.

    Args:
        embeddings: [N, D] of train, val and test.
        attribute: [N] codes of each split, -1 = unknown.
        protocol: As in `leakage`; `certified` lets several kinds of attackers compete.
        groups: As in `leakage`.
        minimum: As in `leakage`.
        seed: As in `leakage`.
        memo: As in `leakage`.
        progress: Called with fits done and due.
        threads: As in `leakage`.
        device: As in `leakage`.

    Raises:
        DataError: When an embedding is not finite or lengths differ.
        CellError: When a split has no row of some group.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> codes = {split: rng.integers(0, 2, 300) for split in ("train", "val", "test")}
        >>> planted = {split: code[:, None] + 0.1 * rng.normal(size=(300, 4)) for split, code in codes.items()}
        >>> embedding_leakage(planted, codes, "smoke(epochs=8, batch_size=16)").embedding.mean > 90
        True
    """
    samples = {
        split: Sample(np.zeros(len(found), np.int64), attribute[split], found) for split, found in embeddings.items()
    }
    ready = prepare(samples, protocol, groups, minimum)
    rounds = Rounds(ready.samples, ready.width, len(ready.names), ready.protocol, seed, "replacement")
    if problem := about_draws(rounds, ready.names)["undefined"]:
        raise CellError(f"what the embedding tells is {problem}")
    plans = {
        "embedding": [Attack(r, "scores") for r in range(ready.protocol.rounds)],
        "null_train": [Attack(r, "scores", shuffled="train") for r in range(ready.protocol.rounds)],
    }
    attacks = [attack for plan in plans.values() for attack in plan]
    outcomes = dict(zip(attacks, run(rounds, attacks, memo, progress, threads, device), strict=True))
    figures = {name: figure_of([outcomes[a] for a in plan], plan, rounds) for name, plan in plans.items()}
    return EmbeddingLeakage(figures["embedding"], figures["null_train"], ready.names, ready.dropped)
