"""Every cheat is found out, or shown to be harmless: what it looks for is not in its process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from biasbench.guard import kernel

pytestmark = [pytest.mark.torch, pytest.mark.timeout(1200)]  # the whole zoo runs in the first test

FLAGGED = {
    "reads-file": "opens ",
    "reads-memory": "/mem",
    "reads-results": "truth/test.parquet",
    "writes-results": "metrics.json",
    "mutates-files": "changes ",
    "mutates-tables": "has changed the train table",
    "patcher": "has replaced biasbench.scoring.mean_average_precision",
    "gc-hunter": "'postprocess' sees other pictures",
    "frame-hunter": "'postprocess' sees other pictures",
    "looks-around": "'postprocess' sees other pictures",
    "obfuscates-by-name": "'postprocess' sees other pictures",
    "obfuscator": "comes again, in another batch and order",
    "ranks": "comes again, in another batch and order",
    "unseeded": "comes again, in another batch and order",
    "row-index": "under another row's number",
    "hash-lookup": "when a few pixels are a grey level off",
    "paints-labels": "when a few pixels are a grey level off",
    "nan-abstain": "not finite",
    "pollutes-settings": "has changed torch's default type",
}
"""What is said of each that is void."""
HARMLESS = ("honest", "reads-targets", "pollutes-randomness", "reads-file-natively", "asks-another")
"""Those whose predictions are the honest ones, bit for bit."""
MARKED = {
    "declared-row-index": ("by row number",),
    "smuggler": ("by row number", "smuggled.json: not in the key"),
    "constant": ("degenerate: the same is said of every test picture",),
}
INFLATING = (
    "reads-file", "reads-file-natively", "asks-another", "gc-hunter", "frame-hunter", "reads-targets", "row-index",
    "hash-lookup", "smuggler",
)  # fmt: skip
"""Those that get test labels right wherever nobody looks."""
KERNEL = ("reads-file-natively", "asks-another")


@pytest.fixture(scope="session")
def ran(zoo: Any) -> Any:
    """The zoo after all of it ran, an honest cell among the cheats last."""
    zoo.run(*FLAGGED, *HARMLESS, *MARKED, "adv-conv5(warmup=1)")
    return zoo


@pytest.fixture(scope="session")
def records(ran: Any) -> dict[str, Any]:
    found: dict[str, Any] = ran.records()
    return found


@cache
def landlock() -> bool:
    """Whether this kernel can close folders, tried in a process of its own."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return bool(pool.apply(kernel.close, ([Path("/nowhere-at-all")], [])))


@pytest.mark.parametrize("method", FLAGGED)
def test_it_is_void_and_the_reason_is_named(method: str, records: dict[str, Any]) -> None:
    record = records[method]
    assert (record["status"], record["values"]) == ("failed", {})
    assert FLAGGED[method] in record["reason"]


@pytest.mark.parametrize("method", HARMLESS)
def test_it_predicts_what_an_honest_method_does(method: str, ran: Any, records: dict[str, Any]) -> None:
    if method in KERNEL and not landlock():
        assert "isolation=weak" in records["original"]["flags"]
        pytest.skip("this kernel cannot close folders, and rows say so")
    assert records[method]["status"] == "ok"
    assert ran.predictions(method) == ran.predictions("original")


@pytest.mark.parametrize("method", MARKED)
def test_its_row_is_marked(method: str, records: dict[str, Any]) -> None:
    assert records[method]["status"] == "ok"
    assert all(any(flag.endswith(mark) for flag in records[method]["flags"]) for mark in MARKED[method])


@pytest.mark.parametrize("method", ["honest", "original", "adv-conv5(warmup=1)"])
def test_honest_rows_carry_no_mark(method: str, records: dict[str, Any]) -> None:
    known = ("weights=", "smoke:", "views=", "limit=", "recipe:", "isolation=weak")
    assert records[method]["status"] == "ok"
    assert [f for f in records[method]["flags"] if not f.startswith(known)] == []
    assert ("isolation=weak" in records[method]["flags"]) is not landlock()


def test_a_void_prediction_takes_nobody_along(ran: Any) -> None:
    found = ran.run("alpha-2+nan-abstain", "alpha-2+honest")  # the first trains for both
    assert (found.ok, found.failed) == (1, 1)
    assert ran.records()["alpha-2+honest"]["status"] == "ok"


def test_the_truth_is_guarded_where_the_plan_is_made(ran: Any) -> None:
    before = ran.predictions("original")
    assert ran.run("mutates-truth", "noise").failed == 2  # whatever is joined with that truth is void
    assert "the test table of coco has changed since it was opened" in ran.records()["mutates-truth"]["reason"]
    assert ran.run("original", "noise").ok == 2  # in a plan without it all is well
    assert ran.predictions("original") == before


def test_what_others_read_is_untouched(ran: Any) -> None:
    for key in ran.store.runs():
        ran.store.verify(ran.store.run(key))
        ran.store.metrics(key)
    from biasbench.images import ImageStore

    for folder in (ran.settings.cache / "images").iterdir():
        if folder.is_dir():
            ImageStore.open(folder).verify()


@pytest.mark.parametrize("method", INFLATING)
def test_control_it_wins_where_nobody_looks(method: str, ran: Any, tmp_path: Path, monkeypatch: Any) -> None:
    assert ran.naive_accuracy(method, tmp_path, monkeypatch) == 1.0


def test_control_honesty_does_not(ran: Any, tmp_path: Path, monkeypatch: Any) -> None:
    assert ran.naive_accuracy("honest", tmp_path, monkeypatch) < 0.9
