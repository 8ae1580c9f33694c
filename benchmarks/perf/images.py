"""Pictures a second on one core: decoded each epoch, and from the prepared store, against PIL and torchvision.

JPEG files of 640 x 480 (quality 90, drawn from random numbers) become random crops of 224 px of a short side of 256,
flipped half the time, in batches of 64 floats in 0..1. Three ways, each in a process of its own with one thread, by
turns; the first pass of a process reads its files into the page cache, checks the store and does not count:

* DataLoader: a torchvision Dataset of PIL pictures with Resize, RandomCrop, RandomHorizontalFlip and ToTensor in a
  DataLoader without workers, which is its rate per core;
* each epoch: biasbench's Loader on the files, as the recipe's `pixels = "native"` has it;
* store: biasbench's Loader on the prepared store, as `pixels = "store"` has it.

Wanted: 2 and 15. Making the store is told besides: it is paid once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from PIL import Image
from sides import Took, by_turns, ratio, shown, tell, timed

from biasbench import generator
from biasbench.images import ImageStore, Loader, SplitInput

SIDES, SHORT, CROP, BATCH = (480, 640), 256, 224, 64
WAYS = ("DataLoader", "each epoch", "store")


def draw(folder: Path, count: int) -> None:
    """Files with shapes and the grain of a camera."""
    rng, (height, width) = generator("perf", "pictures"), SIDES
    for number in range(count):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 8, smooth.shape)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def table(folder: Path) -> pd.DataFrame:
    names = sorted(file.name for file in folder.glob("*.jpg"))
    return pd.DataFrame({"id": names, "path": names})


class Files(torch.utils.data.Dataset[torch.Tensor]):
    """As it is done where torchvision's documentation is followed."""

    def __init__(self, folder: Path, *, centre: bool = False) -> None:
        from torchvision import transforms

        moves = [transforms.CenterCrop(CROP)] if centre else [transforms.RandomCrop(CROP)]
        moves += [] if centre else [transforms.RandomHorizontalFlip()]
        self.paths = [folder / name for name in table(folder)["path"]]
        self.change = transforms.Compose([transforms.Resize(SHORT), *moves, transforms.ToTensor()])

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as picture:
            changed: torch.Tensor = self.change(picture.convert("RGB"))
            return changed

    def __len__(self) -> int:
        return len(self.paths)


def loader(folder: Path, *, store: bool) -> Loader:
    made = ImageStore.open(folder / "store") if store else None
    split = SplitInput(table(folder), store=made, root=folder)
    return Loader({"train": split}, crop=CROP, short_side=SHORT, task="multilabel", threads=1)


def one_pass(way: str, folder: Path) -> Callable[[int], None]:
    """A function that goes through all pictures, in the order of an epoch."""
    if way == "DataLoader":
        files = Files(folder)

        def plain(epoch: int) -> None:
            torch.manual_seed(epoch)
            for batch in torch.utils.data.DataLoader(files, batch_size=BATCH, shuffle=True):
                batch.numpy()

        return plain
    ours = loader(folder, store=way == "store")
    count = len(table(folder))

    def own(epoch: int) -> None:
        order = generator("perf", "order", epoch).permutation(count)
        for rows in np.array_split(order, -(-count // BATCH)):
            ours.load("train", rows, augment_seed=epoch)

    return own


def in_child(way: str, folder: Path, passes: int) -> Took:
    """Seconds of a pass in a fresh process."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--passes", str(passes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return Took(*json.loads(done.stdout.splitlines()[-1]))


def here(way: str, folder: Path, passes: int) -> Took:
    """Seconds of a pass in this process."""
    go = one_pass(way, folder)
    go(0)
    took = timed(lambda: [go(epoch) for epoch in range(1, passes + 1)])
    return Took(took.wall / passes, took.cpu / passes)


def apart(folder: Path) -> float:
    """Levels of 0..255 between the centre crops of PIL's way and the Loader's, on average: are they one picture?"""
    count = min(8, len(table(folder)))
    plain = torch.stack([Files(folder, centre=True)[i] for i in range(count)])
    own = loader(folder, store=False).load("train", np.arange(count), augment_seed=None).images
    same = loader(folder, store=True).load("train", np.arange(count), augment_seed=None).images
    if not torch.equal(own, same):
        raise click.ClickException("the store's pictures are not the decoded ones")
    return float((plain - own).abs().mean()) * 255


@click.command(help=__doc__)
@click.option("--pictures", type=click.IntRange(min=4), default=256, show_default=True)
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--way", type=click.Choice(WAYS), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
@click.option("--passes", type=int, default=1, hidden=True)
@click.option("--small", is_flag=True, help="16 pictures: does it run at all?")
def main(pictures: int, turns: int, way: str | None, folder: Path, passes: int, *, small: bool) -> None:
    """See the text of this file."""
    if way is not None:
        torch.set_num_threads(1)
        print(json.dumps(here(way, folder, passes)))
        return
    if small:
        pictures, turns = 16, 1
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as name:
        folder = Path(name)
        draw(folder, pictures)
        size = sum(file.stat().st_size for file in folder.iterdir()) / pictures / 1000
        ImageStore.build(folder / "first", table(folder), folder, SHORT, threads=1)  # imports and page cache
        made = timed(lambda: ImageStore.build(folder / "store", table(folder), folder, SHORT, threads=1))
        each = made.cpu / pictures
        click.echo(f"{pictures} files of {size:.0f} kB; making the store: {shown(each)} of CPU a picture, once")
        many = {"DataLoader": 1, "each epoch": 1, "store": 20}
        sides: dict[str, Any] = {
            way: lambda way=way: here(way, folder, 1) if small else in_child(way, folder, many[way]) for way in WAYS
        }
        found = by_turns(sides, turns)
        per = dict.fromkeys(WAYS, float(pictures))
        tell(found, per, "a picture")
        ratio(found, per, "DataLoader", "each epoch", 2)
        ratio(found, per, "DataLoader", "store", 15, "ratio of the store")
        click.echo(f"centre crops: {apart(folder):.2f} of 255 levels apart on average")


if __name__ == "__main__":
    main()
