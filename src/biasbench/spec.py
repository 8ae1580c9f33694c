"""What a cell is: names resolved, defaults filled in, everything hashed into its key."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biasbench import io
from biasbench.errors import PluginError
from biasbench.grammar import bind, canonical, parse
from biasbench.plugins import Offer, Registry
from biasbench.recipe import Recipe

if TYPE_CHECKING:
    from biasbench.method import Pipeline
    from biasbench.metric import Metric

SCHEMA = 1  # raised with every change that moves results: older runs are then not served as new ones


@dataclass(frozen=True)
class Part:
    """One component of a method string, resolved.

    Attributes:
        cls: Its class.
        options: Every option, defaults filled in.
        source: Identity of a third party's code; the empty string for our own.
    """

    cls: Any
    options: Mapping[str, Any]
    source: str = ""

    @property
    def text(self) -> str:
        """Canonical text."""
        return canonical(self.cls.name, self.options)


@dataclass(frozen=True)
class MethodSpec:
    """A method string, resolved against the registry and the data's primary attribute.

    Attributes:
        typed: As the user wrote it, spaces trimmed.
        parts: Its components; `original` has none.
    """

    typed: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """Canonical text of the whole; `original` when nothing is mitigated."""
        return _join(self.parts)

    @property
    def training(self) -> tuple[Part, ...]:
        """The components that take part in training."""
        return tuple(p for p in self.parts if p.cls.stage == "train")

    @property
    def training_text(self) -> str:
        """Canonical text of what training depends on."""
        return _join(self.training)

    @property
    def init(self) -> MethodSpec | None:
        """The method whose finished training this one starts from, or None."""
        rest = tuple(p for p in self.training if not p.cls.starts_from_init)
        return MethodSpec(_join(rest), rest) if len(rest) < len(self.training) else None

    @property
    def pixels(self) -> str:
        """Canonical text of the components that edit pictures; cells that share it share pixels."""
        from biasbench.method import Method

        return _join([p for p in self.parts if p.cls.edit is not Method.edit])

    @property
    def sources(self) -> list[str]:
        """Identities of third parties' code."""
        return sorted({p.source for p in self.parts if p.source})

    @property
    def training_sources(self) -> list[str]:
        """Identities of third parties' code that takes part in training."""
        return sorted({p.source for p in self.training if p.source})

    def build(self) -> Pipeline:
        """Fresh method objects, composed."""
        from biasbench.method import Pipeline

        return Pipeline(p.cls(**p.options) for p in self.parts)


def _join(parts: Sequence[Part]) -> str:
    return "+".join(p.text for p in parts) or "original"


def resolve_method(text: str, registry: Registry, primary_attribute: str) -> MethodSpec:
    """Read a method string.

    Raises:
        UsageError: For unknown names and wrong options.
        PluginError: When a class cannot be loaded or misnames itself.
    """
    parts = []
    for component in parse(text):
        offer = registry.find(component.name)
        cls = offer.load()
        check_own_name(cls, offer, registry)
        options = bind(cls, component, offer.entry.options)
        if "attribute" in options and options["attribute"] is None:
            options["attribute"] = primary_attribute
        if cls.name != "original":
            parts.append(Part(cls, options, source_of(cls, offer)))
    return MethodSpec(text.strip(), tuple(parts))


def check_own_name(cls: Any, offer: Offer, registry: Registry) -> None:
    """A class must answer to its own name, since canonical texts are read back."""
    own = getattr(cls, "name", None)
    known = registry.offers.get(own) if isinstance(own, str) else None
    if known is None or known.entry.target != offer.entry.target or known.entry.options:
        raise PluginError(
            f"class {cls.__name__} calls itself {own!r}, but no plugin offers it under that name without presets",
            where=f"plugin {offer.origin.plugin} ({offer.origin.distribution})",
            fix=f"Offer Entry({own!r}, {offer.entry.target!r})",
        )


def source_of(cls: Any, offer: Offer) -> str:
    """Distribution and source hash of a third party's class; our own code is known by its version.

    Hashed is every Python file of the package that the class stands in, or its file where that is none.
    """
    if offer.entry.target.startswith("biasbench."):
        return ""
    file = inspect.getsourcefile(cls)
    package = sys.modules.get(cls.__module__.partition(".")[0])
    homes = [Path(home) for home in getattr(package, "__path__", ())]
    files = sorted(path for home in homes for path in home.rglob("*.py")) or ([Path(file)] if file else [])
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    digest = (hashes[0] if len(hashes) == 1 else io.hash_bytes("".join(hashes).encode()))[:16] if files else "unknown"
    dist = offer.origin.distribution
    name = Path(dist).name if dist.endswith(".py") else dist
    return f"{name} {digest}"


def code_of(metric: type[Metric], offer: Offer) -> str:
    """Identity of a metric's code, which is stored with its figures: its version, and a third party's source."""
    return f"{metric.version} {source_of(metric, offer)}".rstrip()


@dataclass(frozen=True)
class RunSpec:
    """Everything that can change a cell's predictions.

    Attributes:
        method: Resolved method.
        dataset: Canonical text of the data set.
        fingerprint: Its content.
        backbone: Canonical text of the backbone.
        weights: How the row names the starting weights.
        weights_digest: Hash of their source.
        recipe: With `crop` and `short_side` filled in.
        seed: The user's seed.
        precision: `fp32`, `bf16` or `fp16`.
        device: `cpu`, `cuda` or `mps`; never the number of a device.
        plugin_sources: Identities of third parties' data set and backbone code.
        boxes: Identity of the face boxes that the method edits, if they are not the data set's own.
        secondary: Content of the secondary data sets, by the name that a method or the user gives them.
        beside: Those of them that are predicted too.
        pictures: Content of the data set's image files.
    """

    method: MethodSpec
    dataset: str
    fingerprint: str
    backbone: str
    weights: str
    weights_digest: str
    recipe: Recipe
    seed: int
    precision: str = "fp32"
    device: str = "cpu"
    plugin_sources: tuple[str, ...] = field(default=())
    boxes: str = ""
    secondary: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    pictures: str = ""

    def plain(self) -> RunSpec:
        """The same cell in fp32 by one process of a CPU, nothing compiled.

        Its keys name the random streams, so that a cell draws the same numbers however it is computed.
        """
        recipe = self.recipe.model_copy(update={"processes": 1, "compile": False})
        return replace(self, recipe=recipe, device="cpu", precision="fp32")

    def training_payload(self, method: MethodSpec | None = None) -> dict[str, Any]:
        """What the training's key hashes."""
        method = method or self.method
        init = method.init
        return {
            "schema": SCHEMA,
            "method": method.training_text,
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "pictures": self.pictures,
            "backbone": self.backbone,
            "weights": self.weights_digest,
            "recipe": self.recipe.identity(),
            "seed": self.seed,
            "precision": self.precision,
            "device": self.device,
            "sources": sorted({*method.training_sources, *self.plugin_sources}),
            "init": self.training_key(init) if init else None,
            **({} if (self.device, self.precision) == ("cpu", "fp32") else {"streams": "plain"}),
            **self._boxes,
            **self._others(method),
        }

    def training_key(self, method: MethodSpec | None = None) -> str:
        """Identity of the training."""
        return _key(self.training_payload(method))

    def payload(self) -> dict[str, Any]:
        """What the run's key hashes."""
        return {
            "training": self.training_key(),
            "method": self.method.text,
            "views": self.recipe.views,
            "embeddings": self.recipe.embeddings,
            "sources": self.method.sources,
            **({"beside": {name: self.secondary[name] for name in self.beside}} if self.beside else {}),
            **self._boxes,
        }

    def _others(self, method: MethodSpec) -> dict[str, Any]:
        if not self.secondary:
            return {}
        used = {name: self.secondary[name] for name in method.build().data if name in self.secondary}
        return {"secondary": used} if used else {}

    @property
    def _boxes(self) -> dict[str, str]:
        return {"boxes": self.boxes} if self.boxes else {}

    def key(self) -> str:
        """Identity of the run."""
        return _key(self.payload())

    def describe(self) -> dict[str, Any]:
        """The spec as a manifest tells it."""
        return {
            "method": self.method.typed,
            "method_text": self.method.text,
            "dataset": self.dataset,
            "dataset_text": self.dataset,
            "backbone": self.backbone,
            "backbone_text": self.backbone,
            "weights": self.weights,
            "profile": self.recipe.name,
            "seed": self.seed,
            "training_key": self.training_key(),
            "training": self.training_payload(),
            "recipe": self.recipe.model_dump(mode="json"),
        }


def _key(payload: Mapping[str, Any]) -> str:
    return io.hash_json(payload)[:20]
