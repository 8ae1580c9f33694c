"""Found faces are kept: whole or in parts, found once, and made again when damaged."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biasbench import DataError
from biasbench.faces import cache

N = 250  # three parts


class Finder:
    """Finds one box a picture, told by its colour, and none in every fifth."""

    def __init__(self, until: int | None = None) -> None:
        self.seen: list[int] = []
        self.until, self.lock = until, threading.Lock()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        number = int(image[0, 0, 0])
        with self.lock:
            self.seen.append(number)
        if self.until is not None and number >= self.until:
            raise KeyboardInterrupt
        return np.zeros((0, 4)) if number % 5 == 0 else np.array([[number, 1, number + 2.5, 7]], float)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(N):
        Image.new("RGB", (12, 9), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"id": [f"id-{i}" for i in range(N)], "path": [f"{i}.png" for i in range(N)]})


def check(folder: Path) -> None:
    assert cache.found_in(folder) == (N, N - N // 5)
    boxes = pd.read_parquet(cache.boxes_file(folder))
    expected = [[f"id-{i}", float(i), 1.0, i + 2.5, 7.0] for i in range(N) if i % 5]
    assert boxes[["id", "x0", "y0", "x1", "y1"]].to_numpy().tolist() == expected
    assert sorted(p.name for p in folder.iterdir()) == ["boxes.parquet", "faces.json"]


def test_every_picture_is_looked_at_once(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    finder, told = Finder(), []
    assert cache.found_in(tmp_path / "one") is None
    cache.build(tmp_path / "one", table, root, finder, lambda done, total: told.append((done, total)))
    check(tmp_path / "one")
    assert sorted(finder.seen) == list(range(N))
    assert told == [(100, N), (200, N), (N, N)]
    cache.build(tmp_path / "one", table, root, finder)
    assert len(finder.seen) == N


def test_what_a_killed_job_found_is_kept(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    with pytest.raises(KeyboardInterrupt):
        cache.build(folder, table, root, Finder(until=210))
    assert cache.found_in(folder) is None
    (folder / ".aside-part-2.parquet-0").write_bytes(b"left by a kill")
    (folder / "part-1.parquet").write_bytes(b"damaged")
    again = Finder()
    cache.build(folder, table, root, again)
    assert sorted(again.seen) == list(range(100, N))  # part 0 was kept, part 1 was damaged, part 2 cut
    check(folder)


def test_a_damaged_file_is_made_again(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    cache.build(folder, table, root, Finder())
    content = bytearray(cache.boxes_file(folder).read_bytes())
    content[len(content) // 2] ^= 1
    cache.boxes_file(folder).write_bytes(bytes(content))
    assert cache.found_in(folder) is None
    cache.build(folder, table, root, Finder())
    check(folder)
    for text in ("", "[]", "{}", '{"format": "faces/0"}'):
        (folder / "faces.json").write_text(text)
        assert cache.found_in(folder) is None


def test_no_picture_and_no_face(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    cache.build(tmp_path / "none", table[:0], root, Finder())
    assert cache.found_in(tmp_path / "none") == (0, 0)
    cache.build(tmp_path / "zero", table[:1], root, Finder())
    assert cache.found_in(tmp_path / "zero") == (1, 0)
    assert pd.read_parquet(cache.boxes_file(tmp_path / "zero")).empty


def test_a_picture_that_cannot_be_read_is_named(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[3, "path"] = "none.png"
    with pytest.raises(DataError, match=r"none\.png"):
        cache.build(tmp_path / "one", table, root, Finder())
    table.loc[3, "path"] = "../3.png"
    with pytest.raises(DataError, match="refused the file name"):
        cache.build(tmp_path / "one", table, root, Finder())


def test_the_key_is_of_pictures_ids_and_detector(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    keys = {cache.boxes_key(table, root, "a"), cache.boxes_key(table, root, "b"), cache.boxes_key(table[1:], root, "a")}
    other = table.assign(id=table["id"] + "x")
    keys |= {cache.boxes_key(other, root, "a"), cache.boxes_key(table, tmp_path, "a")}
    assert len(keys) == 5
    assert cache.boxes_key(table.assign(**{"label/dog": 1}), root, "a") in keys  # labels decide no face
