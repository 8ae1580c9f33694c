"""COCO 2014 and 2017: objects as labels, gender from captions (Wang et al., ICCV 2019, section 4.1).

The folder, as released (YEAR is 2014 or 2017; PART is train or val):

    ROOT/
      annotations/
        instances_{PART}{YEAR}.json     images, categories, annotations with segments
        captions_{PART}{YEAR}.json      captions
        attributes_{PART}{YEAR}.csv     optional: further protected attributes
        attribute_groups.json           optional: the order of their groups
        region_{NAME}_{PART}{YEAR}.json optional: a further region, such as `face`
      train{YEAR}/  val{YEAR}/          images, flat, named as in the JSON

Optional side tables, each present for both parts or for none:

* `attributes_*.csv`: UTF-8; header `image_id,NAME,...`; one line an image; a cell is a group's
  name, an empty cell means unknown, as does an image without a line. Lines that start with `#`
  are comments. `NAME` is of `[a-z][a-z0-9_-]*` and not `gender`.
* `attribute_groups.json`: `{"NAME": ["first group", "second group", ...]}`, the order of the
  codes. An attribute that it does not name has its groups in alphabetical order.
* `region_NAME_*.json`: a list of `{"image_id": 1, "bbox": [x, y, width, height]}` (boxes, any
  number per image), or of `{"image_id": 1, "segmentation": S}` with S as in `instances_*.json`
  (polygons, or run lengths as a list or as COCO's compressed text; merged per image). One kind
  per region. `NAME` is of `[a-z][a-z0-9-]*`; gives `masks:NAME`.

What becomes a row: images with at least one `person` annotation, at least one caption, a word
of exactly one gender in the captions, and at least one further object (unless
`keep_unlabelled`). Everything dropped is counted in `notes`. `person` is no label.

Splits: `train{YEAR}` trains. An image of `val{YEAR}` goes to val or test by the first bit of
SHA-256 of `"coco-split-1:<image id>"`: deterministic, independent of every other image, and near to
equal halves (the paper's lists have 5,367 and 5,473 images; they are not derived from a published rule).
`split_ids` names a folder with `train.txt`, `val.txt` and `test.txt` instead, or a template with
`{split}`; one image id a line, `#` starts a comment; relative paths are relative to ROOT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from biasbench import SPLITS, DataError, Dataset, Progress, Split, UsageError, did_you_mean, printable
from biasbench.builtin.datasets import coco_splits
from biasbench.builtin.datasets.captions import GENDERS, WordList, load_words
from biasbench.builtin.datasets.coco_files import YEARS, Sources, find_sources, years_in
from biasbench.builtin.datasets.coco_index import KEPT, NO_OTHER, Index, open_index
from biasbench.builtin.datasets.coco_regions import region_names, region_table


class Coco(Dataset):
    """COCO objects with gender from captions.

    Args:
        root: The folder of the release.
        cache: Folder for indexes.
        words: Id of a word list (`man-woman`, `adults`, `nouns`), or a `.toml` file with `id`,
            `version`, `source` and a section `[words]` with two lists, `man` and `woman`; a
            relative path is relative to `root`.
        year: `"2014"`, `"2017"` or `"auto"`: 2014, which the paper used, where both are there.
        split_ids: Folder or `{split}` template of id lists; empty: see the module's text.
        keep_unlabelled: Keep images whose only object is `person`. Every record of the paper's
            release has another object.

    Raises:
        UsageError: For an unknown year or word list.
        DataError: On first use, when the files are missing, damaged or contradict themselves.
    """

    name: ClassVar[str] = "coco"
    obtain: ClassVar[tuple[str, ...]] = (
        "biasbench data download coco --data-root DIR",
        "or unpack the 2014 or 2017 release from https://cocodataset.org/#download there",
    )

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        words: str = "man-woman",
        year: str = "auto",
        split_ids: str = "",
        keep_unlabelled: bool = False,
    ) -> None:
        super().__init__(root, cache)
        if year not in ("auto", *YEARS):
            raise UsageError(f"unknown year {printable(year)!r}", fix="Use auto, 2014 or 2017")
        self.words, self.year, self.split_ids, self.keep_unlabelled = words, year, split_ids, keep_unlabelled
        self._tables: dict[Split, pd.DataFrame] = {}
        self._regions: dict[str, pd.DataFrame] = {}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return bool(years_in(folder))

    def prepare(self, progress: Progress | None = None) -> None:
        if "_index" not in self.__dict__:
            self.__dict__["_index"] = self._open(progress)

    # -- what is read once ---------------------------------------------------------------
    @cached_property
    def word_list(self) -> WordList:
        """The list that decides genders."""
        return load_words(self.words, self.root)

    @cached_property
    def sources(self) -> Sources:
        """The annotation files in use."""
        return find_sources(self.root, self.year, self.obtain)

    @cached_property
    def _index(self) -> Index:
        return self._open()

    def _open(self, progress: Progress | None = None) -> Index:
        return open_index(self.sources, self.word_list, self.cache / "coco", progress)

    @cached_property
    def _splits(self) -> pd.Series[str]:
        """Split of each image of the index, dropped ones included, "" for none."""
        images = self._index.images
        if self.split_ids:
            return coco_splits.by_lists(images, self.split_ids, self.root)
        return coco_splits.by_part(images)

    @cached_property
    def _usable(self) -> pd.Series[bool]:
        status = self._index.images["status"]
        return (status == KEPT) | ((status == NO_OTHER) & self.keep_unlabelled)

    # -- what it says ----------------------------------------------------------------------
    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self._index.meta["labels"])

    @property
    def attribute_names(self) -> Mapping[str, tuple[str, ...]]:
        return {"gender": GENDERS, **{n: tuple(g) for n, g in self._index.meta["attributes"].items()}}

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(f"masks:{name}" for name in region_names(self._index))

    def table(self, split: Split) -> pd.DataFrame:
        if split not in self._tables:
            self._tables[split] = self._make_table(split)
        return self._tables[split].copy()

    def _make_table(self, split: Split) -> pd.DataFrame:
        rows = self._index.images[self._usable & (self._splits == split)].sort_values("image_id", kind="stable")
        folders = rows["part"] + self.sources.year + "/"
        columns = {
            "id": rows["image_id"].astype(str),
            "path": folders + rows["file_name"],
            "attribute/gender": rows["gender"],
            **{c: rows[c] for c in map(str, rows) if c.startswith(("attribute/", "label/"))},
        }
        return pd.DataFrame(columns).reset_index(drop=True)

    def region(self, split: Split, name: str) -> pd.DataFrame:
        known = region_names(self._index)
        if name not in known:
            hint = did_you_mean(name, known) or f"Known: {', '.join(known)}"
            raise DataError(f"{self.name} has no region {printable(name)!r}", fix=hint)
        if name not in self._regions:
            self._regions[name] = region_table(self._index, name, self.sources.folder)
        own = self._index.images.loc[self._usable & (self._splits == split), "image_id"]
        table = self._regions[name]
        table = table[table["image_id"].isin(own)].reset_index(drop=True)
        table.insert(0, "id", table.pop("image_id").astype(str))
        return table

    def notes(self) -> Mapping[str, Any]:
        """Counts for each file of how many images each rule dropped, and of genders by split.

        The rules apply in this order, and an image counts for the first that drops it: no people,
        no caption, no gender word, both genders, no other object.
        """
        notes: dict[str, Any] = {
            "year": self.sources.year,
            "words": str(self.word_list),
            "words source": self.word_list.source,
            "splits": f"id lists in {self.split_ids}" if self.split_ids else "by part; val and test by hash of the id",
            **self._index.meta["counts"],
        }
        for split in SPLITS:
            gender = self.table(split)["attribute/gender"].to_numpy()
            notes[split] = {"rows": len(gender), **{g: int((gender == k).sum()) for k, g in enumerate(GENDERS)}}
        if self.split_ids:
            notes["listed but dropped"] = int(((self._splits != "") & ~self._usable).sum())
        return notes

    def fingerprint(self) -> str:
        """As of the base class, and over the word list that decided the genders."""
        return hashlib.sha256(f"{super().fingerprint()} {self.word_list.identity()}".encode()).hexdigest()
