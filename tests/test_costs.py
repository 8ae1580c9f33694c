"""What a plan is counted to do, by hand on small plans, and what its estimate depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

TINY = Path(__file__).parent / "cli" / "tiny.py"
SIZED = '''
import numpy as np
import pandas as pd
from biasbench import Dataset, hookimpl

class Sized(Dataset):
    """As many rows as asked for; there are no pictures."""
    name = "sized"
    default_backbone = "tinynet"
    crop = short_side = 32
    label_names = ("red", "blue")
    attribute_names = {"gender": ("a", "b")}

    def __init__(self, root, cache, *, n: int = 64) -> None:
        super().__init__(root, cache)
        self.n = n

    @classmethod
    def home(cls, cache, options):
        return cache

    def table(self, split):
        n = np.arange(self.n if split == "train" else self.n // 2)
        names = [f"{split}-{i}" for i in n]
        return pd.DataFrame({"id": names, "path": names, "label/red": (n % 3 == 0).astype(np.uint8),
                             "label/blue": (n % 2 == 0).astype(np.uint8), "attribute/gender": (n % 4 < 2) * 1})

@hookimpl
def biasbench_datasets():
    return [Sized]
'''
SMALL = {"crop": 32, "short_side": 32}


@pytest.fixture
def count(tmp_path):
    """Counts a plan in an empty cache: `count(["original"], "sized(n=64)", seeds=[0])`."""
    from biasbench.config import load_settings
    from biasbench.costs.work import plan_work
    from biasbench.plan import Request, make_plan
    from biasbench.plugins import load_plugins

    (tmp_path / "sized.py").write_text(SIZED)
    plugins = load_plugins([TINY, tmp_path / "sized.py"])
    settings = load_settings(cache=tmp_path / "cache", results=tmp_path / "results", environ={}, folder=tmp_path)

    def work(methods: Sequence[str], dataset: str = "tiny", seeds: Sequence[int] = (0,), profile="smoke", **recipe):
        request = Request(methods, [dataset], seeds=seeds, profile=profile, overrides={**SMALL, **recipe})
        cells = make_plan([request], plugins, settings)
        return plan_work(cells, None, settings.cache, plugins)

    return work


def rates(start=0.0, seconds=1.0, networks=("tinynet",), protocols=("smoke", "quick"), **more):
    """A machine on which everything takes a second, but what is said otherwise."""
    from biasbench.costs.rates import Attacker, Cost, Network, Rates

    taps = ("conv1", "conv2", "conv3", "conv4", "conv5", "embedding")
    cost = {
        name: Cost(value=more.get(name, seconds), spread=0, times=1) for name in ("decode", "crop", "hash", "write")
    }
    forward = {tap: Cost(value=more.get("forward", seconds), spread=0, times=1) for tap in taps}
    both = {tap: Cost(value=more.get("both", 3 * seconds), spread=0, times=1) for tap in taps}
    network = Network(crop=32, batch=16, forward=forward, both=both, base=1000, peak=5000)
    attacker = Attacker(seconds=Cost(value=more.get("attacker", seconds), spread=0, times=1), epochs=1, size=1e3)
    return Rates(
        **cost, start=Cost(value=start, spread=0, times=1), crop_side=32, cores=2, share=1.0,
        networks=dict.fromkeys(networks, network), attackers=dict.fromkeys(protocols, attacker),
    )  # fmt: skip


def test_one_cell_by_hand(count):
    """tiny has 48, 20 and 22 rows; smoke trains the head, then conv5, an epoch each in batches of 32 and 16."""
    work = count(["original"])
    assert work.totals() == {
        "finished": 0, "to_run": 1, "to_measure": 0, "not_applicable": 0, "trainings": 1, "epochs": 2,
        "training_rows": 2 * 48, "decoded_images": 48 + 20 + 22,
        "feature_rows": 48 + 48 + 20 + 22,  # the training split's centre and its one view
        "predicted_rows": 48 + 48 + 20 + 22,
        "attackers": 6 + 4,  # one round of smoke: see the test of attackers
        "passed_images": (48 + 48 + 20 + 22) + (48 + 20) + (48 + 48 + 20 + 22),
    }  # fmt: skip
    (stage,) = work.parts("stage 1")
    trained, scored = stage.passes
    assert (trained.segments, trained.trained, trained.images) == (("conv5", "embedding"), 2, 48)
    assert (scored.segments, scored.trained, scored.images) == (("conv5", "embedding"), 0, 20)
    (head,) = work.parts("stage 0")
    assert head.passes == ()  # it starts from stored embeddings


def test_an_adversary_adds_its_own_batches_and_starts_from_the_plain_model(count):
    """60 steps before, then two beside each of the three of an epoch, of 16 rows; `original` is trained once."""
    work = count(["adv-conv5", "original"], **{"stages.1.epochs": 4})
    assert (work.totals()["trainings"], work.totals()["epochs"]) == (2, (1 + 4) + 4)
    plain, adversary = work.parts("stage 1")  # what others start from runs first
    assert [p.images for p in plain.passes] == [48, 20]
    assert [p.images for p in adversary.passes] == [48, 20 + 16 * (3 * 2 + 60 // 4)]
    assert work.uncounted == ["the own modules of adv"]
    alone = count(["adv-conv5"])
    assert (alone.totals()["to_run"], alone.totals()["trainings"]) == (1, 2)


def test_what_is_shared_is_counted_once(count):
    """Two seeds read the same activations; attackers on true labels are shared by models of a seed."""
    one, two, both = count(["original"]), count(["original"], seeds=[0, 1]), count(["original", "adv-conv5"])
    for name in ("decoded_images", "feature_rows"):
        assert one.totals()[name] == two.totals()[name] == both.totals()[name]
    assert two.totals()["attackers"] == 2 * (6 + 4)
    assert both.totals()["attackers"] == 2 * 6 + 4
    other_rows = count(["original", "alpha-1"])  # true labels of other training rows
    assert other_rows.totals()["attackers"] == 2 * (6 + 4)


@pytest.mark.parametrize(
    ("protocol", "rounds", "rows"),
    [
        ("smoke", 1, (32, 16, 16)),
        ("wang2019(rounds=5, caps=(10, 4, 6))", 5, (20, 8, 12)),
        ("wang2019(share=0.5)", 5, (16, 16, 16)),
    ],
)
def test_attackers_of_a_protocol(count, protocol, rounds, rows):
    """Of lambda_M: itself, perturbed, decoded, two nulls and a control; of lambda_D: itself, two nulls, a control."""
    work = count(["original"], "sized(n=32)", protocol=protocol)
    (part,) = work.parts("measure")
    own, shared = part.attacks
    assert (own.count, shared.count) == (5 * rounds + 1, 3 * rounds + 1)
    assert (own.rows, own.width, own.groups) == (rows, 2, 2)


def test_rows_are_those_that_a_method_chooses(count, tmp_path):
    from biasbench import generator
    from biasbench.config import load_settings
    from biasbench.plan import Request, make_plan
    from biasbench.plugins import load_plugins

    work = count(["balance"], "sized(n=64)")
    settings = load_settings(cache=tmp_path / "cache", environ={}, folder=tmp_path)
    request = Request(["balance"], ["sized(n=64)"], profile="smoke", overrides=SMALL)
    (cell,) = make_plan([request], load_plugins([TINY, tmp_path / "sized.py"]), settings)
    rng = generator("data", cell.spec.fingerprint, 0, "resample")
    chosen = cell.spec.method.build().resample(cell.data.tables["train"], rng)
    assert work.totals()["training_rows"] == 2 * len(chosen)


def test_fresh_crops_run_the_whole_network_every_epoch(count):
    """The paper's profile stores nothing: pictures are decoded in every epoch, for validation and for every view."""
    recipe = {"stages.0.epochs": 3, "stages.1.epochs": 2, "views": 2}
    work = count(["original"], "sized(n=64)", profile="paper", **recipe)
    (head,), (whole,) = work.parts("stage 0"), work.parts("stage 1")
    assert (head.times, whole.times) == (3, 2)
    assert head.decoded == whole.decoded == 64 + 32
    assert [(len(p.segments), p.trained, p.images) for p in head.passes] == [(6, 0, 64), (6, 0, 32)]
    assert [(len(p.segments), p.trained, p.images) for p in whole.passes] == [(6, 6, 64), (6, 0, 32)]
    assert work.totals()["feature_rows"] == 0
    assert work.totals()["decoded_images"] == 5 * 96 + 3 * 64 + 32 + 32


@pytest.mark.parametrize("what", ["images", "methods", "seeds"])
def test_the_estimate_grows_linearly(count, what):
    """Twice as much of it adds twice as much time, at three sizes."""
    from biasbench.costs.estimate import Estimate

    def seconds(times: int) -> float:
        methods = [f"adv-conv5(weight={i}.0)" for i in range(1, 1 + (times if what == "methods" else 1))]
        rows = 64 * (times if what == "images" else 1)
        seeds = range(times if what == "seeds" else 1)
        work = count(methods, f"sized(n={rows})", seeds, profile="short", protocol="quick", **{"stages.1.epochs": 3})
        return Estimate(work, rates(write=0.0, hash=0.0), jobs=1).total

    one, two, four, eight = (seconds(n) for n in (1, 2, 4, 8))
    assert two > one
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)
    assert eight - four == pytest.approx(4 * (two - one), rel=0.01)


def test_seconds_are_counts_times_rates(count):
    """One thing takes time at a time."""
    from biasbench.costs.estimate import Estimate

    work = count(["original"])
    nothing = dict.fromkeys(("decode", "crop", "hash", "write", "forward", "both", "attacker"), 0.0)

    def total(**only: float) -> float:
        return Estimate(work, rates(**{**nothing, **only}), jobs=1).total

    assert total(start=2.0) == 3 * 2  # decoding; training and predicting; measuring
    assert total(decode=4.0) == 90 * 4 / 2  # on both cores
    assert total(crop=1.0) == 138  # every image that the frozen layers see
    # six segments for what is stored, and two behind it: validation once, predictions of all
    assert total(forward=1.0) == 138 * 6 + 20 * 2 + 138 * 2
    assert total(both=1.0) == 48 * 2
    assert total() == 0
    # an attacker of 2 inputs, 3 hidden layers of 300 and 2 outputs; 48 rows learnt, 20 read in 3 epochs, 20 in the end
    one = (2 * 300 + 2 * 300 * 300 + 300 * 2) * (3 * (3 * 48 + 20) + 2 * 20)
    assert total(attacker=1.0) == pytest.approx(10 * one / 1e3)


def test_wall_time_lies_between_its_bounds(count):
    """With a process for everything the longest chain counts: decode, train, train the adversary, measure it."""
    from biasbench.costs.estimate import Estimate

    work = count(["original", "adv-conv5"])
    alone, many = Estimate(work, rates(), jobs=1), Estimate(work, rates(), jobs=1000)
    assert alone.wall == (pytest.approx(alone.total), pytest.approx(alone.total))
    images, plain, measured, adversary, last = (job.name for job in work.jobs)
    assert [n.partition("-")[0] for n in (images, plain, measured, adversary, last)] == [
        "images", "cell", "measure", "cell", "measure",
    ]  # fmt: skip
    chain = sum(alone.seconds[name] for name in (images, plain, adversary, last))
    assert many.wall[0] == pytest.approx(chain)
    assert many.wall[1] == pytest.approx(alone.total / 1000 + chain * 0.999)


def test_what_was_not_measured_is_named_and_left_out(count):
    from biasbench.costs.estimate import Estimate

    work = count(["original"])
    none = Estimate(work, rates(networks=(), protocols=()), jobs=1)
    assert none.unmeasured == ["--backbone 'tinynet'", "--protocol 'smoke'"]
    assert none.total < Estimate(work, rates(), jobs=1).total
    assert Estimate(work, rates(), jobs=1).unmeasured == []


def test_memory_and_disk_by_hand(count):
    from biasbench.costs.estimate import Estimate

    work = count(["original"], seeds=[0, 1])
    one, two = Estimate(work, rates(), jobs=1), Estimate(work, rates(), jobs=2)
    # activations of conv4 (8 channels of 8 x 8) and the embedding (8) of 48 images are collected before they are
    # written; the network takes 1000 bytes, and 4000 more for a batch of 16, in which smoke trains conv5
    held = 48 * 4 * (8 * 8 * 8 + 8)
    assert one.memory == 1000 + 4000 + held
    assert two.memory == one.memory + 1000 + 4000  # the second seed finds them written
    files = (48 + 48 + 20 + 22) * 4 * (8 * 8 * 8 + 8)
    pixels = 90 * 3 * 32 * 32 * 4 // 3
    assert one.disk["cache"] == files + pixels
    bigger = count(["original"], seeds=[0])
    assert one.disk["results"] == 2 * Estimate(bigger, rates(), jobs=1).disk["results"]


def test_rates_are_kept_by_machine_threads_and_version(tmp_path):
    from biasbench.costs.rates import Machine, load_rates, rates_file, save_rates

    here = Machine.here("cpu", "fp32", 1)
    assert load_rates(tmp_path, here) is None
    save_rates(tmp_path, here, rates(seconds=2.0))
    found = load_rates(tmp_path, here)
    assert found is not None
    assert found.decode.value == 2.0
    for other in (Machine.here("cpu", "fp32", 2), Machine.here("cuda", "fp32", 1), Machine.here("cpu", "bf16", 1)):
        assert load_rates(tmp_path, other) is None
    assert load_rates(tmp_path, here.model_copy(update={"environment": "another version"})) is None
    save_rates(tmp_path, here, rates(seconds=3.0, networks=("other",), protocols=("wang2019",)))
    found = load_rates(tmp_path, here)
    assert found is not None
    assert (found.decode.value, sorted(found.networks)) == (3.0, ["other", "tinynet"])
    assert sorted(found.attackers) == ["quick", "smoke", "wang2019"]
    rates_file(tmp_path, here).write_text("{")
    assert load_rates(tmp_path, here) is None


def test_time_left_is_what_is_due_at_the_pace_seen(count):
    from biasbench.costs.estimate import Estimate, part_seconds
    from biasbench.costs.left import TimeLeft

    work = count(["original"], seeds=[0, 1])
    estimate = Estimate(work, rates(), jobs=1)
    now = [0.0]
    left = TimeLeft(estimate, clock=lambda: now[0])
    assert left.seconds == pytest.approx(estimate.total)
    first, second = work.states
    images = next(seconds for name, seconds in estimate.seconds.items() if name.startswith("images"))
    left.see({"event": "cell", "key": first, "state": "start"})
    assert sum(left.done.values()) == pytest.approx(images)
    left.see({"event": "epoch", "key": first, "stage": 0, "epoch": 1})
    left.see({"event": "epoch", "key": first, "stage": 1, "epoch": 1})
    predicting = part_seconds(next(work.parts("predict")), rates(), 1)
    assert left.done[f"cell-{first}"] == pytest.approx(estimate.seconds[f"cell-{first}"] - predicting)
    left.see({"event": "cell", "key": first, "state": "done"})
    done = images + estimate.seconds[f"cell-{first}"] + estimate.seconds[f"measure-{first}"]
    now[0] = 2 * done  # half as fast as estimated
    slow = left.seconds
    assert 1.8 * (estimate.total - done) < slow < 2 * (estimate.total - done)
    left.see({"event": "cell", "key": second, "state": "failed", "reason": "NaN"})
    assert left.seconds == 0


def test_methods_that_need_numbers_are_counted_too(count):
    """noise reads a number while it is built, which tensors without numbers refuse."""
    work = count(["noise"])
    assert work.totals()["training_rows"] == count(["original"]).totals()["training_rows"]
    assert work.uncounted == []


def test_a_full_matrix_is_counted(count):
    """14 methods on a data set with 5 seeds: every cell once, and the features of one network once."""
    methods = [f"adv-conv5(weight={i}.0)" for i in range(1, 14)] + ["original"]
    work = count(methods, seeds=range(5))
    assert len(work.states) == 70
    assert work.totals()["trainings"] == 70
    assert work.totals()["feature_rows"] == 138
    assert work.totals()["attackers"] == 70 * 6 + 5 * 4
