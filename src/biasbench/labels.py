"""A data set's labels as measures read them; no image is opened."""

from __future__ import annotations

import numpy as np

from biasbench.data import SPLITS, Split, attribute, targets
from biasbench.errors import CellError, UsageError
from biasbench.measures.sample import Sample
from biasbench.planned import Data
from biasbench.rng import generator, seed_for
from biasbench.spec import MethodSpec


def label_samples(data: Data, name: str, method: MethodSpec, seed: int) -> dict[Split, Sample]:
    """Train, val and test of a data set; only training rows are chosen by the method, as published.

    Args:
        data: An opened data set.
        name: A protected attribute; `a*b` for an intersection.
        method: What it does to the training rows counts; what it does to a model does not.
        seed: The one that a run of the method would have.

    Raises:
        DataError: When there is no such attribute.
        UsageError: When the method chooses no rows, so that it would change nothing here.
        CellError: When it leaves too few.
    """
    from biasbench.method import Method

    data.derive(name)
    tables = dict(data.tables)
    if method.parts:
        if all(part.cls.resample is Method.resample for part in method.parts):
            raise UsageError(
                f"{method.text} chooses no training rows: its labels are those of the data set",
                fix="Give --method a method such as alpha-1, or leave it out",
            )
        chosen = method.build().resample(tables["train"], generator("data", data.fingerprint, seed, "resample"))
        if len(chosen) < 2:
            raise CellError(f"{method.text} left {len(chosen)} training rows")
        tables["train"] = chosen
    return {s: Sample(targets(tables[s]), attribute(tables[s], name).astype(np.int64)) for s in SPLITS}


def measuring_seed(data: Data, seed: int) -> int:
    """The base of a measurement's random streams: that of a run on the same data with the same seed."""
    return seed_for("measure", data.fingerprint, seed)
