"""The full matrix, counted and estimated: 14 methods x 5 data sets x 5 seeds at the size of COCO, with ResNet-50.

The data sets have tables of COCO's size after the selection of Wang et al. 2019 (22,826, 5,367 and 5,473 rows of 79
labels), drawn from random numbers, and no pictures: a plan is counted without one. Counts are exact for these tables.
Hours are counts times rates, of two kinds that are told apart in docs/scale.md:

* measured on this machine on one thread, by `biasbench doctor --measure --dataset coco --backbone
  tf_efficientnet_lite0 --protocol quick --protocol wang2019`: decoding, attackers, start of a cell, hashing, writing;
* published: 938 images a second for training ResNet-50 at 224 px on one A100 80 GB in TF32 (NVIDIA,
  DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5, container 21.03). It is shared out over the
  segments by their multiplications; a pass forwards is taken to be a third of it.

It is also a plugin: `biasbench run --plugin benchmarks/perf/full_matrix.py -d 'coco-size(copy=1)' --dry-run ...`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from biasbench import Dataset, generator, hookimpl

ROWS = {"train": 22_826, "val": 5_367, "test": 5_473}
MEN, LABELS = 0.71, 79  # share of men, labels
METHODS = (
    "original", "blackout-segm", "blackout-box", "blur-segm", "gray-segm", "edges-segm", "alpha-1", "alpha-2",
    "alpha-3", "balance", "adv-conv4", "adv-conv5", "alpha-1+adv-conv5", "adv-image",
)  # fmt: skip
COPIES, SEEDS = range(1, 6), range(5)
A100 = 938.0  # images a second; NVIDIA, see above
GPUS = (1, 8, 64)


@cache
def _table(split: str, copy: int) -> pd.DataFrame:
    rng, n = generator("coco-size", split, copy), ROWS[split]
    shape = generator("coco-size", "labels", copy)
    likely, lean = shape.lognormal(-4, 1, LABELS).clip(0, 0.3), shape.normal(0, 0.4, LABELS)
    woman = (rng.random(n) > MEN).astype(np.int64)
    p = likely * np.exp(np.where(woman[:, None] == 1, lean, -lean))
    hot = (rng.random((n, LABELS)) < p).astype(np.uint8)
    ids = [f"{split}-{i}" for i in range(n)]
    labels = pd.DataFrame(hot, columns=[f"label/{k}" for k in range(LABELS)])
    names = pd.DataFrame({"id": ids, "path": [f"{i}.jpg" for i in ids]})
    return pd.concat([names, labels, pd.DataFrame({"attribute/gender": woman})], axis=1)


class CocoSize(Dataset):
    """Tables as large as COCO's; no pictures.

    Args:
        copy: Which, 1 to 5.
    """

    name = "coco-size"
    provides = frozenset({"masks:person", "masks:person-box-union"})
    label_names = tuple(str(k) for k in range(LABELS))
    attribute_names: Mapping[str, tuple[str, ...]] = {"gender": ("man", "woman")}

    def __init__(self, root: Path, cache: Path, *, copy: int = 1) -> None:
        super().__init__(root, cache)
        self.copy = copy

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:  # noqa: ARG003  # all copies are made of nothing
        return cache

    def table(self, split: str) -> pd.DataFrame:
        return _table(split, self.copy).copy()

    def region(self, split: str, name: str) -> pd.DataFrame:
        corner = np.zeros(ROWS[split])
        return pd.DataFrame({"id": _table(split, self.copy)["id"], "x0": corner, "y0": corner, "x1": corner + 99,
                             "y1": corner + 99})  # fmt: skip


@hookimpl
def biasbench_datasets() -> list[Any]:
    return [CocoSize]


def a100(measured: Any, outline: Any, text: str, threads: int, cpus: int) -> Any:
    """Rates of a machine with this one's cores and published GPUs; a cell's threads train attackers side by side."""
    from biasbench.costs.rates import Cost, Network

    shares = multiplications(outline)
    whole = sum(shares.values())

    def costs(seconds: float) -> dict[str, Cost]:
        return {tap: Cost(value=seconds * share / whole, spread=0, times=1) for tap, share in shares.items()}

    network = Network(crop=224, batch=32, forward=costs(1 / A100 / 3), both=costs(1 / A100), base=0, peak=0)
    attackers = {
        name: known.model_copy(update={"seconds": Cost(value=known.seconds.value / threads, spread=0, times=1)})
        for name, known in measured.attackers.items()
    }
    return measured.model_copy(update={"networks": {text: network}, "attackers": attackers, "cores": cpus})


def multiplications(outline: Any) -> dict[str, int]:
    """Multiplications of each segment for one image of 224 px, counted without numbers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    found, x = {}, torch.zeros(1, 3, 224, 224, device="meta")
    for tap in outline.after("image"):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = outline.eval().segments[tap](x)
        found[tap] = counter.get_total_flops() // 2
    return found


@click.command(help=__doc__)
@click.option("--profile", "profiles", multiple=True, default=("short", "paper"), show_default=True)
@click.option("--cpus", type=click.IntRange(min=1), default=16, show_default=True, help="Cores beside each GPU.")
def main(profiles: tuple[str, ...], cpus: int) -> None:
    """See the text of this file."""
    from biasbench.config import load_settings
    from biasbench.costs.estimate import Estimate
    from biasbench.costs.rates import Machine, load_rates
    from biasbench.costs.work import plan_work
    from biasbench.plan import Request, make_plan
    from biasbench.plugins import load_plugins

    plugins, settings = load_plugins([Path(__file__)]), load_settings()
    outline = plugins.backbones.find("resnet50").load().outline("resnet50")
    for profile in profiles:
        names = [f"coco-size(copy={number})" for number in COPIES]
        request = Request(METHODS, names, ("resnet50",), tuple(SEEDS), profile, weights="random")
        cells = make_plan([request], plugins, settings)
        work = plan_work(cells, None, Path("nothing-cached"), plugins)
        click.echo(f"{profile}: {len(cells)} cells; " + ", ".join(f"{k} {v:,}" for k, v in work.totals().items() if v))
        for reason in sorted({f"{c.spec.method.typed}: {c.reason}" for c in cells if c.reason}):
            click.echo(f"  {reason}")
        measured = load_rates(settings.cache, Machine.here("cpu", "fp32", 1))
        if measured is None:
            click.echo("  no hours: run 'biasbench doctor --measure' first, as above", err=True)
            continue
        rates = a100(measured, outline, cells[0].spec.backbone, cells[0].spec.recipe.threads, cpus)
        for gpus in GPUS:
            estimate = Estimate(work, rates, jobs=gpus)
            low, high = (seconds / 3600 for seconds in estimate.wall)
            click.echo(f"  {gpus} GPUs: {low:,.1f} to {high:,.1f} h")
        parts = sorted(estimate.by_part().items(), key=lambda item: -item[1])
        click.echo("  hours by part: " + ", ".join(f"{name} {seconds / 3600:,.1f}" for name, seconds in parts))
        idle = rates.model_copy(update={"networks": {}})
        gpu = estimate.total - Estimate(work, idle, jobs=1).total
        click.echo(f"  of these on the GPU: {gpu / 3600:,.1f}; the rest is the processor's, with the GPU idle")
        click.echo("  disk, GB: " + ", ".join(f"{name} {size / 1e9:,.0f}" for name, size in estimate.disk.items()))
        click.echo(f"  not measured: {', '.join(estimate.unmeasured) or 'nothing'}; not counted: {work.uncounted}")


if __name__ == "__main__":
    main()
