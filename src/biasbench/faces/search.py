"""Looking for faces in a data set's images, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from biasbench.errors import CellError
from biasbench.faces import cache
from biasbench.faces.yunet import INSTALL, Yunet


def search(
    folders: Mapping[str, Path], tables: Mapping[str, Path], root: Path, send: Callable[[Mapping[str, Any]], None]
) -> None:
    """Find the faces of every split, unless that is done.

    Args:
        folders: Where each split's boxes go; see `cache.boxes_key`.
        tables: Each split's table, as Parquet.
        root: Folder of the images.
        send: Told how far it is.

    Raises:
        CellError: When the detector was removed since the plan was made.
        DataError: When an image cannot be read.
    """
    yunet = Yunet.find()
    if yunet is None:
        raise CellError("the face detector is not installed", fix=INSTALL)
    for split, folder in folders.items():

        def report(done: int, total: int, split: str = split) -> None:
            send({"event": "progress", "name": f"faces {split}", "done": done, "total": total})

        cache.build(folder, pd.read_parquet(tables[split], columns=["id", "path"]), root, yunet, report)
