"""What `biasbench plot grid` shows: test images as methods leave them, from the data and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biasbench.errors import CellError, DataError, UsageError, printable
from biasbench.leaderboard import Record
from biasbench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from biasbench.config import Settings
    from biasbench.method import Pipeline
    from biasbench.planned import Data
    from biasbench.plugins import Plugins

    Pixels = NDArray[np.uint8]  # [N, H, W, 3]


def images_of(
    store: Store, records: Sequence[Record], plugins: Plugins, settings: Settings, count: int, seed: int
) -> tuple[Pixels, list[Pixels], list[str]]:
    """Centre crops of test images: as they are, as each run's method leaves them, and their groups.

    A method changes a picture by `edit`, or by `intervene` at the tap "image" with the modules that
    the run's training ended with.

    Args:
        store: Where the runs are.
        records: One run of each method, all on one data set and by one recipe.
        plugins: Where names are looked up.
        settings: Where data is.
        count: How many images.
        seed: Of the choice of images.

    Returns:
        [N, H, W, 3] originals; as many of each method; N names of groups.

    Raises:
        UsageError: When a method changes no picture.
        DataError: When the data are nowhere, or not those of the runs any more.
        StoreError: When a training is gone.
    """
    import numpy as np

    from biasbench.data import attribute
    from biasbench.method import overrides
    from biasbench.plots.grid import choose_rows
    from biasbench.spec import resolve_method

    specs: list[Mapping[str, Any]] = [store.manifest(store.run(r["key"]))["spec"] for r in records]
    data = opened(records[0], specs, plugins, settings)
    primary = data.dataset.primary_attribute
    resolved = [resolve_method(str(r["method"]), plugins.methods, primary) for r in records]
    for part in (part for one in resolved for part in one.parts):
        if part.options.get("attribute"):
            data.derive(part.options["attribute"])
    methods = [one.build() for one in resolved]
    for method, record in zip(methods, records, strict=True):
        if not overrides(method, "edit") and "image" not in method.touches:
            raise UsageError(
                f"{printable(record['method'])} edits no picture",
                fix="Name a method that does, such as blackout-segm; 'biasbench list methods' lists all",
            )
    table = data.tables["test"]
    named = dict.fromkeys(name for method in methods for name in method.regions)
    regions = {name: data.region("test", name) for name in named}
    codes = attribute(table, primary)
    touched = [table["id"].isin(frame["id"]).to_numpy() for frame in regions.values()] or [np.ones(len(table), bool)]
    rows = choose_rows(codes, np.any(touched, axis=0), count, seed)
    if not len(rows):
        raise CellError("no test image has a known group and something to edit", where=printable(data.typed))
    recipe = specs[0]["recipe"]
    before = loaded(data, rows, recipe)
    after = []
    for method, spec in zip(methods, specs, strict=True):
        images = loaded(data, rows, recipe, method, regions) if overrides(method, "edit") else before
        if "image" in method.touches:
            images = masked(images, rows, method, spec, store, data, plugins)
        after.append(pixels(images))
    groups = data.groups[primary]
    return pixels(before), after, [groups[codes[row]] for row in rows]


def opened(record: Record, specs: Sequence[Mapping[str, Any]], plugins: Plugins, settings: Settings) -> Data:
    """The data of some runs, as the runs had them.

    Raises:
        DataError: When the data are nowhere, or changed since.
    """
    from biasbench.locate import open_dataset
    from biasbench.planned import Data

    dataset, text = open_dataset(str(record["dataset"]), plugins, settings)
    data = Data(str(record["dataset"]), text, dataset, specs[0]["recipe"]["limit"])
    if any(data.fingerprint != spec["training"]["fingerprint"] for spec in specs):
        raise DataError(
            "the data are not those of the run any more", where=printable(data.typed),
            fix="Name the folder of that time with --data-root, or run the method again",
        )  # fmt: skip
    return data


def loaded(
    data: Data, rows: NDArray[Any], recipe: Mapping[str, Any], method: Pipeline | None = None, regions: Any = None
) -> Tensor:
    """[N, 3, H, W] centre crops of the test split in [0, 1], after the edits of a method."""
    from biasbench.images import Loader, SplitInput

    wanted = {name: regions[name] for name in method.regions} if method is not None else {}
    split = SplitInput(data.tables["test"], wanted, root=data.dataset.root)
    loader = Loader(
        {"test": split}, crop=recipe["crop"], short_side=recipe["short_side"], task=data.dataset.task,
        edit=None if method is None else method.edit, edit_regions=tuple(wanted),
    )  # fmt: skip
    images: Tensor = loader.load("test", rows, augment_seed=None).images
    return images


def masked(
    images: Tensor,
    rows: NDArray[Any],
    method: Pipeline,
    spec: Mapping[str, Any],
    store: Store,
    data: Data,
    plugins: Plugins,
) -> Tensor:
    """[N, 3, H, W] images after what a trained method does to them at the tap "image".

    Raises:
        StoreError: When the training is gone.
        IntegrityError: When its weights are damaged.
    """
    import torch

    from biasbench.backbone import seeded
    from biasbench.checkpoint import load_tensors
    from biasbench.data import Batch
    from biasbench.grammar import bind, parse
    from biasbench.method import BuildInfo, Pipeline

    (component,) = parse(spec["backbone_text"])
    offer = plugins.backbones.find(component.name)
    cls = offer.load()
    names = data.dataset.label_names
    groups = {name: len(of) for name, of in data.groups.items()}
    folder = store.training(spec["training_key"])
    weights = load_tensors(folder / "weights.safetensors", store.manifest(folder)["files"]["weights.safetensors"])
    with seeded("plot", "grid"):  # every number drawn here is replaced by a trained one
        backbone = cls.create(component.name, "random", bind(cls, component, offer.entry.options, cls.supplied))
        crop = spec["recipe"]["crop"]
        method.build(BuildInfo(backbone, data.dataset.task, names, groups, crop, torch.ones(len(names))))
    learnt = {k.removeprefix("method."): v for k, v in weights.items() if k.startswith("method.")}
    Pipeline(m for m in method.components if m.stage == "train").load_state_dict(learnt)
    method.eval()
    with torch.inference_mode():
        return method.intervene("image", images, Batch(images, None, {}, {}, torch.from_numpy(rows)))


def pixels(images: Tensor) -> Pixels:
    """[N, H, W, 3] uint8 of [N, 3, H, W] in [0, 1]."""
    out: Pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return out
