"""Files of face boxes: what is read, and the one line that every defect gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biasbench import DataError, UsageError
from biasbench.faces.choice import split_option
from biasbench.faces.file import read_boxes
from biasbench.grammar import parse

IMAGES = {"1": "a.png", "02": "b.jpg", "gone": "none.jpg"}  # 40x30, 20x50, not there


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    Image.new("RGB", (20, 50)).save(folder / "b.jpg")
    return folder


def csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "boxes.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


HEAD = "id,x0,y0,x1,y1\n"


def test_boxes_are_read_and_cut_at_the_edges_of_their_own_image(root: Path, tmp_path: Path) -> None:
    text = "score,y1,id,x0,y0,x1\n0.9,60,02,1.5,-4,7\n0.8,9,1,3,4,5\n0.1,900,gone,2,-3,800\n\n"
    found = read_boxes(csv(tmp_path, text), IMAGES, root)
    assert list(found.columns) == ["id", "x0", "y0", "x1", "y1"]
    assert found.to_numpy().tolist() == [
        ["02", 1.5, 0.0, 7.0, 50.0], ["1", 3.0, 4.0, 5.0, 9.0], ["gone", 2.0, 0.0, 800.0, 900.0],
    ]  # fmt: skip


boxes = st.tuples(*[st.floats(-10, 29) for _ in range(2)], *[st.floats(1, 60) for _ in range(2)])


@given(st.lists(st.tuples(st.sampled_from(["1", "02"]), boxes), min_size=1, max_size=6))
def test_a_pixel_is_in_a_box_before_and_after_reading_or_in_neither(
    root: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]
) -> None:
    sizes = {"1": (40, 30), "02": (20, 50)}

    def pixels(id_: str, box: Any) -> set[tuple[int, int]]:
        (w, h), (x0, y0, x1, y1) = sizes[id_], box
        return {(x, y) for x in range(w) for y in range(h) if x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1}

    rows = [("1", (3.0, 4.0, 5.0, 9.0)), *((i, (x, y, x + w, y + h)) for i, (x, y, w, h) in drawn)]
    rows = [(i, b) for i, b in rows if b[0] < sizes[i][0] and b[1] < sizes[i][1] and b[2] > 0 and b[3] > 0]
    frame = pd.DataFrame([(i, *b) for i, b in rows], columns=["id", "x0", "y0", "x1", "y1"])
    path = tmp_path_factory.mktemp("parquet") / "boxes.parquet"
    frame.to_parquet(path)
    found = read_boxes(path, IMAGES, root)
    after = sorted((r[1], sorted(pixels(r[1], r[2:]))) for r in found.itertuples())
    assert after == sorted((i, sorted(pixels(i, b))) for i, b in rows)


def test_csv_and_parquet_say_the_same_in_whatever_order(root: Path, tmp_path: Path) -> None:
    one = read_boxes(csv(tmp_path, HEAD + "1,3,4,5,9\n1,0,0,4.25,2\n"), IMAGES, root)
    frame = pd.DataFrame({"id": [1, 1], "x0": [0, 3], "y0": [0, 4], "x1": [4.25, 5], "y1": [2, 9]})
    frame.to_parquet(tmp_path / "boxes.parquet")
    pd.testing.assert_frame_equal(one, read_boxes(tmp_path / "boxes.parquet", IMAGES, root))


DAMAGED = {
    "missing column": ("id,x0,y0,w,h\n1,1,1,2,2\n", "the column x1, y1 is missing"),
    "no header": ("1,1,1,2,2\n1,1,1,2,2\n", "the column id, x0, y0, x1, y1 is missing"),
    "empty": ("", "cannot be read: No columns"),
    "no box": (HEAD, "there is no box in it"),
    "unknown id": (HEAD + "1,1,1,2,2\n2,1,1,2,2\n", "row 2, id '2': is no example of the data set"),
    "unknown ids": (HEAD + "7,1,1,2,2\n8,1,1,2,2\n", r"row 1, id '7': is no example of the data set \(2 such rows\)"),
    "escape in an id": (HEAD + "\x1b[2J,1,1,2,2\n", r"row 1, id '.*x1b\[2J'"),
    "text": (HEAD + "1,1,one,2,2\n", "row 1, id '1': has a coordinate that is no finite number"),
    "nan": (HEAD + "1,1,nan,2,2\n", "no finite number"),
    "infinite": (HEAD + "1,1,2,inf,2\n", "no finite number"),
    "short row": (HEAD + "1,1,2,3\n", "no finite number"),
    "long row": (HEAD + "1,1,2,3,4,5\n", "cannot be read"),
    "no width": (HEAD + "1,5,1,5,9\n", "row 1, id '1': has a box without area"),
    "upside down": (HEAD + "1,5,9,8,1\n", "has a box without area"),
    "right of it": (HEAD + "1,40,1,50,9\n", "row 1, id '1': has a box outside its image"),
    "below it": (HEAD + "1,1,1,4,9\n1,4,31,9,40\n", "row 2, id '1': has a box outside its image"),
    "left of it": (HEAD + "1,-9,1,0,9\n", "has a box outside its image"),
    "outside of a missing image": (HEAD + "gone,-9,1,-3,9\n", "has a box outside its image"),
    "shares": (HEAD + "1,0.1,0.2,0.4,0.5\n02,0,0,1,1\n", "every coordinate is within -1 and 1"),
    "not UTF-8": (HEAD.encode() + b"\xff\xfe,1,1,2,2\n", "cannot be read"),
    "quote": (HEAD + '"1,1,1,2,2\n', "cannot be read"),
}


@pytest.mark.parametrize(("text", "what"), DAMAGED.values(), ids=DAMAGED)
def test_every_defect_has_its_line(root: Path, tmp_path: Path, text: str | bytes, what: str) -> None:
    with pytest.raises(DataError, match=what) as told:
        read_boxes(csv(tmp_path, text), IMAGES, root)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(str(tmp_path / "boxes.csv"))
    assert told.value.fix


def test_files_that_are_no_files_of_boxes(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of boxes"):
        read_boxes(tmp_path / "none.csv", IMAGES, root)
    with pytest.raises(DataError, match="no such file of boxes"):
        read_boxes(csv(tmp_path, HEAD).parent / "folder.csv", IMAGES, root)
    (tmp_path / "boxes.txt").write_text(HEAD)
    with pytest.raises(DataError, match=r"neither \.csv nor \.parquet"):
        read_boxes(tmp_path / "boxes.txt", IMAGES, root)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_boxes(tmp_path / "cut.parquet", IMAGES, root)
    pd.DataFrame({"id": [1.0, np.nan], "x0": 1, "y0": 1, "x1": 2, "y1": 2}).to_parquet(tmp_path / "ids.parquet")
    with pytest.raises(DataError, match="the column id holds numbers with a fraction or nothing"):
        read_boxes(tmp_path / "ids.parquet", IMAGES, root)


class Plain:
    def __init__(self, root: Path, cache: Path, *, words: str = "") -> None: ...


class Own:
    def __init__(self, root: Path, cache: Path, *, faces: bool = True) -> None: ...


def test_every_data_set_has_the_option_unless_it_has_one_of_that_name() -> None:
    (component,) = parse("plain(words='a', faces='boxes.csv')")
    rest, named = split_option(component, Plain)
    assert (rest.kwargs, named) == ({"words": "a"}, "boxes.csv")
    assert split_option(parse("plain")[0], Plain)[1] is None
    own, named = split_option(parse("own(faces=True)")[0], Own)
    assert (own.kwargs, named) == ({"faces": True}, None)
    for value in ("3", "''", "None", "['a']"):
        with pytest.raises(UsageError, match="faces must be the name of a file"):
            split_option(parse(f"plain(faces={value})")[0], Plain)
