"""Scenes as they lie on the disk: true COCO files, disjoint people, the same bits every time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from biasbench import SPLITS, DataError, StoreError, UsageError, check_table, targets
from biasbench.builtin.datasets.captions import load_words, mentions, shipped_lists
from biasbench.builtin.datasets.scene import cast, sprites
from biasbench.builtin.datasets.scene.model import LABELS, NAMES, Content, Model
from biasbench.builtin.datasets.scene.plan import choose
from biasbench.builtin.datasets.scene.write import Order, scene, write
from biasbench.builtin.datasets.scenes import Scenes

# pycocotools 2.0.11 decodes into an array type that numpy 2 finds old-fashioned
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
OPTIONS = {"train": 60, "val": 20, "test": 40, "size": 64, "label_noise": 0.1}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    data = Scenes(Scenes.home(cache, OPTIONS), cache, **OPTIONS)
    steps: list[tuple[int, int]] = []
    data.prepare(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (120, 120)
    assert all(a[0] < b[0] for a, b in pairwise(steps))
    return data


@pytest.fixture(scope="module")
def painted(scenes):
    return {split: [scene(scenes.order, split, i) for i in range(scenes.order.counts[split])] for split in SPLITS}


def test_the_reader_of_coco_finds_what_was_painted(scenes, painted):
    assert scenes.label_names == NAMES
    for split in SPLITS:
        table = scenes.table(split)
        check_table(table, scenes, split)
        assert len(table) == OPTIONS[split]
        for row, truth in zip(table.itertuples(), painted[split], strict=True):
            groups = scenes.attribute_names
            assert groups["gender"][table.loc[row.Index, "attribute/gender"]] == truth.content.gender
            assert groups["skin-tone"][table.loc[row.Index, "attribute/skin-tone"]] == truth.person.tone
            assert groups["age"][table.loc[row.Index, "attribute/age"]] == truth.person.age
        expected = [np.isin(NAMES, s.content.annotated) for s in painted[split]]
        assert (targets(table) == np.array(expected)).all()
        assert targets(table).any(axis=1).all()


def test_nothing_is_dropped(scenes):
    notes = scenes.notes()
    assert [notes[split]["rows"] for split in SPLITS] == [60, 20, 40]
    assert notes["listed but dropped"] == 0


def test_person_masks_are_what_is_visible_of_people(scenes, painted):
    for split in SPLITS:
        regions = scenes.region(split, "person").set_index("id")
        for name, truth in zip(scenes.table(split)["id"], painted[split], strict=True):
            row = regions.loc[name]
            counts = row["counts"]
            mask = coco_mask.decode({"size": [int(row["height"]), int(row["width"])], "counts": counts})
            people = [i.mask for i in truth.instances if i.category == "person"]
            assert (mask.astype(bool) == np.any(people, axis=0)).all()


def test_the_face_lies_on_the_person(scenes, painted):
    for split in SPLITS:
        faces = scenes.region(split, "face")
        for name, truth in zip(scenes.table(split)["id"], painted[split], strict=True):
            boxes = faces.loc[faces["id"] == name, ["x0", "y0", "x1", "y1"]].to_numpy()
            assert boxes == pytest.approx(np.array(truth.faces), abs=0.02)
            assert ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= 64)).all()
            x0, y0, x1, y1 = boxes[0]  # the main person's
            people = np.any([i.mask for i in truth.instances if i.category == "person" and not i.crowd], axis=0)
            assert people[round(y0) : round(y1), round(x0) : round(x1)].mean() > 0.3


def test_masks_are_disjoint_and_every_pictured_label_can_be_seen(painted):
    crowds = 0
    for truth in (s for group in painted.values() for s in group):
        stacked = np.stack([i.mask for i in truth.instances])
        assert stacked.sum(axis=0).max() <= 1
        assert {i.category for i in truth.instances} == {"person", *truth.content.pictured}
        for instance in truth.instances:
            assert instance.crowd or instance.category == "person" or instance.mask.sum() >= 4
        crowds += sum(i.crowd for i in truth.instances)
    assert crowds > 0


def test_the_files_are_as_in_a_release(scenes):
    folder = scenes.root / "annotations"
    instances = json.loads((folder / "instances_train2014.json").read_bytes())
    assert [c["id"] for c in instances["categories"]] == list(range(1, 22))
    assert instances["categories"][0]["name"] == "person"
    sizes = {}
    for record in instances["images"]:
        with Image.open(scenes.root / "train2014" / record["file_name"]) as image:
            sizes[record["id"]] = image.size
            assert image.mode == "RGB"
    assert set(sizes.values()) == {(64, 64)}
    for a in instances["annotations"]:
        mask = coco_mask.decode(a["segmentation"])
        assert mask.shape == (64, 64)
        assert a["area"] == mask.sum() > 0
        rows, columns = np.nonzero(mask)
        x, y, w, h = a["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
    assert {a["iscrowd"] for a in instances["annotations"]} == {0, 1}
    assert len({a["id"] for a in instances["annotations"]}) == len(instances["annotations"])
    assert "CC-BY 4.0" in (scenes.root / "ATTRIBUTION.txt").read_text()


@pytest.mark.parametrize("words", shipped_lists())
def test_captions_name_one_gender_by_every_word_list(scenes, painted, words):
    captions: dict[int, list[str]] = {}
    for part in ("train", "val"):
        for c in json.loads((scenes.root / "annotations" / f"captions_{part}2014.json").read_bytes())["annotations"]:
            captions.setdefault(c["image_id"], []).append(c["caption"])
    for split in SPLITS:
        for name, truth in zip(scenes.table(split)["id"], painted[split], strict=True):
            man, woman = mentions(captions[int(name)], load_words(words))
            assert (man, woman) == (truth.content.gender == "man", truth.content.gender == "woman")
            said = captions[int(name)][0].lower()
            assert all(thing in said for thing in truth.content.pictured)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_options_give_the_same_bytes_and_fewer_scenes_the_same_pictures(tmp_path):
    order = Order(Model(0.7, 0.1), {"train": 6, "val": 3, "test": 3}, 48, 3)
    for name in ("one", "two", "less"):
        (tmp_path / name).mkdir()
    write(tmp_path / "one", order)
    write(tmp_path / "two", order)
    write(tmp_path / "less", Order(order.model, {"train": 2, "val": 3, "test": 1}, 48, 3))
    one, two, less = (contents(tmp_path / name) for name in ("one", "two", "less"))
    assert one == two
    pictures = [name for name in less if name.endswith(".jpg")]
    assert len(pictures) == 6
    assert all(less[name] == one[name] for name in pictures)
    late = scene(order, "train", 5)
    assert late.content == scene(order, "train", 5).content
    assert (np.asarray(late.image) == np.asarray(scene(order, "train", 5).image)).all()


def test_gender_changes_the_person_and_nothing_else():
    for i in range(60):
        twins = [
            choose(Content(g, "feminine", ("dog", "ball"), ("dog",)), SPLITS[i % 3], np.random.default_rng(i))
            for g in ("man", "woman")
        ]
        (man, his), (woman, hers) = twins
        assert (man.tone, man.age, man.doing) == (woman.tone, woman.age, woman.doing)
        for a, b in zip(his, hers, strict=True):
            if a.role in ("main", "companion"):
                assert a.stem != b.stem
                assert (a.side, a.turn, a.flip, a.colour) == (b.side, b.turn, b.flip, b.colour)
            else:
                assert a == b


def test_people_of_one_split_are_in_no_other(scenes, painted):
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not cast.people(one) & cast.people(other)
    for split in SPLITS:
        sources = scenes.truth()["distinct drawings"][split]
        seen = {stem for s in painted[split] for stem in s.stems}
        assert sources["people"] == len(seen & cast.people(split))
        known = {c for codes in cast.OBJECTS.values() for c in codes.split()}
        assert sources["objects"] == len(seen & known)
    assert scenes.truth()["distinct drawings"]["test"]["people also in training"] == 0


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_every_tone_and_age_for_both_genders(split):
    assert {t for age in cast.AGES for t in cast.tones(split, age)} == set(cast.TONES)
    assert all(cast.tones(split, age) for age in cast.AGES)
    assert set(cast.tones(split, "adult")) == set(cast.TONES)


def test_every_drawing_exists_and_has_a_face_where_it_should():
    for family in cast.FAMILIES:
        for tone in family.tones:
            stems = family.stem("man", tone), family.stem("woman", tone)
            assert stems[0] != stems[1]
            for stem in stems:
                drawing = sprites.sprite(stem)
                for head in family.heads:
                    x0, y0, x1, y1 = sprites.face(stem, head)
                    assert 0 <= x0 < x1 <= drawing.width
                    assert 0 <= y0 < y1 <= drawing.height
                    assert (x1 - x0) * (y1 - y0) > 60
    for stem in [c for codes in (*cast.OBJECTS.values(), *cast.CLOTHES.values(), cast.SCENERY) for c in codes.split()]:
        assert sprites.sprite(stem).size > (8, 8)
    for split in SPLITS:
        assert all(sprites.sprite(stem) for stem in cast.bystanders(split))
    assert set(cast.OBJECTS) == {label.name for label in LABELS}
    assert all(len(codes.split()) >= 3 for codes in cast.OBJECTS.values())
    assert not {c for codes in cast.CLOTHES.values() for c in codes.split()} & {
        c for codes in (*cast.OBJECTS.values(), cast.SCENERY) for c in codes.split()
    }


def test_a_cut_drawing_is_placed_as_pillow_would():
    drawing = sprites.sprite("1f697")
    same = sprites.cut("1f697", max(drawing.size), 0, False, (0.0, 1.0, 1.0))
    seen = np.asarray(drawing)[..., 3] == 255
    assert same.size == drawing.size
    assert np.abs(np.asarray(same, np.int64) - np.asarray(drawing))[seen].max() <= 2
    turned = np.asarray(sprites.cut("1f697", max(drawing.size), 20, True, (0.0, 1.0, 1.0)).getchannel("A"), np.int64)
    mirrored = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(20, Image.Resampling.BICUBIC, expand=True)
    other = np.asarray(mirrored.getchannel("A"), np.int64)
    h, w = min(turned.shape[0], other.shape[0]), min(turned.shape[1], other.shape[1])
    assert abs(turned.shape[0] - other.shape[0]) <= 2
    assert abs(turned.shape[1] - other.shape[1]) <= 2
    offsets = [
        (turned.shape[0] - h) // 2,
        (turned.shape[1] - w) // 2,
        (other.shape[0] - h) // 2,
        (other.shape[1] - w) // 2,
    ]
    a = turned[offsets[0] : offsets[0] + h, offsets[1] : offsets[1] + w] > 127
    b = other[offsets[2] : offsets[2] + h, offsets[3] : offsets[3] + w] > 127
    assert (a & b).sum() / (a | b).sum() > 0.93


def test_a_missing_drawing_is_one_clear_line():
    with pytest.raises(DataError, match="the drawing nowhere is missing"):
        sprites.sprite("nowhere")


def test_preparing_again_changes_nothing(scenes):
    stamp = {p: p.stat().st_mtime_ns for p in scenes.root.rglob("*")}
    again = Scenes(scenes.root, scenes.cache, **OPTIONS)
    again.prepare()
    assert {p: p.stat().st_mtime_ns for p in scenes.root.rglob("*")} == stamp
    assert again.fingerprint() == scenes.fingerprint()


def test_the_truth_lies_beside_the_data(scenes):
    truth = scenes.truth()
    model = Model(0.7, 0.1)
    assert truth["bayes dataset leakage"] == model.leakage() == scenes.notes()["bayes dataset leakage"]
    assert truth["bayes dataset leakage after flips"]["0.05"] == model.leakage(0.05)
    assert truth["P(man | label)"]["planted"] == model.man_share()
    table = scenes.table("train")
    balls = table[table["label/ball"] == 1]["attribute/gender"]
    assert truth["P(man | label)"]["train"]["ball"] == pytest.approx((balls == 0).mean())
    y, woman = targets(table), table["attribute/gender"].to_numpy() == 1
    right = (model.odds(y) < 0) == woman
    expected = 50 * (right[woman].mean() + right[~woman].mean())
    assert truth["best rule on generated splits"]["train"] == pytest.approx(expected)


def test_a_folder_is_named_after_all_that_matters(tmp_path):
    assert Scenes.home(tmp_path, {}) == Scenes.home(tmp_path, {"bias": 0.7, "train": 2500, "seed": 0})
    homes = [{"bias": 0.6}, {"train": 10}, {"val": 10}, {"test": 10}, {"size": 64}, {"label_noise": 0.0}, {"seed": 1}]
    assert len({Scenes.home(tmp_path, o) for o in ({}, *homes)}) == len(homes) + 1


def test_other_scenes_in_the_folder_are_refused(scenes):
    other = Scenes(scenes.root, scenes.cache, **{**OPTIONS, "label_noise": 0.2})
    with pytest.raises(DataError, match=r"label_noise=0\.1, not 0\.2"):
        other.prepare()


@pytest.mark.parametrize(
    ("name", "value"),
    [("bias", 1.1), ("bias", -0.1), ("bias", float("nan")), ("train", 0), ("size", 8), ("label_noise", 0.6)],
)
def test_options_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(UsageError, match=name):
        Scenes(tmp_path, tmp_path, **{name: value})


def test_an_interrupted_generation_leaves_nothing(tmp_path):
    data = Scenes(tmp_path / "made", tmp_path, **OPTIONS)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.prepare(stop)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Scenes(tmp_path / "file" / "scenes", tmp_path, **OPTIONS).prepare()
