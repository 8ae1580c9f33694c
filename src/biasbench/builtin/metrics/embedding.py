"""What the embedding tells of the attribute, as a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biasbench import (
    LEAKAGE_PROTOCOLS,
    SPLITS,
    CellError,
    Column,
    Measurement,
    Metric,
    Predictions,
    embedding_leakage,
    rescaled,
)

if TYPE_CHECKING:
    import pandas as pd


class Embedding(Metric):
    """The best classifier that can be trained afterwards on the frozen embedding.

    Only computed when it is named; the run must keep its embeddings (`--set recipe.embeddings=true`). Measure
    every attribute of interest, unlearned or not: `--attribute age --attribute pose`.

    Details: `intervals`, 95 % over test images by figure; `chance`, percent; `dropped_groups`, which are left out
    for their size.
    """

    name = "embedding"
    columns = (
        Column("embedding", "emb.", "lower", help="attribute from the frozen embedding, balanced test draw"),
        Column("embedding_null", "emb. null", "none", help="the same with the attribute shuffled in training"),
        Column("embedding_rescaled", "emb. a", "lower", help="the same with chance at 0 (Eq. 6 of Alvi et al. 2018)"),
    )
    splits = SPLITS
    protocols = LEAKAGE_PROTOCOLS
    source = "Alvi et al. 2018, section 6.3"
    on_request = True
    secondary = True

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        kept = {split: predictions[split].embeddings for split in SPLITS}
        if not all(kept.values()):
            raise CellError("the run kept no embeddings", fix="Run it with --set recipe.embeddings=true")
        found = embedding_leakage(
            {split: next(iter(by_name.values())) for split, by_name in kept.items()},
            {split: predictions[split].attributes[context.attribute] for split in SPLITS},
            context.protocol,
            groups=context.groups,
            seed=context.seed,
            memo=context.memo,
            threads=context.threads,
        )
        rounds = found.embedding.rounds.tolist()
        return {
            "embedding": rounds,
            "embedding_null": found.null.rounds.tolist(),
            "embedding_rescaled": [rescaled(value, len(found.groups)) for value in rounds],
            "chance": found.chance,
            "dropped_groups": found.dropped,
            "intervals": {"embedding": found.embedding.interval, "embedding_null": found.null.interval},
        }
