"""Measures this machine, in a process of its own: `python -m biasbench.costs.machine < request.json`.

The request is a `Request`, the answer `Rates` on the last line of standard output.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from biasbench import io
from biasbench.costs.attackers import size
from biasbench.costs.counts import Attacks
from biasbench.costs.networks import cost, measure_network, timed
from biasbench.costs.rates import Attacker, Cost, Rates, Request
from biasbench.data import SPLITS
from biasbench.executors.local import LocalExecutor
from biasbench.images import ImageStore, Loader, SplitInput
from biasbench.job import MeasureJob
from biasbench.measures.attackers import Job, train_attackers
from biasbench.measures.certified import Certified
from biasbench.measures.certified_attack import certified_attack
from biasbench.measures.named import protocol_named
from biasbench.measures.reader import Draw
from biasbench.model import Device
from biasbench.plugins import load_plugins
from biasbench.rng import generator
from biasbench.store import Store

PICTURES, SIDES = 24, (480, 640)  # of the pictures that are decoded; most of COCO's are so large
BYTES = 2**25  # hashed and written
EPOCHS, TIMES = 2, 3  # of an attacker; of everything that takes longer than a batch
BESIDE = 4  # attackers a thread that are timed together
DRAW = {"train": 1200, "val": 600, "test": 600}
CERTIFIED_DRAW = {"train": 400, "val": 200, "test": 200}


def measure(request: Request) -> Rates:
    """Everything, one thing after the other."""
    torch.set_num_threads(request.threads)
    cls = load_plugins(request.plugins).backbones.find(request.backbone).load()
    device = Device(request.device, request.precision, channels_last=request.channels_last)
    began, had = time.perf_counter(), time.process_time()
    network = measure_network(cls, request.backbone, request.options, request.crop, request.batch, device)
    share = (time.process_time() - had) / (time.perf_counter() - began) / request.threads
    with tempfile.TemporaryDirectory(prefix="biasbench-costs-") as name:
        folder = Path(name)
        decode, crop = images(folder, request)
        written, hashed = disk(folder)
        return Rates(
            decode=decode,
            crop=crop,
            crop_side=request.crop,
            start=start(folder),
            hash=hashed,
            write=written,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            share=min(1.0, share) if device.device.type == "cpu" else 1.0,
            networks={request.text: network},
            attackers={text: attacker(text, request.width, request.threads) for text in request.protocols},
        )


def images(folder: Path, request: Request) -> tuple[Cost, Cost]:
    """Seconds to decode and resize a picture on one core, and to cut a crop out of a stored one."""
    from PIL import Image

    rng = generator("costs", "pictures")
    height, width = SIDES
    for number in range(PICTURES):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 12, smooth.shape)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
    names = [f"{number}.jpg" for number in range(PICTURES)]
    table = pd.DataFrame({"id": names, "path": names})
    times = iter(range(TIMES + 1))
    decode = timed(
        lambda: ImageStore.build(folder / f"store-{next(times)}", table, folder, request.short_side, threads=1),
        PICTURES, TIMES,
    )  # fmt: skip
    split = SplitInput(table, store=ImageStore.open(folder / "store-0"), root=folder)
    loader = Loader(
        {"train": split}, crop=request.crop, short_side=request.short_side, task="multilabel", threads=request.threads
    )
    rows = np.arange(PICTURES)
    return decode, timed(lambda: loader.load("train", rows, augment_seed=1), PICTURES)


def disk(folder: Path) -> tuple[Cost, Cost]:
    """Seconds per byte written and synced, and per byte hashed."""
    content, file = generator("costs", "bytes").bytes(BYTES), folder / "bytes"
    written = timed(lambda: io.write_bytes(file, content), BYTES, TIMES)
    return written, timed(lambda: io.hash_file(file), BYTES, TIMES)


def start(folder: Path) -> Cost:
    """Seconds until a job's process has read its job and looked into the store."""
    store, found = Store(folder / "results", create=True), []
    job = MeasureJob(
        key="none", metrics=(), attributes=(), protocol="", results=store.root, cache=folder, threads=1
    )  # it finds no such run, which is all that it is to do
    with LocalExecutor(folder) as executor:
        for number in range(TIMES + 1):
            began = time.perf_counter()
            executor.submit(f"start-{number}", job)
            while executor.running:
                list(executor.events(timeout=60))
            found.append(time.perf_counter() - began)
    return cost(found[1:])  # the first waits for the server to load its libraries


def attacker(text: str, width: int, threads: int) -> Attacker:
    """Seconds of one attacker of a protocol, those that are trained beside it counted in."""
    protocol = protocol_named(text, single=False)
    short: Callable[[], object]
    if isinstance(protocol, Certified):
        rows, many, epochs = CERTIFIED_DRAW, 1, protocol.epochs
        jobs = _attacked(rows, width, 1)
        chosen = protocol
        share = 1.0

        def short() -> object:
            return certified_attack(jobs, chosen, threads=threads, certify=())
    else:
        rows, many, epochs = DRAW, BESIDE * threads, protocol.epochs
        jobs = _attacked(rows, width, many)
        few = replace(protocol, epochs=min(EPOCHS, protocol.epochs))
        share = protocol.epochs / few.epochs

        def short() -> object:
            return train_attackers(jobs, few, threads=threads)

    counts = Attacks(text, False, width, 2, (rows["train"], rows["val"], rows["test"]), 1)
    times = 1 if isinstance(protocol, Certified) else TIMES
    return Attacker(seconds=timed(short, many / share, times), epochs=epochs, size=size(counts))


def _attacked(rows: dict[str, int], width: int, many: int) -> list[Job]:
    """Attackers on logits that say nothing."""
    rng = generator("costs", "attackers")
    tables = {split: rng.normal(size=(rows[split], width)).astype(np.float32) for split in SPLITS}
    codes = {split: rng.permutation(np.arange(rows[split]) % 2) for split in SPLITS}
    draws = {
        split: Draw(lambda split=split: tables[split], np.arange(rows[split]), codes[split], "scores")  # type: ignore[misc]
        for split in SPLITS
    }
    return [Job(("costs", number), draws, width) for number in range(many)]


def main() -> None:
    """Read a request, print rates."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write("\n" + measure(request).model_dump_json() + "\n")


if __name__ == "__main__":
    main()
