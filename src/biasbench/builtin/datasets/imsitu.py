"""imSitu: activities as labels, gender from the role `agent` (Wang et al., ICCV 2019, section 4.1).

The folder, as released:

    ROOT/
      train.json  dev.json  test.json     verb and three frames of each image
      imsitu_space.json                   verbs with roles, nouns with glosses
      of500_images_resized/               images, flat, named as in the JSON
      SWiG_jsons/                         optional: the grounded release, with the agents' boxes

`SWiG_jsons/` alone will do: its files have the same content and boxes beside it. dev is val.

Or prepared lists, which win where both are there (see `situations/lists.py` for their columns):

    ROOT/
      imsitu_{train,val,test}.{npz,parquet,csv}   or without `imsitu_`; val may be called dev
      imsitu_labels.json                          or labels.json: the verbs in the order of their codes

The lists of the paper's release as npz are such a folder. Images are needed only where pixels are
read. Boxes come from `SWiG_jsons/` for either source, by file name.

What becomes a row of the official files: images whose verb is a label (option `verbs`) and whose
frames name a man or a woman as agent, but not both. `situations/gender.py` has the rule.
Everything dropped is counted in `notes`. docs/imsitu.md tells what is known of the paper's own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from biasbench import SPLITS, DataError, Dataset, Progress, Split, UsageError, did_you_mean, printable
from biasbench.builtin.datasets.situations import boxes
from biasbench.builtin.datasets.situations.files import Sources, find_sources, image_folder, looks_like_imsitu
from biasbench.builtin.datasets.situations.gender import BOTH, GENDERS, NONE, RULE
from biasbench.builtin.datasets.situations.index import BOX, Index, open_index
from biasbench.builtin.datasets.situations.lists import read_lists
from biasbench.builtin.datasets.situations.verbs import agent_verbs, check_verb_set, published_verbs

REGIONS = ("person-box-each", "person-box-union")  # as of coco; an image has one agent's box, so both are alike


class Imsitu(Dataset):
    """imSitu activities with gender from the agent.

    Args:
        root: The folder of the release, or of prepared lists.
        cache: Folder for indexes.
        verbs: `"wang2019"`: the 211 verbs of the paper, in the order of their codes. `"agent"`: every
            verb with a role `agent` that a man or a woman has in training, in alphabetical order.
            Prepared lists have the verbs they name.
        images: Folder of the images below `root`; empty: the first that is there of
            `of500_images_resized`, `resized_256`, `images_512` and `of500_images`.

    Raises:
        UsageError: For an unknown verb set, a folder outside `root`, or `verbs="agent"` with lists.
        DataError: On first use, when the files are missing, damaged or contradict themselves.
    """

    name: ClassVar[str] = "imsitu"
    task: ClassVar[Literal["multilabel", "multiclass"]] = "multiclass"
    obtain: ClassVar[tuple[str, ...]] = (
        "get train.json, dev.json, test.json and imsitu_space.json from https://github.com/my89/imSitu",
        "unpack https://s3.amazonaws.com/my89-frame-annotation/public/of500_images_resized.tar beside them",
        "for boxes of people, put SWiG_jsons from https://github.com/allenai/swig beside them too",
        "and name the folder with --data-root",
    )

    def __init__(self, root: Path, cache: Path, *, verbs: str = "wang2019", images: str = "") -> None:
        super().__init__(root, cache)
        check_verb_set(verbs)
        image_folder(self.root, images)  # refuses a folder outside
        self.verbs, self.images = verbs, images
        self._tables: dict[Split, pd.DataFrame] = {}
        self._drawn: dict[Split, pd.DataFrame] = {}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return looks_like_imsitu(folder)

    def prepare(self, progress: Progress | None = None) -> None:
        if self._sources.grounded is not None and "_grounded" not in self.__dict__:
            self.__dict__["_grounded"] = open_index(self._sources.grounded, self._cache, progress)
        _ = self._rows

    # -- what is read once ---------------------------------------------------------------
    @property
    def _cache(self) -> Path:
        return self.cache / "imsitu"

    @cached_property
    def _sources(self) -> Sources:
        sources = find_sources(self.root, self.obtain)
        if sources.lists and self.verbs != "wang2019":
            raise UsageError(
                f"imsitu: verbs={self.verbs!r} is for the official files, and prepared lists are here",
                fix="Leave it out, or move the lists away",
            )
        return sources

    @cached_property
    def _grounded(self) -> Index | None:
        grounded = self._sources.grounded
        return open_index(grounded, self._cache) if grounded is not None else None

    @cached_property
    def _index(self) -> Index | None:
        """The index that gives the labels; None where lists do."""
        own = self._sources.annotations
        if own is None or own == self._sources.grounded:
            return self._grounded if own else None
        return open_index(own, self._cache)

    @cached_property
    def _rows(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Columns `split, name, label, gender` of all rows, and the names of the labels."""
        if self._index is None:
            return read_lists(self._sources.lists, self._sources.labels)
        images = self._index.images
        verbs = published_verbs() if self.verbs == "wang2019" else agent_verbs(images, self._index.with_agent)
        codes = images["verb"].map({verb: k for k, verb in enumerate(verbs)})
        kept = images[codes.notna() & (images["gender"] >= 0)]
        return kept.assign(label=codes[kept.index].astype(np.int64))[["split", "name", "label", "gender"]], verbs

    @cached_property
    def _boxes(self) -> pd.DataFrame:
        """The agents' boxes of all images, as drawn, with `name`."""
        if self._grounded is None:
            return pd.DataFrame(columns=["name", *BOX])
        return boxes.cut(self._grounded.images[["name", *BOX]])

    # -- what it says ----------------------------------------------------------------------
    @property
    def label_names(self) -> tuple[str, ...]:
        return self._rows[1]

    @property
    def attribute_names(self) -> Mapping[str, tuple[str, ...]]:
        return {"gender": GENDERS}

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(f"masks:{name}" for name in REGIONS if len(self._boxes))

    def table(self, split: Split) -> pd.DataFrame:
        if split not in self._tables:
            rows = self._rows[0]
            rows = rows[rows["split"] == split].reset_index(drop=True)
            folder = image_folder(self.root, self.images)
            paths = rows["name"] if folder == "." else f"{folder}/" + rows["name"]
            columns = {"id": rows["name"], "path": paths, "label": rows["label"], "attribute/gender": rows["gender"]}
            self._tables[split] = pd.DataFrame(columns)
        return self._tables[split].copy()

    def region(self, split: Split, name: str) -> pd.DataFrame:
        known = [r for r in REGIONS if f"masks:{r}" in self.provides]
        if name not in known:
            hint = did_you_mean(name, known) or f"Known: {', '.join(known) or 'none'}"
            raise DataError(f"{self.name} has no region {printable(name)!r}", fix=hint)
        return self._scaled(split)[["id", *boxes.SIDES]].copy()

    def _scaled(self, split: Split) -> pd.DataFrame:
        """The boxes of a split in pixels of its image files, in the order of its rows."""
        if split not in self._drawn:
            rows = self.table(split)[["id", "path"]].merge(self._boxes, left_on="id", right_on="name")
            self._drawn[split] = boxes.scaled(rows, self.root, self._cache)
        return self._drawn[split]

    def notes(self) -> Mapping[str, Any]:
        """Counts of what was dropped and why, of genders by split, and of boxes.

        The rules apply in this order, and an image counts for the first that drops it: its verb is no
        label, no agent is a man or a woman, the agents are both.
        """
        notes: dict[str, Any] = {"source": "prepared lists" if self._index is None else "official files"}
        if self._index is not None:
            notes |= {"verbs": self.verbs, "gender": RULE}
            notes |= {f"{split} file": self._dropped(self._index, split) for split in SPLITS}
        for split in SPLITS:
            gender = self.table(split)["attribute/gender"].to_numpy()
            notes[split] = {"rows": len(gender), **{g: int((gender == k).sum()) for k, g in enumerate(GENDERS)}}
            if self.provides:
                drawn = self._scaled(split)
                notes[split]["without a box"] = len(gender) - len(drawn)
                notes[split]["boxes on images of another aspect"] = int(drawn["distorted"].sum())
        return notes

    def _dropped(self, index: Index, split: Split) -> dict[str, int]:
        images = index.images[index.images["split"] == split]
        told = images.loc[images["verb"].isin(self.label_names), "told"]
        return {
            "images": len(images),
            "verb is no label": len(images) - len(told),
            "no agent is a man or a woman": int((told == NONE).sum()),
            "agents are both": int((told == BOTH).sum()),
            "kept": int(((told != NONE) & (told != BOTH)).sum()),
            "not three frames": index.odd_frames[split],
        }
