"""WIKI on its real metadata file: the known defects, counted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biasbench import SPLITS, check_table
from biasbench.builtin.datasets.face_balance import MAN, WOMAN
from biasbench.builtin.datasets.imdb_index import open_metadata
from biasbench.builtin.datasets.wiki import Wiki

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "imdb-wiki"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the metadata of WIKI is not on this machine")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def metadata(cache):
    return open_metadata(REAL / "wiki.mat", "wiki", cache / "wiki")


def test_defects_are_the_known_ones(cache):
    notes = Wiki(REAL, cache, clean="none", balanced=False).notes()
    assert Wiki.recognises(REAL)
    assert notes["entries with a defect"] == {
        "no date": 0,
        "impossible age": 1_880,
        "gender unknown": 2_643,
        "no face found": 18_016,
        "a second face": 62_328 - 58_232,
        "listed twice": 0,
    }
    assert notes["entries dropped, in this order"]["entries"] == 62_328
    kept = 62_328 - 1_880 - notes["entries dropped, in this order"]["gender unknown"]
    assert sum(notes[split]["rows"] for split in SPLITS) == kept


def test_genders_and_scores(metadata):
    assert metadata["gender"].value_counts().to_dict() == {MAN: 47_063, WOMAN: 12_622, -1: 2_643}
    assert int(np.isneginf(metadata["score"]).sum()) == 18_016
    assert int(metadata["second"].isna().sum()) == 58_232


def test_ages_agree_with_the_dates_in_the_file_names(metadata):
    """The names carry date of birth and year of the photo too: NUMBER_yyyy-mm-dd_yyyy.jpg."""
    date = r"_([0-9]{4})-(?:0[1-9]|1[0-2])-[0-9]{2}_([0-9]{4})[.]jpg$"  # two names have months that there are not
    told = metadata["path"].str.extract(date).astype(float)
    plain = told.notna().all(axis=1)
    assert plain.mean() > 0.99
    assert (told[1] - told[0] == metadata["years"])[plain].all()


@pytest.mark.parametrize("options", [{}, {"task": "gender", "bias": "eb1"}, {"task": "gender", "bias": "eb2"}])
def test_splits(cache, options):
    faces = Wiki(REAL, cache, **options)
    for split in SPLITS:
        check_table(faces.table(split), faces, split)
    test = faces.table("test")
    counts = pd.crosstab(test["attribute/age"], test["attribute/gender"])
    assert (counts[MAN] == counts[WOMAN]).all()
    assert len(counts) == 12
    people = faces.faces.groupby("identity")["split"].nunique()
    assert people.max() == 1
    born = faces.faces["id"].map(lambda name: int(re.search(r"_([0-9]{4})-", name)[1]))
    if options:
        trained = faces.faces[faces.faces["split"] != "test"]
        years = trained["years"]
        assert years[(years >= 30) & (years < 40)].empty
        women = years[trained["attribute/gender"] == WOMAN]
        assert (women < 30).all() if options["bias"] == "eb1" else (women >= 40).all()
    assert born.between(1800, 2015).mean() > 0.999
