"""A cell in its child process: build, train, predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from biasbench.backbone import Backbone, seeded
from biasbench.checkpoint import Checkpoints, load_tensors, save_tensors
from biasbench.data import SPLITS, IntArray, Outputs, attribute, targets
from biasbench.engine import Progress, Trainer, start_tap, write_log
from biasbench.errors import CellError
from biasbench.faults import point
from biasbench.features import FeatureBank, View, bank_parts
from biasbench.guard.again import Again
from biasbench.head import class_weights, default_head
from biasbench.images import ImageStore, Loader, SplitInput
from biasbench.job import CellJob, DataInput, ImagesJob, Member
from biasbench.method import BuildInfo, Pipeline, overrides
from biasbench.model import Device, Model, compile_segments
from biasbench.plugins import load_plugins
from biasbench.predict import predict_split, write_outputs
from biasbench.recipe import Stage
from biasbench.rng import generator, seed_for
from biasbench.source import CENTRE, Source
from biasbench.spec import MethodSpec, resolve_method, source_of
from biasbench.store import Store
from biasbench.truth import beside
from biasbench.weights import ResolvedWeights

Send = Callable[[Mapping[str, Any]], None]
ALIVE = 5.0
"""Seconds between two signs of life."""


def prepare_images(job: ImagesJob, send: Send) -> None:
    """Decode and resize every split's images, unless that is done."""
    for split, folder in job.data.stores.items():
        if folder is not None:
            table = job.data.read(job.data.tables[split])

            def report(done: int, total: int, split: str = split) -> None:
                if done == total or done % 256 == 0:
                    send({"event": "progress", "name": f"images {split}", "done": done, "total": total})

            ImageStore.build(folder, table, job.data.root, job.short_side, report)


class Cell:
    """Everything a child builds from its job.

    Args:
        job: What to do.
        send: Tells the parent.
        member: Of this process among several.
    """

    def __init__(self, job: CellJob, send: Send, member: Member | None = None) -> None:
        torch.set_num_threads(job.recipe.threads)
        if job.device != "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.job, self.send = job, send
        self.said = time.monotonic()
        self.recipe, self.data = job.recipe, job.data
        self.device = Device(job.device, job.precision, channels_last=job.recipe.channels_last, member=member)
        self.plugins = load_plugins(job.plugins)
        self.tables = {split: job.data.read(path) for split, path in job.data.tables.items()}
        self.others = {
            name: {split: data.read(path) for split, path in data.tables.items()}
            for name, data in job.secondary.items()
        }
        self.run_name = ("run", job.streams)
        self.data_name = ("data", job.fingerprint, job.seed)
        self.views = [View(f"view-{v}", seed_for("view", job.fingerprint, v)) for v in range(job.recipe.views)]
        self.manifest: dict[str, Any] = {}
        self.pixel_hashes: dict[str, str] = {}  # of the decoded pictures, for the manifest
        self._build()
        self._wire(job.training_method)

    # ------------------------------------------------------------------ building
    def _method(self, text: str) -> MethodSpec:
        return resolve_method(text, self.plugins.methods, self.job.primary_attribute)

    def _build(self) -> None:
        """Backbone, head and method, each from its own random stream."""
        job, task = self.job, self.data.task
        cls = self.plugins.backbones.find(job.backbone).load()
        weights = ResolvedWeights(**job.weights.model_dump())
        backbone: Backbone = cls.create(job.backbone, weights, job.backbone_options)
        backbone.start_fresh(job.seed)
        self.device.module(backbone)
        method = self._method(job.training_method).build()
        self.rows = self._resampled(method)
        y = torch.from_numpy(targets(self.tables["train"])[self.rows].copy())
        k = len(self.data.label_names)
        weight = class_weights(y, task, k) if self.recipe.class_weights else torch.ones(k)
        assert self.recipe.crop is not None
        counts = group_counts(self.tables["train"].iloc[self.rows], self.data.groups)
        others = {n: group_counts(tables["train"], job.secondary[n].groups) for n, tables in self.others.items()}
        self.info = BuildInfo(
            backbone, task, self.data.label_names, dict(self.data.groups), self.recipe.crop, weight, counts, others
        )
        with seeded("head", str(job.seed)):
            head = method.head(self.info) or default_head(task, backbone.channels["embedding"], weight)
        with seeded("method", job.streams):
            method.build(self.info)
        if self.recipe.compile:
            compile_segments(backbone)
        self.model = Model(backbone, head, method)
        self.device.module(self.model)

    def _wire(self, text: str) -> None:
        """Pixels, cached activations and batches as the method `text` wants them."""
        pixels = self._method(text).pixels
        self.loader = self._loader(self.data, self.tables)
        self.bank = self._bank(self._bank_parts(self.data, pixels))
        self.source = Source(self.tables, self.loader, self.bank, self.data.task, self.alive)
        self.secondary = {}
        for name, tables in self.others.items():
            data = self.job.secondary[name]
            bank = self._bank(self._bank_parts(data, pixels))
            self.secondary[name] = Source(tables, self._loader(data, tables), bank, data.task, self.alive)

    def alive(self) -> None:
        """Tell the parent now and then that work goes on."""
        if time.monotonic() - self.said > ALIVE:
            self.said = time.monotonic()
            self.send({"event": "alive"})

    def _add_prediction_methods(self) -> None:
        """Swap in the whole method, evaluation-only components included, around the trained modules."""
        if self.job.method == self.job.training_method:
            return
        method = self._method(self.job.method).build()
        with seeded("method", self.job.run_streams):
            method.build(self.info)
        trained = self.model.method
        assert isinstance(trained, Pipeline)
        for new, old in zip((m for m in method.components if m.stage == "train"), trained.components, strict=True):
            new.load_state_dict(old.state_dict())
        self.model = Model(self.model.backbone, self.model.head, method)
        self.device.module(self.model)
        self._wire(self.job.method)

    def _resampled(self, method: Pipeline) -> IntArray:
        """The training rows, chosen by the method."""
        table = self.tables["train"]
        chosen = method.resample(table, generator(*self.data_name, "resample"))
        rows = chosen.index.to_numpy(np.int64)
        if len(rows) < 2 or not set(rows.tolist()) <= set(range(len(table))):
            raise CellError(f"resampling left {len(rows)} usable training rows")
        return rows

    def _bank(self, parts: dict[str, Any]) -> FeatureBank | None:
        if not self.recipe.cache:
            return None
        backbone = self.model.backbone
        first = backbone.fresh[0] if backbone.fresh else "embedding"
        fresh = (first, *backbone.after(first)) if backbone.fresh else ()
        return FeatureBank(self.job.cache / "features", parts, {tap: {"seed": self.job.seed} for tap in fresh})

    def _loader(self, data: DataInput, tables: Mapping[str, pd.DataFrame]) -> Loader:
        method, recipe = self.model.method, self.recipe
        assert recipe.crop is not None
        assert recipe.short_side is not None
        inputs = {}
        for split, table in tables.items():
            folder = data.stores[split]
            regions = {name: data.read(path) for name, path in data.regions[split].items()}
            store = ImageStore.open(folder) if folder is not None else None
            if store is not None:
                self.pixel_hashes[split if data is self.data else f"{data.identity[:8]}/{split}"] = store.content
            inputs[split] = SplitInput(table, regions, store, data.root)
        return Loader(
            inputs,
            crop=recipe.crop,
            short_side=recipe.short_side,
            task=data.task,
            edit=method.edit if overrides(method, "edit") else None,
            edit_regions=method.regions,
            mask_regions=method.masks,
            threads=recipe.threads,
        )

    def _bank_parts(self, data: DataInput, edits: str) -> dict[str, Any]:
        job = self.job
        offer = self.plugins.backbones.find(job.backbone)
        return bank_parts(
            self.recipe,
            sources=[*self._method(edits).sources, source_of(offer.load(), offer)],
            identity=data.identity,
            edits=edits,
            backbone=job.backbone,
            options=job.backbone_options,
            weights=job.weights.digest,
            precision=job.precision,
            device=job.device.partition(":")[0],
        )

    # ------------------------------------------------------------------ training
    @property
    def stages(self) -> list[tuple[int, Stage]]:
        """The stages to run."""
        return self.recipe.stages_run(started=self.job.init_key is not None)

    @property
    def training_views(self) -> list[View]:
        """The fixed views that epochs take turns over."""
        return [CENTRE, *self.views]

    def _starts(self) -> list[str]:
        rows: dict[str, int] = {split: len(table) for split, table in self.tables.items()}
        rows |= {f"{name} {s}": len(table) for name, tables in self.others.items() for s, table in tables.items()}
        starts = {start_tap(self.model, stage, self.recipe, rows) for _, stage in self.stages}
        return sorted(starts, key=self.model.backbone.taps.index)

    def ensure_features(self) -> None:
        """Run the frozen layers over every split and view that this cell reads, unless that is done."""
        taps = [t for t in self._starts() if t != "image"]
        if self.bank is None or not taps:
            self.send({"event": "features"})
            return
        for split in SPLITS:
            for view in self.training_views if split == "train" else [CENTRE]:
                self._ensure(self.source, split, view, taps, split)
        for name, source in self.secondary.items():
            for part in source.tables:
                for view in self.training_views if part == "train" else [CENTRE]:
                    self._ensure(source, part, view, taps, f"{name} {part}")
        self.send({"event": "features"})

    def _ensure(self, source: Source, split: str, view: View, taps: Sequence[str], title: str) -> None:
        def images(rows: IntArray) -> torch.Tensor:
            pixels: torch.Tensor = source.loader.load(split, rows, augment_seed=view.seed).images
            return pixels

        def report(done: int, total: int) -> None:
            self.send({"event": "progress", "name": f"features {title} {view.name}", "done": done, "total": total})

        assert source.bank is not None
        count, batch = len(source.tables[split]), self.recipe.eval_batch
        source.bank.ensure(self.model.backbone, images, taps, split, view, count, self.device, batch, report)

    def train(self, store: Store, stop: Callable[[], bool] = lambda: False) -> Path:
        """Train to the end, or on from a checkpoint; returns the folder to commit.

        Raises:
            Stopped: When `stop()` became true: a checkpoint was written.
        """
        job, began = self.job, time.time()
        progress = self.fit(store, stop)
        point("select.frozen")
        folder = store.aside("training", job.training_key)
        save_tensors(folder / "weights.safetensors", self.model.state_dict())
        write_log(folder / "log.jsonl", progress.log)
        if job.tensorboard:
            from biasbench.tensorboard import write_events

            write_events(folder / "tensorboard", progress.log)
        self.manifest = {
            "key": job.training_key,
            "selected": progress.best,
            "epochs": len(progress.log),
            "rows": len(self.rows),
            "starts": self._starts(),
            "pixels": self.pixel_hashes,
            "seconds": round(time.time() - began, 1),
        }
        point("weights.written")
        return folder

    def fit(self, store: Store, stop: Callable[[], bool] = lambda: False) -> Progress:
        """Train to the end, or on from a checkpoint; the model then has the selected weights.

        Raises:
            Stopped: When `stop()` became true: a checkpoint was written.
        """
        job = self.job
        if job.init_key is not None:
            self._load_init(store.training(job.init_key))
        self.ensure_features()
        checkpoints = Checkpoints(store.work("checkpoints", job.training_key))
        trainer = Trainer(
            model=self.model,
            source=self.source,
            recipe=self.recipe,
            stages=self.stages,
            rows=self.rows,
            task=self.data.task,
            num_labels=len(self.data.label_names),
            device=self.device,
            views=self.training_views,
            data_name=self.data_name,
            run_name=self.run_name,
            checkpoints=checkpoints,
            secondary=self.secondary,
            start_competes=self.recipe.select == "released" and job.init_key is not None,
            report=self.send,
            stop=stop,
        )
        return trainer.run()

    def load(self, folder: Path) -> None:
        """Take the weights of a finished training."""
        self.model.load_state_dict(_finished_weights(folder))

    def _load_init(self, folder: Path) -> None:
        """Start from a finished training: its backbone and head, not its method's modules."""
        state = _finished_weights(folder)
        kept = {k: v for k, v in state.items() if not k.startswith("method.")}
        missing = self.model.load_state_dict(kept, strict=False)
        lost = [k for k in missing.missing_keys if not k.startswith("method.")]
        if lost or missing.unexpected_keys:
            names = ", ".join([*lost, *missing.unexpected_keys][:3])
            raise CellError(f"the weights to start from do not fit this model: {names}")

    # ------------------------------------------------------------------ predicting
    def predict(self, store: Store) -> Path:
        """Write every split's outputs; returns the folder to commit."""
        start = self._start_predicting()
        method = self.model.method
        folder = store.aside("run", self.job.key)
        reference = self.tables["train"].loc[self.rows]
        again = Again(self.model, self.source, start, self.device, (self.job.run_streams,))
        for split, rows, view, raw in self._said(start):
            outputs = method.postprocess(raw, reference, self.model.head)
            if view is CENTRE:
                again.keep(split, rows, raw, outputs)
            name = split if view is CENTRE else f"{split}@{self.views.index(view)}"
            write_outputs(folder / "predictions" / name, outputs, method.report())
            self.send({"event": "progress", "name": f"predict {name}", "done": len(rows), "total": len(rows)})
        again.check(reference)
        for number, name, split, outputs in self._said_beside(start):
            write_outputs(beside(folder, number) / "predictions" / split, outputs)
            count = len(outputs.ids)
            self.send({"event": "progress", "name": f"predict {name} {split}", "done": count, "total": count})
        point("predictions.written")
        return folder

    def help_predict(self) -> None:
        """A further process's part of `predict`: its shares of what the model says."""
        start = self._start_predicting()
        for _ in (*self._said(start), *self._said_beside(start)):
            pass

    def _start_predicting(self) -> str:
        """Make the model what predicts; the tap that predictions start from."""
        self._add_prediction_methods()
        self.ensure_features()
        return self._starts()[0]

    def _said(self, start: str) -> Iterator[tuple[str, IntArray, View, Outputs]]:
        """What the model says of each split."""
        plan = [("train", self.rows, CENTRE)]
        plan += [("train", self.rows, view) for view in self.views]
        plan += [(split, np.arange(len(self.tables[split])), CENTRE) for split in ("val", "test")]
        for split, rows, view in plan:
            if split == "test":
                point("predict.before_test")
            torch.manual_seed(seed_for("predict", self.job.run_streams, split, view.name))
            yield split, rows, view, self._predict(self.source, split, rows, view, start)

    def _said_beside(self, start: str) -> Iterator[tuple[int, str, str, Outputs]]:
        """What it says of other data sets' images; whole-split methods take no part in it."""
        for number, name in enumerate(self.job.beside):
            for split, table in self.others[name].items():
                torch.manual_seed(seed_for("predict", self.job.run_streams, name, split))
                rows = np.arange(len(table))
                yield number, name, split, self._predict(self.secondary[name], split, rows, CENTRE, start)

    def _predict(self, source: Source, split: str, rows: IntArray, view: View, start: str) -> Outputs:
        return predict_split(
            self.model, source, split, rows, view, start, self.device, self.recipe.eval_batch,
            embedding=self.job.backbone if self.recipe.embeddings else None,
        )  # fmt: skip


def group_counts(table: pd.DataFrame, groups: Mapping[str, int]) -> dict[str, list[int]]:
    """Rows of each group of each protected attribute of a table, unknown ones left out.

    Example:
        >>> group_counts(pd.DataFrame({"attribute/gender": [1, 1, -1, 0]}), {"gender": 2})
        {'gender': [1, 2]}
    """
    found = {}
    for name, size in groups.items():
        codes = attribute(table, name)
        found[name] = np.bincount(codes[codes >= 0], minlength=size).tolist()
    return found


def _finished_weights(folder: Path) -> dict[str, torch.Tensor]:
    """A finished training's weights, their hash checked."""
    return load_tensors(Store(folder.parents[1]).checked(folder, "weights.safetensors"))
