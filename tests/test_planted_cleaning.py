"""What `benchmarks/planted_cleaning.py` writes, by its own truth and by the reader's counts."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("planted_cleaning", ROOT / "benchmarks" / "planted_cleaning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("cleaning") / "new"
    result = CliRunner().invoke(module.main, [str(folder), "--photos", "400"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return module, folder, result.output


def test_each_rule_keeps_fewer_photos_and_more_of_the_right_ones(planted):
    found = re.findall(
        r"^(\w+): (\d+) photos, (\d+) of them withheld; ([\d.]+) % of genders right$", planted[2], re.MULTILINE
    )
    assert [rule for rule, *_ in found] == ["none", "score", "predictions"]
    kept = [int(photos) for _, photos, _, _ in found]
    right = [float(share) for *_, share in found]
    assert kept[0] == 400
    assert kept == sorted(kept, reverse=True)
    assert right == sorted(right)
    assert abs(right[0] - 75) < 6.5  # three standard errors of a share of 400
    assert right[-1] > 97
    assert all(0.1 < int(held) / n < 0.3 for (_, _, held, _), n in zip(found, kept, strict=True))


def test_half_of_the_photos_show_somebody_else(planted):
    module, folder, _ = planted
    faces = module.drawn(folder, 400)
    photos = module.plant(faces)
    elsewhere = (photos["file"] != faces["file"]).mean()
    assert abs(elsewhere - module.SOMEBODY_ELSE) < 0.075
    assert sorted(photos["file"]) == sorted(faces["file"])  # no drawing stands twice
    assert (photos["year"] - photos["years"]).groupby(photos["person"]).nunique().max() == 1  # one date of birth
    shown = photos.set_index("file")["shown"]
    drawn = faces.set_index("file")["gender"]
    assert (shown == drawn.loc[shown.index]).all()


def test_the_benchmark_asks_for_every_rule(planted):
    datasets = tomllib.loads((planted[1] / "cleaning.toml").read_text())["datasets"]
    assert [re.search(r"clean='(\w+)'", one)[1] for one in datasets] == ["none", "score", "predictions"]


def test_a_folder_in_use_is_left_alone(planted):
    module, folder, _ = planted
    result = CliRunner().invoke(module.main, [str(folder)])
    assert result.exit_code != 0
    assert "is not empty" in result.output
