"""Comparison with the plain way notices planted bugs in the stacked attackers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from biasbench import SPLITS, CellError
from biasbench.measures.attackers import Job, Outcome
from biasbench.measures.protocol import Protocol
from biasbench.measures.reader import Draw
from tests.measures.mutations import Mutation, loaded

pytestmark = pytest.mark.torch
PLAIN = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "helpers" / "plain_attacker.py")))
HOME = "biasbench.measures"
# Each after those it imports.
MODULES = tuple(f"{HOME}.{name}" for name in ("adam", "batch", "stacked", "reader", "attackers"))
# Module, the mistake, what stands there, what is planted.
PLANTED = (
    ("adam", "no weight decay", "weight_decay=self.weight_decay", "weight_decay=0.0"),
    ("adam", "another step size", "lr=self.lr", "lr=1.01 * self.lr"),
    ("stacked", "momentum", "MOMENTUM = 0.1", "MOMENTUM = 0.2"),
    ("stacked", "epsilon", "EPS = 1e-5", "EPS = 1e-3"),
    ("stacked", "initial weights by fan-out", "bound = fan_in**-0.5", "bound = fan_out**-0.5"),
    ("stacked", "neighbours' classes", "(classes + self._offsets)", "(classes)"),
    ("batch", "a row counts once", "= aims.sum(3, keepdim=True)", "= (aims.sum(3, keepdim=True) > 0) / max(most)"),
    ("batch", "all classes are the first attacker's", "stable=True)", "stable=True)[:, :1].expand_as(present)"),
    ("batch", "the last distinct row is lost", "amax(1).tolist()", "amax(1).sub(1).tolist()"),
    ("batch", "examples count as rows do", "sizes.view(p, 1, 1, 1)", "present.sum(2).view(p, a, 1, 1)"),
    ("batch", "a last row alone is dropped", "torch.cat(found[-2:])", "torch.cat([found[-2], found[-2][:1]])"),
    ("stacked", "biased running variance of classes", ".mul_(size / (size - 1))", ".mul_(1)"),
    ("stacked", "variance of counts", "torch.mul(mean, 1 - mean,", "torch.mul(mean, 1,"),
    (
        "stacked", "running mean of classes stays",
        "self._running.lerp_(self._found, MOMENTUM)",
        "self._running.chunk(2)[1].lerp_(self._found.chunk(2)[1], MOMENTUM)",
    ),
    ("stacked", "the input's shift is left out", "_constant(self.shifts[0]))", "_constant(0 * self.shifts[0]))"),
    ("stacked", "the classes' shift is left out", "_constant(self.shifts[0] - mean * gain)", "_constant(-mean * gain)"),
    ("stacked", "classes are not centred", "_constant(self.shifts[0] - mean * gain)", "_constant(self.shifts[0])"),
    (
        "stacked", "the scale of scores is not learnt",
        "torch.sum(torch.mul(dw, w, out=self._folded()), 2, keepdim=True, out=dscale.mT)",
        "",
    ),
    ("stacked", "the scale of classes is not learnt", "dscale.zero_().view(-1)", "dscale.zero_().clone().view(-1)"),
    ("stacked", "the scale of classes learns undivided", ".mul_(self._picked(invstd, at))", ""),
    ("stacked", "the input's shift is not learnt", "torch.bmm(total, w.mT, out=dshift)", "dshift.zero_()"),
    ("stacked", "weights of classes learn unscaled", "(invstd * self.scales[0], at)", "(invstd, at)"),
    ("stacked", "weights of classes learn undivided", "(invstd * self.scales[0], at)", "(self.scales[0], at)"),
    ("stacked", "the first weights learn without the shift", "dw.addcmul_(shift.mT, total)", "dw"),
    ("stacked", "the first weights learn without the scale", "dw.mul_(self.scales[0].mT)", "dw"),
    ("stacked", "classes learn uncentred", "shift = shift - centre * self.scales[0]", "pass"),
    ("stacked", "the scale of classes learns uncentred", "addcmul_(centre, dshift", "addcmul_(0 * centre, dshift"),
    (
        "stacked", "BatchNorm's mean is a constant",
        "torch.addcmul(dshift, x, dscale, out=spare)",
        "torch.mul(x, dscale, out=spare)",
    ),
    (
        "stacked", "BatchNorm's variance is a constant",
        "torch.addcmul(dshift, x, dscale, out=spare)",
        "spare.copy_(dshift.expand_as(spare))",
    ),
    (
        "stacked", "rows are normalised as if each stood once",
        "shares = batch.shares.mT",
        "shares = batch.shares.mT * 0 + 1 / x.shape[1]",
    ),
    ("stacked", "gradient without the scale", ".mul_(self.scales[i] * self._invstd[i])", ".mul_(self._invstd[i])"),
    ("stacked", "hidden shifts are not learnt", "torch.sum(g, 1, keepdim=True, out=dshift)", "dshift.zero_()"),
    (
        "stacked", "the last bias is not learnt",
        "torch.sum(g, 1, keepdim=True, out=_grad(self.biases[last])[:, :, : g.shape[2]])",
        "",
    ),
    ("stacked", "gradient of a ReLU", "grad_input(g, act, self.shape.slope,", "grad_input(g, act, 0.0,"),
    ("stacked", "gradient of unweighted rows", ".mul_(batch.shares).sub_(batch.aims)", ".sub_(batch.aims)"),
    ("stacked", "gradient up the hill", "return losses, torch.exp(", "return losses, -torch.exp("),
    ("stacked", "scores are read uncentred", ".sub_(self.means[0]).mul_", ".mul_"),
    ("stacked", "classes are read uncentred", "self.means[0], gain[0], value=-1)", "self.means[0], gain[0], value=0)"),
    ("stacked", "hidden layers are read uncentred", "bias - self.means[i + 1]", "bias"),
    ("stacked", "hidden layers are read unscaled", "weight = weight * gain[i + 1]", "pass"),
    ("reader", "codes of other rows", "self.codes.gather(0, at)", "self.codes[: len(at)]"),
    ("reader", "rows of the first table", "draw.rows + starts[draw.table] for", "draw.rows for"),
    ("reader", "distinct rows of the first table", "np.resize(rows, most) + starts[d.table]", "np.resize(rows, most)"),
    ("reader", "distinct rows by number in the draw", "return rows[first], same", "return first, same"),
    ("reader", "eight labels tell rows apart", "np.packbits(values, axis=1)", "np.packbits(values[:, :8], axis=1)"),
    ("reader", "the least likely group", "logits.argmax(2)", "logits.argmin(2)"),
    ("reader", "attackers that overflow pass", "if not torch.isfinite(numbers).all():", "if False:"),
    ("attackers", "the latest of equal epochs", "if hits > best[a]:", "if hits >= best[a]:"),
    ("attackers", "the epoch is selected on test", "val.right(stack)", "test.right(stack)"),
    ("attackers", "the last epoch is read", "now.copy_(then)", "then.copy_(now)"),
    ("attackers", "the selected epoch is told twice", "last[a] / test.size", "float(right[:, a].mean())"),
    ("attackers", "one attacker's best epoch is everybody's", "then[a].copy_(now[a])", "then.copy_(now)"),
    ("attackers", "no weight decay", "weight_decay=protocol.weight_decay", "weight_decay=0.0"),
    ("attackers", "mean of the batches' means", "* batch.size", "* protocol.batch_size"),
    ("attackers", "one order for all", '"order") for job in jobs', '"order") for job in jobs[:1] * len(jobs)'),
    ("attackers", "rows in order", "o.permutation(train.size) for o in", "np.arange(train.size) for o in"),
)  # fmt: skip
MUTATIONS = [Mutation(f"{HOME}.{module}", *rest) for module, *rest in PLANTED]
KINDS = ("scores", "labels", "classes")
# One layer repeats to the row. Between two BatchNorms the input's shift has no gradient but rounding, of which Adam
# makes steps of the full size; the losses do not see it, the running statistics do a little.
ONE, THREE = (
    Protocol("t", epochs=6, lr=1e-2, weight_decay=1e-2, layers=layers, width=9, batch_size=8, slope=0.1)
    for layers in (1, 3)
)


def draw(kind: str, name: tuple[int, int], n: int) -> Draw:
    """Some rows of a table in which two columns tell the group a little."""
    rng = np.random.default_rng(name)
    codes = rng.integers(0, 3, 2 * n)
    if kind == "scores":
        table = rng.normal(1, 2, (2 * n, 11))
        table[:, 9] += codes
    elif kind == "labels":
        table = (rng.random((2 * n, 11)) < 0.3).astype(np.uint8)
        table[:, 9] = rng.random(2 * n) < 0.2 + 0.3 * codes
    else:
        table = np.where(rng.random(2 * n) < 0.6, codes + 4, rng.integers(0, 11, 2 * n))
    rows = rng.permutation(2 * n)[:n]
    return Draw(lambda: table, rows, codes[rows])


def jobs(kind: str) -> list[Job]:
    sizes = dict(zip(SPLITS, (41, 30, 50), strict=True))  # the last batch would have one row
    return [
        Job((kind, a), {s: draw(kind, (a, i), n) for i, (s, n) in enumerate(sizes.items())}, 11, 3) for a in range(3)
    ]


@cache
def expected(kind: str, protocol: Protocol) -> list[Outcome]:
    return [PLAIN.attack(job, protocol) for job in jobs(kind)]


def wrong_answers(engine: SimpleNamespace) -> list[str]:
    """What differs from the plain way; a refusal is an answer, any other error is none."""
    wrong = []
    for kind, protocol in product(KINDS, (ONE, THREE)):
        name = f"{kind}, {protocol.layers} layers: "
        try:
            found = engine.train_stack(jobs(kind), protocol, torch.device("cpu"), lambda _: None)
        except CellError as error:
            wrong.append(f"{name}{error}")
            continue
        for got, right in zip(found, expected(kind, protocol), strict=True):
            if not np.allclose(got.losses, right.losses, rtol=1e-5, atol=0):
                wrong.append(f"{name}losses")
            if np.abs(got.val - right.val).max() > (0 if protocol is ONE else 1.5 / 30):
                wrong.append(f"{name}validation")
            chosen = ("epoch", "accuracy", "last")
            if protocol is ONE and any(getattr(got, key) != getattr(right, key) for key in chosen):
                wrong.append(f"{name}selection")
            if protocol is ONE and (got.right != right.right).any():
                wrong.append(f"{name}rows")
    return wrong + [f"{value} passes" for value in (np.nan, 3e38) if passes(engine, value)]


def passes(engine: SimpleNamespace, value: float) -> bool:
    """Whether scores of this size are attacked as if they said something."""
    job = jobs("scores")[0]
    train, val = job.draws["train"], job.draws["val"]
    draws = {
        **job.draws,
        "train": replace(train, table=lambda: train.table() / 100),
        "val": replace(val, table=lambda: np.full_like(val.table(), value)),
    }
    try:
        engine.train_attackers([replace(job, draws=draws)], ONE)
    except CellError:
        return False
    return True


def test_without_a_bug_nothing_differs() -> None:
    with loaded(MODULES) as engine:
        assert wrong_answers(engine) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_planted_bug_is_noticed(mutation: Mutation) -> None:
    with loaded(MODULES, mutation) as engine:
        assert wrong_answers(engine)  # a crash alone would prove nothing
