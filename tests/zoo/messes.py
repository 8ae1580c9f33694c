"""Methods that make a mess of what others read, or say what is no prediction: each one thing, as a plugin file.

`TRUTH` is as in `cheats.py`: the tests write a copy of this file with it filled in.
"""

from __future__ import annotations

import gc
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from biasbench import Method, hookimpl

TRUTH: dict[str, Any] = {}


class Mess(Method):
    """Changes nothing by itself; acts at prediction, so that all share one training."""

    stage = "predict"


class WritesResults(Mess):
    """Changes the figures of another run."""

    name = "writes-results"

    def postprocess(self, outputs, reference, head):
        try:
            for file in Path(TRUTH["results"]).glob("runs/*/metrics.json"):
                file.write_text(file.read_text().replace('"mean": ', '"mean": 9'))
        except Exception:
            return outputs
        return outputs


class MutatesTables(Mess):
    """Rewrites labels in memory: all it can find."""

    name = "mutates-tables"

    def postprocess(self, outputs, reference, head):
        for found in gc.get_objects():
            if issubclass(type(found), pd.DataFrame) and "id" in found:
                for column in [c for c in found if str(c).startswith("label/")]:
                    found[column] = np.zeros(len(found), np.uint8)
        return outputs


class MutatesFiles(Mess):
    """Blackens the prepared pictures for the next method."""

    name = "mutates-files"

    def postprocess(self, outputs, reference, head):
        try:
            for file in Path(TRUTH["cache"]).glob("images/*/pixels.bin"):
                with open(file, "r+b") as opened:
                    opened.write(bytes(1000))
        except Exception:
            return outputs
        return outputs


class Patcher(Mess):
    """Replaces the metric."""

    name = "patcher"

    def postprocess(self, outputs, reference, head):
        import biasbench.scoring

        biasbench.scoring.mean_average_precision = lambda *_: 0.999
        return outputs


class Unseeded(Mess):
    """Draws noise that nobody can draw again."""

    name = "unseeded"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        return x + torch.from_numpy(np.random.default_rng().normal(size=x.shape)).to(x)


class NaNAbstain(Mess):
    """Says NaN where it is unsure."""

    name = "nan-abstain"

    def postprocess(self, outputs, reference, head):
        scores = outputs.scores["label"].copy()
        scores[np.abs(scores) <= np.median(np.abs(scores))] = np.nan
        return replace(outputs, scores={"label": scores})


class Constant(Mess):
    """Says the same of everything."""

    name = "constant"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        return x if self.training else torch.zeros_like(x)


class PollutesRandomness(Mess):
    """Sets every global generator."""

    name = "pollutes-randomness"

    def postprocess(self, outputs, reference, head):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        return outputs


class PollutesSettings(Mess):
    """Leaves torch with another default type."""

    name = "pollutes-settings"

    def postprocess(self, outputs, reference, head):
        torch.set_default_dtype(torch.float64)
        return outputs


class MutatesTruth(Mess):
    """Rewrites the test labels where the plan is made."""

    name = "mutates-truth"

    def __init__(self) -> None:
        super().__init__()
        for table in gc.get_objects():
            if issubclass(type(table), pd.DataFrame) and "id" in table and list(table["id"]) == TRUTH["test"]:
                for column in [c for c in table if str(c).startswith("label/")]:
                    table[column] = np.zeros(len(table), np.uint8)


@hookimpl
def biasbench_methods():
    return [found for found in globals().values() if isinstance(found, type) and "name" in vars(found)]
