"""Small files of model outputs in every format, before and after some damage."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

LABELS = ("dog", "cat", "bus")
SPLITS = {"train": 12, "val": 6, "test": 6}
Arrays = dict[str, NDArray[Any]]
Writer = Callable[[Path], Path]


def arrays(*, single: bool = False, seed: int = 0) -> Arrays:
    """Arrays of a valid `.npz` file: 24 examples, 3 labels, two groups."""
    rng = np.random.default_rng(seed)
    n, k = sum(SPLITS.values()), len(LABELS)
    hot = (rng.random((n, k)) < 0.5).astype(np.uint8)
    return {
        "ids": np.array([f"img-{i}" for i in range(n)]),
        "split": np.repeat(list(SPLITS), list(SPLITS.values())),
        "logits": rng.normal(size=(n, k)).astype(np.float32),
        "targets": rng.integers(0, k, n) if single else hot,
        "label_names": np.array(LABELS),
        "attribute/gender": np.array(["man", "woman", ""])[np.arange(n) % 3],
    }


def as_frame(of: Arrays) -> pd.DataFrame:
    """The same outputs as the columns of a table."""
    columns: dict[str, Any] = {"id": of["ids"], "split": of["split"]}
    names = of["label_names"].tolist()
    for role in ("logit", "score", "target", "label"):
        values = of.get(f"{role}s")
        if values is not None and values.ndim == 2:
            columns |= {f"{role}/{name}": values[:, k] for k, name in enumerate(names)}
        elif values is not None:
            columns[role] = values
    return pd.DataFrame(columns | {name: v for name, v in of.items() if name.startswith("attribute")})


def save(path: Path, of: Arrays) -> Path:
    """Write outputs in the format that the path's ending names."""
    if path.suffix == ".npz":
        np.savez(path, **of)  # type: ignore[arg-type]
    elif path.suffix == ".parquet":
        as_frame(of).to_parquet(path)
    else:
        as_frame(of).to_csv(path, index=False)
    return path


# -- files with something wrong ------------------------------------------------------------
def npz(drop: tuple[str, ...] = (), single: bool = False, **changes: Any) -> Writer:
    """A `.npz` file whose arrays are replaced, changed by a function, or dropped."""

    def write(folder: Path) -> Path:
        of = arrays(single=single)
        for name, change in changes.items():
            name = {"gender": "attribute/gender"}.get(name, name)
            of[name] = change(of[name]) if callable(change) else np.asarray(change)
        return save(folder / "bad.npz", {k: v for k, v in of.items() if k not in drop})

    return write


def table(ending: str, change: Callable[[pd.DataFrame], pd.DataFrame], single: bool = False) -> Writer:
    """A table whose frame is changed."""

    def write(folder: Path) -> Path:
        frame = change(as_frame(arrays(single=single)))
        path = folder / f"bad{ending}"
        frame.to_parquet(path) if ending == ".parquet" else frame.to_csv(path, index=False)
        return path

    return write


def csv(change: Callable[[pd.DataFrame], pd.DataFrame], single: bool = False) -> Writer:
    return table(".csv", change, single)


def lines(change: Callable[[list[str]], list[str]], name: str = "bad.csv") -> Writer:
    """A CSV file whose lines are changed."""

    def write(folder: Path) -> Path:
        text = save(folder / "good.csv", arrays()).read_text().splitlines()
        (folder / name).write_text("\n".join(change(text)) + "\n")
        return folder / name

    return write


def raw(name: str, content: bytes | Callable[[Path], bytes]) -> Writer:
    """A file of these bytes."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content(folder) if callable(content) else content)
        return folder / name

    return write


def cut(ending: str, share: float) -> Writer:
    """The beginning of a valid file."""

    def content(folder: Path) -> bytes:
        whole = save(folder / f"good{ending}", arrays()).read_bytes()
        return whole[: int(len(whole) * share)]

    return raw(f"bad{ending}", content)


def flipped(ending: str, share: float) -> Writer:
    """A valid file with one byte changed."""

    def content(folder: Path) -> bytes:
        whole = bytearray(save(folder / f"good{ending}", arrays()).read_bytes())
        whole[int(len(whole) * share)] ^= 0xFF
        return bytes(whole)

    return raw(f"bad{ending}", content)


def at(row: Any, value: Any) -> Callable[[Any], Any]:
    """An array with one value replaced."""

    def change(values: Any) -> Any:
        values = values.astype(np.result_type(values, np.asarray(value))) if np.asarray(value).dtype.kind != "U" else (
            values.astype("U40")
        )  # fmt: skip
        values[row] = value
        return values

    return change


def cell(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A table with one cell replaced."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


def members(change: Callable[[zipfile.ZipFile], None]) -> Writer:
    """A `.npz` file with something added to the archive."""

    def write(folder: Path) -> Path:
        path = save(folder / "bad.npz", arrays())
        with zipfile.ZipFile(path, "a") as archive:
            change(archive)
        return path

    return write


def header_only(shape: str) -> bytes:
    """A `.npy` whose header promises much and whose data are missing."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def promising(shape: str) -> Writer:
    """A `.npz` file whose logits have such a header."""

    def write(folder: Path) -> Path:
        path = npz(drop=("logits",))(folder)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("logits.npy", header_only(shape))
        return path

    return write


def objects(folder: Path) -> Path:
    of = arrays()
    of["ids"] = of["ids"].astype(object)
    return save(folder / "bad.npz", of)


def array_twice(folder: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return members(lambda a: a.writestr("ids.npy", header_only("(0,)")))(folder)


def encrypted(folder: Path) -> Path:
    """The bit that says so is set; zipfile then asks for a password."""
    path = save(folder / "bad.npz", arrays())
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + offset] |= 1
            start += 4
    path.write_bytes(content)
    return path


def link_loop(folder: Path) -> Path:
    (folder / "bad.csv").symlink_to(folder / "bad.csv")
    return folder / "bad.csv"


def folder_named(folder: Path) -> Path:
    (folder / "bad.csv").mkdir()
    return folder / "bad.csv"


def parquet_of(**columns: Any) -> Writer:
    """A Parquet file with a column replaced, as pyarrow types it."""

    def write(folder: Path) -> Path:
        frame = as_frame(arrays())
        for name, values in columns.items():
            frame[name.replace("__", "/")] = values
        frame.to_parquet(folder / "bad.parquet")
        return folder / "bad.parquet"

    return write


def parquet_twice(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.Table.from_pandas(as_frame(arrays()))
    pq.write_table(whole.append_column("split", whole.column("split")), folder / "bad.parquet")
    return folder / "bad.parquet"


def rename(**names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda f: f.rename(columns={k.replace("__", "/"): v for k, v in names.items()})
