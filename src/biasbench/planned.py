"""What a plan consists of: opened data sets, and cells with all that decides them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from biasbench import io
from biasbench.data import SPLITS, Dataset, Progress, Split, attribute, check_table, table_digest
from biasbench.errors import IntegrityError, UsageError
from biasbench.faces import FACE, MASKS, DetectedFaces, Faces, choose_faces
from biasbench.pictures import content
from biasbench.rng import generator
from biasbench.spec import RunSpec
from biasbench.store import made_by
from biasbench.weights import ResolvedWeights

if TYPE_CHECKING:
    from biasbench.method import Pipeline

FIELD_TAPS = ("image", "conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "embedding")
PAPER_VIEWS = 5  # the published attackers see a fresh view of the training split in each of five rounds


@dataclass
class Data:
    """An opened data set with its tables as this plan uses them.

    `pictures` is the content of its image files, once they were read.
    """

    typed: str
    text: str
    dataset: Dataset
    limit: int | None
    source: str = ""
    pictures: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Content of the data set, with the limit on its rows."""
        return io.hash_bytes(f"{self.dataset.fingerprint()} limit={self.limit}".encode())

    def read_pictures(self, progress: Progress | None = None) -> None:
        """Read the image files that are new or changed, so that `pictures` is known."""
        names = [str(path) for split in SPLITS for path in self.tables[split]["path"]]
        place = io.hash_bytes(str(Path(self.dataset.root).absolute()).encode(errors="surrogatepass"))[:32]
        self.pictures = content(self.dataset.root, names, self.dataset.cache / "pictures" / f"{place}.json", progress)

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
    def opened(self) -> dict[Split, tuple[list[str], str]]:
        """Columns and digest of each split's table when this was first asked for."""
        return {split: ([str(c) for c in table], table_digest(table)) for split, table in self.tables.items()}

    def check(self) -> None:
        """See that the tables, which are the truth, are as they were opened: plans run plugins' code beside them.

        Raises:
            IntegrityError: Naming the split whose table is not.
        """
        for split, (columns, digest) in self.opened.items():
            if not {*columns} <= {*self.tables[split]} or table_digest(self.tables[split][columns]) != digest:
                raise IntegrityError(
                    f"the {split} table of {self.typed} has changed since it was opened",
                    fix="A plugin writes into the data: leave it out, or repair it",
                )

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

    @cached_property
    def faces(self) -> Faces | None:
        """Where face boxes come from, if not from the data set's own annotations."""
        return choose_faces(self.typed, self.dataset, self.tables)

    @property
    def provides(self) -> frozenset[str]:
        """What the data set provides, faces from elsewhere and the labels of its attributes included."""
        return self._labelled(self.dataset.provides | ({MASKS} if self.faces is not None else set()))

    @property
    def provides_elsewhere(self) -> frozenset[str]:
        """The same as a secondary data set, in which no face is looked for."""
        return self._labelled(self.dataset.provides)

    def _labelled(self, features: frozenset[str]) -> frozenset[str]:
        return features | {f"attribute:{name}" for name in self.groups}

    def region(self, split: Split, name: str) -> pd.DataFrame:
        """A region's geometry for the split's rows."""
        elsewhere = self.faces if name == FACE else None
        frame = self.dataset.region(split, name) if elsewhere is None else elsewhere.region(split)
        return frame[frame["id"].isin(self.tables[split]["id"])].reset_index(drop=True)

    def identity(self, method: Pipeline, splits: Sequence[Split]) -> str:
        """Hash of all that decides the pixels that a cell sees: labels, image files, the method's regions."""
        regions = tuple(dict.fromkeys((*method.regions, *method.masks)))
        content = f"{self.fingerprint} {self.pictures} {self.region_digest(regions) if regions else ''}"
        return io.hash_bytes((content if tuple(splits) == SPLITS else f"{content} {','.join(splits)}").encode())

    def region_digest(self, names: Sequence[str]) -> str:
        """Hash of some regions' geometry, or of all that decides it where it is not known yet."""
        parts = [f"{s}/{n}:{self._region_digest(s, n)}" for s in SPLITS for n in sorted(names)]
        return io.hash_bytes("\n".join(parts).encode())

    def _region_digest(self, split: Split, name: str) -> str:
        folder = self.detected(split, name)
        return table_digest(self.region(split, name)) if folder is None else folder.name

    def detected(self, split: Split, name: str) -> Path | None:
        """The folder in which a detector's boxes are, or will be; None for every other region."""
        return self.faces.folders[split] if name == FACE and isinstance(self.faces, DetectedFaces) else None


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
        secondary: Data sets beside its own, by the name that its method or the user gives them.
        codes: Identity of each metric's code (`biasbench.spec.code_of`).
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
    secondary: Mapping[str, Data] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The run's key."""
        return self.spec.key()

    @cached_property
    def training_key(self) -> str:
        """The training's key."""
        return self.spec.training_key()

    @property
    def sources(self) -> tuple[str, ...]:
        """Identities of third parties' code that its process runs, as its keys have them."""
        return tuple(sorted({*self.spec.method.sources, *self.spec.plugin_sources}))

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
        if self.spec.precision != "fp32":
            found.append(f"precision={self.spec.precision}")
        if self.spec.device != "cpu":
            found.append(f"device={self.spec.device}")
        if self.trains_from:
            found.append(f"trains from {self.trains_from}")
        detected = (FACE,) if isinstance(self.data.faces, DetectedFaces) else ()
        found += self.spec.method.build().row_flags(detected)
        if self.spec.boxes and self.data.faces is not None:
            found.append(self.data.faces.flag)
        if self.spec.recipe.select == "released" and self.spec.method.init is not None:
            found.append("select=released: may be the undebiased start")
        if self.spec.recipe.name == "smoke":
            found.append("smoke: figures mean nothing")
        if self.spec.recipe.views < PAPER_VIEWS:
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

    def measured_by(self, records: Iterable[Mapping[str, Any]]) -> bool:
        """Whether stored measurements hold every metric asked for, without an error and by the code of now."""
        names = ("metric", "attribute", "protocol")
        done = {(*(r[n] for n in names), made_by(r)) for r in records if not r["error"]}
        return all((m, a, self.protocol, self.codes[m]) in done for m in self.metrics for a in self.attributes)

    def init_cell(self) -> Cell | None:
        """The cell whose training this one starts from, or None."""
        init = self.spec.method.init
        if init is None:
            return None
        return replace(self, spec=replace(self.spec, method=init))
