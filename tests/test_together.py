"""Several processes compute what one computes: the same losses, statistics, weights, predictions and rows."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from biasbench.cell import Cell
from biasbench.data import SPLITS, Task
from biasbench.errors import UsageError
from biasbench.job import CellJob, Member
from biasbench.model import Device, check_processes
from biasbench.recipe import Recipe, Stage, load_recipe
from biasbench.shares import Shares
from biasbench.stopping import Stopped
from biasbench.store import Store
from biasbench.streams import chunks
from biasbench.testing._subject import Subject
from biasbench.together import Group

pytestmark = pytest.mark.torch
STAGE = Stage(train="all", epochs=2, lr=0.05, optimizer="sgd", batch_size=12, norm="batch")  # batches of 11, 11, 10
ADVERSARY = "adv-conv4(warmup=2, task_stream='balanced')"
METHODS = [
    ("original", "multiclass"), (ADVERSARY, "multilabel"), ("groupdro+alpha-1", "multiclass"),
    ("jlu(warmup=3, steps=2)", "multiclass"),
]  # fmt: skip


def job_of(folder: Path, method: str, task: Task = "multilabel", **changed: Any) -> CellJob:
    """A cell on the conformance kit's pictures and backbone: 32 rows, batch norm everywhere."""
    job = Subject(method, task=task)._job(folder)
    recipe = job.recipe.model_copy(update={"stages": (STAGE,), "select": "last", "eval_batch": 5, **changed})
    return job.model_copy(update={"recipe": recipe})


def computed(job: CellJob, member: Member | None, *, exact: bool = True, naive: bool = False) -> dict[str, Any]:
    """Every loss of every epoch, the weights, and what is said of every split.

    `exact`: in float64, where rounding stays so small that nothing else can hide behind it. An adversary's game
    makes 1e-3 of the last bit of one float32 weight within two epochs.
    """
    if naive:  # what averaging gradients alone does: every process its own loss of its own rows
        Shares.whole = Device.whole = _own_rows  # type: ignore[method-assign, assignment]
        Group.agree = lambda _self, _state: None  # type: ignore[method-assign]  # it would say so
    cell = cell_of(job, member, exact=exact)
    log = cell.fit(Store(job.results, create=True)).log
    found: dict[str, Any] = {f"log/{i}/{k}": v for i, r in enumerate(log) for k, v in r.items() if k != "start"}
    found |= {f"state/{k}": v.detach().numpy().copy() for k, v in cell.model.state_dict().items()}
    for split, rows, _view, said in cell._said(cell._start_predicting()):
        found |= {f"said/{split}/rows": rows, f"said/{split}/ids": list(said.ids), f"said/{split}/decoded": said.labels}
        found |= {f"said/{split}/{k}": v for k, v in said.scores.items()}
    return found


def cell_of(job: CellJob, member: Member | None, *, exact: bool = True) -> Cell:
    """The cell, in float64 if `exact`; for a process of its own."""
    cell = Cell(job, lambda _event: None, member)
    if exact:
        cell.model.double()
        for module in cell.model.modules():
            if "known" in module._buffers:  # jlu follows its classifiers in float32, whatever the rest is in
                module.known = module.known.float()
        put = Device.put
        Device.put = lambda self, x: put(self, x.double() if x.is_floating_point() else x)  # type: ignore[method-assign]
    return cell


def _own_rows(_self: object, x: Any, _rows: int = 0) -> Any:
    return x


def farthest(one: dict[str, Any], other: dict[str, Any], of: str) -> float:
    """Largest difference of the numbers under some name, relative to the largest of each."""
    assert one.keys() == other.keys()
    names = [k for k in one if k.startswith(of) and one[k].dtype.kind in "fiu" and one[k].size]
    assert names
    return max(float(np.abs(one[k] - other[k].astype(float)).max() / max(1, np.abs(one[k]).max())) for k in names)


@pytest.mark.parametrize(("method", "task"), METHODS)
def test_two_processes_compute_what_one_does(several: ModuleType, tmp_path: Path, method: str, task: Task) -> None:
    one, two = (
        several.found_by(n, lambda member, n=n: computed(job_of(tmp_path / str(n), method, task), member), tmp_path)
        for n in (1, 2)
    )
    assert farthest(one, two, "log/") < 1e-9
    assert farthest(one, two, "state/") < (1e-6 if method.startswith("jlu") else 1e-9)  # its `known` is float32
    assert farthest(one, two, "said/") < 1e-6  # stored in float32
    for split in SPLITS:
        assert one[f"said/{split}/ids"].tolist() == two[f"said/{split}/ids"].tolist()


@pytest.mark.parametrize("method", ["original", ADVERSARY])
def test_averaging_gradients_of_shares_alone_would_not(several: ModuleType, tmp_path: Path, method: str) -> None:
    """The control: class weights and an adversary's batch norm mean something else on a share."""
    one, two = (
        several.found_by(
            n,
            lambda member, n=n: computed(job_of(tmp_path / str(n), method, "multiclass"), member, naive=n == 2),
            tmp_path,
        )
        for n in (1, 2)
    )
    assert farthest(one, two, "state/") > 1e-3


def test_in_fp32_they_agree_but_for_rounding(several: ModuleType, tmp_path: Path) -> None:
    one, two = (
        several.found_by(
            n, lambda member, n=n: computed(job_of(tmp_path / str(n), "original"), member, exact=False), tmp_path
        )
        for n in (1, 2)
    )
    assert 0 < farthest(one, two, "log/") < 1e-5
    assert farthest(one, two, "said/") < 1e-4


def test_three_processes_with_micro_batches_agree_with_one(several: ModuleType, tmp_path: Path) -> None:
    one, three = (
        several.found_by(
            n, lambda member, n=n: computed(job_of(tmp_path / str(n), ADVERSARY, micro_batch=6), member), tmp_path
        )
        for n in (1, 3)
    )
    assert farthest(one, three, "log/") < 1e-9
    assert farthest(one, three, "said/") < 1e-6


def test_a_resumed_training_has_the_same_bits(several: ModuleType, tmp_path: Path) -> None:
    def stopped(member: Member | None) -> dict[str, Any]:
        job = job_of(tmp_path / "stopped", ADVERSARY)
        asked = [0]

        def stop() -> bool:
            asked[0] += 1
            return asked[0] == 2 and member is not None and member.rank == 0  # the first process alone is asked

        with pytest.raises(Stopped):
            cell_of(job, member).fit(Store(job.results, create=True), stop)
        return {"asked": asked[0]}

    assert several.found_by(2, stopped, tmp_path)["asked"] == 2
    resumed = several.found_by(2, lambda member: computed(job_of(tmp_path / "stopped", ADVERSARY), member), tmp_path)
    whole = several.found_by(2, lambda member: computed(job_of(tmp_path / "whole", ADVERSARY), member), tmp_path)
    assert farthest(whole, resumed, "") == 0


def test_processes_that_drift_apart_are_stopped(several: ModuleType, tmp_path: Path) -> None:
    def drifting(member: Member | None) -> dict[str, Any]:
        cell = Cell(job_of(tmp_path, ADVERSARY), lambda _event: None, member)
        epoch = cell.device.group.agree
        seen: list[int] = []

        def spoilt(state: Any) -> None:
            seen.append(1)
            if len(seen) == 2 and member is not None and member.rank == 1:
                with torch.no_grad():
                    cell.model.head.linear.bias[0] += 1e-7
            epoch(state)

        cell.device.group.agree = spoilt  # type: ignore[method-assign]
        cell.fit(Store(cell.job.results, create=True))
        return {}

    with pytest.raises(RuntimeError, match=r"drifted apart: the weight head\.linear\.bias differs"):
        several.found_by(2, drifting, tmp_path)


# ------------------------------------------------------------------ pieces
class Chance(nn.Module):
    """Drops whole examples, as drop-path does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.5)


def passed(group: Group, *layers: nn.Module) -> dict[str, Any]:
    """A pass of seven rows through some layers and back, as one process or in shares."""
    torch.manual_seed(1)
    x = torch.randn(7, 3, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *layers)
    aim = torch.randn(7, 4, 4, 4)
    torch.manual_seed(2)
    if group.size == 1:
        out = net(x)
    else:
        shares = Shares(group, 7, torch.device("cpu"))
        with shares:
            out = net(x[group.span(7)])
        out = shares.whole(out)
    ((out - aim) ** 2 / (1 + out.std())).mean().backward()
    group.average([x, *net.parameters()])  # type: ignore[list-item]
    assert x.grad is not None
    found = {"out": out, "x": x.grad, **{f"grad {k}": p.grad for k, p in net.named_parameters()}, **net.state_dict()}
    found["drawn next"] = torch.rand(2)
    return {k: v.detach().numpy() for k, v in found.items() if v is not None}


@pytest.mark.parametrize("size", [2, 3])
def test_batch_norm_and_dropout_see_the_whole_batch(several: ModuleType, tmp_path: Path, size: int) -> None:
    layers = (nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4))
    one = passed(Group(), *layers)
    some = several.found_by(size, lambda member: passed(Group(member), nn.BatchNorm2d(4), *layers[1:]), tmp_path)
    assert farthest(one, some, "") < 1e-6
    assert (one["out"] == 0).any()  # something was dropped


def test_other_chance_in_a_backbone_is_refused(several: ModuleType, tmp_path: Path) -> None:
    passed(Group(), Chance())
    with pytest.raises(RuntimeError, match="draws random numbers while it learns"):
        several.found_by(2, lambda member: passed(Group(member), Chance()), tmp_path)


@pytest.mark.parametrize(("rows", "size"), [(1027, 2), (1027, 3), (3, 2), (1, 3)])
def test_uneven_splits_lose_and_double_nothing(several: ModuleType, tmp_path: Path, rows: int, size: int) -> None:
    def gathered(member: Member | None) -> dict[str, Any]:
        group, found = Group(member), []
        for part, counts in group.rounds(chunks(np.arange(rows), 64)):
            found.append(group.gather(torch.from_numpy(part), counts))
        return {"rows": torch.cat(found).numpy()}

    assert several.found_by(size, gathered, tmp_path)["rows"].tolist() == list(range(rows))


def test_what_each_process_says_arrives_whole(several: ModuleType, tmp_path: Path) -> None:
    def said(member: Member | None) -> dict[str, Any]:
        group = Group(member)
        every = group.all_of(["é" * group.rank, group.rank])
        return {"every": every == [["é" * r, r] for r in range(3)], "told": group.told(group.rank == 0)}

    assert all(v.all() for v in several.found_by(3, said, tmp_path).values())


# ------------------------------------------------------------------ what is refused, what is in the key
@pytest.mark.parametrize(
    ("overrides", "said"),
    [({"processes": 2, "micro_batch": 3}, "too small"), ({"processes": 40}, "too small"),
     ({"processes": 2, "compile": True}, "do not go together"), ({"processes": 0}, "greater than or equal to 1")],
)  # fmt: skip
def test_recipes_that_cannot_be_shared_are_refused(overrides: dict[str, Any], said: str) -> None:
    load_recipe("short", {"processes": 2})
    with pytest.raises(UsageError, match=said):
        load_recipe("short", overrides)


def test_a_device_that_is_one_cannot_be_shared() -> None:
    check_processes("mps", 1)
    for device in ("mps", "cuda:1"):
        with pytest.raises(UsageError, match="one device"):
            check_processes(device, 2)
    with pytest.raises(UsageError, match="need 64 GPUs"):
        check_processes("cuda", 64)


def test_fields_that_came_later_leave_older_keys_alone() -> None:
    before = set(load_recipe("short").identity())
    assert not before & {"processes", "compile"}
    assert set(Recipe.model_fields) - before == {"processes", "compile", "protocol", "embeddings"}
    assert load_recipe("short", {"processes": 2}).identity()["processes"] == 2
