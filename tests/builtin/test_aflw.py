"""AFLW and AFLW2000-3D from small files in the true formats, against counts by hand; and from real AFLW2000-3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biasbench import SPLITS, DataError, UsageError, check_table, targets
from biasbench.builtin.datasets.aflw import Aflw
from biasbench.builtin.datasets.aflw_crops import square
from biasbench.builtin.datasets.aflw_draw import draw, with_mirrored, yaw_bins
from biasbench.builtin.datasets.aflw_mat import read_mats
from biasbench.builtin.datasets.face.law import POSES
from tests.helpers import aflw_files as files
from tests.helpers.face_tables import everything

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "aflw2000"
SIZES = {"train": 100, "val": 20, "test": 30}


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aflw")
    files.small_aflw().write(folder)
    return folder


@pytest.mark.parametrize("task", ["pose", "gender"])
def test_tables_keep_the_contract(root, tmp_path, task):
    assert Aflw.recognises(root)
    aflw = Aflw(root, tmp_path, task=task, **SIZES)
    aflw.prepare()
    assert aflw.primary_attribute == ("gender" if task == "pose" else "pose")
    for split in SPLITS:
        table = aflw.table(split)
        check_table(table, aflw, split)
        assert (targets(table) == table[f"attribute/{task}"]).all()
        assert len(set(np.bincount(table["attribute/pose"], minlength=5))) == 1
        assert all((aflw.root / path).is_file() for path in table["path"])
    rows = everything(aflw)
    photos = rows["id"].str.removesuffix("-mirrored")
    assert rows.groupby(photos)["split"].nunique().max() == 1  # a face and its mirror image stay together


def test_mirroring_adds_the_other_side(root, tmp_path):
    aflw = Aflw(root, tmp_path, train=100_000, val=10_000, test=20_000)
    rows = everything(aflw)
    poses = np.array(POSES)[rows["attribute/pose"]]
    mirrored = rows["id"].str.endswith("-mirrored").to_numpy()
    assert not mirrored[poses == "frontal"].any()
    assert mirrored[poses != "frontal"].any()
    said = aflw.notes()
    assert said["faces"] == 150
    assert sum(said[split]["there are"]["frontal"] for split in SPLITS) == 30
    assert (
        sum(said[split]["there are"]["profile left"] for split in SPLITS) == 60
    )  # those and the others' mirror images
    assert said["train"]["rows"] == 5 * said["train"]["there are"]["frontal"]  # the rarest bin


def test_crops_show_the_face_and_mirrored_ones_the_other_way(tmp_path):
    made = files.small_aflw()
    face = made.add(70, photo="one.jpg", rect=(20, 30, 20, 10))  # 20 wide around (30, 35), with a margin 30
    made.write(tmp_path / "aflw")
    aflw = Aflw(tmp_path / "aflw", tmp_path / "cache", train=900, val=100, test=200)
    aflw.prepare()
    plain, turned = (np.asarray(Image.open(aflw.root / f"{face}{end}.jpg"), int) for end in ("", "-mirrored"))
    assert plain.shape == (30, 30, 3)
    assert plain[:, :13].max() < 60 < 200 < plain[:, 17:].min()
    assert np.abs(plain[:, ::-1] - turned).max() <= 4  # JPEG


def test_what_lacks_something_is_counted(tmp_path):
    made = files.small_aflw()
    made.add(None)
    made.add(10, rect=None)
    made.add(10, rect=(5, 5, 0, 10))
    again = made.add(10)
    made.rows["FacePose"].append((again, 0.0, 0.0, 1.5, 2))
    made.rows["Faces"].append((99_999, None, "aflw"))
    made.rows["FacePose"].append((99_999, 0.0, 0.0, 0.5, 1))
    made.add(0, sex="")
    made.write(tmp_path / "aflw")
    said = Aflw(tmp_path / "aflw", tmp_path / "cache", **SIZES).notes()
    wanted = {"without a photo": 1, "without a pose": 1, "without a rectangle": 1, "further rows in FacePose": 1,
              "with a rectangle without area": 1, "faces": 156}  # fmt: skip
    assert {key: said[key] for key in wanted} == wanted
    assert Aflw(tmp_path / "aflw", tmp_path / "cache", task="gender", **SIZES).notes()["of unknown gender"] == 1


def test_gender_is_unknown_where_the_release_does_not_tell(tmp_path):
    made = files.small_aflw()
    for row in range(0, 150, 2):
        made.rows["FaceMetaData"][row] = (*made.rows["FaceMetaData"][row][:1], "", 0, 0, 0, 1)
    made.write(tmp_path / "aflw")
    rows = everything(Aflw(tmp_path / "aflw", tmp_path / "cache", **SIZES))
    by_hand = {str(row[0]): {"m": 0, "f": 1, "": -1}[row[1]] for row in made.rows["FaceMetaData"]}
    assert rows["attribute/gender"].tolist() == [by_hand[i] for i in rows["id"].str.removesuffix("-mirrored")]
    assert set(rows["attribute/gender"]) == {-1, 0, 1}


def test_preparing_again_changes_nothing_and_a_new_photo_is_cut_again(tmp_path):
    made = files.small_aflw()
    made.write(tmp_path / "aflw")
    first = Aflw(tmp_path / "aflw", tmp_path / "cache", **SIZES)
    steps: list[tuple[int, int]] = []
    first.prepare(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (len(everything(first)),) * 2
    stamp = {p: p.stat().st_mtime_ns for p in first.root.iterdir()}
    again = Aflw(tmp_path / "aflw", tmp_path / "cache", **SIZES)
    again.prepare(lambda *_: pytest.fail("crops were made again"))
    assert again.fingerprint() == first.fingerprint()
    assert {p: p.stat().st_mtime_ns for p in again.root.iterdir()} == stamp
    used = first.table("train")["id"].iloc[0].removesuffix("-mirrored")
    name = next(row[1] for row in made.rows["Faces"] if str(row[0]) == used)
    Image.new("RGB", (80, 80)).save(tmp_path / "aflw" / "flickr" / made.photos[name])
    other = Aflw(tmp_path / "aflw", tmp_path / "cache", **SIZES)
    other.prepare()
    assert other.root != first.root


@pytest.mark.parametrize("part", ["journal", "wal"])
def test_a_database_that_is_not_whole_is_neither_completed_nor_read(tmp_path, part):
    path = files.small_aflw().write(tmp_path / "aflw")
    Aflw(path.parent, tmp_path / "cache", **SIZES).notes()
    before = path.read_bytes()
    (path.parent / f"aflw.sqlite-{part}").write_bytes(b"\0" * 600)
    with pytest.raises(DataError, match=f"not whole: a part of it lies in aflw.sqlite-{part}"):
        Aflw(path.parent, tmp_path / "cache", **SIZES).notes()
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"aflw.sqlite", f"aflw.sqlite-{part}", "flickr"}


# -- bins and the draw -----------------------------------------------------------------------
@given(st.lists(st.floats(-180, 180), min_size=1, max_size=20), st.floats(1, 60), st.floats(61, 150))
def test_bins_mirror_each_other(degrees, near, profile):
    codes = yaw_bins(np.radians(degrees), near, profile)
    assert (codes + yaw_bins(-np.radians(degrees), near, profile) == 4).all()
    sure = [abs(abs(v) - edge) > 1e-4 for v in degrees for edge in (near, profile)]
    for value, code, clear in zip(degrees, codes, zip(sure[::2], sure[1::2], strict=True), strict=True):
        if all(clear):
            side = 2 if abs(value) > profile else 1 if abs(value) > near else 0
            assert code == 2 - int(np.sign(value)) * side


def test_the_draw_takes_as_many_of_every_bin():
    rng = np.random.default_rng(0)
    faces = pd.DataFrame({"face": range(800), "photo": [f"{k // 2}.jpg" for k in range(800)]})
    faces["pose"] = rng.choice(5, 800, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    rows = with_mirrored(faces)
    chosen, notes = draw(rows, {"train": 300, "val": 50, "test": 100})
    sizes = {split: np.bincount(part["pose"], minlength=5).tolist() for split, part in chosen.groupby("split")}
    assert sizes == {"train": [60] * 5, "val": [10] * 5, "test": [20] * 5}
    assert chosen.groupby("photo")["split"].nunique().max() == 1
    assert (
        sum(notes[s]["there are"]["profile left"] for s in SPLITS)
        == ((faces["pose"] == 0) | (faces["pose"] == 4)).sum()
    )
    fewer = draw(rows[rows["photo"] != rows["photo"].iloc[0]], {"train": 300, "val": 50, "test": 100})[0]
    kept = set(chosen["id"]) & set(fewer["id"])
    assert len(kept) > 0.95 * len(chosen)  # leaving one photo out moves little else


def test_squares():
    assert square(0, 0, 10, 10, 0) == (0, 0, 10, 10)
    assert square(0, 0, 10, 4, 0) == (0, -3, 10, 7)
    assert square(0.3, 0.6, 9.7, 4.1, 0.25) == (-2, -5, 13, 10)  # a square, however it is rounded
    assert square(10, 10, 20, 20, 0.5) == (0, 0, 40, 40)


# -- AFLW2000-3D -----------------------------------------------------------------------------
def test_aflw2000_files(tmp_path):
    degrees = [(-70, -30, 0, 30, 70)[k % 5] for k in range(100)]
    aflw = Aflw(files.write_mats(tmp_path / "mats", degrees), tmp_path / "cache", train=60, val=20, test=20)
    assert Aflw.recognises(tmp_path / "mats")
    rows = everything(aflw)
    assert set(rows["attribute/gender"]) == {-1}
    assert aflw.notes()["release"] == "AFLW2000-3D"
    for row in rows.itertuples():
        number = int(row.id.removesuffix("-mirrored"))
        yaw = degrees[number - 1] * (-1 if row.id.endswith("-mirrored") else 1)
        assert POSES[row.label] == {-70: POSES[4], -30: POSES[3], 0: POSES[2], 30: POSES[1], 70: POSES[0]}[yaw]
    with Image.open(aflw.root / rows["path"].iloc[0]) as image:
        assert image.size == (225, 225)  # 150 pixels and a quarter of it on either side


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample of AFLW2000-3D is not on this machine")
def test_real_aflw2000(tmp_path):
    from scipy.io import loadmat

    found = read_mats(REAL, "TestImages/AFLW2000")
    assert Aflw.recognises(REAL)
    assert len(found.rows) == 16
    assert found.rows["face"].is_unique
    for row in found.rows.itertuples():
        raw = loadmat((REAL / row.photo).with_suffix(".mat"))
        assert row.yaw == raw["Pose_Para"][0, 1]
        points = raw["pt3d_68"]
        assert (row.x, row.y) == (points[0].min(), points[1].min())
        assert (row.x + row.w, row.y + row.h) == pytest.approx((points[0].max(), points[1].max()))
        if abs(np.degrees(row.yaw)) > 10:  # nose against the ends of the jaw: which side a positive yaw turns to
            towards = points[0, 30] - (points[0, 0] + points[0, 16]) / 2
            assert np.sign(towards) == -np.sign(row.yaw)
    poses = yaw_bins(found.rows["yaw"].to_numpy(), 15, 45)
    assert np.bincount(poses, minlength=5).tolist() == [3, 3, 8, 1, 1]


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample of AFLW2000-3D is not on this machine")
def test_real_photos_are_cut(tmp_path):
    """Sixteen photos cannot fill five bins three times over; what is there is cut."""
    from biasbench.builtin.datasets.aflw_crops import write_crops

    found = read_mats(REAL, "TestImages/AFLW2000").rows
    rows = with_mirrored(found.assign(pose=yaw_bins(found["yaw"].to_numpy(), 15, 45)))
    (tmp_path / "crops").mkdir()
    write_crops(tmp_path / "crops", REAL, rows, 0.25)
    assert len(list((tmp_path / "crops").iterdir())) == len(rows) == 16 + 8
    with pytest.raises(DataError, match="no face for"):
        Aflw(REAL, tmp_path / "cache").prepare()


# -- options -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "age"}, "task='age' is unknown"),
        ({"near": 50}, "0 < near < profile"),
        ({"near": float("nan")}, "0 < near < profile"),
        ({"profile": 180}, "0 < near < profile"),
        ({"val": 24_000}, "must be at least 5"),
        ({"test": 4}, "must be at least 5"),
        ({"margin": -0.1}, "margin must be from 0 to 2"),
        ({"images": "../elsewhere"}, "leaves the data set's folder"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Aflw(tmp_path, tmp_path, **options)
