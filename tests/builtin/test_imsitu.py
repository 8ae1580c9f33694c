"""imSitu from its official files, with and without boxes, and from prepared lists."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from biasbench import SPLITS, DataError, UsageError, check_table
from biasbench.builtin.datasets.imsitu import Imsitu
from biasbench.builtin.datasets.situations.verbs import published_verbs

HELPER = Path(__file__).parents[1] / "helpers" / "imsitu_files.py"
FIRST = {"train": 0, "val": 100, "test": 200}
WHO = {"jumping_0": 0, "jumping_1": 1, "rowing_2": 0, "rowing_3": 1, "cooking_4": 1, "cooking_5": 0}


@pytest.fixture(scope="session")
def files() -> ModuleType:
    name = "biasbench_test_helpers_imsitu_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HELPER)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def official(files, tmp_path):
    """imSitu's files at the root, without boxes."""
    return Imsitu(files.small_imsitu().write(tmp_path / "imsitu", boxes=False), tmp_path / "cache")


@pytest.fixture
def grounded(files, tmp_path):
    """SWiG's files alone."""
    files.small_imsitu().write(tmp_path / "swig" / "SWiG_jsons")
    return Imsitu(tmp_path / "swig", tmp_path / "cache")


def expected(split):
    verbs = published_verbs()
    return sorted(
        (f"{stem.partition('_')[0]}_{FIRST[split] + int(stem[-1])}.jpg", verbs.index(stem.partition("_")[0]), gender)
        for stem, gender in WHO.items()
    )


def rows(table):
    return list(table[["id", "label", "attribute/gender"]].itertuples(index=False, name=None))


# -- official files -------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["official", "grounded"])
def test_tables_hold_what_the_files_say(source, request):
    imsitu = request.getfixturevalue(source)
    assert imsitu.task == "multiclass"
    assert len(imsitu.label_names) == 211
    assert imsitu.attribute_names == {"gender": ("man", "woman")}
    for split in SPLITS:
        table = imsitu.table(split)
        check_table(table, imsitu, split)
        assert rows(table) == expected(split)
        assert list(table["path"]) == [f"of500_images_resized/{i}" for i in table["id"]]
        assert all((imsitu.root / p).is_file() for p in table["path"])


def test_notes_count_each_reason(official):
    notes = official.notes()
    for split in SPLITS:
        assert notes[f"{split} file"] == {
            "images": 12,
            "verb is no label": 2,
            "no agent is a man or a woman": 2,
            "agents are both": 2,
            "kept": 6,
            "not three frames": 0,
        }
        assert notes[split] == {"rows": 6, "man": 3, "woman": 3}
    json.dumps(notes)


def test_frames_of_any_number(files, tmp_path):
    content = files.small_imsitu()
    content.image("train", "rowing_50.jpg", (files.WOMAN,))
    content.parts["train"]["rowing_50.jpg"]["frames"].append({"place": "", "agent": None})
    imsitu = Imsitu(content.write(tmp_path / "imsitu"), tmp_path / "cache")
    assert ("rowing_50.jpg", imsitu.label_names.index("rowing"), 1) in rows(imsitu.table("train"))
    assert imsitu.notes()["train file"]["not three frames"] == 1


def test_verbs_that_people_do(official, tmp_path):
    imsitu = Imsitu(official.root, tmp_path / "cache", verbs="agent")
    assert imsitu.label_names == ("cooking", "flossing", "jumping", "rowing")  # raining has no agent
    assert ("flossing_10.jpg", 1, 0) in rows(imsitu.table("train"))
    assert len(imsitu.table("val")) == 7
    assert imsitu.fingerprint() != official.fingerprint()


def test_a_verb_without_people_in_training_is_no_label(files, tmp_path):
    content = files.small_imsitu()
    del content.parts["train"]["flossing_10.jpg"]
    imsitu = Imsitu(content.write(tmp_path / "imsitu"), tmp_path / "cache", verbs="agent")
    assert imsitu.label_names == ("cooking", "jumping", "rowing")
    assert imsitu.notes()["val file"]["verb is no label"] == 2


def test_the_published_verbs():
    verbs = published_verbs()
    assert len(set(verbs)) == len(verbs) == 211
    assert "curtsying" not in verbs
    assert all(verb.endswith("ing") and verb.isalpha() and verb.islower() for verb in verbs)


def test_options_that_cannot_be_meant(tmp_path):
    with pytest.raises(UsageError, match=r"unknown verb set 'agents'\. Did you mean 'agent'"):
        Imsitu(tmp_path, tmp_path, verbs="agents")
    for folder in ("../elsewhere", "/tmp", "a/../../b", "c:\\pictures"):
        with pytest.raises(UsageError, match="leaves the data set's folder"):
            Imsitu(tmp_path, tmp_path, images=folder)


def test_folder_of_the_images(official, tmp_path):
    (official.root / "of500_images_resized").rename(official.root / "resized_256")
    assert Imsitu(official.root, tmp_path / "cache").table("val")["path"][0] == "resized_256/cooking_104.jpg"
    own = Imsitu(official.root, tmp_path / "cache", images="my/pictures")
    assert own.table("val")["path"][0] == "my/pictures/cooking_104.jpg"
    assert Imsitu(official.root, tmp_path / "cache", images=".").table("val")["path"][0] == "cooking_104.jpg"


def test_which_folders_are_recognised(files, official, grounded, tmp_path):
    assert Imsitu.recognises(official.root)
    assert Imsitu.recognises(grounded.root)
    assert not Imsitu.recognises(tmp_path)
    assert not Imsitu.recognises(tmp_path / "nowhere")
    (tmp_path / "train.csv").write_text("any,table\n")
    assert not Imsitu.recognises(tmp_path)
    assert Imsitu.recognises(files.write_lists(tmp_path / "lists"))
    assert Imsitu.recognises(files.write_lists(tmp_path / "others", "npz", prefix="imsitu_"))


# -- boxes ------------------------------------------------------------------------------------
def boxes(table):
    return {row.id: (row.x0, row.y0, row.x1, row.y1) for row in table.itertuples()}


def test_without_boxes_there_is_no_region(official):
    assert official.provides == frozenset()
    with pytest.raises(DataError, match=r"imsitu has no region 'person-box-union'\. Known: none"):
        official.region("train", "person-box-union")


def test_boxes_follow_the_size_of_the_images(files, grounded, tmp_path):
    assert grounded.provides == {"masks:person-box-each", "masks:person-box-union"}
    for split in SPLITS:
        # drawn on 60 by 80, squeezed to 30 by 30
        first, second = (f"jumping_{FIRST[split] + k}.jpg" for k in (0, 1))
        assert boxes(grounded.region(split, "person-box-union")) == {first: (6, 6, 18, 15), second: (0, 3, 30, 30)}
        pd.testing.assert_frame_equal(*(grounded.region(split, f"person-box-{k}") for k in ("each", "union")))
    assert grounded.notes()["val"]["without a box"] == 4  # three have none, one is empty
    files.draw_images(grounded.root / "of500_images_resized", ["jumping_0.jpg"], (120, 160))
    again = Imsitu(grounded.root, tmp_path / "cache")
    assert boxes(again.region("train", "person-box-union"))["jumping_0.jpg"] == (24, 32, 72, 80)
    assert again.notes()["train"]["boxes on images of another aspect"] == 0
    assert again.fingerprint() != grounded.fingerprint()


def test_boxes_of_images_that_are_not_there_are_as_drawn(files, tmp_path):
    files.small_imsitu().write(tmp_path / "SWiG_jsons", size=None)
    imsitu = Imsitu(tmp_path, tmp_path / "cache")
    expected = {"jumping_0.jpg": (12, 16, 36, 40), "jumping_1.jpg": (0, 8, 60, 80)}
    assert boxes(imsitu.region("train", "person-box-each")) == expected
    (tmp_path / "of500_images_resized").mkdir()
    (tmp_path / "of500_images_resized" / "jumping_0.jpg").write_bytes(b"no picture")
    assert boxes(Imsitu(tmp_path, tmp_path / "cache").region("train", "person-box-each")) == expected


def test_images_of_another_aspect_are_counted(files, grounded, tmp_path):
    files.draw_images(grounded.root / "of500_images_resized", ["jumping_0.jpg", "jumping_1.jpg"], (80, 60))
    imsitu = Imsitu(grounded.root, tmp_path / "cache")
    assert imsitu.notes()["train"]["boxes on images of another aspect"] == 2
    assert imsitu.notes()["val"]["boxes on images of another aspect"] == 0


def test_boxes_beside_imsitus_own_files(files, official, tmp_path):
    content = files.small_imsitu()
    for records in content.parts.values():
        for record in records.values():
            record["frames"] = [{"agent": files.DOG}]  # would drop every image
    content.write(official.root / "SWiG_jsons", size=None)
    imsitu = Imsitu(official.root, tmp_path / "cache")
    assert rows(imsitu.table("train")) == expected("train")
    assert len(imsitu.region("train", "person-box-each")) == 2


def test_sizes_are_read_once(grounded, tmp_path, monkeypatch):
    first = grounded.region("train", "person-box-each")
    import biasbench.builtin.datasets.situations.boxes as module

    def never(*args):
        raise AssertionError("a header is read again")

    monkeypatch.setattr(module, "_size", never)
    pd.testing.assert_frame_equal(Imsitu(grounded.root, tmp_path / "cache").region("train", "person-box-each"), first)
    for memory in (tmp_path / "cache" / "imsitu" / "sizes").iterdir():
        memory.write_bytes(b"damaged")
    monkeypatch.undo()
    pd.testing.assert_frame_equal(Imsitu(grounded.root, tmp_path / "cache").region("train", "person-box-each"), first)


@pytest.mark.torch
def test_methods_that_need_segments_are_rows_with_their_reason(grounded, tmp_path):
    from biasbench.config import Settings
    from biasbench.plan import Request, make_plan
    from biasbench.plugins import load_plugins

    plugin = tmp_path / "activities.py"
    plugin.write_text(
        "from biasbench import hookimpl\nfrom biasbench.builtin.datasets.imsitu import Imsitu\n\n\n"
        "class Activities(Imsitu):\n    name = 'activities'\n\n\n"
        "@hookimpl\ndef biasbench_datasets():\n    return [Activities]\n"
    )
    plugins = load_plugins([HELPER.parent / "tiny.py", plugin])
    settings = Settings((grounded.root,), tmp_path / "results", tmp_path / "cache")
    methods = ["original", "blackout-segm", "blackout-box", "alpha-1"]
    request = Request(
        methods,
        ["activities"],
        ["tiny"],
        profile="smoke",
        overrides={"crop": 16, "short_side": 16},
        metrics=["accuracy"],
    )
    reasons = {cell.spec.method.typed: cell.reason for cell in make_plan([request], plugins, settings)}
    assert reasons == {
        "original": None,
        "blackout-segm": "n/a: needs masks:person",
        "blackout-box": None,
        "alpha-1": None,
    }


@pytest.mark.torch
def test_the_images_can_be_read(grounded):
    from biasbench.datacheck import check

    report = check(grounded)
    assert report["ok"]
    assert report["images"] == {"train": 6, "val": 6, "test": 6, "total": 18}
    assert report["attributes"]["gender"]["test"] == {"man": 3, "woman": 3}
    assert report["regions"]["person-box-union"] == {"train": 2, "val": 2, "test": 2}
    (grounded.root / "of500_images_resized" / "rowing_2.jpg").unlink()
    assert check(grounded)["missing"] == {"count": 1, "first": ["of500_images_resized/rowing_2.jpg"]}


# -- identity and cache ------------------------------------------------------------------------
def test_fingerprint_is_of_content_not_of_place(files, grounded, tmp_path):
    files.small_imsitu().write(tmp_path / "moved" / "SWiG_jsons")
    moved = Imsitu(tmp_path / "moved", tmp_path / "other")
    assert moved.fingerprint() == grounded.fingerprint()
    content = files.small_imsitu()
    content.parts["train"]["jumping_0.jpg"]["bb"]["agent"][0] += 1
    content.write(tmp_path / "third" / "SWiG_jsons")
    assert Imsitu(tmp_path / "third", tmp_path / "cache").fingerprint() != grounded.fingerprint()


def test_later_starts_read_the_index_and_not_the_files(grounded, tmp_path, monkeypatch):
    first = {split: grounded.table(split) for split in SPLITS}
    import biasbench.builtin.datasets.situations.index as index

    def never(*args):
        raise AssertionError("the annotations are read again")

    monkeypatch.setattr(index, "read_records", never)
    again = Imsitu(grounded.root, tmp_path / "cache", verbs="agent")
    assert len(again.table("train")) == 7
    again = Imsitu(grounded.root, tmp_path / "cache")
    for split in SPLITS:
        pd.testing.assert_frame_equal(again.table(split), first[split])
    assert again.notes() == grounded.notes()


@pytest.mark.parametrize("victim", ["images.parquet", "index.json"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_cache_is_made_again(grounded, tmp_path, victim, damage):
    wanted = grounded.table("train"), grounded.region("train", "person-box-each")
    (path,) = (tmp_path / "cache" / "imsitu").rglob(victim)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[40 if victim != "index.json" else 0] ^= 0x55
    path.write_bytes(content)
    again = Imsitu(grounded.root, tmp_path / "cache")
    pd.testing.assert_frame_equal(again.table("train"), wanted[0])
    pd.testing.assert_frame_equal(again.region("train", "person-box-each"), wanted[1])


def test_a_change_of_the_files_is_seen(files, official, tmp_path):
    official.table("train")
    path = official.root / "train.json"
    path.write_text(path.read_text().replace(files.MAN, files.DOG))  # the same length
    changed = Imsitu(official.root, tmp_path / "cache").table("train")
    assert list(changed["id"]) == ["cooking_4.jpg", "cooking_6.jpg", "jumping_1.jpg", "rowing_3.jpg"]
    assert (changed["attribute/gender"] == 1).all()


def test_a_caller_cannot_change_the_tables(grounded):
    for make in (lambda: grounded.table("train"), lambda: grounded.region("train", "person-box-each")):
        changed = make()
        changed["id"] = "changed"
        assert "changed" not in set(make()["id"])


def test_progress_ends_at_its_total(grounded):
    steps = []
    grounded.prepare(lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_tables_need_no_torch(grounded):
    code = (
        "import sys; from pathlib import Path; from biasbench.builtin.datasets.imsitu import Imsitu\n"
        f"i = Imsitu(Path({str(grounded.root)!r}), Path({str(grounded.cache)!r}))\n"
        "i.table('train'); i.region('train', 'person-box-union'); i.notes()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- prepared lists ----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize(("names", "labels"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize(("prefix", "val"), [("imsitu_", "val"), ("", "dev")])
def test_lists_of_every_kind(files, tmp_path, kind, names, labels, prefix, val):
    root = files.write_lists(tmp_path, kind, names=names, labels=labels, prefix=prefix, val=val)
    imsitu = Imsitu(root, tmp_path / "cache")
    imsitu.prepare()
    assert imsitu.label_names == (("rowing", "jumping", "cooking") if labels else ("cooking", "jumping", "rowing"))
    for split in SPLITS:
        table = imsitu.table(split)
        check_table(table, imsitu, split)
        wanted = [(image, imsitu.label_names.index(verb), gender) for image, verb, gender in files.LISTS[split]]
        assert rows(table) == wanted  # in the order of the list
    assert imsitu.provides == frozenset()
    assert imsitu.notes()["train"] == {"rows": 3, "man": 2, "woman": 1}
    json.dumps(imsitu.notes())


def test_all_kinds_of_lists_are_one_data_set(files, tmp_path):
    found = set()
    for kind in ("csv", "parquet", "npz"):
        for names in (True, False):
            root = files.write_lists(tmp_path / f"{kind}{names}", kind, names=names)
            found.add(Imsitu(root, tmp_path / "cache").fingerprint())
    assert len(found) == 1


def test_lists_win_and_take_boxes(files, grounded, tmp_path):
    lists = {
        "train": [("jumping_0.jpg", "jumping", 1), ("elsewhere_9.jpg", "rowing", 0)],
        "val": [("jumping_100.jpg", "jumping", 1)],
        "test": [("jumping_201.jpg", "jumping", 1)],
    }
    files.write_lists(grounded.root, lists=lists)
    imsitu = Imsitu(grounded.root, tmp_path / "cache")
    assert imsitu.notes()["source"] == "prepared lists"
    assert rows(imsitu.table("train")) == [("jumping_0.jpg", 1, 1), ("elsewhere_9.jpg", 0, 0)]
    assert boxes(imsitu.region("train", "person-box-union")) == {"jumping_0.jpg": (6, 6, 18, 15)}
    assert imsitu.notes()["train"]["without a box"] == 1
    with pytest.raises(UsageError, match="verbs='agent' is for the official files"):
        Imsitu(grounded.root, tmp_path / "cache", verbs="agent").table("train")


@pytest.mark.torch
def test_alpha_keeps_the_exact_counts(files, tmp_path):
    """One label a row: of each verb min(majority, alpha · max(minority, 1)) of the larger gender stay."""
    import numpy as np

    from biasbench.builtin.methods.resample import Alpha

    counts = {"rowing": (7, 2), "jumping": (3, 3), "cooking": (0, 5)}
    train = [
        (f"{verb}_{gender}{k}.jpg", verb, gender)
        for verb, by_gender in counts.items()
        for gender, n in enumerate(by_gender)
        for k in range(n)
    ]
    imsitu = Imsitu(files.write_lists(tmp_path, lists={**files.LISTS, "train": train}), tmp_path / "cache")
    for ratio, left in ((1.0, [(2, 2), (3, 3), (0, 1)]), (2.0, [(4, 2), (3, 3), (0, 2)])):
        table = Alpha(ratio, "gender").resample(imsitu.table("train"), np.random.default_rng(0))
        found = table.groupby(["label", "attribute/gender"]).size()
        assert [tuple(int(found.get((k, g), 0)) for g in (0, 1)) for k in range(3)] == left
