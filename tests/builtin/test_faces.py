"""Drawn faces as they lie on the disk: labels as the law has them, different people, the same bits every time."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from biasbench import SPLITS, DataError, StoreError, UsageError, check_table, targets
from biasbench.builtin.datasets.face import cast
from biasbench.builtin.datasets.face.labels import label_tables
from biasbench.builtin.datasets.face.law import GROUPS, POSES, Law
from biasbench.builtin.datasets.face.paint import YAWS, turned
from biasbench.builtin.datasets.face.portrait import SIDE, portrait
from biasbench.builtin.datasets.face.recolour import eyes, mixtures, recoloured
from biasbench.builtin.datasets.face.write import Order, face, write
from biasbench.builtin.datasets.faces import Faces
from biasbench.builtin.datasets.scene import sprites

OPTIONS = {"train": 40, "val": 16, "test": 24, "size": 48, "age_gender": 0.8, "skin_pose": -0.5}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def faces(cache):
    data = Faces(Faces.home(cache, OPTIONS), cache, **OPTIONS)
    steps: list[tuple[int, int]] = []
    data.prepare(lambda done, total: steps.append((done, total)))
    assert steps == [(k, 80) for k in range(1, 81)]
    return data


@pytest.fixture
def copy(faces, tmp_path):
    """The folder once more, to be damaged."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for path in faces.root.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("task", GROUPS)
def test_tables_hold_what_was_drawn(faces, cache, task):
    home = Faces.home(cache, {**OPTIONS, "task": task})
    assert home == faces.root  # one folder serves every task
    data = Faces(home, cache, task=task, **OPTIONS)
    assert data.label_names == GROUPS[task]
    assert data.primary_attribute == ("age" if task == "gender" else "gender")
    drawn = label_tables(Law({("age", "gender"): 0.8, ("skin", "pose"): -0.5}), {s: OPTIONS[s] for s in SPLITS})
    for split in SPLITS:
        table = data.table(split)
        check_table(table, data, split)
        assert (targets(table) == drawn[split][task]).all()
        for name in GROUPS:
            assert (table[f"attribute/{name}"] == drawn[split][name]).all()
        for path in table["path"]:
            with Image.open(data.root / path) as image:
                assert (image.size, image.mode) == ((48, 48), "RGB")


def test_the_label_files_name_everything(faces):
    for split in SPLITS:
        with open(faces.root / f"faces_label_{split}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == OPTIONS[split]
        for row in rows:
            family, gender, tone, hair = row["person"].split("/")
            assert family in {f.name for f in cast.families(split)}
            assert (gender, tone) == (row["gender"], row["skin"])
            assert hair in cast.HAIR
            assert abs(float(row["yaw"]) - YAWS[row["pose"]]) <= 8
    assert "CC-BY 4.0" in (faces.root / "ATTRIBUTION.txt").read_text()


def test_people_of_one_split_are_in_no_other(faces):
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {f.name for f in cast.families(one)} & {f.name for f in cast.families(other)}
        assert not cast.stems(one) & cast.stems(other)
        seen = [set(faces.faces.loc[faces.faces["split"] == s, "person"]) for s in (one, other)]
        assert not seen[0] & seen[1]
    assert {f.split for f in cast.FAMILIES} == set(SPLITS)


@pytest.mark.parametrize("gender", GROUPS["gender"])
def test_no_two_drawings_of_different_splits_look_alike(gender):
    """In the same tone, age and hair: other lines, not only another file."""
    shown = {f.name: portrait(f.drawing(gender, "adult"), "adult", "light", "black") for f in cast.FAMILIES}
    for one, other in itertools.combinations(cast.FAMILIES, 2):
        if one.split != other.split:
            differ = np.abs(shown[one.name] - shown[other.name]).max(axis=-1) > 60
            assert differ.mean() > 0.03, f"{one.name} and {other.name}"


def test_every_drawing_is_one_of_a_face():
    for family in cast.FAMILIES:
        for gender, age in itertools.product(GROUPS["gender"], GROUPS["age"]):
            drawing = family.drawing(gender, age)
            (x0, y0), (x1, y1) = eyes(drawing.stem)
            assert 10 < x1 - x0 < 30
            assert abs(y1 - y0) < 1
            colours, weights = mixtures(drawing.stem)
            assert np.abs(colours - drawing.hair).max(axis=1).min() <= 12
            assert np.abs(colours - cast.SKIN).max(axis=1).min() <= 12
            assert weights.min() >= 0
            assert weights.sum(axis=0).max() <= 1 + 1e-9
        assert family.drawing("man", "adult").stem != family.drawing("woman", "adult").stem


def test_recolouring_moves_skin_and_hair_and_nothing_else():
    drawing = cast.FAMILIES[0].drawing("woman", "adult")
    before = np.asarray(sprites.sprite(drawing.stem)).astype(int)
    same = recoloured(drawing, np.array(cast.SKIN, float), np.array(drawing.hair, float)).astype(int)
    assert (same == before).all()
    after = recoloured(drawing, np.array([10.0, 20, 30]), np.array([200.0, 210, 220])).astype(int)
    for old, new in (((213, 171, 136), (10, 20, 30)), ((150, 59, 34), (200, 210, 220))):
        pure = (before[..., :3] == old).all(axis=-1)
        assert pure.sum() > 500
        assert (after[pure][:, :3] == new).all()
    lips = (before[..., :3] == (223, 31, 50)).all(axis=-1)
    assert lips.any()
    assert (after[lips] == before[lips]).all()
    assert (after[..., 3] == before[..., 3]).all()


def test_attributes_change_what_they_are_and_nothing_that_is_chosen():
    order = Order(Law(), dict.fromkeys(SPLITS, 1), 48, 0)
    base = {"gender": "man", "age": "adult", "skin": "light", "pose": "frontal"}
    for index, name in itertools.product(range(4), GROUPS):
        first = face(order, "train", index, base)
        for group in GROUPS[name]:
            other = face(order, "train", index, {**base, name: group})
            assert other.person.family == first.person.family
            assert other.person.hair == first.person.hair
            assert other.yaw - YAWS[base["pose"] if name != "pose" else group] == pytest.approx(first.yaw, abs=0.011)
            same = (np.asarray(other.image) == np.asarray(first.image)).all()
            assert same == (group == base[name])
            corner = np.asarray(other.image)[:3, :3] == np.asarray(first.image)[:3, :3]
            assert corner.mean() > 0.5 or name != "skin"  # the background stays


def test_ages_and_tones_can_be_told_by_their_colour():
    drawing = cast.families("test")[0].drawing("woman", "adult")
    hair = portrait(drawing, "adult", "medium", "black")[..., 0] < 60
    hair &= portrait(drawing, "adult", "medium", "black")[..., 3] > 250
    means = [portrait(drawing, age, "medium", "black")[hair].mean() for age in ("adult", "middle-aged", "older")]
    assert means[0] + 30 < means[1] < means[2] - 30
    middle = np.s_[int(0.62 * SIDE) : int(0.66 * SIDE), int(0.40 * SIDE) : int(0.44 * SIDE)]
    tones = [portrait(drawing, "adult", tone, "black")[middle][..., :3].mean() for tone in GROUPS["skin"]]
    assert tones == sorted(tones, reverse=True)


def test_a_turned_head_is_narrower_and_its_other_side_its_mirror_image():
    flat = portrait(cast.families("train")[0].drawing("man", "adult"), "adult", "dark", "red")
    flat = (flat + flat[:, ::-1]) / 2  # symmetrical
    y, x = (np.mgrid[0:128, 0:128] + 0.5) / 64 - 1
    shown = [turned(flat, YAWS[pose], np.stack([x, y])) for pose in POSES]
    for left, right in ((0, 4), (1, 3), (2, 2)):
        assert shown[left] == pytest.approx(shown[right][:, ::-1], abs=1e-3)
    area = [image[..., 3].sum() for image in shown]
    assert area[0] < area[1] < area[2]
    sheet = np.zeros((SIDE, SIDE, 4), np.float32)
    sheet[SIDE // 4 : -SIDE // 4] = 255
    heights = (turned(sheet, YAWS["profile left"], np.stack([x, y]))[..., 3] > 128).sum(axis=0)
    shown_columns = heights[heights > 0]  # the nose points left, so that the right edge is nearer
    assert (np.diff(shown_columns) >= 0).all()
    assert shown_columns[-1] > 1.3 * shown_columns[0]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_options_give_the_same_bytes_and_fewer_faces_the_same_pictures(tmp_path):
    order = Order(Law({("age", "gender"): 0.5}), {"train": 5, "val": 2, "test": 3}, 32, 3)
    for name in ("one", "two", "less"):
        (tmp_path / name).mkdir()
    write(tmp_path / "one", order)
    write(tmp_path / "two", order)
    write(tmp_path / "less", replace(order, counts={"train": 2, "val": 1, "test": 1}))
    one, two, less = (contents(tmp_path / name) for name in ("one", "two", "less"))
    assert one == two
    pictures = [name for name in less if name.endswith(".jpg")]
    assert len(pictures) == 4
    assert all(less[name] == one[name] for name in pictures)


def test_the_truth_lies_beside_the_data(faces):
    truth = json.loads((faces.root / "truth.json").read_bytes())
    law = Law({("age", "gender"): 0.8, ("skin", "pose"): -0.5})
    assert np.array(truth["P(gender, age, skin, pose) in train and val"]) == pytest.approx(law.joint)
    assert truth["best guess of one attribute from another"]["gender"]["age"] == pytest.approx(0.9)
    table = faces.table("train")
    counts = np.zeros((4, 2))
    np.add.at(counts, (table["attribute/age"], table["attribute/gender"]), 1)
    from scipy.stats.contingency import association

    said = truth["association (Cramer's V)"]
    assert said["train"]["age, gender"] == pytest.approx(association(counts.astype(int)))
    assert said["planted"]["age, gender"] == pytest.approx(0.8)
    assert said["test"]["age, gender"] == 0
    notes = faces.notes()
    assert notes["dials"]["age_gender"] == 0.8
    assert notes["rows"] == {split: OPTIONS[split] for split in SPLITS}


def test_preparing_again_changes_nothing(faces):
    stamp = {p: p.stat().st_mtime_ns for p in faces.root.rglob("*")}
    again = Faces(faces.root, faces.cache, **OPTIONS)
    again.prepare()
    assert {p: p.stat().st_mtime_ns for p in faces.root.rglob("*")} == stamp
    assert again.fingerprint() == faces.fingerprint()


def test_a_folder_is_named_after_all_that_matters(tmp_path):
    dials = [{"age_gender": 0.1}, {"age_skin": 0.1}, {"age_pose": 0.1}, {"gender_skin": 0.1}, {"gender_pose": 0.1}]
    sizes = [{"skin_pose": 0.1}, {"train": 10}, {"val": 10}, {"test": 10}, {"size": 64}, {"seed": 1}, {"bias": "eb2"}]
    assert len({Faces.home(tmp_path, o) for o in ({}, *dials, *sizes)}) == 13
    assert Faces.home(tmp_path, {"bias": "eb1"}) == Faces.home(tmp_path, {"age_gender": 1.0})
    assert Faces.home(tmp_path, {"bias": "eb1"}) == Faces.home(tmp_path, {"bias": "eb1", "age_gender": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sex"}, "task='sex' is unknown"),
        ({"bias": "eb3"}, "bias='eb3' is unknown"),
        ({"bias": "eb1", "age_gender": 0.5}, "bias='eb1' is age_gender=1, not 0.5"),
        ({"age_gender": 1.5}, "age_gender must be from -1 to 1"),
        ({"age_pose": 0.6, "gender_pose": 0.6}, "is more than 1"),
        ({"train": 0}, "train must be from 1"),
        ({"size": 8}, "size must be from 32"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Faces(tmp_path, tmp_path, **options)


def test_other_faces_in_the_folder_are_refused(faces):
    with pytest.raises(DataError, match=r"age_gender=0\.8, not 0\.1"):
        Faces(faces.root, faces.cache, **{**OPTIONS, "age_gender": 0.1}).prepare()


DAMAGE = {
    "a group": (",light,", ",pale,", "line 2: skin is 'pale'"),
    "a file elsewhere": ("test/000001.jpg", "../000001.jpg", "file is '../000001.jpg', which is no file in test/"),
    "a file of another split": ("test/000001.jpg", "val/000001.jpg", "which is no file in test/"),
    "a file twice": ("test/000002.jpg", "test/000001.jpg", "line 3: file is 'test/000001.jpg', which stands twice"),
    "no column": ("file,gender", "file,sex", "there is no column 'gender'"),
    "a cell too many": (",frontal,", ",frontal,,", "expected 7 cells, found 8"),
    "a quote": ("test/000001.jpg", '"test/000001.jpg', "not a CSV file|expected"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_label_files(copy, tmp_path, case):
    old, new, message = DAMAGE[case]
    path = copy / "faces_label_test.csv"
    lines = path.read_text().splitlines(keepends=True)
    head, rows = lines[0], lines[1:]
    if case == "a group":
        rows[0] = rows[0].replace(rows[0].split(",")[3], "light").replace(old, new, 1)
    else:
        head, rows = head.replace(old, new, 1), "".join(rows).replace(old, new, 1).splitlines(keepends=True)
    path.write_text(head + "".join(rows))
    with pytest.raises(DataError, match=message) as caught:
        Faces(copy, tmp_path, **OPTIONS).prepare()
    assert "faces_label_test.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_label_files_that_are_cut_or_of_another_encoding(copy, tmp_path):
    path = copy / "faces_label_val.csv"
    content = path.read_text()
    path.write_text("".join(content.splitlines(keepends=True)[:-2]))
    with pytest.raises(DataError, match="14 faces, expected 16"):
        Faces(copy, tmp_path, **OPTIONS).prepare()
    path.write_bytes(content.encode() + b"\xff\xfe")
    with pytest.raises(DataError, match="not a UTF-8 file"):
        Faces(copy, tmp_path, **OPTIONS).prepare()


def test_a_damaged_truth(copy, tmp_path):
    (copy / "truth.json").write_text("[]")
    with pytest.raises(DataError, match="does not say how the faces were made"):
        Faces(copy, tmp_path, **OPTIONS).prepare()
    (copy / "truth.json").write_text('{"made with": 3}')
    with pytest.raises(DataError, match="the faces here were made with generator=None"):
        Faces(copy, tmp_path, **OPTIONS).prepare()
    (copy / "truth.json").write_text("{")
    with pytest.raises(StoreError, match="it is damaged"):
        Faces(copy, tmp_path, **OPTIONS).prepare()


def test_an_interrupted_generation_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Faces(tmp_path / "made", tmp_path, **OPTIONS).prepare(stop)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Faces(tmp_path / "file" / "faces", tmp_path, **OPTIONS).prepare()
