"""Figure 8 of Alvi et al. 2018: the task and the spurious attributes over the epochs of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError, printable
from biasbench.measures.unlearning import rescaled
from biasbench.plots.groups import LONGEST, head, look
from biasbench.plots.style import ACCENT, QUIET, drawing, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
DIAGNOSED = re.compile(r"val_(\d+)\.([^/]+)/(?:training score (?P<beside>.+)|.*accuracy(?P<own>.*))")
"""Names in a training's log: of the method's place, its name, and what it diagnoses: `accuracy gender` on the
validation split, or `training score laofiw:ancestry`, rescaled already, where that has no labels."""


@dataclass(frozen=True)
class Attribute:
    """A protected attribute whose classifier a method diagnoses.

    Attributes:
        key: Name in the log.
        name: The attribute.
        classes: Its groups; None for one of another data set, whose score is that of the training's own batches.
        method: Name of the component that diagnoses it.
    """

    key: str
    name: str
    classes: int | None
    method: str


@dataclass(frozen=True, eq=False)
class Training:
    """Validation figures of one method by epoch, percent.

    Attributes:
        f1: [S, E] macro F1 of the task, by seed.
        attributes: What is diagnosed.
        accuracy: By the key of each attribute: [S, E] rescaled class-mean accuracy (Eq. 6); NaN in epochs without one.
        kept: [S] epoch whose weights were kept, 1..E; 0 = those that training started from.
        starts: Epochs at which a stage begins, the first one left out.
        baseline: [B] the plain model's F1 at the epoch that was kept, by seed; empty without one.
        left_out: Names in the log whose attribute is not known, so that they have no chance.
    """

    f1: Floats
    attributes: tuple[Attribute, ...]
    accuracy: Mapping[str, Floats]
    kept: tuple[int, ...]
    starts: tuple[int, ...]
    baseline: Floats
    left_out: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """E."""
        return int(self.f1.shape[1])


def diagnosed(
    names: Sequence[str], components: Sequence[tuple[str, str | None]], groups: Mapping[str, int]
) -> tuple[tuple[Attribute, ...], tuple[str, ...]]:
    """The attributes whose accuracies or scores a log names.

    A name ends in its attribute (`accuracy gender`), or the attribute is the option `attribute` of the component
    that stands at the name's place.

    Args:
        names: In the log.
        components: By place in the trained method: name, and the option `attribute` or None.
        groups: Number of groups by attribute.

    Returns:
        The attributes, and the names whose attribute is not known.

    Example:
        >>> names = ["val_f1", "val_0.jlu/training score laofiw:ancestry", "val_1.adv/accuracy", "val_1.adv/distance"]
        >>> [(a.name, a.classes) for a in diagnosed(names, [("jlu", None), ("adv", "gender")], {"gender": 2})[0]]
        [('laofiw:ancestry', None), ('gender', 2)]
    """
    found: list[Attribute] = []
    lost: list[str] = []
    for name in names:
        match = DIAGNOSED.fullmatch(name)
        if match is None:
            continue
        place, method = int(match[1]), match[2]
        if match["beside"]:
            found.append(Attribute(name, match["beside"], None, method))
            continue
        option = components[place][1] if place < len(components) else None
        attribute = match["own"].strip() or option
        if attribute is not None and groups.get(attribute, 0) > 1:
            found.append(Attribute(name, attribute, groups[attribute], method))
        else:
            lost.append(name)
    return tuple(found), tuple(lost)


def curve(log: Sequence[Mapping[str, Any]], name: str, classes: int | None = None) -> Floats:
    """One name's values over the epochs of a log, percent; NaN where an epoch has none.

    Args:
        log: One record per epoch, with accuracies in [0, 1].
        name: In the records.
        classes: Rescale by Eq. 6 (`biasbench.rescaled`) with so many classes; None leaves it as it is.

    Example:
        >>> curve([{"val_f1": 0.5}, {"a": 0.75, "val_f1": 0.6}], "a", 2).tolist()
        [nan, 50.0]
    """
    values = np.array([100 * float(record.get(name, np.nan)) for record in log])
    return values if classes is None else np.array([rescaled(value, classes) for value in values])


def draw_training(path: Path, training: Training, title: str, method: str, before: str) -> None:
    """Draw F1 and rescaled accuracies by epoch: means over seeds, with their range.

    A ring marks the epoch that was kept (of the only seed). Dotted: the plain model's F1. Upright lines stand where
    the next stage of the recipe begins.

    Args:
        path: Where to; the ending tells the format.
        training: What to draw.
        title: What was trained.
        method: Its name.
        before: Name of the plain model.

    Raises:
        CellError: When there is no epoch.
    """
    if not training.f1.size:
        raise CellError("the training has no epoch to draw")
    with drawing(path, 6.4, 5.0) as picture:
        axes = picture.subplots()
        places = np.arange(1, training.epochs + 1)
        _line(axes, places, training.f1, "black", "o", "task, F1")
        if len(training.kept) == 1 and training.kept[0]:
            epoch = training.kept[0]
            axes.plot(
                epoch, training.f1[0, epoch - 1], marker="o", markersize=11, markerfacecolor="none",
                markeredgecolor=ACCENT, linestyle="none", label="epoch kept", zorder=4,
            )  # fmt: skip
        if len(training.baseline):
            mean = float(training.baseline.mean())
            axes.axhline(mean, color="black", linestyle=":", linewidth=1.4, label=f"{literal(before)}, F1: {mean:.1f}")
        for i, attribute in enumerate(training.attributes):
            _line(axes, places, training.accuracy[attribute.key], look(i).colour, look(i).marker, _label(training, i))
        for start in training.starts:
            label = "next stage" if start == training.starts[0] else None
            axes.axvline(start - 0.5, color=QUIET, linewidth=0.8, label=label)
        low, high = axes.get_ylim()
        axes.set(xlabel="epoch", ylabel="validation, %", ylim=(min(low, -3), max(high, 103)))
        axes.set_xlim(0.5, training.epochs + 0.5)
        axes.locator_params(axis="x", integer=True)
        tidy(axes, "")
        head(picture, f"{title}: {method}", 6.4, 22)


def _label(training: Training, number: int) -> str:
    """What the legend calls an attribute; with its method where several diagnose it."""
    attribute = training.attributes[number]
    name = literal(printable(attribute.name, LONGEST))
    several = sum(a.name == attribute.name for a in training.attributes) > 1
    how = "rescaled" if attribute.classes is not None else "in training, rescaled"
    return f"{name} ({literal(printable(attribute.method, LONGEST))}), {how}" if several else f"{name}, {how}"


def _line(axes: Axes, places: NDArray[np.int64], values: Floats, colour: str, marker: str, label: str) -> None:
    """The mean over seeds of [S, E] values, with their range; an epoch that lacks one is a gap."""
    axes.plot(
        places, values.mean(0), color=colour, marker=marker, markersize=4, markevery=max(1, len(places) // 20),
        linewidth=1.4, label=label, zorder=3,
    )  # fmt: skip
    if len(values) > 1:
        axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
