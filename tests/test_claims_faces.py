"""What `benchmarks/claims_faces.py` says of results whose figures are known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from biasbench.store import Store

pytestmark = pytest.mark.torch  # its neighbour reads predictions by code that needs it

ROOT = Path(__file__).parents[1]
PLAIN, BIASED = "faces(task='gender')", "faces(task='gender', bias='eb1')"
JLU = "jlu(attributes=('age',))"


@pytest.fixture(scope="module")
def claims():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # as when it runs as a script
        return load(ROOT / "benchmarks" / "claims_faces.py")


def load(path):
    spec = importlib.util.spec_from_file_location(f"biasbench_test_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


stored = load(ROOT / "tests" / "cli" / "stored.py")


def fill(folder, rows, protocol="wang2019"):
    """`rows`: (data set, method) to accuracies and embedding figures, both by seed; chance is 25."""
    for (dataset, method), (accuracies, embeddings) in rows.items():
        for seed, (accuracy, embedding) in enumerate(zip(accuracies, embeddings, strict=True)):
            key = stored.commit(folder, method, seed, dataset=dataset)
            base = {"attribute": "gender", "protocol": protocol, "flags": [], "error": None, "rounds": {}}
            one = {"std": None, "n": 1}
            Store(folder).write_metrics(key, [
                {"metric": "classes", "values": {"accuracy": {"mean": accuracy, **one}}, "details": {}, **base},
                {"metric": "embedding", "values": {"embedding": {"mean": embedding, **one}},
                 "details": {"chance": 25.0}, **base},
            ])  # fmt: skip
    return folder


def said(claims, folder, *options):
    result = CliRunner().invoke(claims.main, [str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {line.strip().rsplit(": ", 2)[0]: line for line in result.output.splitlines() if line.startswith("  ")}


BASELINES = {
    (PLAIN, "original"): ([90.0, 91.0, 92.0], [60.0, 60.0, 60.0]),
    (BIASED, "original"): ([80.0, 80.0, 81.0], [55.0, 54.0, 56.0]),
}


def test_what_comes_back_and_what_is_unlearned(claims, tmp_path):
    found = said(claims, fill(tmp_path, {**BASELINES, (BIASED, JLU): ([88.0, 88.5, 90.0], [30.0, 29.0, 31.0])}))
    assert found["accuracy falls through the bias"].endswith(": holds")
    assert found[f"{JLU} recovers at least half"].endswith("80 % of the loss: holds")  # 25.5 / 32, of means
    share = 100 * np.array([25 / 30, 25 / 29, 25 / 31])
    low, high = stats.t.interval(0.95, 2, share.mean(), stats.sem(share))
    line = found[f"percent of gender unlearned by {JLU}, at least 50"]
    assert line.endswith(f": {share.mean():+.2f} ({low:+.2f} to {high:+.2f}, 3 seeds): holds")


def test_a_method_that_recovers_nothing_fails(claims, tmp_path):
    found = said(claims, fill(tmp_path, {**BASELINES, (BIASED, JLU): ([76.0, 76.5, 77.0], [54.0, 54.0, 55.0])}))
    assert found[f"{JLU} recovers at least half"].endswith(": fails")
    assert found[f"percent of gender unlearned by {JLU}, at least 50"].endswith(": fails")
    assert found[f"{JLU} costs the task less than 3 points"].endswith(": fails")


def test_what_the_protocol_did_not_read_is_not_judged(claims, tmp_path):
    other = "jlu(attributes=('age',), weight=3.0)"
    fill(tmp_path, {(BIASED, "original"): BASELINES[BIASED, "original"],
                    (BIASED, JLU): ([80.0, 80.0, 81.0], [40.0, 40.0, 41.0])})  # fmt: skip
    fill(tmp_path, {(BIASED, other): ([80.0, 80.0, 81.0], [30.0, 30.0, 31.0])}, protocol="certified")
    found = said(claims, tmp_path, "--protocol", "wang2019")
    assert f"percent of gender unlearned by {JLU}, at least 50" in found
    assert f"percent of gender unlearned by {other}, at least 50" not in found
    assert f"{other} costs the task less than 3 points" in found  # which needs no attacker


def test_without_the_unbiased_baseline_only_the_embedding_is_judged(claims, tmp_path):
    rows = {
        (BIASED, "original"): BASELINES[BIASED, "original"],
        (BIASED, JLU): ([80.0, 80.0, 81.0], [40.0, 40.0, 41.0]),
    }
    found = said(claims, fill(tmp_path, rows))
    assert not any("recovers" in claim for claim in found)
    assert found[f"{JLU} costs the task less than 3 points"].endswith(": holds")


def test_an_unreadable_folder_is_one_line(claims, tmp_path):
    result = CliRunner().invoke(claims.main, [str(tmp_path / "none")], catch_exceptions=False)
    assert result.exit_code != 0
    assert result.stderr.count("\n") == 1


def test_one_protocol_at_a_time(claims, tmp_path):
    rows = {(PLAIN, "original"): ([80, 82], [60, 62]), (PLAIN, JLU): ([79, 80], [40, 41])}
    folder = fill(tmp_path, rows)
    store = Store(folder)
    for record in store.records():
        (measured,) = (m for m in store.metrics(record["key"]) if m["metric"] == "embedding")
        mean = measured["values"]["embedding"]["mean"]
        better = {"embedding": {"mean": mean + 5, "std": None, "n": 1}}
        store.write_metrics(record["key"], [{**measured, "protocol": "certified", "values": better}])
    refused = CliRunner().invoke(claims.main, [str(folder)])
    assert refused.exit_code != 0
    assert "by certified and wang2019" in refused.output
    by = {name: claims.read(store, name)[PLAIN]["original"] for name in ("wang2019", "certified")}
    assert [by["wang2019"][seed]["embedding gender"] for seed in (0, 1)] == [60, 62]
    assert [by["certified"][seed]["embedding gender"] for seed in (0, 1)] == [65, 67]
    assert all(runs[seed]["accuracy"] == accuracy for runs in by.values() for seed, accuracy in ((0, 80), (1, 82)))
