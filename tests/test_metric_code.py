"""A metric's code is part of what a stored measurement is: changed code measures again, and is never averaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from biasbench.config import Settings
from biasbench.leaderboard import aggregate
from biasbench.memo import Memo
from biasbench.metric import Column
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

HELPERS = Path(__file__).parent / "helpers"
FEW = {"stages.0.epochs": 1, "stages.1.epochs": 0, "crop": 32, "short_side": 32}
METRIC = """
from biasbench import Column, Metric, hookimpl


class Mine(Metric):
    name = "mine"
    columns = (Column("mine", "mine", "none"),)

    def measure(self, predictions, tables, context):
        return {{"mine": context.memo("of the test split", lambda: float({value}))}}


@hookimpl
def biasbench_metrics():
    return [Mine]
"""


class Bench:
    """One cell, measured by a plugin's metric of which the source may change."""

    def __init__(self, folder: Path) -> None:
        self.plugin, self.settings = folder / "mine.py", Settings((), folder / "results", folder / "cache")
        self.events: list[Mapping[str, Any]] = []

    def write(self, value: object) -> None:
        self.plugin.write_text(METRIC.format(value=value))

    def run(self) -> tuple[Summary, list[str]]:
        """How a run ends, and the jobs that it started."""
        events: list[Mapping[str, Any]] = []
        plugins = load_plugins([HELPERS / "tiny.py", HELPERS / "trouble.py", self.plugin])
        wanted = Request(["original"], ["plain"], ["tiny"], profile="smoke", overrides=FEW, metrics=["mine"])
        cells = make_plan([wanted], plugins, self.settings)
        store = Store(self.settings.results, create=True)
        summary = Runner(
            cells, store, self.settings.cache, plugin_files=plugins.files, report=events.append
        ).run()  # fmt: skip
        return summary, [e["name"].split()[0] for e in events if e["event"] == "job" and e["state"] == "start"]

    def figure(self) -> float:
        store = Store(self.settings.results)
        (key,) = store.runs()
        (record,) = store.metrics(key)
        value: float = record["values"]["mine"]["mean"]
        return value


@pytest.mark.torch
def test_a_plugin_metric_whose_source_changed_is_measured_again_and_nothing_else_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(12)
    assert bench.run() == (Summary(ok=1), ["images", "cell", "measure"])
    assert bench.figure() == 12
    assert bench.run() == (Summary(ok=1, cached=1), [])
    bench.write(345)
    assert bench.run() == (Summary(ok=1), ["measure"])
    assert bench.figure() == 345  # neither the stored figure nor the memo's, though both are of the same name
    assert bench.run() == (Summary(ok=1, cached=1), [])


@pytest.mark.torch
def test_the_version_of_one_of_our_own_metrics_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from biasbench.spec import code_of

    offer = load_plugins().metrics.find("accuracy")
    metric = offer.load()
    assert code_of(metric, offer) == "1"
    monkeypatch.setattr(metric, "version", 2)
    assert code_of(metric, offer) == "2"


def test_memos_of_two_codes_are_two(tmp_path: Path) -> None:
    ours, one, other = Memo(tmp_path), Memo(tmp_path, of="1 a.py 12"), Memo(tmp_path, of="1 a.py 34")
    for number, memo in enumerate((ours, one, other)):
        assert memo("key", lambda number=number: number) == number  # type: ignore[misc]
    assert [memo.get("key") for memo in (ours, one, other)] == [0, 1, 2]


@pytest.mark.parametrize(("code", "said"), [("1", False), ("2", True)])
def test_a_row_says_that_its_seeds_were_measured_by_two_versions(code: str, said: bool) -> None:
    record = {"method": "original", "dataset": "d", "backbone": "b", "profile": "p", "attribute": "gender",
              "protocol": "q", "status": "ok", "reason": None, "weights": "", "flags": [], "order": 0,
              "values": {"map": {"mean": 70.0, "std": None, "n": 1}}}  # fmt: skip
    seeds = [{**record, "seed": 0, "key": "a", "codes": {"accuracy": "1"}},
             {**record, "seed": 1, "key": "b", "codes": {"accuracy": code}}]  # fmt: skip
    (row,) = aggregate(seeds, [Column("map", "mAP", "higher")])
    assert ("mixed versions of the metric accuracy: measure again" in row.flags) is said
