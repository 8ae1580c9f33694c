"""The benchmark files that come with biasbench: each plans on data in the released formats, and wheels carry it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from biasbench.benchmark import load_benchmark, shipped
from biasbench.config import Settings
from biasbench.errors import UsageError
from biasbench.plan import make_plan
from biasbench.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "benchmarks").glob("*.toml"))
SCENES = "scenes(train=24, val=12, test=12, size=32)"


def few_drawings(dataset: str) -> str:
    """The same data set; of one that draws itself, a few small pictures."""
    small = "faces(train=40, val=16, test=16, size=32, "
    return SCENES if dataset == "scenes" else small + dataset[6:] if dataset.startswith("faces(") else dataset


@pytest.fixture
def settings(coco_folder: Callable[..., Path], tmp_path: Path) -> Settings:
    """A data root with the data sets as they are released, a few pictures each."""
    files = {
        name: run_path(str(ROOT / "tests" / "helpers" / f"{name}_files.py")) for name in ("imsitu", "face", "aflw")
    }
    imsitu = files["imsitu"]["small_imsitu"]()
    files["face"]["small_imdb"]().write(tmp_path / "imdb")
    files["face"]["write_laofiw"](tmp_path / "laofiw")
    files["face"]["write_utkface"](tmp_path / "utkface")
    files["aflw"]["small_aflw"]().write(tmp_path / "aflw")
    coco_folder()
    imsitu.write(tmp_path / "imsitu" / "SWiG_jsons")
    return Settings((tmp_path,), tmp_path / "results", tmp_path / "cache")


@pytest.mark.torch
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_row_of_every_file_plans(file: Path, settings: Settings) -> None:
    """Only weights (no network here) and the number of generated scenes are others than in the file."""
    benchmark = load_benchmark(file)
    datasets = [few_drawings(name) for name in benchmark.datasets]
    cells = make_plan([replace(benchmark.request(), weights="random", datasets=datasets)], load_plugins(), settings)
    planned = [(c.spec.method.typed, c.data.typed, c.spec.seed) for c in cells]
    assert planned == [(row.method, d, s) for row in benchmark.rows for d in datasets for s in benchmark.seeds]
    left_out = {c.spec.method.typed: c.reason for c in cells if c.reason is not None}
    assert set(left_out) <= {"blackout-face"}  # where nobody says where the faces are
    assert all("masks:face" in reason for reason in left_out.values())
    assert all(c.spec.recipe.name == benchmark.profile for c in cells)
    keys = [c.key for c in cells]
    assert len(set(keys)) == len(keys)


def test_the_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped() == {file.stem: file for file in FILES}
    for file in FILES:
        assert load_benchmark(Path(file.stem)) == load_benchmark(file)
        assert load_benchmark(file).name == file.stem
    Path("wang2019-table4").write_text('name = "mine"\ndatasets = ["coco"]\n[[rows]]\nmethod = "original"\n')
    assert load_benchmark(Path("wang2019-table4")).name == "mine"
    with pytest.raises(UsageError, match=r"cannot be read: No such file.*Did you mean 'wang2019-table4'"):
        load_benchmark(Path("wang2019_table4"))
    with pytest.raises(
        UsageError, match=r"These come with biasbench: alvi2018-age, .*scenes-demo, .*wang2019-table1-coco"
    ):
        load_benchmark(Path("x/y.toml"))


def test_wheels_carry_every_file() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {f"benchmarks/{f.name}": f"biasbench/benchmarks/{f.name}" for f in FILES}
