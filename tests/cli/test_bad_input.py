"""Bad input of each kind, through the command line: one clear line, the documented exit code, nothing run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.unprivileged import unprivileged

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parents[1] / "helpers"
INSTANCES, CAPTIONS = "annotations/instances_train2014.json", "annotations/captions_train2014.json"


@pytest.fixture
def run(cli: Any, home: Path) -> Callable[..., Any]:
    """`biasbench run` of the plain model in the smallest way, on what `more` names."""

    def call(*more: object) -> Any:
        given = [str(m) for m in more]
        base = ["run", "--profile", "smoke", "--plugin", HELPERS / "tiny.py", "--plugin", HELPERS / "trouble.py",
                "--device", "cpu", "--backbone", "tiny", "--quiet", "--results", home / "results"]  # fmt: skip
        if "--method" not in given:
            base += ["--method", "original"]
        return cli(*base, *given)

    return call


def one_line(said: Any, code: int, *parts: str) -> None:
    lines = said.err.strip().splitlines()
    assert said.code == code, said.err
    assert "Traceback" not in said.err + said.out
    assert len(lines) == 1, said.err
    assert lines[0].startswith("biasbench: error[")
    for part in parts:
        assert part in lines[0], lines[0]


def edit(root: Path, name: str, change: Callable[[Any], object]) -> None:
    path = root / name
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


def first_crowd(data: Any) -> Any:
    return next(a for a in data["annotations"] if a["iscrowd"])


BROKEN: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "truncated JSON": (
        lambda r: (r / INSTANCES).write_bytes((r / INSTANCES).read_bytes()[:-200]),
        ("instances_train2014.json",),
    ),
    "annotation for a missing image": (
        lambda r: edit(r, INSTANCES, lambda d: d["annotations"][0].update(image_id=987654)),
        ("instances_train2014.json", "annotation 1000", "987654"),
    ),
    "unknown category": (
        lambda r: edit(r, INSTANCES, lambda d: d["annotations"][0].update(category_id=4711)),
        ("instances_train2014.json", "annotation 1000", "4711"),
    ),
    "RLE of the wrong size": (
        lambda r: edit(r, INSTANCES, lambda d: first_crowd(d)["segmentation"].update(size=[7, 7])),
        ("instances_train2014.json", "size"),
    ),
    "caption for a missing image": (
        lambda r: edit(r, CAPTIONS, lambda d: d["annotations"][0].update(image_id=987654)),
        ("captions_train2014.json", "987654"),
    ),
    "captions in place of instances": (
        lambda r: (r / INSTANCES).write_bytes((r / CAPTIONS).read_bytes()),
        ("instances_train2014.json",),
    ),
    "hostile file name": (
        lambda r: edit(r, INSTANCES, lambda d: d["images"][0].update(file_name="../../secret.jpg")),
        ("instances_train2014.json", "../../secret.jpg"),
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_annotations(run: Any, coco_folder: Any, home: Path, kind: str) -> None:
    damage, parts = BROKEN[kind]
    root = coco_folder()
    damage(root)
    one_line(run("--dataset", "coco", "--data-root", root), 4, *parts)
    assert not (home / "results").exists()


def test_an_image_without_a_caption_is_dropped_and_counted(cli: Any, coco_folder: Any) -> None:
    root = coco_folder()
    lost = json.loads((root / CAPTIONS).read_bytes())["annotations"][0]["image_id"]
    before = json.loads(cli("data", "check", "coco", "--data-root", root, "--json").out)
    edit(root, CAPTIONS, lambda d: d.update(annotations=[a for a in d["annotations"] if a["image_id"] != lost]))
    after = json.loads(cli("data", "check", "coco", "--data-root", root, "--json").out)
    counts = [said["notes"]["train2014"]["no caption"] for said in (before, after)]
    assert counts[1] == counts[0] + 1


def test_an_image_that_is_no_image(run: Any, cli: Any, coco_folder: Any) -> None:
    root = coco_folder()
    picture = min((root / "train2014").iterdir())
    picture.write_text("<html>404 Not Found</html>")
    said = run("--dataset", "coco", "--data-root", root)
    assert said.code == 1  # found by the cell that reads the pixels
    assert picture.name in said.out
    assert "Traceback" not in said.err + said.out
    checked = cli("data", "check", "coco", "--data-root", root)
    assert checked.code == 4
    assert picture.name in checked.out


def test_a_folder_that_may_not_be_read(run: Any, coco_folder: Any, tmp_path: Path) -> None:
    root = coco_folder()
    (root / INSTANCES).chmod(0)
    with unprivileged():
        said = run("--dataset", "coco", "--data-root", root)
    one_line(said, 4, "instances_train2014.json", "Permission denied")


def test_data_that_is_nowhere(run: Any, home: Path, tmp_path: Path) -> None:
    said = run("--dataset", "coco", "--data-root", tmp_path / "empty")
    one_line(said, 4, str(tmp_path / "empty"), "biasbench data download coco")
    assert not (home / "results").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--method", "adv-conv6"), ("unknown method 'adv-conv6'", "Did you mean 'adv-conv5'")),
        (("--method", "alpha(ratio='two')"), ("alpha(ratio='two')", "ratio", "valid number")),
        (("--method", "alpha(ration=2)"), ("ration", "Extra inputs are not permitted")),
        (("--method", "adv-conv5 ++"), ("expected a name", "column 12")),
        (("--dataset", "scense"), ("unknown dataset 'scense'", "Did you mean 'scenes'")),
        (("--set", "recipe.crp=3"), ("recipe.crp", "Did you mean 'crop'")),
        (("--protocol", "wang2020"), ("unknown protocol 'wang2020'", "wang2019")),
        (("--weights", "nowhere.safetensors"), ("nowhere.safetensors", "no such weights file")),
    ],
)
def test_names_and_options(run: Any, home: Path, options: tuple[str, ...], parts: tuple[str, ...]) -> None:
    dataset = () if "--dataset" in options else ("--dataset", "plain")
    one_line(run(*dataset, *options), 2, *parts)
    assert not (home / "results").exists()


def test_tensorboard_that_is_not_installed(run: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biasbench.tensorboard.find_spec", lambda _name: None)
    one_line(run("--dataset", "plain", "--tensorboard"), 2, "--tensorboard needs", "biasbench[tensorboard]")
    assert not (home / "results").exists()


def test_two_plugins_with_one_name(run: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.py"
    copy.write_text((HELPERS / "tiny.py").read_text())
    said = run("--dataset", "plain", "--plugin", copy)
    one_line(said, 2, "two plugins offer the backbone 'tiny'", "copy.py", "tiny.py")


def test_a_results_folder_that_is_something_else(run: Any, home: Path) -> None:
    (home / "results").mkdir()
    (home / "results" / "thesis.tex").write_text("years of work")
    one_line(run("--dataset", "plain"), 5, "neither empty nor a results folder")
    assert (home / "results" / "thesis.tex").read_text() == "years of work"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(run: Any, small_disk: Path) -> None:
    said = run("--dataset", "plain", "--results", small_disk / "results")
    one_line(said, 5, "the disk is full", str(small_disk))
    assert not list((small_disk / "results").glob("runs/*/manifest.json"))
