"""The campaign of long checks: its framework on promises that run at once, and its promises at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import biasbench
from biasbench import UsageError, io

FOLDER = Path(__file__).parents[1] / "benchmarks" / "campaign"
sys.path.insert(0, str(FOLDER))
try:
    import campaign
    import leakage
    import leakage_imsitu
    import promises
finally:
    sys.path.remove(str(FOLDER))

Kept, Promise = promises.Kept, promises.Promise


def toy(name, check, code=()):
    return Promise(name, check, code)


# -- the framework -----------------------------------------------------------------------------
@given(names=st.sets(st.text("abc-", min_size=1), max_size=12), n=st.integers(1, 8))
def test_the_shards_have_each_promise_once(names, n):
    every = [toy(name, None) for name in names]
    shards = [promises.chosen(every, (), (i, n)) for i in range(1, n + 1)]
    assert sorted(p.name for shard in shards for p in shard) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_only_some():
    every = [toy(name, None) for name in ("c", "a", "b")]
    assert [p.name for p in promises.chosen(every, ["c", "a", "c"])] == ["a", "c"]
    assert [p.name for p in promises.chosen(every, ["c", "a"], (2, 2))] == ["c"]
    with pytest.raises(UsageError, match=r"no promise 'd'. Known: a, b, c"):
        promises.chosen(every, ["d"])
    for shard in ((0, 2), (3, 2), (1, 0)):
        with pytest.raises(UsageError, match="there is no shard"):
            promises.chosen(every, (), shard)


class Squares:
    """A promise of four parts that may be killed in the third, and the parts that it worked on."""

    def __init__(self, kill=False):
        self.kill, self.worked = kill, []

    def __call__(self, parts):
        values = [parts(self.square, x=x) for x in range(4)]
        return Kept(sum(v == x * x for x, v in enumerate(values)), 4, str(values))

    def square(self, x):
        if self.kill and x == 2:
            raise KeyboardInterrupt
        self.worked.append(x)
        return x * x


def outcome(check, results, code=()):
    said = []
    return promises.run([toy("squares", check, code)], results, said.append), said


def test_a_killed_promise_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    killed, again, third, alone = Squares(kill=True), Squares(), Squares(), Squares()
    with pytest.raises(KeyboardInterrupt):
        outcome(killed, tmp_path / "a")
    found = [outcome(again, tmp_path / "a"), outcome(third, tmp_path / "a"), outcome(alone, tmp_path / "b")]
    assert [s.worked for s in (killed, again, third, alone)] == [[0, 1], [2, 3], [], [0, 1, 2, 3]]
    assert found == [(True, ["squares: 4/4 ok\n  [0, 1, 4, 9]"])] * 3


def test_a_part_is_made_again_when_it_is_damaged_or_the_code_is_another(tmp_path):
    code = tmp_path / "code"
    (code / "sub").mkdir(parents=True)
    (code / "sub" / "x.py").write_text("1")
    outcome(Squares(), tmp_path, (code,))
    min((tmp_path / "parts").iterdir()).write_text("{")
    damaged, changed, beside = Squares(), Squares(), Squares()
    outcome(damaged, tmp_path, (code,))
    assert len(damaged.worked) == 1
    (code / "notes.txt").write_text("no code")
    outcome(beside, tmp_path, (code,))
    assert beside.worked == []
    (code / "sub" / "x.py").write_text("2")
    outcome(changed, tmp_path, (code,))
    assert changed.worked == [0, 1, 2, 3]


def test_promises_do_not_share_parts(tmp_path):
    one, other = Squares(), Squares()
    promises.run([toy("one", one), toy("other", other)], tmp_path, print)
    assert one.worked == other.worked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kept", "line", "broken"),
    [
        (Kept(8, 8, ""), "p: 8/8 ok", False),
        (Kept(7, 8, "one\ntwo"), "p: 7/8 FAILED\n  one\n  two", True),
        (Kept(17, 20, "", needed=17), "p: 17/20 ok, 17 needed", False),
        (Kept(16, 20, "", needed=17), "p: 16/20 FAILED, 17 needed", True),
        (Kept(0, 0, "no lists"), "p: n/a (no lists)", False),
        (Kept(0, 3, ""), "p: 0/3 FAILED", True),
    ],
)
def test_what_is_said_of_a_promise(kept, line, broken):
    assert kept.line("p") == line
    assert kept.broken is broken


def unreadable(parts):
    raise biasbench.DataError("nothing here", where="a file")


def faulty(parts):
    return parts(lambda x: 1 / x, x=0)


def test_a_promise_that_cannot_be_checked_is_broken_and_hides_no_other(tmp_path, capfd):
    said = []
    every = [toy("a", unreadable), toy("b", faulty), toy("c", Squares())]
    assert promises.run(every, tmp_path, said.append) is False
    assert said[0] == "a: FAILED (a file: nothing here)"
    assert said[1].startswith("b: FAILED (a bug")
    assert said[2].startswith("c: 4/4 ok")
    error = capfd.readouterr().err
    assert "ZeroDivisionError" in error
    assert "DataError" not in error


# -- the command -------------------------------------------------------------------------------
def invoked(monkeypatch, tmp_path, every, *options):
    monkeypatch.setattr(campaign, "PARTS", (SimpleNamespace(promises=lambda: every),))
    monkeypatch.delenv("BIASBENCH_REAL", raising=False)
    return CliRunner().invoke(campaign.main, ["--results", str(tmp_path), *options])


def half(parts):
    return Kept(1, 2, "half")


def test_the_command_ends_with_1_when_one_is_broken(monkeypatch, tmp_path):
    fine, broken = toy("fine", Squares()), toy("broken", half)
    found = invoked(monkeypatch, tmp_path, [fine, broken])
    assert found.exit_code == 1
    starts = [line for line in found.stdout.splitlines() if not line.startswith(" ")]
    assert starts[:2] == ["broken: 1/2 FAILED", "fine: 4/4 ok"]
    assert starts[2].startswith("leakage-imsitu: n/a (name the folder")
    assert invoked(monkeypatch, tmp_path, [fine, broken], "--only", "fine").exit_code == 0
    shards = [invoked(monkeypatch, tmp_path, [fine, broken], "--shard", f"{i}/3") for i in (1, 2, 3)]
    assert [s.exit_code for s in shards] == [1, 0, 0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--only", "leakage-bays"), "campaign: no promise 'leakage-bays'. Did you mean 'leakage-bayes'?"),
        (("--shard", "1of2"), "campaign: --shard '1of2' is not of the form I/N. Write for example 2/3."),
        (("--shard", "3/2"), "campaign: there is no shard 3/2. Write I/N with I from 1 to N."),
    ],
)
def test_a_wrong_option_is_one_line_and_2(options, told, tmp_path):
    found = CliRunner().invoke(campaign.main, ["--results", str(tmp_path), *options])
    assert (found.exit_code, found.stderr.strip(), found.stdout) == (2, told, "")


def test_the_script_runs_from_anywhere(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "BIASBENCH_REAL"}
    command = [sys.executable, str(FOLDER / "campaign.py"), "--only", "leakage-imsitu"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("leakage-imsitu: n/a (")


# -- the promises on leakage -------------------------------------------------------------------
TOY = "certified(rounds=1, folds=2, plateau=False, epochs=2, width=8, iterations=8)"
BLIND = "smoke(width=2, lr=1e-9)"  # a network as it was drawn
FEW = {"train": 400, "val": 200, "test": 400}
needs_torch = pytest.mark.torch


@pytest.fixture
def parts(tmp_path):
    return promises.Parts(toy("toy", None), tmp_path)


def test_the_dials_are_as_promised():
    truth = np.array([leakage.Model(bias, leakage.NOISE).leakage() for bias in leakage.DIALS])
    assert len(truth) >= 8
    assert 2 * (truth < 53).sum() >= len(truth)
    assert truth.min() > 51  # whoever finds nothing is off
    women = (1 - 0.6) * leakage.LARGE["test"]
    assert 50 / np.sqrt(2 * women) <= 0.25  # points, of the balanced test draw


@needs_torch
def test_bayes_measures_what_leakage_measures(parts):
    kept = leakage.bayes(parts, dials=(0.5,), sizes=FEW, protocol=TOY)
    part = parts(None, bias=0.5, sizes=FEW, protocol=TOY)
    samples = leakage.scenes(leakage.Model(0.5, 0.03), FEW, 0)
    report = biasbench.leakage(samples, TOY, nulls=1)
    assert part["found"] == report.figures["lambda_D"].mean
    assert part["rows"] == 2 * report.details["per_group"]["test"]
    assert part["bayes"] == pytest.approx(68.95, abs=0.01)
    assert abs(part["drawn"] - part["bayes"]) < 4 * 50 / np.sqrt(part["rows"])
    assert kept.total == 1
    assert f"certified {part['found']:.2f} ({part['kind']})" in kept.text


@needs_torch
def test_bayes_is_kept_by_a_good_attacker_and_broken_by_a_weak_one(parts):
    sizes = {"train": 6_000, "val": 3_000, "test": 30_000}
    assert leakage.bayes(parts, dials=(0.7, 1.0), sizes=sizes, protocol=TOY).ok == 2
    assert leakage.bayes(parts, dials=(0.7, 1.0), sizes=sizes, protocol=BLIND).ok == 0


@needs_torch
def test_zero_is_kept_without_bias_and_broken_with_it(parts, monkeypatch, tmp_path):
    toy_size = {"seeds": 3, "nulls": 5, "needed": 2, "sizes": FEW, "protocol": "smoke"}
    kept = leakage.zero(parts, **toy_size)
    assert not kept.broken
    assert kept.text.startswith("15 null draws: ")
    part = parts(None, seed=1, nulls=5, sizes=FEW, protocol="smoke")
    report = biasbench.leakage(leakage.scenes(leakage.Model(0.0, 0.03), FEW, 1), "smoke", seed=1, nulls=5)
    assert part["found"] == report.figures["lambda_D"].mean
    assert part["null"] == report.figures["null_all"].rounds.tolist()
    scenes = leakage.scenes
    monkeypatch.setattr(leakage, "scenes", lambda model, *rest: scenes(replace(model, bias=1.0), *rest))
    fresh = promises.Parts(toy("toy", None), tmp_path / "fresh")
    assert (leakage.zero(fresh, **toy_size).ok, leakage.zero(fresh, **toy_size).broken) == (0, True)


@needs_torch
def test_scale_is_kept_by_certified_attackers_and_broken_by_the_published_one(parts):
    sizes = {"train": 400, "val": 200, "test": 2_000}
    toy_size = {"scales": (1e-12, 1.0, 1e12), "strengths": (0.5, 0.9), "seeds": 1, "sizes": sizes}
    kept = leakage.scale(parts, **toy_size, protocol=TOY)
    assert (kept.ok, kept.total) == (6, 6), kept.text
    published = leakage.scale(parts, **toy_size, protocol="smoke(epochs=8, width=16, lr=0.01)")
    assert published.ok < published.total


@needs_torch
@pytest.mark.parametrize("pair", [False, True])
def test_planted_scores_tell_as_much_as_was_planted(pair):
    (sample, *_) = leakage.planted(0.8, 0, 1e6, pair, {"train": 20_000, "val": 2, "test": 2}).values()
    told = sample.scores[:, 2] * (np.sign(sample.scores[:, 5]) if pair else 1) > 0
    assert (told == sample.attribute).mean() == pytest.approx(0.8, abs=0.015)
    alone = [np.mean((column > np.median(column)) == sample.attribute) for column in sample.scores.T]
    if not pair:
        del alone[2]
    assert np.abs(np.array(alone) - 0.5).max() < 0.02


# -- the promise on imSitu ---------------------------------------------------------------------
def test_without_the_lists_imsitu_is_not_tried(parts, tmp_path):
    assert leakage_imsitu.imsitu(parts, None).line("p").startswith("p: n/a (name the folder")
    assert leakage_imsitu.imsitu(parts, tmp_path).line("p").startswith("p: n/a (no imsitu_train.npz")


def write_lists(folder):
    """200 rows a split of six verbs, of which the first two lean."""
    folder.mkdir()
    names = sorted(["biking", "cooking", "diving", "eating", "jogging", "rowing"])
    for number, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng(number)
        verb = rng.integers(0, 6, 200)
        gender = (rng.random(200) < np.choose(verb, [0.1, 0.9, 0.5, 0.5, 0.5, 0.5])).astype(np.int8)
        image = np.array([f"{names[v]}_{split}{i}.jpg" for i, v in enumerate(verb)])
        np.savez(folder / f"imsitu_{split}.npz", verb=verb.astype(np.int16), gender=gender, image_name=image)
    io.write_json(folder / "imsitu_labels.json", names)


@needs_torch
def test_imsitu_reads_what_the_command_line_prints(parts, tmp_path, monkeypatch):
    write_lists(tmp_path / "wang2019")
    anything = [replace(case, low=0.0, high=100.0) for case in leakage_imsitu.PUBLISHED[3:]]
    never = replace(anything[0], title="never", low=101.0)
    monkeypatch.setattr(leakage_imsitu, "PUBLISHED", (*anything, never))
    short = "wang2019(rounds=1, epochs=2, width=8)"
    kept = leakage_imsitu.imsitu(parts, tmp_path, short)
    assert (kept.ok, kept.total) == (3, 4), kept.text
    told = kept.text.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "alpha = 1",
        "alpha = 1, last epoch",
        "full, F1 = 40.11",
        "never",
    ]
    assert "published 53.99 ± 0.69, measured " in told[0]
    assert told[3].endswith("OUTSIDE")
    assert len(list((tmp_path / "parts").iterdir())) == 2  # alpha-1 was measured once

    # A list that is another by now is measured anew; a command that fails breaks the promise.
    write_again = tmp_path / "wang2019" / "imsitu_test.npz"
    write_again.write_bytes(b"no list")
    with pytest.raises(biasbench.CellError, match=r"biasbench leakage --dataset imsitu .* ended with 4"):
        leakage_imsitu.imsitu(parts, tmp_path, short)


def test_imsitu_wants_what_was_published():
    wanted = {(case.options, case.figure): (case.low, case.high) for case in leakage_imsitu.PUBLISHED}
    assert wanted[(), "lambda_D"] == pytest.approx((67.56, 68.96))
    for n in (2, 3):
        assert wanted[("--method", f"alpha-{n}"), "lambda_D"] == (66, 69)
    assert wanted[("--method", "alpha-1"), "lambda_D"] == (51, 55.5)
    assert wanted[("--method", "alpha-1"), "last_epoch"] == (48, 52)
    assert wanted[("--f1", "40.11"), "lambda_D_F1"] == (55, 58)
