"""Recipes are data: stages, learning rates and a selection rule, read from TOML.

The named profiles lie in `biasbench/recipes/*.toml`; `--set recipe.crop=64` or a benchmark
file overrides single fields. Everything here can change a result, so all of it is part of
a run's key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from biasbench.errors import UsageError, did_you_mean, printable

Precision = Literal["fp32", "bf16", "fp16"]


class Stage(BaseModel):
    """One stretch of training with fixed trainable parameters.

    Attributes:
        train: What learns: `"head"` alone, a tap such as `"conv5"` (that segment, all that
            follow and the head), or `"all"`.
        epochs: Passes over the training rows.
        lr: Learning rate, constant.
        head_lr: Of the task's head, relative to `lr` (Alvi et al. 2018 use 10).
        optimizer: `"adam"` or `"sgd"`.
        momentum: Of SGD.
        batch_size: Examples per step.
        weight_decay: The optimiser's L2 term.
        norm: `"batch"`: the backbone's batch-norm layers use and update batch statistics,
            frozen layers included, as the released code does; `"eval"`: they hold still.
        method: Whether the method's losses, phases and interventions act in this stage. Its
            pixels, rows, head and weighting always do.
        max_steps: At most so many steps per epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: str = "all"
    epochs: int = Field(ge=0)
    lr: float = Field(gt=0, allow_inf_nan=False)
    head_lr: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(ge=2)
    weight_decay: float = Field(default=1e-5, ge=0, allow_inf_nan=False)
    norm: Literal["eval", "batch"] = "eval"
    method: bool = True
    max_steps: int | None = Field(default=None, ge=1)


class Recipe(BaseModel):
    """How a cell is trained and measured.

    Attributes:
        name: The profile's name, shown in the row.
        stages: In order. A method that starts from a finished run leaves out the stages that
            train only the head.
        select: `"best"`: the epoch with the highest macro F1 on the validation split (the
            earliest of ties), `"last"`: the last epoch, `"released"`: as `"best"`, but a finished
            run that a method starts from competes with the method's epochs, as in the released
            code: what is kept can then be a model that was never debiased, and rows say so.
        class_weights: Weight each label's loss by #negatives / #positives (released code).
        crop: Side of the models' input, pixels; None = the data set's own.
        short_side: Short side of images before cropping, pixels; None = the data set's own.
        pixels: `"store"`: decode and resize once, edit at that size; `"native"`: decode every
            time, edit at the original size, then resize (the papers' pipeline).
        train_views: `"fresh"`: new random crop and flip every epoch; `"fixed"`: epochs take
            turns over the centre view and the stored views, so that frozen layers run once.
        cache: Whether the output of frozen layers is computed once and kept (fixed views only).
        views: Augmented views of the training split stored for the attackers, V.
        embeddings: Whether predictions keep the embedding too.
        protocol: Measuring protocol.
        random_weights: Whether a backbone without local weights may start from random ones.
        threads: CPU threads of each of a cell's processes.
        processes: Processes that compute a cell together, each with a GPU of its own where there are GPUs. Batches
            stay as they are; each process takes its share of the rows.
        compile: Whether `torch.compile` makes the backbone's code.
        channels_last: Memory format of images and weights.
        micro_batch: Examples per forward pass of the task's step; None = the whole batch.
        eval_batch: Examples per forward pass in evaluation.
        limit: At most so many rows of each split (smoke tests only).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    stages: tuple[Stage, ...] = Field(min_length=1)
    select: Literal["best", "last", "released"] = "best"
    class_weights: bool = True
    crop: int | None = Field(default=None, ge=16)
    short_side: int | None = Field(default=None, ge=16)
    pixels: Literal["store", "native"] = "store"
    train_views: Literal["fresh", "fixed"] = "fresh"
    cache: bool = True
    views: int = Field(default=1, ge=0)
    embeddings: bool = False
    protocol: str = "wang2019"
    random_weights: bool = False
    threads: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1, le=64)
    compile: bool = False
    channels_last: bool = True
    micro_batch: int | None = Field(default=None, ge=1)
    eval_batch: int = Field(default=64, ge=1)
    limit: int | None = Field(default=None, ge=8)

    @model_validator(mode="after")
    def _shared(self) -> Self:
        """Batches must be large enough for all processes: near-equal ones may be half as large as asked for."""
        if self.processes > 1:
            least = min(*(s.batch_size for s in self.stages), self.micro_batch or self.stages[0].batch_size)
            if least < 2 * self.processes:
                raise ValueError(f"batches of {least} are too small for {self.processes} processes: twice as many rows")
            if self.compile:
                raise ValueError("compile and more than one process do not go together")
        return self

    def identity(self) -> dict[str, Any]:
        """What a training's key hashes of it; a field that came later only where it is not at its default."""
        found = self.model_dump(mode="json", exclude={"protocol", "views", "embeddings"})
        if self.train_views == "fixed":
            found["views"] = self.views  # epochs take turns over them
        later = {"processes": 1, "compile": False}
        return {name: value for name, value in found.items() if name not in later or value != later[name]}

    def stages_run(self, *, started: bool) -> list[tuple[int, Stage]]:
        """The stages that run, numbered; a start from a finished run leaves out those that train only the head.

        Example:
            >>> short = load_recipe("short")
            >>> [i for i, _ in short.stages_run(started=False)], [i for i, _ in short.stages_run(started=True)]
            ([0, 1], [1])
        """
        stages = list(enumerate(self.stages))
        return [(i, s) for i, s in stages if not started or s.train != "head"] or stages[-1:]


def profiles() -> tuple[str, ...]:
    """Names of the profiles that come with biasbench.

    Example:
        >>> profiles()
        ('alvi2018', 'paper', 'short', 'smoke')
    """
    folder = resources.files("biasbench") / "recipes"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load_recipe(profile: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A profile with some fields replaced.

    Args:
        profile: One of `profiles()`.
        overrides: Dotted field to value: `{"crop": 64, "stages.1.lr": 1e-4}`.

    Raises:
        UsageError: Listing everything that is wrong.

    Example:
        >>> load_recipe("smoke", {"crop": 48}).crop
        48
    """
    if profile not in profiles():
        hint = did_you_mean(profile, profiles()) or f"Known: {', '.join(profiles())}"
        raise UsageError(f"unknown profile {printable(profile)!r}", fix=hint)
    text = (resources.files("biasbench") / "recipes" / f"{profile}.toml").read_text()
    data: dict[str, Any] = {"name": profile, **tomllib.loads(text)}
    for dotted, value in (overrides or {}).items():
        _put(data, dotted.split("."), value, dotted)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"recipe.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20])
        unknown = sorted({dotted.split(".")[-1] for dotted in overrides or {}} - {*_fields()})
        hints = " ".join(filter(None, (did_you_mean(name, _fields()) for name in unknown)))
        fix = hints or (f"Fields: {', '.join(Recipe.model_fields)}" if unknown else None)
        raise UsageError(printable(problems), fix=fix) from None


def _fields() -> list[str]:
    return [*Recipe.model_fields, *Stage.model_fields]


def _put(data: Any, path: Sequence[str], value: Any, dotted: str) -> None:
    for step in path[:-1]:
        data = _child(data, step, dotted)
    last = path[-1]
    if isinstance(data, list):
        _child(data, last, dotted)
        data[int(last)] = value
    elif isinstance(data, dict):
        data[last] = value
    else:
        raise UsageError(f"recipe.{printable(dotted)} leads nowhere", fix="Write for example recipe.stages.0.lr")


def _child(data: Any, step: str, dotted: str) -> Any:
    if isinstance(data, list) and step.isdecimal() and int(step) < len(data):
        return data[int(step)]
    if isinstance(data, dict) and step in data:
        return data[step]
    raise UsageError(f"recipe.{printable(dotted)} leads nowhere", fix="Write for example recipe.stages.0.lr")
