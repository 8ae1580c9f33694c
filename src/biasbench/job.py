"""What a parent asks of a child process, as JSON: no pickled object crosses the border."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from biasbench import io
from biasbench.data import Task
from biasbench.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataInput(_Message):
    """The data of a cell, as far as its child may know them.

    Attributes:
        root: Folder of the images.
        tables: Split to a Parquet table; the test table has neither labels nor attributes.
        regions: Split to region name to a Parquet table.
        stores: Split to a folder of decoded images; None where images are decoded every time.
        task: Multi-label or multi-class.
        label_names: K names.
        groups: Number of groups of each protected attribute.
        identity: Hash of everything above that decides pixels.
        digests: SHA-256 of the Parquet files, by name; those that a job of its own writes later are not known.
    """

    root: Path
    tables: dict[str, Path]
    regions: dict[str, dict[str, Path]]
    stores: dict[str, Path | None]
    task: Task
    label_names: tuple[str, ...]
    groups: dict[str, int]
    identity: str
    digests: dict[str, str] = {}

    def read(self, path: Path) -> pd.DataFrame:
        """One of the Parquet files, as it was handed over.

        Raises:
            IntegrityError: When it has changed since.
        """
        import pandas as pd

        if path.name in self.digests:
            io.check_file(path, self.digests[path.name])
        return pd.read_parquet(path)


@dataclass(frozen=True)
class Member:
    """One of the processes that compute a cell together.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        file: Where they find each other; on a disk of this machine or one that locks files.
    """

    rank: int
    size: int
    file: Path


class ImagesJob(_Message):
    """Decode and resize the images of a data set once."""

    kind: Literal["images"] = "images"
    data: DataInput
    short_side: int


class FacesJob(_Message):
    """Look for faces in the images of a data set once; boxes go to a folder for each split."""

    kind: Literal["faces"] = "faces"
    data: DataInput
    folders: dict[str, Path]


class WeightsInput(_Message):
    """Resolved starting weights: kind, label, digest and file."""

    kind: str
    label: str
    digest: str
    path: Path | None


class CellJob(_Message):
    """Train a cell unless its training is finished, then predict if asked to.

    Attributes:
        key: The run's key, or the training's when nothing is predicted.
        method: Canonical text of the whole method.
        training_method: Canonical text of what training depends on.
        training_key: Identity of the training.
        init_key: Training whose weights this one starts from.
        streams: Names the training's random streams, however it is computed: `RunSpec.plain`.
        run_streams: The same for predictions.
        predict: Whether to write predictions.
        secondary: Data sets beside its own, the primary attribute first among the groups: the training
            split alone, unless they are predicted too.
        beside: Those that are predicted too.
        cache: Folder of cached activations.
        results: The store.
        plugins: Files given with `--plugin`.
        sources: Identities of third parties' code of the method and the backbone, as the key has them.
        tensorboard: Whether to write event files.
    """

    kind: Literal["cell"] = "cell"
    key: str
    method: str
    training_method: str
    training_key: str
    init_key: str | None
    streams: str
    run_streams: str
    primary_attribute: str
    data: DataInput
    backbone: str
    backbone_options: dict[str, Any]
    weights: WeightsInput
    recipe: Recipe
    seed: int
    fingerprint: str
    device: str
    precision: str
    predict: bool
    secondary: dict[str, DataInput] = {}
    beside: tuple[str, ...] = ()
    cache: Path
    results: Path
    plugins: tuple[str, ...] = ()
    sources: tuple[str, ...]
    tensorboard: bool = False


class MeasureJob(_Message):
    """Measure a finished run.

    Attributes:
        key: The run.
        metrics: Names or canonical texts of metrics.
        attributes: Protected attributes.
        protocol: Measuring protocol.
        results: The store.
        cache: Folder of memoised values.
        threads: CPU threads.
        plugins: Files given with `--plugin`.
    """

    kind: Literal["measure"] = "measure"
    key: str
    metrics: tuple[str, ...]
    attributes: tuple[str, ...]
    protocol: str
    results: Path
    cache: Path
    threads: int
    plugins: tuple[str, ...] = ()


Job = ImagesJob | FacesJob | CellJob | MeasureJob
