"""The checks, one function each. They run the method in a real cell of two training steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biasbench.cell import Cell
from biasbench.data import Batch, Outputs, Task
from biasbench.errors import UsageError
from biasbench.method import Activations, Pipeline
from biasbench.rng import generator
from biasbench.source import CENTRE
from biasbench.testing import _world
from biasbench.testing._subject import Subject, Trained, scratch

BUILT_INS = (
    "original", "alpha-2", "balance", "adv-conv4(warmup=2, width=8)", "blackout-segm", "noise(sigma=0.5)", "crf",
    "adv-image(channels=2, warmup=1, mask_steps=1, repeat=1)", "jlu(warmup=1, steps=1)",
)  # fmt: skip


class ConformanceError(AssertionError):
    """A method breaks the contract of `biasbench.Method`."""


def check_method(spec: str, *, plugins: Sequence[str | Path] = (), tasks: Sequence[Task] = ("multilabel",)) -> None:
    """Run every check on a method.

    Args:
        spec: A method string, such as `"groupdro(eta=0.1)"`.
        plugins: Plugin files that offer it, if no installed distribution does.
        tasks: Kinds of data that the method is made for.

    Raises:
        ConformanceError: Naming the first thing that is wrong.
        UsageError: When the string cannot be read.

    Example:
        >>> check_method("original")
    """
    for task in tasks:
        subject = Subject(spec, plugins, task)
        for check in CHECKS:
            check(subject)


# -- one point at a time ---------------------------------------------------------------------
def check_resample(subject: Subject) -> None:
    """`resample` selects rows, keeps index and columns, repeats itself and leaves its input alone."""
    table = _world.table("train", subject.task)
    before = table.copy(deep=True)
    first, second = (subject.method().resample(table, generator("conformance")) for _ in range(2))
    _require(table.equals(before), subject, "resample changes its input")
    _require(bool(first.index.isin(table.index).all()), subject, "resample returns rows that are not the table's")
    _require(first.equals(table.loc[first.index]), subject, "resample changes rows or columns; it may only select")
    _require(first.equals(second), subject, "resample draws differently from equal generators")


def check_edit(subject: Subject) -> None:
    """`edit` keeps shape and dtype, repeats itself and leaves its input alone."""
    rng, method = generator("conformance"), subject.method()
    for inside in (rng.random((20, 28)) < 0.5, np.zeros((20, 28), bool)):
        image = rng.integers(0, 256, (20, 28, 3), np.uint8)
        masks = {name: inside.copy() for name in method.regions}
        kept = image.copy()
        first, second = method.edit(image, masks, 0.5), method.edit(image, masks, 0.5)
        same = (image == kept).all() and all((m == inside).all() for m in masks.values())
        _require(bool(same), subject, "edit changes its input in place")
        _require(first.shape == image.shape and first.dtype == np.uint8, subject, "edit changes shape or dtype")
        _require(bool((first == second).all()), subject, "edit does not repeat itself")


def check_prepare(subject: Subject) -> None:
    """`prepare` keeps every row in evaluation and leaves its input alone."""
    with scratch() as folder:
        cell = subject.cell(Path(folder))
        for training in (True, False):
            method = cell.model.method.train(training)
            assert isinstance(method, Pipeline)
            batch = _batch(cell, attributes=training)
            kept, index = _copies(_tensors(batch)), method.prepare(batch).index
            _require_unchanged(subject, "prepare", _tensors(batch), kept)
            same = training or torch.equal(index, batch.index)
            _require(same, subject, "prepare drops or moves rows in evaluation")


def check_points(subject: Subject) -> None:
    """`intervene`, `weight`, `loss`, `phases`, `diagnose`: shapes, finite values, and inputs left alone."""
    with scratch() as folder:
        cell = subject.cell(Path(folder))
        model = cell.model.train()
        method = model.method
        assert isinstance(method, Pipeline)
        batch = method.prepare(_batch(cell, attributes=True))
        for tap in method.touches:
            shape = (len(batch.images), *cell.info.tap_shape(tap))
            x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
            for training in (True, False):
                method.train(training)
                _guarded(subject, "intervene", {"x": x}, shape, method.intervene, tap, x, batch)
        model.train()
        with torch.no_grad():
            out = model(batch.images, batch, "image", keep=method.taps)
        losses = model.head.loss(out.scores, batch).detach()
        given = {**_tensors(batch), **_tensors(out), "losses": losses}
        for part in method.components:  # each by itself: a product would hide a missing dimension
            _guarded(subject, "weight", given, tuple(losses.shape), part.weight, losses, batch)
        _guarded(subject, "loss", given, (), method.loss, out, batch)
        known = {id(p) for p in model.parameters()}
        for phase in method.phases():
            _require(all(id(p) in known for p in phase.params), subject, f"phase {phase.name} moves foreign parameters")
            _guarded(subject, f"phase {phase.name}", given, (), phase.loss, out, batch)
        model.eval()
        _guarded(subject, "diagnose", given, tuple(losses.shape), method.diagnose, out, batch, logged=True)


def check_postprocess(subject: Subject) -> None:
    """`postprocess` keeps rows, ids and finite scores, and leaves its input alone."""
    with scratch() as folder:
        cell = subject.cell(Path(folder))
        batch = _batch(cell, attributes=False)
        cell.model.eval()
        with torch.no_grad():
            scores = cell.model(cell.model.method.prepare(batch).images, batch, "image").scores
            labels = cell.model.head.decode(scores).numpy()
        ids = [f"train-{i}" for i in batch.index.tolist()]
        given = Outputs({k: v.numpy() for k, v in scores.items()}, labels, ids)
        kept = {k: v.copy() for k, v in given.scores.items()}
        method = cell.model.method
        told = method.postprocess(given, _world.table("train", subject.task), cell.model.head)
        same = all(np.array_equal(kept[k], v) for k, v in given.scores.items())
        _require(same, subject, "postprocess changes its input")
        _require(list(told.ids) == ids and len(told.labels) == len(ids), subject, "postprocess changes the rows")


# -- whole cells -----------------------------------------------------------------------------
def check_determinism(subject: Subject) -> None:
    """Two trainings with one seed give the same bits."""
    with scratch() as one, scratch() as two:
        _equal(subject.train(Path(one)), subject.train(Path(two)), subject, "trained twice with one seed")


def check_reload(subject: Subject) -> None:
    """Weights that were saved and read again predict the same: all state is in parameters and buffers."""
    with scratch() as folder:
        _equal(subject.train(Path(folder)), subject.reload(Path(folder)), subject, "saved and read again")


def check_composition(subject: Subject) -> None:
    """With each built-in on either side the method trains two steps, or is refused while planning."""
    for other in BUILT_INS:
        for text in (f"{subject.text}+{other}", f"{other}+{subject.text}"):
            try:
                with scratch() as folder:
                    Subject(text, subject.plugins[:-1], subject.task).train(Path(folder), predict=False)
            except UsageError:
                continue  # an illegal combination, told in one line
            except Exception as error:
                raise ConformanceError(f"{text} fails: {type(error).__name__}: {error}") from error


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_resample,
    check_edit,
    check_prepare,
    check_points,
    check_postprocess,
    check_determinism,
    check_reload,
    check_composition,
)


# -- helpers ---------------------------------------------------------------------------------
def _require(holds: bool, subject: Subject, problem: str) -> None:
    if not holds:
        raise ConformanceError(f"{subject.text}: {problem}")


def _batch(cell: Cell, *, attributes: bool) -> Batch:
    batch, _ = cell.source.batch("train", np.arange(12), CENTRE, "image", cell.device, attributes=attributes)
    return batch if attributes else replace(batch, targets=None)


def _tensors(holder: Batch | Activations) -> dict[str, Tensor]:
    """Every tensor in a record, by name."""
    found: dict[str, Tensor] = {}
    for name, value in vars(holder).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Mapping):
            found |= {f"{name}/{key}": tensor for key, tensor in value.items()}
    return found


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _require_unchanged(subject: Subject, point: str, given: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    for name, tensor in given.items():
        _require(_same(tensor, kept[name]), subject, f"{point} changes its input {name!r} in place")


def _guarded(
    subject: Subject,
    point: str,
    given: Mapping[str, Tensor],
    shape: tuple[int, ...],
    call: Callable[..., Tensor | Mapping[str, Tensor]],
    *args: object,
    logged: bool = False,
) -> None:
    """Call a point: it must leave `given` alone and return finite tensors of a shape; what is logged may be NaN too."""
    kept = _copies(given)
    result = call(*args)
    _require_unchanged(subject, point, given, kept)
    for value in result.values() if isinstance(result, Mapping) else (result,):
        found = tuple(value.shape)
        fits = found == shape or (logged and found[:-1] == shape)
        _require(fits, subject, f"{point} returns shape {found}, not {shape}")
        usable = torch.isfinite(value) | torch.isnan(value) if logged else torch.isfinite(value)
        _require(bool(usable.all()), subject, f"{point} returns values that are not finite")


def _equal(one: Trained, other: Trained, subject: Subject, how: str) -> None:
    for name, tensor in one.state.items():
        _require(_same(tensor, other.state[name]), subject, f"{how}, the weights {name!r} differ")
    for name, array in one.outputs.items():
        _require(np.array_equal(array, other.outputs[name]), subject, f"{how}, the predictions {name!r} differ")
