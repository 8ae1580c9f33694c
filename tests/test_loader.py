"""Batches: crops, flips, masks, edits, with the store and without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torchvision.transforms import ToTensor, v2

from biasbench import DataError, UsageError
from biasbench.images import ImageStore, Loader, SplitInput, read_image, resize_short

pytestmark = pytest.mark.torch

SIZES = [(60, 80), (80, 60), (48, 48), (50, 101), (96, 70), (49, 77)]
CROP, SHORT = 40, 48
RED = np.array([255, 0, 0], np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise with one red box in each picture."""
    root = tmp_path_factory.mktemp("images")
    for i, (height, width) in enumerate(SIZES):
        rng = np.random.default_rng(i)
        image = np.repeat(rng.integers(0, 200, (height, width, 1), np.uint8), 3, axis=2)
        x0, y0, x1, y1 = box(i)
        image[y0:y1, x0:x1] = RED
        Pillow.fromarray(image).save(root / f"{i}.png")
    return root


def box(i: int) -> tuple[int, int, int, int]:
    return 5 + i, 8, 33, 41 - i


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    n = len(SIZES)
    columns = {"id": [f"id{i}" for i in range(n)], "path": [f"{i}.png" for i in range(n)]}
    labels = {"label/dog": np.arange(n) % 2, "label/cat": 1 - np.arange(n) % 2}
    return pd.DataFrame({**columns, **labels, "attribute/gender": np.arange(n) % 3 - 1})


@pytest.fixture(scope="module")
def regions(table: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    boxes = pd.DataFrame([box(i) for i in range(len(table))], columns=["x0", "y0", "x1", "y1"], dtype=float)
    return {"box": boxes.assign(id=table["id"])}


@pytest.fixture(scope="module")
def store(root: Path, table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore.build(tmp_path_factory.mktemp("store") / "s", table, root, SHORT)


def loader(split: SplitInput, **options: object) -> Loader:
    return Loader({"train": split}, crop=CROP, short_side=SHORT, **{"task": "multilabel", **options})  # type: ignore


ALL = np.arange(len(SIZES))


def test_the_centre_view_is_torchvisions(store: ImageStore, root: Path, table: pd.DataFrame) -> None:
    geometry = v2.Compose([v2.Resize(SHORT, antialias=True), v2.CenterCrop(CROP)])
    for split in (SplitInput(table, store=store), SplitInput(table, root=root)):
        batch = loader(split).load("train", ALL, augment_seed=None)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for i in ALL:
            pixels = geometry(torch.from_numpy(read_image(root / f"{i}.png")).permute(2, 0, 1))
            assert torch.equal(batch.images[i], ToTensor()(pixels.permute(1, 2, 0).numpy()))


def test_pillow_pipelines_differ_by_one_level_at_most(store: ImageStore, root: Path, table: pd.DataFrame) -> None:
    old = v2.Compose([v2.Resize(SHORT), v2.CenterCrop(CROP), v2.PILToTensor()])
    images = loader(SplitInput(table, store=store)).load("train", ALL, augment_seed=None).images
    for i in ALL:
        other = old(Pillow.open(root / f"{i}.png").convert("RGB"))
        assert (images[i] * 255 - other).abs().max() < 1.01


def test_targets_attributes_and_index(store: ImageStore, table: pd.DataFrame) -> None:
    batch = loader(SplitInput(table, store=store)).load("train", np.array([4, 1]), augment_seed=None)
    assert batch.targets is not None
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[0, 1], [1, 0]]
    assert batch.attributes["gender"].tolist() == [0, 0]
    assert batch.index.tolist() == [4, 1]
    assert batch.index.dtype == batch.attributes["gender"].dtype == torch.int64


def test_classes_are_integers(store: ImageStore, table: pd.DataFrame) -> None:
    classes = table[["id", "path"]].assign(label=[5, 4, 3, 2, 1, 0])
    batch = loader(SplitInput(classes, store=store), task="multiclass").load("train", ALL[:2], augment_seed=None)
    assert batch.targets is not None
    assert batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [5, 4]


def test_a_withheld_table_gives_neither_targets_nor_attributes(store: ImageStore, table: pd.DataFrame) -> None:
    batch = loader(SplitInput(table[["id", "path"]], store=store)).load("train", ALL, augment_seed=None)
    assert batch.targets is None
    assert batch.attributes == {}


def grown(mask: torch.Tensor, pixels: int = 1) -> torch.Tensor:
    return torch.nn.functional.max_pool2d(mask, 2 * pixels + 1, 1, pixels)


# -- augmentation ---------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), rows=st.lists(st.integers(0, len(SIZES) - 1), min_size=1, max_size=9))
def test_a_rows_view_does_not_depend_on_its_batch(
    store: ImageStore, table: pd.DataFrame, seed: int, rows: list[int]
) -> None:
    together = loader(SplitInput(table, store=store), threads=3).load("train", np.array(rows), augment_seed=seed)
    alone = loader(SplitInput(table, store=store))
    for i, row in enumerate(rows):
        assert torch.equal(together.images[i], alone.load("train", np.array([row]), augment_seed=seed).images[0])


def test_a_view_is_a_crop_flipped_half_of_the_time(store: ImageStore, table: pd.DataFrame) -> None:
    source, flips, corners = loader(SplitInput(table, store=store)), 0, set()
    image = torch.from_numpy(store.image(0).copy()).permute(2, 0, 1) / 255
    windows = {
        (top, left, flip): window.flip(2) if flip else window
        for top in range(SHORT - CROP + 1)
        for left in range(image.shape[2] - CROP + 1)
        for flip in (False, True)
        for window in [image[:, top : top + CROP, left : left + CROP]]
    }
    for seed in range(300):
        view = source.load("train", ALL[:1], augment_seed=seed).images[0]
        found = [place for place, window in windows.items() if torch.equal(window, view)]
        assert len(found) == 1
        flips += found[0][2]
        corners.add(found[0][:2])
    assert 110 < flips < 190  # 300 fair coins: six standard deviations are 52
    assert {top for top, _ in corners} == set(range(SHORT - CROP + 1))  # both ends are reached
    assert {left for _, left in corners} == set(range(image.shape[2] - CROP + 1))


@pytest.mark.parametrize("stored", [True, False])
def test_masks_move_with_the_pixels(
    stored: bool, store: ImageStore, root: Path, table: pd.DataFrame, regions: Mapping[str, pd.DataFrame]
) -> None:
    split = SplitInput(table, regions, store if stored else None, root)
    source = loader(split, mask_regions=("box",))
    for seed in (None, *range(12)):
        batch = source.load("train", ALL, augment_seed=seed)
        mask = batch.masks["box"]
        assert mask.shape == (len(SIZES), 1, CROP, CROP)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        red = (batch.images[:, 0] - batch.images[:, 1]) * 255
        # Resizing blurs an edge by a pixel; but for that, the mask is where it is red.
        assert (grown(mask)[:, 0][red > 1] == 1).all()
        purely = (batch.images[:, 0] > 0.99) & (batch.images[:, 1] < 0.01)
        assert purely.float().mean() > 0.1
        assert (mask[:, 0][purely] == 1).all()
        assert (grown((red > 1)[:, None].float())[mask == 1] == 1).all()


# -- edits ----------------------------------------------------------------------------------
def blackout(image: np.ndarray, masks: Mapping[str, np.ndarray], scale: float) -> np.ndarray:
    assert image.shape[:2] == masks["box"].shape
    return np.where(masks["box"][:, :, None], np.uint8(0), image)


@pytest.mark.parametrize("stored", [True, False])
def test_edits_run_before_the_crop(
    stored: bool, store: ImageStore, root: Path, table: pd.DataFrame, regions: Mapping[str, pd.DataFrame]
) -> None:
    scales = []

    def edit(image: np.ndarray, masks: Mapping[str, np.ndarray], scale: float) -> np.ndarray:
        scales.append(scale)
        return blackout(image, masks, scale)

    split = SplitInput(table, regions, store if stored else None, root)
    for seed in (None, 3):
        batch = loader(split, edit=edit, edit_regions=("box",)).load("train", ALL, augment_seed=seed)
        assert batch.masks == {}
        # Nothing red is left; in the store, resizing has blurred a little of it over the edge before.
        assert (batch.images[:, 0] - batch.images[:, 1]).max() < (0.5 if stored else 1e-6)
    wanted = [SHORT / min(size) if stored else 1.0 for size in SIZES]
    assert scales == wanted * 2


def test_without_a_store_edits_see_native_pixels(
    root: Path, table: pd.DataFrame, regions: Mapping[str, pd.DataFrame]
) -> None:
    source = loader(SplitInput(table, regions, root=root), edit=blackout, edit_regions=("box",))
    images = source.load("train", ALL, augment_seed=None).images
    for i in ALL:
        native = read_image(root / f"{i}.png").copy()
        x0, y0, x1, y1 = box(i)
        native[y0:y1, x0:x1] = 0
        small = resize_short(native, SHORT)
        centred = v2.CenterCrop(CROP)(torch.from_numpy(small).permute(2, 0, 1))
        assert torch.equal(images[i], centred / 255)


def test_an_edit_that_changes_the_shape_is_a_bug(store: ImageStore, table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="an edit turned"):
        loader(SplitInput(table, store=store), edit=lambda image, *_: image[1:]).load("train", ALL, augment_seed=None)


# -- buffers and errors ---------------------------------------------------------------------
def test_a_batch_in_use_is_never_overwritten(store: ImageStore, table: pd.DataFrame) -> None:
    source = loader(SplitInput(table, store=store))
    kept = source.load("train", ALL, augment_seed=0).images
    before, part = kept.clone(), source.load("train", ALL, augment_seed=1).images[2:3]
    part_before = part.clone()
    for seed in range(2, 8):
        source.load("train", ALL, augment_seed=seed)
    assert torch.equal(kept, before)
    assert torch.equal(part, part_before)  # a view of a batch that is gone still holds its memory
    address = kept.data_ptr()
    del kept, part
    assert address in {source.load("train", ALL, augment_seed=9).images.data_ptr() for _ in range(2)}


def test_memory_shared_with_numpy_counts_as_in_use(store: ImageStore, table: pd.DataFrame) -> None:
    source = loader(SplitInput(table, store=store))
    array = source.load("train", ALL, augment_seed=0).images.numpy()
    before = array.copy()
    source.load("train", ALL, augment_seed=1)
    assert (array == before).all()


def test_an_empty_batch(store: ImageStore, table: pd.DataFrame) -> None:
    batch = loader(SplitInput(table, store=store)).load("train", ALL[:0], augment_seed=1)
    assert batch.images.shape == (0, 3, CROP, CROP)


def test_a_crop_as_large_as_the_store(store: ImageStore, table: pd.DataFrame) -> None:
    source = Loader({"val": SplitInput(table, store=store)}, crop=SHORT, short_side=SHORT, task="multilabel")
    image = source.load("val", np.array([2]), augment_seed=None).images[0]
    assert torch.equal((image * 255).round(), torch.from_numpy(store.image(2).copy()).permute(2, 0, 1).float())


def test_what_does_not_fit_is_refused(store: ImageStore, table: pd.DataFrame, root: Path) -> None:
    with pytest.raises(UsageError, match="crop of 64 does not fit"):
        Loader({}, crop=64, short_side=SHORT, task="multilabel")
    with pytest.raises(ValueError, match="belongs to another"):
        loader(SplitInput(table[:3], store=store))
    with pytest.raises(ValueError, match="neither a store nor a folder"):
        loader(SplitInput(table))
    absent = loader(SplitInput(table.assign(path="absent.png"), root=root))
    with pytest.raises(DataError, match=r"absent\.png: cannot be used as an image"):
        absent.load("train", ALL, augment_seed=None)
