"""imSitu on the lists published with Wang et al. 2019, and on a sample of the official annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biasbench import SPLITS, check_table, targets
from biasbench.builtin.datasets.imsitu import Imsitu
from biasbench.builtin.datasets.situations.verbs import published_verbs

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real"
lists_here = pytest.mark.skipif(not (REAL / "wang2019").is_dir(), reason="the published lists are not on this machine")
sample_here = pytest.mark.skipif(
    not (REAL / "imsitu-sample").is_dir(), reason="the sample of imSitu is not on this machine"
)
# Table 1 of the paper for train; sizes of val and test from section 4.1, their genders counted in the lists
COUNTS = {"train": (14_199, 10_102), "val": (4_457, 3_273), "test": (4_517, 3_152)}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return Imsitu(REAL / "wang2019", tmp_path_factory.mktemp("cache"))


# -- the published lists ---------------------------------------------------------------------
@lists_here
def test_the_published_lists_as_they_stand(published):
    assert Imsitu.recognises(published.root)
    assert published.label_names == published_verbs()
    assert published.provides == frozenset()
    for split, (men, women) in COUNTS.items():
        table = published.table(split)
        check_table(table, published, split)
        assert np.bincount(table["attribute/gender"]).tolist() == [men, women]
        assert published.notes()[split] == {"rows": men + women, "man": men, "woman": women}
        raw = np.load(REAL / "wang2019" / f"imsitu_{split}.npz", allow_pickle=False)
        assert (table["id"].to_numpy() == raw["image_name"]).all()  # row ids of the release stay valid
        assert (targets(table) == raw["verb"]).all()
        verb = [published.label_names[k] for k in targets(table)]
        assert [name.partition("_")[0] for name in table["id"]] == verb
        assert set(np.unique(targets(table))) == set(range(211))
    assert {s: len(published.table(s)) for s in SPLITS} == {"train": 24_301, "val": 7_730, "test": 7_669}


@lists_here
@pytest.mark.torch
@pytest.mark.parametrize(("ratio", "men", "women"), [(1, 7_342, 7_342), (2, 10_265, 8_884), (3, 11_613, 9_530)])
def test_alpha_reproduces_table_1(published, ratio, men, women):
    """As a user gets it: `alpha-N` on the table. Of each verb as many of each gender stay as in the release."""
    from biasbench.plugins import load_plugins
    from biasbench.spec import resolve_method

    method = resolve_method(f"alpha-{ratio}", load_plugins().methods, published.primary_attribute).build()
    table = published.table("train")
    raw = np.load(REAL / "wang2019" / "imsitu_train.npz", allow_pickle=False)
    theirs = pd.crosstab(raw["verb"][raw[f"ratio_{ratio}"]], raw["gender"][raw[f"ratio_{ratio}"]]).to_numpy()
    before = pd.crosstab(table["label"], table["attribute/gender"]).to_numpy()
    chosen_before: set[str] = set()
    for seed in range(2):
        chosen = method.resample(table, np.random.default_rng(seed))
        assert np.bincount(chosen["attribute/gender"]).tolist() == [men, women]
        ours = pd.crosstab(chosen["label"], chosen["attribute/gender"]).to_numpy()
        least = before.min(1, keepdims=True)
        assert (ours == np.minimum(before, ratio * np.maximum(least, 1))).all()
        assert (ours == theirs).all()
        assert set(chosen["id"]) != chosen_before  # drawn anew
        chosen_before = set(chosen["id"])


# -- the official annotations: one frame of three, for 52 of 504 verbs ---------------------------
@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample as a folder of official files: every third image for each part."""
    root = tmp_path_factory.mktemp("imsitu")
    records = json.loads((REAL / "imsitu-sample" / "imsitu_50verbs_1frame.json").read_text())
    for k, part in enumerate(("train", "dev", "test")):
        names = sorted(records)[k::3]
        (root / f"{part}.json").write_text(json.dumps({name: records[name] for name in names}))
    (root / "imsitu_space.json").symlink_to(REAL / "imsitu-sample" / "imsitu_space_partial.json")
    (root / "of500_images_resized").symlink_to(REAL / "imsitu-sample" / "examples_images")
    return root


@pytest.fixture(scope="module")
def by_hand():
    """Image to (verb, gender) from the sample's frames: an agent with the word man, or woman, in a gloss."""
    records = json.loads((REAL / "imsitu-sample" / "imsitu_50verbs_1frame.json").read_text())
    space = json.loads((REAL / "imsitu-sample" / "imsitu_space_partial.json").read_text())
    found = {}
    for name, record in records.items():
        glosses = space["nouns"].get(record["frames"][0].get("agent"), {"gloss": []})["gloss"]
        words = set(re.split(r"\s+", " ".join(glosses)))
        if len(words & {"man", "woman"}) == 1:
            found[name] = (record["verb"], "woman" in words)
    return found


def read(root, tmp_path, **options):
    imsitu = Imsitu(root, tmp_path, **options)
    tables = {split: imsitu.table(split) for split in SPLITS}
    for split, table in tables.items():
        check_table(table, imsitu, split)
    table = pd.concat(tables.values(), ignore_index=True)
    verbs = [imsitu.label_names[k] for k in table["label"]]
    return imsitu, dict(zip(table["id"], zip(verbs, table["attribute/gender"] == 1, strict=True), strict=True))


@sample_here
def test_the_sample_by_hand(sample, by_hand, tmp_path):
    imsitu, rows = read(sample, tmp_path)
    wanted = {name: (verb, woman) for name, (verb, woman) in by_hand.items() if verb in set(published_verbs())}
    assert rows == wanted
    assert len(rows) > 3_000
    notes = imsitu.notes()
    assert sum(notes[f"{split} file"]["images"] for split in SPLITS) == 13_005
    assert all(notes[f"{split} file"]["not three frames"] == notes[f"{split} file"]["images"] for split in SPLITS)


@sample_here
def test_verbs_that_people_do_in_the_sample(sample, by_hand, tmp_path):
    imsitu, rows = read(sample, tmp_path, verbs="agent")
    in_training = {verb for name, (verb, _) in by_hand.items() if name in set(imsitu.table("train")["id"])}
    assert imsitu.label_names == tuple(sorted(in_training))
    assert rows == {name: fact for name, fact in by_hand.items() if fact[0] in in_training}
    assert {"ailing", "gathering", "glowing", "wilting"}.isdisjoint(imsitu.label_names)  # no agent, or none of people
    assert {"hurling", "flossing"} <= set(imsitu.label_names)  # people do them, and the paper leaves them out


@sample_here
@lists_here
def test_genders_agree_with_the_published_lists(sample, published, tmp_path):
    """No image of one frame's gender has the other one in the lists; those not listed have frames that differ."""
    _, rows = read(sample, tmp_path)
    listed = pd.concat([published.table(split) for split in SPLITS])
    genders = dict(zip(listed["id"], listed["attribute/gender"] == 1, strict=True))
    shared = [name for name in rows if name in genders]
    assert all(rows[name][1] == genders[name] for name in shared)
    assert len(shared) > 0.95 * len(rows)


@sample_here
@pytest.mark.torch
def test_official_images_are_read(sample, tmp_path):
    from biasbench.images import read_image

    imsitu = Imsitu(sample, tmp_path)
    table = pd.concat([imsitu.table(split) for split in SPLITS])
    there = [imsitu.root / path for path in table["path"] if (imsitu.root / path).exists()]
    assert there
    assert all(read_image(path).shape == (256, 256, 3) for path in there)
