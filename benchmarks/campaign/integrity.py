"""The promise that no changed bit is used: single bits flipped in files of every kind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import BiasBenchError, Column, generator, io
from biasbench.memo import Memo
from biasbench.standings import standings
from biasbench.store import Store

NAMES = ("checkpoint", "features", "images", "index", "io", "memo", "seal", "standings", "store", "tables",
         "truth", "predict")  # fmt: skip


def promises() -> list[Promise]:
    """All of this file."""
    code = (*(SRC / f"{name}.py" for name in NAMES if name != "images"), SRC / "images", HERE / "integrity.py")
    return [Promise("bit-rot", bit_rot, code)]


def bit_rot(parts: Parts, flips: int = 1000, seed: int = 0) -> Kept:
    """A flipped bit is noticed before use, or what is read is the same; caches heal. Readers without a check fail."""
    found = parts(flipped, flips=flips, seed=seed)
    kinds = found["kinds"]
    ok = sum(counts.get(what, 0) for counts in kinds.values() for what in ("refused", "healed", "without effect"))
    total = sum(sum(counts.values()) for counts in kinds.values())
    text = [f"{kind}: " + ", ".join(f"{n} {what}" for what, n in counts.items()) for kind, counts in kinds.items()]
    naive = sum(counts.get("wrong", 0) for counts in found["naive"].values())
    tried = sum(sum(counts.values()) for counts in found["naive"].values())
    text.append(f"without a check: {naive} of {tried} flips gave a wrong value without a word")
    return Kept(ok if naive else 0, total, "\n".join(text))


def flipped(flips: int, seed: int) -> dict[str, Any]:
    """What became of each flip, by kind of file, for biasbench's readers and for readers that check nothing."""
    with silence(), tempfile.TemporaryDirectory() as folder:
        kinds = {**stored(Path(folder) / "store"), **cached(Path(folder) / "cache")}
        each = -(-flips // len(kinds))
        found = {name: dict(kind.flip(each, name, seed)) for name, kind in kinds.items()}
        naive = {name: dict(kind.flip(each, name, seed, naive=True)) for name, kind in kinds.items() if kind.naive}
    return {"kinds": found, "naive": naive}


@contextmanager
def silence() -> Iterator[None]:
    """Without the line that says, of every flip, what is made again."""
    log = logging.getLogger("biasbench")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@dataclass
class Kind:
    """A kind of file, and how it is read.

    Attributes:
        file: The file that bits are flipped in.
        use: What a reader gets of it.
        restore: What is put back after each flip: the file, or a folder that healing replaces.
        naive: What a reader gets that checks no hash.
        also: Other values that may be read, such as the checkpoint before.
    """

    file: Path
    use: Callable[[], Any]
    restore: Path | None = None
    naive: Callable[[], Any] | None = None
    also: tuple[Any, ...] = ()

    def flip(self, count: int, name: str, seed: int, *, naive: bool = False) -> Counter[str]:
        """Flip one bit after the other, each in the undamaged file: `refused`, `healed`, `without effect` or `wrong`.

        Args:
            count: Bits.
            name: Names the random stream.
            seed: Names the random stream.
            naive: Whether to read without a check.
        """
        use = self.naive if naive and self.naive is not None else self.use
        expected = use()  # it may write the file too
        before = self.file.read_bytes()
        if self.restore is not None:
            copy = self.restore.parent / f"pristine-{name}"
            shutil.copytree(self.restore, copy, dirs_exist_ok=True)
        found: Counter[str] = Counter()
        for bit in generator("bit rot", name, seed).integers(0, 8 * len(before), count):
            damaged = bytearray(before)
            damaged[bit // 8] ^= 1 << (bit % 8)
            self.file.write_bytes(damaged)
            found[self._outcome(use, expected, bytes(damaged), naive)] += 1
            if self.restore is not None:
                shutil.rmtree(self.restore, ignore_errors=True)
                shutil.copytree(copy, self.restore)
            self.file.write_bytes(before)
        assert use() == expected, "the undamaged file is read as before"
        return found

    def _outcome(self, use: Callable[[], Any], expected: Any, damaged: bytes, naive: bool) -> str:
        try:
            value = use()
        except BiasBenchError as error:
            return "refused" if self.file.parent.name in str(error) else "refused without its name"
        except Exception:
            if naive:
                return "failed"  # in whatever way: it did not get a wrong value
            raise
        if value != expected and value not in self.also:
            return "wrong"
        return "healed" if not self.file.exists() or self.file.read_bytes() != damaged else "without effect"


# -- results ------------------------------------------------------------------------------------
def stored(root: Path) -> dict[str, Kind]:
    """One run, one training, one failed cell and a plan, written by hand through the store."""
    store = Store(root, create=True)
    rng = generator("bit rot", "store")
    spec = {"method": "original", "dataset": "d", "backbone": "b", "profile": "p", "seed": 0, "weights": "random",
            "recipe": {"protocol": "quick", "threads": 1}, "training_key": "t" * 20}  # fmt: skip
    aside = store.aside("training", "t" * 20)
    io.write_bytes(aside / "weights.safetensors", rng.normal(size=500).astype(np.float32).tobytes())
    store.commit_training(aside, "t" * 20, {"key": "t" * 20})
    aside = store.aside("run", "r" * 20)
    scores = rng.normal(size=(40, 3)).astype(np.float32)
    table = pd.DataFrame({"id": [str(i) for i in range(40)], "label": rng.integers(0, 3, 40)})
    io.write_array(aside / "predictions" / "test" / "score-label.npy", scores)
    io.write_json(aside / "predictions" / "test" / "notes.json", {"1.rba/violated": 3.0})
    with io.writing(aside / "truth" / "test.parquet") as file:
        table.to_parquet(file, index=False)
    run = store.run("r" * 20)
    store.commit_run(aside, run.name, {"key": run.name, "spec": spec, "flags": [], "attribute": "gender"})
    values = {"f1": {"mean": 51.25, "std": 0.5, "n": 5}}
    record = {"metric": "accuracy", "attribute": "gender", "protocol": "quick", "values": values, "flags": [],
              "rounds": {"f1": [51.25] * 5}, "details": {}, "error": None}  # fmt: skip
    store.write_metrics(run.name, [record])
    cell = {**{k: v for k, v in spec.items() if k not in ("recipe", "training_key")}, "values": {}, "flags": [],
            "attribute": "gender", "protocol": "quick", "reason": None}  # fmt: skip
    failed = {**cell, "key": "f" * 20, "status": "failed", "reason": "NaN; " * 1000}  # so long that it fills pages
    store.note_unscored(failed)
    store.write_plan([{**cell, "key": key, "status": "missing"} for key in (run.name, "f" * 20)])
    for place in (run, root / "unscored" / f"{'f' * 20}.json"):  # as of any other day, so that the index trusts them
        os.utime(place, (1e9, 1e9))
    records = store.records()
    assert [r["status"] for r in records] == ["ok", "failed"]

    def read() -> list[Any]:
        return [*store.records(), *standings(store, [Column("f1", "F1", "higher")]).rows]

    def checked(name: str) -> Callable[[], str]:
        return lambda: io.hash_file(store.run(store.verify(run)["key"]) / name)

    def plain(path: Path) -> Callable[[], Any]:
        return lambda: json.loads(path.read_bytes())

    weights = store.training("t" * 20) / "weights.safetensors"
    predictions, truth = run / "predictions" / "test" / "score-label.npy", run / "truth" / "test.parquet"
    return {
        "predictions": Kind(
            predictions, checked("predictions/test/score-label.npy"), naive=lambda: np.load(predictions).tolist()
        ),
        "truth": Kind(truth, checked("truth/test.parquet"), naive=lambda: pd.read_parquet(truth).to_dict()),
        "manifest of a run": Kind(
            run / "manifest.json", lambda: store.manifest(run), naive=plain(run / "manifest.json")
        ),
        "manifest of a training": Kind(
            weights.with_name("manifest.json"), lambda: store.manifest(weights.parent)
        ),
        "measurements": Kind(
            run / "metrics.json", lambda: store.metrics(run.name), naive=plain(run / "metrics.json")
        ),
        "notes": Kind(run / "predictions" / "test" / "notes.json", lambda: store.notes(run.name)),
        "weights": Kind(
            weights, lambda: store.checked(weights.parent, weights.name).read_bytes(), naive=weights.read_bytes
        ),
        "cell without a score": Kind(
            root / "unscored" / f"{'f' * 20}.json", lambda: store.unscored("f" * 20)
        ),
        "plan": Kind(root / "plan.json", store.plan),
        "marker": Kind(root / "store.json", lambda: Store(root).root),
        "index": Kind(root / "index.sqlite", read, naive=lambda: _rows(root / "index.sqlite")),
    }  # fmt: skip


def _rows(path: Path) -> list[Any]:
    database = sqlite3.connect(path)
    try:
        return [json.loads(text) for (text,) in database.execute("SELECT content FROM record ORDER BY cell")]
    finally:
        database.close()


# -- caches and checkpoints ---------------------------------------------------------------------
def cached(root: Path) -> dict[str, Kind]:
    """Memoised values, activations, decoded images, and checkpoints."""
    import torch
    from PIL import Image

    from biasbench.checkpoint import Checkpoints
    from biasbench.images import ImageStore

    memo = Memo(root / "memo")
    value = memo("a key", lambda: {"mean": 61.5, "rounds": [61.0, 62.0]})

    bank, rows = _bank(root / "features")
    array = next((root / "features").glob("*/data.npy"))

    pictures, table = root / "pictures", pd.DataFrame({"path": [f"{i}.png" for i in range(3)]})
    pictures.mkdir()
    for name in table["path"]:
        Image.fromarray(generator("bit rot", name).integers(0, 255, (12, 16, 3)).astype(np.uint8)).save(pictures / name)
    folder = root / "images" / "one"

    def decoded() -> list[Any]:
        store = ImageStore.build(folder, table, pictures, 8, threads=1)
        return [store.image(row).tolist() for row in range(3)]

    decoded()
    checkpoints = Checkpoints(root / "checkpoints" / "one")
    for number in (1, 2):
        checkpoints.save(number, {"weight": torch.full((50,), float(number)), "epoch": number, "lr": 0.1 * number})

    def latest() -> Any:
        state = checkpoints.latest()
        return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in state.items()}

    before = {"weight": [1.0] * 50, "epoch": 1, "lr": 0.1}
    newest = checkpoints.folder / "000002"

    def also(name: str) -> Kind:
        return Kind(newest / name, latest, checkpoints.folder, also=(before,))

    return {
        "memo": Kind(next(memo.folder.iterdir()), lambda: memo("a key", lambda: value)),
        "activations": Kind(array, rows, bank, naive=lambda: np.load(array).tolist()),
        "what activations are": Kind(array.with_name("meta.json"), rows, bank),
        "pixels": Kind(folder / "pixels.bin", decoded, folder, naive=(folder / "pixels.bin").read_bytes),
        "places of pixels": Kind(folder / "index.npy", decoded, folder),
        "what pixels are": Kind(folder / "store.json", decoded, folder),
        "tensors of a checkpoint": also("tensors.safetensors"),
        "state of a checkpoint": also("state.json"),
    }


def _bank(folder: Path) -> tuple[Path, Callable[[], Any]]:
    """Cached activations of a small layer, read as a training reads them: by a process that has read nothing yet."""
    import torch
    from torch import nn

    from biasbench import Backbone
    from biasbench.features import FeatureBank, View
    from biasbench.model import Device

    class Layer(Backbone):
        """One convolution."""

        name = "layer"

        def __init__(self) -> None:
            super().__init__()
            self.segments = nn.ModuleDict({"conv1": nn.Conv2d(3, 2, 3)})
            self.channels, self.strides = {"image": 3, "conv1": 2}, {"image": 1, "conv1": 1}

    torch.manual_seed(0)
    layer, view = Layer(), View("centre", None)
    pixels = torch.from_numpy(generator("bit rot", "pixels").random((4, 3, 5, 5), np.float32))
    parts: Mapping[str, Any] = {"pixels": "p", "crop": 5}

    def rows() -> Any:
        bank = FeatureBank(folder, dict(parts))
        bank.ensure(layer, lambda chosen: pixels[chosen], ["conv1"], "train", view, 4, Device("cpu"), 2)
        return bank.rows("conv1", "train", view, np.arange(4)).tolist()

    rows()
    return folder, rows
