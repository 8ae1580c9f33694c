"""The accelerator against the CPU: the same cells on both, their losses, predictions and figures compared.

`original`, `adv-conv5` and `jlu` are trained on a few hundred drawn scenes, first on the CPU in fp32, then on the
device: in fp32, bf16 and fp16, with the other memory format, compiled, and by two processes where there are two GPUs.
A cell draws the same random numbers however it is computed, so that all that differs is arithmetic. One line a check;
exit code 1 when something is farther off than its tolerance, 2 when there is no such device.

`--device cpu` compares the CPU with itself, which must agree; `--plant` trains the second time at twice the learning
rate, which must not.

Usage: python benchmarks/gpu_check.py [--device cuda] [--kind fp32 ...] [--keep FOLDER]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from biasbench import io
from biasbench.predict import read_outputs
from biasbench.store import Store

KINDS: Mapping[str, Sequence[str]] = {
    "fp32": (),
    "bf16": ("--precision", "bf16"),
    "fp16": ("--precision", "fp16"),
    "contiguous": ("--set", "recipe.channels_last=false"),
    "compile": ("--set", "recipe.compile=true"),
    "2 processes": ("--processes", "2"),
}
SCENES = "scenes(train=240, val=80, test=120, size=72)"
CELLS = ("--method", "original", "--method", "adv-conv5(warmup=8)", "--method", "jlu(warmup=8)", "--profile", "smoke",
         "--set", "recipe.select=last")  # fmt: skip
MEASURED = ("--metric", "accuracy", "--metric", "leakage")


@dataclass(frozen=True)
class Room:
    """How far two ways to compute a cell may lie apart.

    Attributes:
        loss: Of every loss of an epoch, relative to the larger of it and 0.1.
        score: Of the scores, the 95th percentile, relative to their range.
        decided: Share of labels that may be decided otherwise.
        figure: Of mAP, F1 and leakage, percentage points.
    """

    loss: float
    score: float
    decided: float
    figure: float


ROOM = {"bf16": Room(0.1, 0.1, 0.05, 5.0), "fp16": Room(0.05, 0.05, 0.03, 4.0)}
PLAIN = Room(0.02, 0.02, 0.01, 3.0)  # TF32 on the device and fp32 on the CPU, through an adversary's game


def compare(one: Store, other: Store, room: Room) -> Iterator[tuple[str, float, float]]:
    """What is farthest off in each method's cell, and how far it may be; infinite where something is missing."""
    ours, theirs = _runs(one), _runs(other)
    for method, folder in ours.items():
        if method not in theirs:
            yield f"{method}: no result", float("inf"), 0.0
            continue
        second = theirs[method]
        yield f"{method}: losses", _losses(_log(one, folder), _log(other, second)), room.loss
        for split in ("train", "val", "test"):
            a, b = (read_outputs(f / "predictions" / split) for f in (folder, second))
            if list(a.ids) != list(b.ids):
                yield f"{method}: rows of {split}", float("inf"), 0.0
                continue
            x, y = a.scores["label"].astype(float), b.scores["label"].astype(float)
            yield f"{method}: scores, {split}", float(np.quantile(np.abs(x - y), 0.95) / np.ptp(x)), room.score
            yield f"{method}: labels, {split}", float((a.labels != b.labels).mean()), room.decided
        yield f"{method}: figures", _figures(one.metrics(folder.name), other.metrics(second.name)), room.figure


def _runs(store: Store) -> dict[str, Path]:
    folders = [store.run(key) for key in store.runs()]
    return {store.manifest(folder)["spec"]["method"]: folder for folder in folders}


def _log(store: Store, run: Path) -> list[dict[str, Any]]:
    key = store.manifest(run)["spec"]["training_key"]
    text = (store.training(key) / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _losses(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    pairs = [(a[k], b.get(k, np.inf)) for a, b in zip(one, other, strict=False) for k in a if k.startswith("loss")]
    if len(one) != len(other) or not pairs:
        return float("inf")
    return max(abs(x - y) / max(abs(x), 0.1) for x, y in pairs)


def _figures(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    tables = [
        {(r["metric"], name): value["mean"] for r in records if not r["error"] for name, value in r["values"].items()}
        for records in (one, other)
    ]
    names = [("accuracy", "map"), ("accuracy", "f1"), ("leakage", "lambda_m"), ("leakage", "lambda_d")]
    pairs = [(tables[0].get(name), tables[1].get(name)) for name in names]
    if any(x is None or y is None for x, y in pairs):
        return float("inf")
    return float(max(abs(x - y) for x, y in pairs))


# ------------------------------------------------------------------ running
def run(results: Path, device: str, backbone: Sequence[str], more: Sequence[str]) -> Store:
    """Train the cells.

    Raises:
        CalledProcessError: When biasbench fails.
    """
    command = [sys.executable, "-m", "biasbench", "run", "--dataset", SCENES, *CELLS, *MEASURED, *backbone]
    command += ["--device", device, "--results", str(results), "--quiet", *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return Store(results)


def devices(kind: str) -> int:
    """How many devices of a kind there are."""
    import torch

    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    return found[kind]


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="biasbench-gpu-check-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cuda", "mps", "cpu"]), default="cuda", show_default=True)
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, help="[default: all]")
@click.option("--backbone", default="resnet18", show_default=True)
@click.option("--plugin", type=click.Path(exists=True, path_type=Path), help="File that offers the backbone.")
@click.option("--plant", is_flag=True, help="Make a difference, which must be found.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the results here, and go on from what is there.")
def main(
    device: str, kinds: tuple[str, ...], backbone: str, plugin: Path | None, plant: bool, keep: Path | None
) -> None:
    """See the text of this file."""
    there = devices(device)
    if not there:
        click.echo(f"there is no {device} device on this machine: nothing was checked", err=True)
        sys.exit(2)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    network = ("--backbone", backbone, *(("--plugin", str(plugin)) if plugin else ()), "--weights", "random")
    faster = ("--set", "recipe.stages.0.lr=2e-3", "--set", "recipe.stages.1.lr=2e-4") if plant else ()
    missed = checked = 0
    with _folder(keep) as folder:
        plain = run(folder / "cpu", "cpu", network, ())
        for kind in kinds or KINDS:
            if kind == "2 processes" and device != "cpu" and there < 2:
                click.echo(f"not checked   {kind}: there is one {device} device")
                continue
            store = run(
                folder / f"{device}-{io.hash_json([kind, plant])[:8]}", device, network, (*KINDS[kind], *faster)
            )
            for name, off, most in compare(plain, store, ROOM.get(kind, PLAIN)):
                good = off <= most
                checked, missed = checked + 1, missed + (not good)
                click.echo(f"{'ok' if good else 'TOO FAR':<14}{kind}: {name}: {off:.2g} (at most {most:g})")
    click.echo(f"{device} against cpu: {checked - missed} of {checked} checks ok")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
