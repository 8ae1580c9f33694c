"""Cells whose training and prediction are a few sums: all else is the real runner, store and commit.

What a child computes is replaced, in `Fake`; how it claims, writes, tells and is told is not.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from biasbench import generator, io
from biasbench.child import Computing, main
from biasbench.data import Dataset, Outputs
from biasbench.executors.limits import Limits
from biasbench.executors.local import LocalExecutor
from biasbench.faults import point
from biasbench.planned import Cell, Data
from biasbench.predict import write_outputs
from biasbench.recipe import load_recipe
from biasbench.spec import RunSpec
from biasbench.stopping import Stopped
from biasbench.store import Store
from biasbench.truth import read_predictions
from biasbench.weights import ResolvedWeights

EPOCHS, STEPS, ROWS = 3, 2, 12
PAUSE, COUNT = "BIASBENCH_FAKE_PAUSE", "BIASBENCH_FAKE_COUNT"  # seconds a step; a file that every computation notes
HOLD = "BIASBENCH_FAKE_HOLD"  # the number of a child that waits to be continued
CLOCK = "BIASBENCH_FAKE_CLOCK"  # seconds by which this runner's clock is off


# -- the plan --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Method:
    """A method as far as a plan asks it; one with a `post` shares its training with the one without."""

    number: int
    post: bool = False
    init = None
    pixels = ""
    sources = training_sources = ()

    @property
    def training_text(self):
        return f"fake(number={self.number})"

    @property
    def text(self):
        return self.training_text + "+post" * self.post

    typed = text

    def build(self):
        return SimpleNamespace(regions=(), masks=(), data=(), moves=(), row_flags=lambda _detected: [])


class Rows(Dataset):
    """Three tables of a dozen rows."""

    name = "fake"
    label_names = ("cup",)
    attribute_names = {"gender": ("man", "woman")}

    def table(self, split):
        i = np.arange(ROWS)
        return pd.DataFrame(
            {"id": [f"{split}{k}" for k in i], "path": "x", "label/cup": (i % 2).astype(np.uint8),
             "attribute/gender": i // 2 % 2}
        )  # fmt: skip


def cells(results, count=4, numbers=()):
    """`count` cells, two to a training, or two of each number; and one that cannot run."""
    recipe = load_recipe("smoke", {"pixels": "native", "cache": False, "crop": 32, "short_side": 32})
    data = Data("fake", "fake", Rows(Path(results), Path(results)), None)
    weights = ResolvedWeights(kind="random", label="random", digest="0", path=None)

    def cell(method, reason=None):
        spec = RunSpec(method, "fake", data.fingerprint, "none", "random", "0", recipe, 0)
        return Cell(spec, data, "none", "none", {}, weights, ("gender",), ("fake",), "none", reason=reason,
                    codes={"fake": "1"})  # fmt: skip

    found = [Method(k // 2, bool(k % 2)) for k in range(count)]
    found += [Method(number, post) for number in numbers for post in (False, True)]
    return [*map(cell, found), cell(Method(-1), "n/a: it cannot")]


# -- what a child computes -------------------------------------------------------------------------
def note(what):
    """Note a computation outside the store."""
    if COUNT in os.environ:
        with open(os.environ[COUNT], "a") as file:
            file.write(f"{what}\n")


class Work:
    """A training of six steps, each a function of the one before, and predictions made of its end."""

    def __init__(self, job, send):
        self.job, self.send, self.manifest = job, send, {}
        self.state = np.zeros(4)

    def load(self, folder):
        digest = io.read_json(folder / "manifest.json")["files"]["weights.npy"]
        self.state = io.read_array(folder / "weights.npy", digest)

    def train(self, store, stop):
        key = self.job.training_key
        note(f"train {key}")
        places = store.work("checkpoints", key)
        done, saved, log = self._latest(places)
        for step in range(done, EPOCHS * STEPS):
            time.sleep(float(os.environ.get(PAUSE, "0")))
            self.state = self.state / 2 + generator("fake", key, step).standard_normal(4)
            if (step + 1) % STEPS == 0:
                log.append(self.state.tolist())
                point("train.epoch_end")
            else:
                point("train.step")
            ended = stop()
            if (step + 1) % STEPS == 0 or ended:
                saved += 1
                with io.writing_folder(places / f"{saved:06d}") as aside:
                    state = {"done": step + 1, "saved": saved, "log": log, "state": self.state.tolist()}
                    io.write_json(aside / "state.json", state)
                point("checkpoint.saved")
            if ended:
                raise Stopped
        point("select.frozen")
        folder = store.aside("training", key)
        io.write_array(folder / "weights.npy", self.state)
        io.write_text(folder / "log.jsonl", "".join(io.canonical_json(line) + "\n" for line in log))
        self.manifest = {"key": key, "seconds": time.time()}
        point("weights.written")
        return folder

    def _latest(self, places):
        found = sorted(places.glob("[0-9]*")) if places.is_dir() else []
        if not found:
            return 0, 0, []
        known = io.read_json(found[-1] / "state.json")
        self.state = np.array(known["state"])
        return known["done"], known["saved"], known["log"]

    def predict(self, store):
        note(f"predict {self.job.key}")
        folder = store.aside("run", self.job.key)
        for split in ("train", "val", "test"):
            if split == "test":
                point("predict.before_test")
            ids = pd.read_parquet(self.job.data.tables[split])["id"].tolist()
            scores = np.outer(np.arange(len(ids)), self.state[:1]) + ("post" in self.job.method)
            outputs = Outputs({"label": scores.astype(np.float32)}, (scores > 0).astype(np.uint8), ids)
            write_outputs(folder / "predictions" / split, outputs)
        point("predictions.written")
        return folder


class Fake(Computing):
    """In place of training, prediction and the metrics."""

    def cell(self, job, send):
        return Work(job, send)

    def measure(self, job):
        point("measure.metric")
        note(f"measure {job.key}")
        run = Store(job.results).run(job.key)
        Store(job.results).verify(run)
        test = read_predictions(run)[0]["test"]
        right = float((test.labels == test.targets).mean())
        figure = {"right": {"mean": right, "std": None, "n": 1}}
        base = {"attribute": "gender", "protocol": "none", "details": {}, "flags": [], "error": None}
        return [{"metric": "fake", "values": figure, "rounds": {}, **base}]


# -- processes -------------------------------------------------------------------------------------
def close_others(connection, output):
    """Of what a child that was forked from its runner holds, keep what a child of a fork server has, too."""
    keep = {0, 1, 2, connection.fileno(), output.fileno()}
    nothing = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in {*keep, nothing}:
            os.dup2(nothing, int(entry.name))
    if os.environ.get(HOLD) == str(multiprocessing.current_process()._identity[0]):
        os.kill(os.getpid(), signal.SIGSTOP)


def target(path, connection, output):
    """A child's main function."""
    close_others(connection, output)
    main(path, connection, output, Fake())


class FakeExecutor(LocalExecutor):
    """Forks, since nothing here needs a clean server."""

    def __init__(self, folder, *, limits=None, target=target):
        super().__init__(folder, "fork", limits=limits, target=target)


def run_cells(results, count=4, jobs=1, limits=None, executor=FakeExecutor, numbers=(), **_):
    """What `biasbench run` does with a checked plan; the exit code."""
    if CLOCK in os.environ:
        real, off = time.time, float(os.environ[CLOCK])
        time.time = lambda: real() + off
    from biasbench.cli import run
    from biasbench.cli.engine import Engine
    from biasbench.cli.progress import RunProgress
    from biasbench.config import Settings
    from biasbench.executors import local

    local.LocalExecutor = executor
    settings = Settings((), Path(results), Path(results).parent / "cache")
    shown = RunProgress(None)
    return run.carry_out(
        cells(results, count, numbers), settings, SimpleNamespace(files=()), shown,
        engine=Engine("cpu"), jobs=jobs, tensorboard=False, limits=limits or Limits(),
    )  # fmt: skip


def clear_away(results, **_):
    """`biasbench gc`."""
    from biasbench.cli.gc import gc_command

    gc_command.main(["--results", str(results)], standalone_mode=False)
    return 0
