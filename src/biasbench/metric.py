"""Metrics: functions of stored predictions and tables, with fixed columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from biasbench.data import Predictions, Task

if TYPE_CHECKING:
    import pandas as pd

Better = Literal["higher", "lower", "zero", "none"]


@dataclass(frozen=True)
class Column:
    """One figure of a metric, declared before any data is seen.

    Attributes:
        key: Name in JSON and CSV; never built from data.
        title: Heading on the leaderboard.
        better: Which way is better; `"zero"` for signed figures, `"none"` for context.
        unit: `"%"` for percentages and points, else the empty string.
        help: One line.
        board: Whether the leaderboard shows it unasked.
    """

    key: str
    title: str
    better: Better
    unit: str = "%"
    help: str = ""
    board: bool = True


class Memo(Protocol):
    """A store of JSON values by a text that names every input of the value."""

    def get(self, key: str) -> Any:
        """The value stored for `key`, or None."""

    def put(self, key: str, value: Any) -> None:
        """Store a JSON value, not None."""

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value stored for `key`, else what `compute` returns, which is stored."""


class NoMemo:
    """A memo that keeps nothing.

    Example:
        >>> NoMemo()("a key", lambda: 3)
        3
    """

    def get(self, key: str) -> Any:
        """None."""
        return None

    def put(self, key: str, value: Any) -> None:
        """Nothing is stored."""

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns."""
        return compute()


@dataclass(frozen=True)
class Measurement:
    """What a metric may know beside predictions.

    Attributes:
        task: Multi-label or multi-class.
        label_names: K names.
        attribute: The protected attribute measured, by name.
        groups: Names of its groups, in the order of their codes.
        protocol: Name of the measuring protocol: `wang2019`, `quick`, …
        seed: Base of the metric's random streams (see `biasbench.rng`).
        memo: `memo(key, compute)` returns a stored JSON value for the text `key`, or
            computes and stores it. The key must name every input but the metric's own code.
        threads: Processor cores to use.
    """

    task: Task
    label_names: tuple[str, ...]
    attribute: str
    groups: tuple[str, ...]
    protocol: str
    seed: int
    memo: Memo = field(default_factory=NoMemo)
    threads: int = 1


class Metric(ABC):
    """A figure, or a few, of one cell and one protected attribute.

    Attributes:
        name: What `--metric` and `list metrics` call it.
        columns: Every key that `measure` returns.
        splits: Splits whose predictions it reads.
        protocols: Names of the measuring protocols it knows; empty = it does not care.
        source: The paper it comes from.
        on_request: Whether it is computed only when it is named.
        secondary: Whether it can answer for a secondary data set, whose labels are not the task's: there,
            predictions hold targets of that data set, and only scores, embeddings and attributes mean something.
        version: Raised with every change that moves its figures: those of an earlier version are then measured again.
            What a plugin's files hold counts besides.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    splits: ClassVar[tuple[str, ...]] = ("test",)
    protocols: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    on_request: ClassVar[bool] = False
    secondary: ClassVar[bool] = False
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        """The figures of one cell.

        Args:
            predictions: Of each split in `splits`, by split. `"train"` holds the rows
                that the model was trained on (after resampling).
            tables: Of each split, rows in the order of `predictions`.
            context: Attribute, protocol and random seed.

        Returns:
            A float for each column key. NaN means undefined, as for an absent group, and
            is never replaced by 0. A column may also map to a list of floats, one a
            round: the store then keeps mean, population standard deviation and n. Keys
            outside `columns` are kept as details beside the row (JSON values only).
        """
