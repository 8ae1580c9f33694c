"""The whole plan, checked before the first epoch: cells, what they need, and what cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from biasbench.backbone import Backbone
from biasbench.config import Settings
from biasbench.data import Progress, attribute
from biasbench.errors import BiasBenchError, UsageError, did_you_mean, printable
from biasbench.faces import FACE, without_faces
from biasbench.grammar import bind, canonical, parse
from biasbench.head import default_head
from biasbench.locate import open_dataset
from biasbench.method import BuildInfo, Method, overrides
from biasbench.metric import Metric
from biasbench.planned import FIELD_TAPS, Cell, Data
from biasbench.plugins import Plugins, default_metrics
from biasbench.recipe import Precision, Recipe, load_recipe
from biasbench.spec import MethodSpec, RunSpec, check_own_name, code_of, resolve_method, source_of
from biasbench.weights import ResolvedWeights


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
        secondary: Data sets whose images are predicted too, so that `embedding` can be measured for their
            attributes (`laofiw:ancestry`).
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
    secondary: Sequence[str] = ()


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
        self.codes: dict[str, str] = {}
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
                self._check_names(method, request.backbones)
                continue
            for backbone in request.backbones or (type(data.dataset).default_backbone,):
                try:
                    found += self._row(request, recipe, method, data, backbone)
                except BiasBenchError as error:
                    self.problems.append(error)
        return found

    @cached_property
    def unasked(self) -> tuple[str, ...]:
        """Metrics of a request that names none."""
        return default_metrics(self.plugins)

    def _check_metrics(self, request: Request, recipe: Recipe) -> None:
        """Metrics and the protocol have names too."""
        known: set[str] = set()
        for text in request.metrics or self.unasked:
            offer = self.plugins.metrics.find(parse(text)[0].name)
            cls = self.metrics.setdefault(text, offer.load())
            self.codes.setdefault(text, code_of(cls, offer))
            bind(cls, parse(text)[0], offer.entry.options)
            known |= set(cls.protocols)
        protocol = request.protocol or recipe.protocol
        if known and parse(protocol)[0].name not in known:
            hint = did_you_mean(protocol, known) or f"Known: {', '.join(sorted(known))}"
            raise UsageError(f"unknown protocol {printable(protocol)!r}", fix=hint)

    def _check_names(self, method: str, backbones: Sequence[str]) -> None:
        """Names and options are told about also when the data set is the first problem."""
        try:
            resolve_method(method, self.plugins.methods, "")
        except BiasBenchError as error:
            self.problems.append(error)
        for backbone in backbones:
            try:
                self.plugins.backbones.find(_one(backbone)[0].name)
            except BiasBenchError as error:
                self.problems.append(error)

    def _open(self, text: str, limit: int | None) -> Data | None:
        if (text, limit) not in self.data:
            self.data[text, limit] = None
            try:
                dataset, identity = open_dataset(text, self.plugins, self.settings, progress=self.progress)
                offer = self.plugins.datasets.find(parse(text)[0].name)
                data = Data(text.strip(), identity, dataset, limit, source_of(type(dataset), offer))
                _ = data.opened, data.fingerprint
                data.read_pictures(self.progress)
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
        for name in used:
            self._check_attribute(name, data, {})
        metrics = tuple(request.metrics) or self.unasked
        text = canonical(component.name, options)
        pipeline = resolved.build()
        check_together(recipe, resolved.typed, pipeline.components)
        wanted = dict.fromkeys((*pipeline.data, *request.secondary))
        secondary = {name: found for name in wanted if (found := self._open(name, recipe.limit)) is not None}
        if len(secondary) < len(wanted):
            return []  # the problem is noted
        for name in attributes:
            self._check_attribute(name, data, {n: secondary[n] for n in request.secondary})
        reason = self._impossible(resolved, text, cls, component.name, options, data, secondary, recipe)
        sources = tuple(
            s for s in (data.source, source_of(cls, offer), *(secondary[name].source for name in pipeline.data)) if s
        )
        edited = FACE in (*pipeline.regions, *pipeline.masks)
        boxes = data.faces.identity if edited and data.faces is not None else ""
        return [
            Cell(
                RunSpec(
                    resolved, data.text, data.fingerprint, text, weights.label, weights.digest, recipe, seed,
                    request.precision, self.device, sources, boxes,
                    {name: f"{found.fingerprint} {found.pictures}" for name, found in secondary.items()},
                    tuple(request.secondary), data.pictures,
                ),
                data, backbone.strip(), component.name, options, weights, attributes, metrics,
                request.protocol or recipe.protocol, request.overrides, reason, secondary,
                {name: self.codes[name] for name in metrics},
            )
            for seed in request.seeds
        ]  # fmt: skip

    @staticmethod
    def _check_attribute(name: str, data: Data, beside: Mapping[str, Data]) -> None:
        """Derive an intersection where it is used; an unknown attribute raises."""
        for other, found in beside.items():
            if name.startswith(f"{other}:"):
                data, name = found, name.removeprefix(f"{other}:")
        data.derive(name)
        attribute(data.tables["train"], name)

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
        secondary: Mapping[str, Data],
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
        masks = {f"masks:{r}" for r in (*pipeline.regions, *pipeline.masks)}
        wanted = pipeline.requires | masks | {f"{name}/{mask}" for name in secondary for mask in masks}
        there = {f"{name}/{feature}" for name, other in secondary.items() for feature in other.provides_elsewhere}
        missing = sorted(wanted - data.provides - head.provides - there)
        return f"n/a: needs {', '.join(missing)}{without_faces(missing)}" if missing else None


def check_together(recipe: Recipe, typed: str, components: Sequence[Method]) -> None:
    """Refuse methods that act on a batch before it is whole, where several processes share batches.

    Raises:
        UsageError: Naming the method.

    Example:
        >>> from biasbench.recipe import load_recipe
        >>> check_together(load_recipe("short", {"processes": 2}), "original", [])
    """
    for method in components if recipe.processes > 1 else ():
        for point in ("prepare", "intervene"):
            if overrides(method, point) and (point == "prepare" or method.stage == "train"):
                raise UsageError(
                    f"{typed}: {method.name} changes batches inside the network while it learns ({point}), which "
                    "several processes see in part only",
                    fix="Run it with --processes 1",
                )


def _one(text: str) -> tuple[Any]:
    components = parse(text)
    if len(components) != 1:
        raise UsageError(f"{printable(text)!r} names {len(components)} backbones", fix="Give one --backbone for each")
    return (components[0],)
