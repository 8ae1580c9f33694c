"""The whole plan, checked before the first epoch: cells, what they need, and what cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from biasbench import io
from biasbench.backbone import Backbone
from biasbench.config import Settings
from biasbench.data import SPLITS, Dataset, Progress, Split, attribute, check_table, table_digest
from biasbench.errors import BiasBenchError, UsageError, did_you_mean, printable
from biasbench.grammar import bind, canonical, parse
from biasbench.head import default_head
from biasbench.locate import open_dataset
from biasbench.method import BuildInfo
from biasbench.metric import Metric
from biasbench.plugins import Plugins
from biasbench.recipe import Precision, Recipe, load_recipe
from biasbench.rng import generator
from biasbench.spec import MethodSpec, RunSpec, check_own_name, resolve_method, source_of
from biasbench.weights import ResolvedWeights

FIELD_TAPS = ("image", "conv1", "conv2", "conv3", "conv4", "conv5", "embedding")


@dataclass(frozen=True)
class Request:
    """What the user asked for: every combination of these.

    Attributes:
        methods: Method strings.
        datasets: Data set strings.
        backbones: Backbone names; empty = each data set's own.
        seeds: Seeds.
        profile: Recipe.
        overrides: Dotted recipe field to value.
        weights: `"auto"`, `"random"`, a named source or a file.
        precision: `fp32`, `bf16` or `fp16`.
        protocol: Measuring protocol; None = the recipe's.
        attributes: Protected attributes to measure; empty = each data set's primary one.
        metrics: Metrics to measure; empty = all that are registered.
    """

    methods: Sequence[str]
    datasets: Sequence[str]
    backbones: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    profile: str = "short"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "auto"
    precision: Precision = "fp32"
    protocol: str | None = None
    attributes: Sequence[str] = ()
    metrics: Sequence[str] = ()


@dataclass
class Data:
    """An opened data set with its tables as this plan uses them."""

    typed: str
    text: str
    dataset: Dataset
    limit: int | None
    source: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Content of the data set, with the limit on its rows."""
        return io.hash_bytes(f"{self.dataset.fingerprint()} limit={self.limit}".encode())

    @cached_property
    def tables(self) -> dict[Split, pd.DataFrame]:
        """Each split's table; a limited one is a fixed random subset in the original order."""
        tables = {}
        for split in SPLITS:
            table = self.dataset.table(split)
            check_table(table, self.dataset, split)
            if self.limit is not None and len(table) > self.limit:
                rows = generator("limit", self.limit, split).permutation(len(table))[: self.limit]
                table = table.iloc[np.sort(rows)].reset_index(drop=True)
            if len(table) < 2:
                raise UsageError(f"split {split} of {self.typed} has {len(table)} examples, too few to use")
            tables[split] = table
        return tables

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group names of every protected attribute, derived ones included."""
        return {name: tuple(groups) for name, groups in self.dataset.attribute_names.items()}

    def derive(self, name: str) -> None:
        """Add the intersection `a*b` to the tables as an attribute of its own.

        Raises:
            DataError: When a factor is unknown.
        """
        if name in self.groups or "*" not in name:
            return
        factors = name.split("*")
        for table in self.tables.values():
            codes, known = np.zeros(len(table), np.int64), np.ones(len(table), bool)
            for factor in factors:
                found = attribute(table, factor)
                codes, known = codes * len(self.groups[factor]) + found, known & (found >= 0)
            table[f"attribute/{name}"] = np.where(known, codes, -1)
        self.groups[name] = tuple("*".join(g) for g in product(*(self.groups[f] for f in factors)))

    def region(self, split: Split, name: str) -> pd.DataFrame:
        """A region's geometry for the split's rows."""
        frame = self.dataset.region(split, name)
        return frame[frame["id"].isin(self.tables[split]["id"])].reset_index(drop=True)

    def region_digest(self, names: Sequence[str]) -> str:
        """Hash of some regions' geometry."""
        parts = [f"{s}/{n}:{table_digest(self.region(s, n))}" for s in SPLITS for n in sorted(names)]
        return io.hash_bytes("\n".join(parts).encode())


@dataclass
class Cell:
    """One row's worth of work for one seed.

    Attributes:
        spec: Its identity.
        data: Its data.
        typed_backbone: The backbone as the user wrote it.
        backbone: Its name alone.
        options: Its options.
        weights: Its resolved weights.
        attributes: Protected attributes to measure.
        metrics: Metrics to measure.
        protocol: Measuring protocol.
        overrides: Recipe fields that differ from the profile's.
        reason: Why it cannot run, or None.
    """

    spec: RunSpec
    data: Data
    typed_backbone: str
    backbone: str
    options: Mapping[str, Any]
    weights: ResolvedWeights
    attributes: tuple[str, ...]
    metrics: tuple[str, ...]
    protocol: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None

    @cached_property
    def key(self) -> str:
        """The run's key."""
        return self.spec.key()

    @cached_property
    def training_key(self) -> str:
        """The training's key."""
        return self.spec.training_key()

    @property
    def label(self) -> str:
        """How progress and messages name it."""
        return f"{self.data.typed}/{self.typed_backbone}/{self.spec.method.typed}/seed={self.spec.seed}"

    @cached_property
    def trains_from(self) -> str | None:
        """The tap from which a stage trains, if the method makes that earlier than the recipe says."""
        moves = [tap for tap in self.spec.method.build().moves if tap in FIELD_TAPS]
        stages = [s.train for s in self.spec.recipe.stages if s.method and s.train in FIELD_TAPS]
        first = min((*moves, *stages), key=FIELD_TAPS.index, default=None)
        return None if not stages or first in stages else first

    @property
    def flags(self) -> list[str]:
        """What a reader of the row must know."""
        found = [f"weights={self.weights.label}"]
        if self.trains_from:
            found.append(f"trains from {self.trains_from}")
        if self.spec.recipe.name == "smoke":
            found.append("smoke: figures mean nothing")
        if self.protocol == "wang2019" and self.spec.recipe.views < 5:
            found.append(f"views={self.spec.recipe.views}")
        if self.data.limit is not None:
            found.append(f"limit={self.data.limit}")
        if self.overrides:
            found.append("recipe: " + " ".join(f"{k}={v}" for k, v in self.overrides.items()))
        return found

    def record(self, status: str = "missing", reason: str | None = None) -> dict[str, Any]:
        """The leaderboard record of a cell without a score."""
        return {
            "key": self.key,
            "status": status,
            "reason": reason,
            "method": self.spec.method.typed,
            "dataset": self.data.typed,
            "backbone": self.typed_backbone,
            "profile": self.spec.recipe.name,
            "seed": self.spec.seed,
            "weights": self.weights.label,
            "flags": self.flags,
            "attribute": self.attributes[0],
            "protocol": self.protocol,
            "values": {},
        }

    def init_cell(self) -> Cell | None:
        """The cell whose training this one starts from, or None."""
        init = self.spec.method.init
        if init is None:
            return None
        return replace(self, spec=replace(self.spec, method=init))


def make_plan(
    requests: Sequence[Request],
    plugins: Plugins,
    settings: Settings,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Cell]:
    """Every cell of some requests, checked.

    Args:
        requests: What was asked for.
        plugins: Where names are looked up.
        settings: Where data is.
        device: `cpu`, `cuda` or `mps`, already chosen.
        progress: Called while a data set prepares itself.

    Returns:
        Cells in the order of methods, data sets, backbones and seeds, each once; those that
        cannot run carry a reason.

    Raises:
        BiasBenchError: Listing all problems at once, with the exit code of the first.
    """
    planner = _Planner(plugins, settings, device, progress)
    cells: dict[str, Cell] = {}
    for request in requests:
        for cell in planner.cells(request):
            cells.setdefault(cell.key, cell)
    if planner.problems:
        texts = list(dict.fromkeys(str(p) for p in planner.problems))
        first = planner.problems[0]
        if len(texts) == 1:
            raise first
        error = UsageError(f"{len(texts)} problems, nothing was run: " + " | ".join(texts[:20]))
        error.exit_code = first.exit_code
        raise error
    return list(cells.values())


class _Planner:
    def __init__(self, plugins: Plugins, settings: Settings, device: str, progress: Progress | None) -> None:
        self.plugins, self.settings, self.device, self.progress = plugins, settings, device, progress
        self.problems: list[BiasBenchError] = []
        self.metrics: dict[str, type[Metric]] = {}
        self.data: dict[tuple[str, int | None], Data | None] = {}
        self.outlines: dict[str, Backbone] = {}

    def cells(self, request: Request) -> list[Cell]:
        try:
            recipe = load_recipe(request.profile, request.overrides)
            self._check_metrics(request, recipe)
        except BiasBenchError as error:
            self.problems.append(error)
            return []
        found = []
        for method, dataset in product(request.methods, request.datasets):
            data = self._open(dataset, recipe.limit)
            if data is None:
                self._check_method(method)
                continue
            for backbone in request.backbones or (type(data.dataset).default_backbone,):
                try:
                    found += self._row(request, recipe, method, data, backbone)
                except BiasBenchError as error:
                    self.problems.append(error)
        return found

    def _check_metrics(self, request: Request, recipe: Recipe) -> None:
        """Metrics and the protocol have names too."""
        known: set[str] = set()
        for text in request.metrics or self.plugins.metrics.offers:
            offer = self.plugins.metrics.find(parse(text)[0].name)
            cls = self.metrics.setdefault(text, offer.load())
            bind(cls, parse(text)[0], offer.entry.options)
            known |= set(cls.protocols)
        protocol = request.protocol or recipe.protocol
        if known and protocol not in known:
            hint = did_you_mean(protocol, known) or f"Known: {', '.join(sorted(known))}"
            raise UsageError(f"unknown protocol {printable(protocol)!r}", fix=hint)

    def _check_method(self, method: str) -> None:
        """Names and options are told about also when the data set is the first problem."""
        try:
            resolve_method(method, self.plugins.methods, "")
        except BiasBenchError as error:
            self.problems.append(error)

    def _open(self, text: str, limit: int | None) -> Data | None:
        if (text, limit) not in self.data:
            self.data[text, limit] = None
            try:
                dataset, identity = open_dataset(text, self.plugins, self.settings, progress=self.progress)
                offer = self.plugins.datasets.find(parse(text)[0].name)
                data = Data(text.strip(), identity, dataset, limit, source_of(type(dataset), offer))
                _ = data.tables, data.fingerprint
                self.data[text, limit] = data
            except BiasBenchError as error:
                self.problems.append(error)
        return self.data[text, limit]

    def _row(self, request: Request, recipe: Recipe, method: str, data: Data, backbone: str) -> list[Cell]:
        dataset = data.dataset
        resolved = resolve_method(method, self.plugins.methods, dataset.primary_attribute)
        (component,) = _one(backbone)
        offer = self.plugins.backbones.find(component.name)
        cls = offer.load()
        if not offer.entry.any_name:
            check_own_name(cls, offer, self.plugins.backbones)
        options = bind(cls, component, offer.entry.options, cls.supplied)
        weights = self._weights(cls, component.name, request.weights, recipe)
        side = {"crop": recipe.crop or dataset.crop, "short_side": recipe.short_side or dataset.short_side}
        if side["crop"] > side["short_side"]:
            raise UsageError(f"recipe.crop = {side['crop']} is larger than recipe.short_side = {side['short_side']}")
        recipe = recipe.model_copy(update=side)
        attributes = tuple(request.attributes) or (dataset.primary_attribute,)
        used = [p.options["attribute"] for p in resolved.parts if p.options.get("attribute")]
        for name in (*attributes, *used):
            data.derive(name)
            attribute(data.tables["train"], name)  # raises for an unknown one
        metrics = tuple(request.metrics) or tuple(self.plugins.metrics.offers)
        text = canonical(component.name, options)
        reason = self._impossible(resolved, text, cls, component.name, options, data, recipe)
        sources = tuple(s for s in (data.source, source_of(cls, offer)) if s)
        return [
            Cell(
                RunSpec(
                    resolved, data.text, data.fingerprint, text, weights.label, weights.digest, recipe, seed,
                    request.precision, self.device, sources,
                ),
                data, backbone.strip(), component.name, options, weights, attributes, metrics,
                request.protocol or recipe.protocol, request.overrides, reason,
            )
            for seed in request.seeds
        ]  # fmt: skip

    def _weights(self, cls: type[Backbone], name: str, wanted: str, recipe: Recipe) -> ResolvedWeights:
        try:
            return cls.resolve_weights(name, wanted)
        except UsageError:
            if wanted == "auto" and recipe.random_weights:
                return ResolvedWeights.random()
            raise

    def _impossible(
        self,
        method: MethodSpec,
        text: str,
        cls: type[Backbone],
        name: str,
        options: Mapping[str, Any],
        data: Data,
        recipe: Recipe,
    ) -> str | None:
        """Why a combination cannot run, or None; what can never be meant raises instead."""
        import torch

        pipeline, dataset = method.build(), data.dataset
        if text not in self.outlines:
            self.outlines[text] = cls.outline(name, options)
        outline = self.outlines[text]
        for tap in (*pipeline.taps, *pipeline.touches):
            if tap not in outline.taps:
                if tap in FIELD_TAPS:
                    return f"n/a: {name} has no {tap}"
                hint = did_you_mean(tap, FIELD_TAPS) or f"The taps are {', '.join(FIELD_TAPS)}"
                raise UsageError(f"{method.typed}: there is no tap {printable(tap)!r}", fix=hint)
        for stage in recipe.stages:
            if stage.train not in ("head", "all") and stage.train not in outline.taps:
                return f"n/a: {name} has no {stage.train} to train"
        groups = {n: len(g) for n, g in data.groups.items()}
        ones = torch.ones(len(dataset.label_names))
        assert recipe.crop is not None
        info = BuildInfo(outline, dataset.task, dataset.label_names, groups, recipe.crop, ones)
        head = pipeline.head(info) or default_head(dataset.task, outline.channels["embedding"], ones)
        pipeline.balance_by()
        wanted = pipeline.requires | {f"masks:{r}" for r in (*pipeline.regions, *pipeline.masks)}
        missing = sorted(wanted - dataset.provides - head.provides)
        return f"n/a: needs {', '.join(missing)}" if missing else None


def _one(text: str) -> tuple[Any]:
    components = parse(text)
    if len(components) != 1:
        raise UsageError(f"{printable(text)!r} names {len(components)} backbones", fix="Give one --backbone for each")
    return (components[0],)
