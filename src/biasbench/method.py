"""Mitigation methods: typed points, and the one class that composes them.

A `Method` overrides only the points it changes; every default changes nothing. `Pipeline`
is the whole composition law, and itself a `Method`.

| point | composes by |
|---|---|
| `resample`, `edit`, `prepare`, `intervene`, `postprocess` | left to right, as written |
| `head`, `balance_by` | at most one method may answer |
| `build` | independent |
| `weight` | product |
| `loss` | sum |
| `phases` | concatenation |
| `check` | every method may refuse |
| `report` | union, by the method's place and name |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biasbench.backbone import Backbone
from biasbench.data import Batch, Outputs, Task
from biasbench.errors import UsageError
from biasbench.head import Head

T = TypeVar("T")
Image = NDArray[np.uint8]  # [H, W, 3]
Masks = Mapping[str, NDArray[np.bool_]]  # region name -> [H, W]


@dataclass(frozen=True)
class BuildInfo:
    """The sizes a method may build its modules from.

    Attributes:
        backbone: The model's backbone (its taps, channels and `tail`).
        task: Multi-label or multi-class.
        label_names: K names.
        groups: Number of groups of each protected attribute.
        crop: Side of the input, pixels.
        class_weights: [K] weights of the task loss.
        counts: Training rows of each group of each protected attribute.
        secondary: The same for each secondary data set, its primary attribute first.
    """

    backbone: Backbone
    task: Task
    label_names: tuple[str, ...]
    groups: Mapping[str, int]
    crop: int
    class_weights: Tensor
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    secondary: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    def tap_shape(self, tap: str) -> tuple[int, ...]:
        """[C, H, W] of the activation at `tap` for one input, or [D] at the embedding; by a real pass."""
        return self.backbone.shape_at(tap, self.crop)


@dataclass(frozen=True)
class Activations:
    """What one forward pass produced.

    Attributes:
        scores: The head's raw scores by name, [B, ...].
        taps: Kept activations by tap, after interventions.
    """

    scores: Mapping[str, Tensor]
    taps: Mapping[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One more optimisation problem, stepped beside the task's own or before it.

    Attributes:
        name: Unique within the method; the log and the checkpoint use it.
        params: The parameters it moves. With `repeat=0` it owns them only before the task
            starts, and the task's own step moves them afterwards.
        loss: Scalar loss of a batch.
        task: Whether the task's weighted loss of the batch is added to `loss`.
        data: `"train"`, or the name of a secondary data set.
        balance: Protected attribute whose groups get equal shares of each batch, or None.
        before: Steps to run alone, before the task starts.
        repeat: Steps per task step.
        until: The steps of a turn end early when the gradient of `params` is shorter than this.
        joint: It has no parameters and no step of its own: its loss on a batch of its own data is
            added to the task's step.
        lr: Learning rate relative to the task's; absolute if `absolute_lr`.
        absolute_lr: See `lr`.
        detached: The loss reads activations but moves nothing that computes them: the
            engine then skips the backbone's gradient.
    """

    name: str
    params: Sequence[nn.Parameter]
    loss: Callable[[Activations, Batch], Tensor]
    data: str = "train"
    balance: str | None = None
    before: int = 0
    repeat: int = 1
    until: float = 0.0
    joint: bool = False
    lr: float = 1.0
    absolute_lr: bool = False
    detached: bool = True
    task: bool = False


class Method(nn.Module):
    """A mitigation. Override only the points you need.

    Options are annotated keyword arguments of `__init__` with literal defaults; they make
    the method's canonical text and so its identity. An option called `attribute` whose
    value is None stands for the data set's primary attribute and is filled in.

    Attributes:
        name: What the user types.
        source: The paper and section it comes from.
        stage: `"predict"` if it leaves the training's bits alone; one training then serves
            every variant.
        starts_from_init: Training starts from the finished run of the method string without
            this component.
        requires: Features that the data set, a secondary data set or the head must provide:
            `"masks:person"`, `"attribute:age"`, `"laofiw/attribute:ancestry"`, `"pairwise"`.
        regions: Regions handed to `edit`.
        masks: Regions that every `Batch.masks` must carry.
        taps: Activations to keep for `loss` and `phases`.
        touches: Taps at which `intervene` is called.
        moves: Taps whose representation the losses are meant to change. A stage that trains
            from some tap on, and in which the method acts, trains from the first of these on
            if that is earlier: a pull on a frozen layer would change nothing.
        flags: What a reader of its rows must know beside its options.
        data: Secondary data sets, as the user writes them, that `Phase.data` may name. Their
            training rows alone are read.
        by_row: What it says of a picture depends on its row number, as noise that is drawn for each row
            does. Its rows say so; nobody else may go by the number.
        transductive: What it says of one picture depends on the others of the split. Such rows are
            marked and stand apart.
        privileged: What it goes by at prediction that nobody knows of a new picture, such as
            `"attribute gender"`. Such rows are marked and stand apart. Annotated regions in `regions`
            and `masks` count by themselves: the harness hands them out at prediction too.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    stage: ClassVar[Literal["train", "predict"]] = "train"
    starts_from_init: ClassVar[bool] = False
    requires: frozenset[str] = frozenset()
    regions: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    taps: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    by_row: bool = False
    transductive: bool = False
    privileged: tuple[str, ...] = ()

    def check(self, info: BuildInfo) -> None:
        """Refuse sizes that this method cannot be built for; asked while planning, and before every build.

        Raises:
            UsageError: When it cannot: the whole plan then stops before the first epoch.
        """

    def resample(self, table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """Choose training rows, before any pixel is read: a selection of `table`'s rows, index kept."""
        return table

    def edit(self, image: Image, masks: Masks, scale: float) -> Image:
        """Change one picture, in training and evaluation alike, before it is cropped.

        Args:
            image: [H, W, 3] uint8 RGB. Not to be changed in place.
            masks: The regions in `regions`, [H, W] bool.
            scale: Size of `image` relative to the original: scale lengths in pixels by it.

        Returns:
            An image of the same shape and dtype.
        """
        return image

    def prepare(self, batch: Batch) -> Batch:
        """Change a batch before the backbone. May drop rows in training only; never mutates its input."""
        return batch

    def balance_by(self) -> str | None:
        """The protected attribute whose groups get equal shares of the task's batches, or None."""
        return None

    def head(self, info: BuildInfo) -> Head | None:
        """Replace the head."""
        return None

    def build(self, info: BuildInfo) -> None:
        """Create this method's own modules."""

    def intervene(self, tap: str, x: Tensor, batch: Batch) -> Tensor:
        """Change the activation at one of `touches`; `self.training` tells training from evaluation."""
        return x

    def weight(self, losses: Tensor, batch: Batch) -> Tensor:
        """[B] weights for the per-example task losses [B]."""
        return torch.ones_like(losses)

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """Named scalar terms added to the task loss."""
        return {}

    def phases(self) -> Sequence[Phase]:
        """Further optimisation problems."""
        return ()

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """Named values to log as means per epoch on validation data, such as an adversary's hits.

        [B], or [B, G] for the mean of the columns' means: hits by group give the class-mean accuracy. NaN entries
        are left out, and so are columns of nothing else.
        """
        return {}

    def postprocess(self, outputs: Outputs, reference: pd.DataFrame, head: Head) -> Outputs:
        """Change a whole split's outputs; `reference` is the training table."""
        return outputs

    def report(self) -> Mapping[str, float]:
        """Named figures about the last `postprocess`, such as whether a search converged.

        They are stored beside the split's predictions (`notes.json`). NaN and infinity mean undefined.
        """
        return {}


POINTS = ("resample", "edit", "prepare", "balance_by", "head", "intervene", "weight", "loss", "phases", "postprocess")


def overrides(method: Method, point: str) -> bool:
    """Whether `method` changes a point, or any component of a pipeline does."""
    if isinstance(method, Pipeline):
        return any(overrides(m, point) for m in method.components)
    return getattr(type(method), point) is not getattr(Method, point)


class Pipeline(Method):
    """Methods in the order the user wrote them: the whole composition law.

    Example:
        >>> Pipeline([]).taps
        ()
    """

    name = "pipeline"

    def __init__(self, methods: Iterable[Method]) -> None:
        super().__init__()
        parts = [(m.components if isinstance(m, Pipeline) else [m]) for m in methods]
        self.methods = nn.ModuleList(m for part in parts for m in part)  # flat, so that names are associative too
        self.requires = frozenset().union(*(m.requires for m in self.components))
        self.regions = _merge(m.regions for m in self.components)
        self.masks = _merge(m.masks for m in self.components)
        self.taps = _merge(m.taps for m in self.components)
        self.touches = _merge(m.touches for m in self.components)
        self.moves = _merge(m.moves for m in self.components)
        self.transductive = any(m.transductive for m in self.components)
        self.privileged = _merge(m.privileged for m in self.components)
        self.flags = self.row_flags()
        self.data = _merge(m.data for m in self.components)

    @property
    def components(self) -> list[Method]:
        """The methods, left to right."""
        return [m for m in self.methods if isinstance(m, Method)]

    def row_flags(self, detected: Collection[str] = ()) -> tuple[str, ...]:
        """The methods' flags, and those that set a row apart.

        Args:
            detected: Regions that a detector found in the pixels, which anybody can; the others are taken
                for annotated by people.

        Returns:
            Flags; then `"by row number"`, `"transductive"`, and `"privileged: ..."` for each thing that predictions
            rest on and nobody knows of a new picture.

        Example:
            >>> faceless = Method()
            >>> faceless.regions = ("face",)
            >>> Pipeline([faceless]).row_flags(), Pipeline([faceless]).row_flags(detected={"face"})
            (('privileged: region face',), ())
        """
        handed = (f"region {name}" for name in (*self.regions, *self.masks) if name not in detected)
        privileged = (f"privileged: {name}" for name in dict.fromkeys((*self.privileged, *handed)))
        own = _merge(m.flags for m in self.components)
        by_row = ["by row number"] if any(m.by_row for m in self.components) else []
        return (*own, *by_row, *(["transductive"] if self.transductive else []), *privileged)

    def check(self, info: BuildInfo) -> None:
        for m in self.components:
            m.check(info)

    def resample(self, table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        for m in self.components:
            table = m.resample(table, rng)
        return table

    def edit(self, image: Image, masks: Masks, scale: float) -> Image:
        for m in self.components:
            image = m.edit(image, masks, scale)
        return image

    def prepare(self, batch: Batch) -> Batch:
        for m in self.components:
            batch = m.prepare(batch)
        return batch

    def balance_by(self) -> str | None:
        return self._only((m.name, m.balance_by()) for m in self.components)

    def head(self, info: BuildInfo) -> Head | None:
        self.check(info)  # plans and cells both ask for the head before anything is built
        return self._only((m.name, m.head(info)) for m in self.components)

    @staticmethod
    def _only(answers: Iterable[tuple[str, T | None]]) -> T | None:
        given = [(name, answer) for name, answer in answers if answer is not None]
        if len(given) > 1:
            names = " and ".join(name for name, _ in given)
            raise UsageError(f"only one method may decide this, not {names}", fix="Drop one of them")
        return given[0][1] if given else None

    def build(self, info: BuildInfo) -> None:
        for m in self.components:
            m.build(info)

    def intervene(self, tap: str, x: Tensor, batch: Batch) -> Tensor:
        for m in self.components:
            if tap in m.touches:
                x = m.intervene(tap, x, batch)
        return x

    def weight(self, losses: Tensor, batch: Batch) -> Tensor:
        total = torch.ones_like(losses)
        for m in self.components:
            total = total * m.weight(losses, batch)
        return total

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        return self._named(lambda m: m.loss(out, batch))

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        return self._named(lambda m: m.diagnose(out, batch))

    def _named(self, values: Callable[[Method], Mapping[str, T]]) -> Mapping[str, T]:
        return {f"{i}.{m.name}/{k}": v for i, m in enumerate(self.components) for k, v in values(m).items()}

    def phases(self) -> Sequence[Phase]:
        return [
            replace(phase, name=f"{i}.{m.name}/{phase.name}")
            for i, m in enumerate(self.components)
            for phase in m.phases()
        ]

    def postprocess(self, outputs: Outputs, reference: pd.DataFrame, head: Head) -> Outputs:
        for m in self.components:
            outputs = m.postprocess(outputs, reference, head)
        return outputs

    def report(self) -> Mapping[str, float]:
        return self._named(lambda m: m.report())


def _merge(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
