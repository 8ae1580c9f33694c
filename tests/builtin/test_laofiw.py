"""LAOFIW: folders or a list, splits, counts against the paper, and images that are the same."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from biasbench import SPLITS, DataError, check_table, targets
from biasbench.builtin.datasets.laofiw import Laofiw
from biasbench.builtin.datasets.laofiw_list import ORIGINS, origin
from tests.helpers import face_files as files
from tests.helpers.face_tables import everything, refused

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "laofiw"
real_here = pytest.mark.skipif(not REAL.is_dir(), reason="the list of LAOFIW is not on this machine")


@pytest.mark.parametrize("listed", [True, False])
def test_tables_keep_the_contract(tmp_path, listed):
    paths = files.write_laofiw(tmp_path / "l", each=25, listed=listed)
    faces = Laofiw(tmp_path / "l", tmp_path / "cache")
    assert Laofiw.recognises(faces.root)
    for split in SPLITS:
        check_table(faces.table(split), faces, split)
        assert (targets(faces.table(split)) == faces.table(split)["attribute/ancestry"]).all()
    table = everything(faces)
    assert set(table["path"]) == set(paths)
    wanted = {"black": ORIGINS[0], "indian": ORIGINS[1], "white": ORIGINS[2], "chinese": ORIGINS[3]}
    assert [ORIGINS[k] for k in table["label"]] == [wanted[p.partition("/")[0]] for p in table["path"]]
    assert faces.primary_attribute == "ancestry"
    assert faces.attribute_names == {"ancestry": ORIGINS}
    assert ORIGINS == ("sub-Saharan Africa", "Indian subcontinent", "Europe", "East Asia")  # as in the paper


def test_splits_of_a_list_are_its_own(tmp_path):
    files.write_laofiw(tmp_path / "l", each=25)
    faces = Laofiw(tmp_path / "l", tmp_path / "cache")
    raw = pd.read_csv(tmp_path / "l" / "list.csv")
    for split in SPLITS:
        assert faces.table(split)["path"].tolist() == raw.loc[raw["split"] == split, "file"].tolist()
    assert faces.notes()["splits"] == "of list.csv"


def test_drawn_splits_are_fixed_by_name(tmp_path):
    files.write_laofiw(tmp_path / "l", each=50, listed=False, images=False)
    files.draw(tmp_path / "l", [f"{folder}/{k}.jpg" for folder in files.LAOFIW for k in range(50)], size=(3, 3))
    faces = Laofiw(tmp_path / "l", tmp_path / "cache")
    before = everything(faces).set_index("path")["split"]
    assert before.value_counts().to_dict() == pytest.approx({"train": 140, "val": 20, "test": 40}, abs=25)
    assert before.nunique() == 3
    for path in before.index[::3]:
        (tmp_path / "l" / path).unlink()
    after = everything(Laofiw(tmp_path / "l", tmp_path / "cache")).set_index("path")["split"]
    assert (before[after.index] == after).all()
    raw = "".join(f"{path}\n" for path in before.index)
    (tmp_path / "l" / "laofiw.csv").write_text("file\n" + raw)  # a list without splits draws the same
    listed = Laofiw(tmp_path / "l", tmp_path / "cache")
    assert everything(listed).set_index("path")["split"][before.index].equals(before)
    assert listed.notes()["splits"] == "fixed by file name: 0.2 test, 0.1 val"


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("black", 0),
        ("Sub-Saharan Africa", 0),
        ("INDIAN", 1),
        ("indian_subcontinent", 1),
        ("Europe", 2),
        ("east asia", 3),
    ],
)
def test_names_of_folders(folder, code):
    assert origin(folder) == code
    assert origin("people") is None


@real_here
def test_the_list_that_can_be_obtained(tmp_path):
    faces = Laofiw(REAL, tmp_path / "cache")
    assert Laofiw.recognises(REAL)
    for split in SPLITS:
        check_table(faces.table(split), faces, split)
    notes = faces.notes()
    assert (notes["images"], notes["in the paper"], notes["fewer than in the paper"]) == (10_050, 14_000, 3_950)
    raw = pd.read_csv(REAL / "list.csv")
    assert {s: notes[s] for s in SPLITS} == raw["split"].value_counts().to_dict()
    counts = raw["file"].str.partition("/")[0].value_counts()
    assert notes["origins"] == dict(zip(ORIGINS, counts[["black", "indian", "white", "chinese"]], strict=True))
    assert notes["images compared"] == 0  # there are none here


# -- the same images ---------------------------------------------------------------------------
@pytest.mark.torch
def test_the_check_prints_what_the_paper_has_and_which_images_are_the_same(tmp_path):
    from biasbench.cli.data import checked_text, plain
    from biasbench.datacheck import check

    root = tmp_path / "l"
    files.write_laofiw(root, each=10)
    (root / "white" / "3.jpg").write_bytes((root / "white" / "4.jpg").read_bytes())  # val and test
    (root / "black" / "0.jpg").write_bytes((root / "chinese" / "1.jpg").read_bytes())  # two classes
    report = check(Laofiw(root, tmp_path / "cache"))
    assert report["ok"]
    exact = report["notes"]["exact duplicates"]
    assert exact == {"groups": 2, "images beyond the first": 2, "groups in two splits": 1, "groups of two classes": 1}
    text = checked_text({"dataset": "laofiw", "path": str(root), **plain(report)})
    for line in ("in the paper: 14000", "images: 40", "sub-Saharan Africa: 10", "groups in two splits: 1"):
        assert line in text


HEAD = "file,class_id,split\n"
ROW = "black/0.jpg,1,train\n"
LISTS = {
    "empty": (b"", "the file is empty"),
    "header alone": (HEAD, "it has no row"),
    "no files": ("name,class_id\na,1\n", "no column 'file'"),
    "ragged": (HEAD + "black/0.jpg,1\n", "line 2: expected 3 cells, found 2"),
    "too many": (HEAD + ROW.replace("\n", ",x\n"), "line 2: expected 3 cells, found 4"),
    "unknown folder": (HEAD + ROW + "cats/0.jpg,4,train\n", "line 3: file is 'cats/0.jpg', in no folder of a known"),
    "misspelt folder": (HEAD + "blck/0.jpg,1,train\n", "Did you mean 'black'"),
    "no folder": (HEAD + "0.jpg,1,train\n", "line 2: file is '0.jpg', in no folder of a known origin"),
    "traversal": (HEAD + "../black/0.jpg,1,train\n", "no plain path"),
    "absolute": (HEAD + "/black/0.jpg,1,train\n", "no plain path"),
    "twice": (HEAD + ROW + ROW, "line 3: file is 'black/0.jpg', which stands twice"),
    "two numbers": (HEAD + ROW + "black/1.jpg,2,train\n", "line 3: class_id is '2', which contradicts the folder"),
    "two folders": (HEAD + ROW + "white/1.jpg,1,train\n", "line 3: class_id is '1', which contradicts the folder"),
    "unknown split": (HEAD + ROW.replace("train", "dev"), "line 2: split is 'dev'. Use train, val or test"),
    "no split": (HEAD + ROW.replace("train", ""), "line 2: split is ''"),
    "split twice": ("file,split,split\nblack/0.jpg,train,val\n", "the column 'split' stands twice"),
    "latin-1": ((HEAD + "black/\xe4.jpg,1,train\n").encode("latin-1"), "not a UTF-8 file"),
    "open quote": (HEAD + '"' + ROW, "not a CSV file"),
    "escape": (HEAD + "black/\x1b[2J.jpg,1,train\n", r"file is 'black/\\\\x1b\[2J.jpg', no plain path"),
}


@pytest.mark.parametrize("case", LISTS)
def test_wrong_lists(tmp_path, case):
    content, message = LISTS[case]
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        Laofiw(tmp_path, tmp_path / "cache").table("train")
    refused(error, message, path)


def test_wrong_folders(tmp_path):
    root = tmp_path / "l"
    files.write_laofiw(root, each=2, listed=False)
    for name, message in (("0.jpg", ""), ("1.jpg", "the folder 'indian' has no image")):
        (root / "indian" / name).unlink()
        if message:
            with pytest.raises(DataError) as error:
                Laofiw(root, tmp_path / "cache").table("train")
            refused(error, message, root)
    (root / "indian").rmdir()
    assert not Laofiw.recognises(root)
    with pytest.raises(DataError) as error:
        Laofiw(root, tmp_path / "cache").table("train")
    refused(error, "there is no list, and no folder of Indian subcontinent", root)


def test_other_lists_and_folders_are_not_taken_for_it(tmp_path):
    (tmp_path / "list.csv").write_text("item,price\nbread,1\n")
    assert not Laofiw.recognises(tmp_path)
    (tmp_path / "black").mkdir()
    assert not Laofiw.recognises(tmp_path)
    (tmp_path / "list.csv").write_text(HEAD)
    assert Laofiw.recognises(tmp_path)
