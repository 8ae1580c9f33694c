"""imSitu's files, through `biasbench data check imsitu`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builtin.test_imsitu_strict import CONTENT, IMAGE, TEXT, renamed
from tests.corpus.said import refused
from tests.helpers import imsitu_files
from tests.helpers.commands import Said

pytestmark = pytest.mark.torch
Cli = Callable[..., Said]

OBJECTS: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "S1": (CONTENT["unknown verb"][0], "train.json", f"image '{IMAGE}' has the verb 'jumpin'"),
    "S3": (CONTENT["unknown agent"][0], "train.json", f"image '{IMAGE}' has the agent 'n9'"),
    "S6": (CONTENT["empty frames"][0], "train.json", f"image '{IMAGE}' has no frame"),
    "S9": (renamed("../x.jpg"), "train.json", "image '../x.jpg' has no plain file name"),
    "S11": (lambda f: f.parts.update(test=dict(f.parts["dev"])), "", "is in dev.json and in test.json"),
}
BYTES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "S5": (*TEXT["twice"][:2], f"image '{IMAGE}' stands twice"),
    "S10": ("train", lambda _: b"(dp0\nS'jumping_0.jpg'\np1\n(dp2\ns.", "a Python pickle by its looks"),
    "S10, binary": ("dev", lambda _: b"\x80\x02}q\x00.", "a Python pickle by its looks"),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_objects(cli: Cli, tmp_path: Path, case: str) -> None:
    change, name, place = OBJECTS[case]
    content = imsitu_files.small_imsitu()
    change(content)
    root = content.write(tmp_path / "imsitu", size=None)
    refused(cli("data", "check", "imsitu", "--data-root", tmp_path), 4, str(root / name), place)


@pytest.mark.parametrize("case", BYTES)
def test_bytes(cli: Cli, tmp_path: Path, case: str) -> None:
    name, change, place = BYTES[case]
    root = imsitu_files.small_imsitu().write(tmp_path / "imsitu", size=None)
    path = root / f"{name}.json"
    path.write_bytes(change(path.read_bytes()))
    refused(cli("data", "check", "imsitu", "--data-root", tmp_path), 4, str(path), place)


def report(cli: Cli, tmp_path: Path, change: Callable[[Any], object]) -> Any:
    content = imsitu_files.small_imsitu()
    change(content)
    content.write(tmp_path / "imsitu")
    said = cli("data", "check", "imsitu", "--data-root", tmp_path, "--json")
    assert said.code == 0, said.text
    return json.loads(said.out)


def test_s2_and_s12_an_agent_that_is_absent_or_null_is_dropped_and_counted(cli: Cli, tmp_path: Path) -> None:
    def absent(files: Any) -> None:
        for frame in files.parts["train"][IMAGE]["frames"]:
            frame.pop("agent")

    def null(files: Any) -> None:
        for frame in files.parts["train"][IMAGE]["frames"]:
            frame["agent"] = None

    whole = report(cli, tmp_path, lambda _: None)
    for change in (absent, null):
        found = report(cli, tmp_path, change)
        assert found["images"]["train"] == whole["images"]["train"] - 1
        assert found["notes"] != whole["notes"]


def test_s4_frames_that_disagree_are_dropped_and_counted(cli: Cli, tmp_path: Path) -> None:
    def disagree(files: Any) -> None:
        files.parts["train"][IMAGE]["frames"][0]["agent"] = imsitu_files.WOMAN

    whole, found = (report(cli, tmp_path, change) for change in (lambda _: None, disagree))
    assert found["images"]["train"] == whole["images"]["train"] - 1


def test_s7_a_name_without_an_ending_is_a_name(cli: Cli, tmp_path: Path) -> None:
    renamed_ = imsitu_files.small_imsitu()
    renamed("jumping")(renamed_)
    renamed_.write(tmp_path / "imsitu", size=None)
    said = cli("data", "check", "imsitu", "--data-root", tmp_path)
    assert said.code == 4  # no image is here
    assert "jumping" in said.out


def test_s8_the_order_of_records_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    content = imsitu_files.small_imsitu()
    found = []
    for size in ((30, 30), None):  # the images stay as they are
        content.write(tmp_path / "imsitu", size)
        found.append(json.loads(cli("data", "check", "imsitu", "--data-root", tmp_path, "--json").out)["fingerprint"])
        content.parts = {part: dict(reversed(records.items())) for part, records in content.parts.items()}
    assert found[0] == found[1]
