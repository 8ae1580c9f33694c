"""Benchmark files: a whole table as TOML.

name = "demo"
help = "What a newcomer runs first"
datasets = ["scenes"]
seeds = [0, 1]                # or "0..4"
profile = "short"

[recipe]                      # single fields replaced
crop = 96

[[rows]]
method = "original"

[paper]                       # where published figures come from
source = "Somebody et al. 2019, Table 4"
rounds = 5

[[rows]]
method = "adv-conv5(weight=2.0)"
published = { f1 = 46.8, lambda_m = { mean = 64.92, std = 0.4 } }     # by column, to be read beside ours
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from biasbench.errors import UsageError, did_you_mean, printable
from biasbench.plan import Request
from biasbench.recipe import Precision
from biasbench.seeds import seed_range

Text = Annotated[str, Field(min_length=1)]
MOST_SEEDS = 100_000
PLACES = (Path(__file__).parent / "benchmarks", Path(__file__).parents[2] / "benchmarks")  # installed; a checkout


class PublishedFigure(BaseModel):
    """A figure as a paper prints it; a plain number in the file is its mean.

    Attributes:
        mean: Percent, points or a count.
        std: The printed ±, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    mean: float
    std: float | None = Field(default=None, ge=0)


def _seeds(value: Any) -> Any:
    """`"0..4"` written out; anything else is left to be checked."""
    if not isinstance(value, str):
        return value
    found = seed_range(value)
    if len(found) > MOST_SEEDS:
        raise ValueError(f"more than {MOST_SEEDS:,} seeds")
    return list(found)


def _figure(value: Any) -> Any:
    return {"mean": value} if isinstance(value, (int, float)) else value


Given = Annotated[PublishedFigure, BeforeValidator(_figure)]


class BenchmarkRow(BaseModel):
    """One row.

    Attributes:
        method: Method string.
        published: Published figures, by key of the column they are to be read beside.
        by_attribute: The same for figures that are given for a protected attribute, by its name.
        note: Where the paper, its code and its arithmetic disagree, or are silent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: Text
    published: dict[str, Given] = Field(default_factory=dict)
    by_attribute: dict[str, dict[str, Given]] = Field(default_factory=dict)
    note: str = ""


class Paper(BaseModel):
    """Where the published figures of a file come from. The rest of the file says how they were made.

    Attributes:
        source: Paper and table.
        rounds: Attackers behind each published ±, a population standard deviation; None = not known.
        examples: Images by split, as published.
        note: What holds for every row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: Text
    rounds: Annotated[int, Field(ge=2)] | None = None
    examples: dict[str, int] = Field(default_factory=dict)
    note: str = ""


class Benchmark(BaseModel):
    """A benchmark file. Every combination of rows, data sets, backbones and seeds is a cell."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text
    help: str = ""
    datasets: list[Text] = Field(min_length=1)
    backbones: list[Text] = Field(default_factory=list)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_seeds)] = Field(default=[0], min_length=1)
    profile: Text = "short"
    protocol: str | None = None
    attributes: list[Text] = Field(default_factory=list)
    metrics: list[Text] = Field(default_factory=list)
    secondary: list[Text] = Field(default_factory=list)
    weights: Text = "auto"
    precision: Precision = "fp32"
    recipe: dict[str, Any] = Field(default_factory=dict)
    paper: Paper | None = None
    rows: list[BenchmarkRow] = Field(min_length=1)

    def request(self) -> Request:
        """The same as a request."""
        return Request(
            methods=[row.method for row in self.rows],
            datasets=self.datasets,
            backbones=self.backbones,
            seeds=self.seeds,
            profile=self.profile,
            overrides=dict(_dotted(self.recipe)),
            weights=self.weights,
            precision=self.precision,
            protocol=self.protocol,
            attributes=self.attributes,
            metrics=self.metrics,
            secondary=self.secondary,
        )


def shipped() -> dict[str, Path]:
    """The files that come with biasbench, by name.

    Example:
        >>> shipped()["wang2019-table4"].name
        'wang2019-table4.toml'
    """
    return {file.stem: file for folder in reversed(PLACES) for file in sorted(folder.glob("*.toml"))}


def load_benchmark(path: Path) -> Benchmark:
    """Read a benchmark file.

    Args:
        path: A file, or the name of one that comes with biasbench, such as `wang2019-table4`. A file of
            that name in the working folder goes first.

    Raises:
        UsageError: When it cannot be read, or listing everything that is wrong in it.
    """
    if not path.exists():
        path = shipped().get(str(path), path)
    where = printable(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        hint = did_you_mean(str(path), shipped()) or f"These come with biasbench: {', '.join(shipped())}"
        raise UsageError(
            f"cannot be read: {error.strerror}", where=where, fix=f"Give the path of a TOML file. {hint}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"is not TOML: {printable(error)}", where=where, fix="See docs/architecture.md") from error
    try:
        benchmark = Benchmark.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20])
        unknown = [str(e["loc"][-1]) for e in error.errors() if e["type"] == "extra_forbidden"]
        keys = [*Benchmark.model_fields, *BenchmarkRow.model_fields, *Paper.model_fields]
        hints = " ".join(filter(None, (did_you_mean(key, keys) for key in unknown)))
        fix = hints or f"Keys: {', '.join(Benchmark.model_fields)}"
        raise UsageError(printable(problems, 1000), where=where, fix=fix) from None
    if len(set(benchmark.seeds)) < len(benchmark.seeds):
        raise UsageError("seeds: a seed is named twice", where=where, fix="Name each seed once")
    return benchmark


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as dotted fields: {"stages": {"0": {"lr": 1}}} becomes stages.0.lr."""
    found = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += _dotted(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
