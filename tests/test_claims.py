"""What `benchmarks/claims.py` says of results whose figures are known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from biasbench import generator, io
from biasbench.store import Store

pytestmark = pytest.mark.torch  # predictions are read by code that needs it

ROOT = Path(__file__).parents[1]


def load(path):
    spec = importlib.util.spec_from_file_location(f"biasbench_test_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


claims = load(ROOT / "benchmarks" / "claims.py")
stored = load(ROOT / "tests" / "cli" / "stored.py")


def fill(folder, rows, seeds=(0, 1, 2)):
    """`rows`: method to (F1, Δ, λ_M), the same for every seed but for a little that tells seeds apart."""
    for method, (f1, delta, lambda_m) in rows.items():
        for seed in seeds:
            moved = 0.1 * float(generator(method, seed).normal())
            stored.commit(folder, method, seed, f1 + seed, (delta - 1, delta + 1), lambda_m + moved)
    return claims.Results(Store(folder))


def by_claim(found):
    return {one.claim: one for one in found}


def test_the_order_of_table_4(tmp_path):
    falling = {name: (50.0, 9.0, 80.0 - 5 * i) for i, name in enumerate(claims.ORDER)}
    found = list(claims.order(fill(tmp_path / "a", falling)))
    assert [one.verdict for one in found] == ["holds"] * 4
    rising = {name: (50.0, 9.0, 60.0 + 5 * i) for i, name in enumerate(claims.ORDER)}
    assert [one.verdict for one in claims.order(fill(tmp_path / "b", rising))] == ["fails"] * 4
    equal = dict.fromkeys(claims.ORDER, (50.0, 9.0, 70.0))
    assert {one.verdict for one in claims.order(fill(tmp_path / "c", equal))} == {"undecided"}


def test_a_difference_stands_with_its_interval():
    values = np.array([1.0, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert claims.judged("x", values).figure == f"{values.mean():+.2f} ({low:+.2f} to {high:+.2f}, 3 seeds)"
    assert claims.judged("x", [1.0]).figure == "+1.00 (one seed)"
    assert claims.judged("x", []).figure == "not run"


@pytest.mark.parametrize(("last", "verdict"), [(60.0, "holds"), (79.0, "fails")])
def test_noise_has_to_fall_with_its_level(tmp_path, last, verdict):
    rows = {
        "original": (60.0, 9.0, 80.0),
        **{f"noise(sigma={i})": (60.0 - i, 9.0 - 0.1 * i, 80.0 - 2 * i) for i in range(1, 8)},
    }
    rows["noise(sigma=8)"] = (50.0, 8.0, last)
    found = by_claim(claims.noise(fill(tmp_path, rows)))["λ_M of original falls with its noise"]
    assert found.verdict == verdict
    assert ("1 rises" in found.figure) == (verdict == "fails")


def test_one_seed_decides_nothing(tmp_path):
    rows = {"original": (60.0, 9.0, 80.0), "noise(1)": (50.0, 8.0, 70.0), "noise(2)": (40.0, 7.0, 60.0)}
    found = list(claims.noise(fill(tmp_path, rows, seeds=(0,))))
    assert {one.verdict for one in found} == {""}
    assert all("one seed" in one.figure for one in found)


def test_removal_is_compared_with_the_noise_of_both_plain_models(tmp_path):
    control = claims.CONTROL
    rows = {
        "original": (50.0, 10.0, 80.0), "noise(sigma=1)": (30.0, 2.0, 60.0),
        control: (56.0, 10.0, 80.0), f"{control}+noise(sigma=1)": (36.0, 2.0, 60.0),
        "adv-conv5(weight=2.0)": (52.0, 6.0, 70.0),
    }  # fmt: skip
    found = by_claim(claims.pushed(fill(tmp_path, rows)))
    assert len(found) == 6
    plain, same = (found[f"F1 of adv-conv5(weight=2.0) against noise of {p}"] for p in ("original", control))
    assert plain.figure.startswith("+12.00")  # noise of the plain model has 40 at Δ = 6
    assert same.figure.startswith("+6.00")
    assert (plain.verdict, same.verdict) == ("holds", "holds")
    every = found["F1 of adv-conv5(weight=2.0) against noise of original, at least"]
    assert (every.figure, every.verdict) == (plain.figure, "holds")
    assert "lies outside" in found["Δ of adv-conv5(weight=2.0) against noise of original"].figure


def test_noise_that_never_falls_as_low_counts_with_its_lowest_f1(tmp_path):
    rows = {
        "original": (50.0, 10.0, 80.0), "noise(sigma=1)": (30.0, 6.0, 60.0), "noise(sigma=2)": (20.0, 7.0, 60.0),
        "adv-conv5": (45.0, 2.0, 70.0),
    }  # fmt: skip
    found = by_claim(claims.pushed(fill(tmp_path, rows)))
    assert "lies below the curve" in found["F1 of adv-conv5 against noise of original"].figure
    bound = found["F1 of adv-conv5 against noise of original, at least"]
    assert bound.figure == "+25.00 (+25.00 to +25.00, 3 seeds), 3 of them below all noise"
    assert bound.verdict == "holds"


def test_the_figures_of_every_run_in_a_file(tmp_path):
    fill(tmp_path / "r", {"original": (50.0, 10.0, 80.0), "alpha-1": (40.0, 4.0, 60.0)}, seeds=(0, 1))
    result = CliRunner().invoke(claims.main, [str(tmp_path / "r"), "--figures", str(tmp_path / "f.csv")])
    assert result.exit_code == 0, result.output
    rows = [line.split(",") for line in (tmp_path / "f.csv").read_text().splitlines()]
    assert [row[:2] for row in rows[1:]] == [["original", "0"], ["original", "1"], ["alpha-1", "0"], ["alpha-1", "1"]]
    column = rows[0].index("delta")
    assert [float(row[column]) for row in rows[1:]] == [10.0, 10.0, 4.0, 4.0]


def test_what_balancing_leaves(tmp_path):
    fill(tmp_path, {"alpha-1": (40.0, 3.5, 55.0)})
    for path in (tmp_path / "runs").glob("*/metrics.json"):  # as real runs have them
        found = io.read_json(path)
        found["records"][1]["details"] = {"figures": {"null_train_D": {"mean": 52.5}}}
        found["records"][1]["values"]["lambda_d"] = {"mean": 53.5, "std": None, "n": 1}
        found["sha256"] = io.hash_json(found["records"])
        io.write_json(path, found)
    leaks, amplifies = claims.balanced(claims.Results(Store(tmp_path)))
    assert (leaks.figure, leaks.verdict) == ("+1.00 (+1.00 to +1.00, 3 seeds)", "holds")
    assert (amplifies.figure, amplifies.verdict) == ("+3.50 (+3.50 to +3.50, 3 seeds)", "holds")


def test_the_command_names_a_missing_folder(tmp_path):
    result = CliRunner().invoke(claims.main, [str(tmp_path / "nowhere")])
    assert result.exit_code == 5
    assert "holds no results" in result.output
