from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

TINY = Path(__file__).parent / "tiny.py"
BROKEN = "from biasbench import hookimpl\n@hookimpl\ndef biasbench_methods():\n    raise RuntimeError('no luck')\n"


@pytest.fixture
def broken(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    return file


def test_list_names_everything_with_its_distribution(cli):
    said = cli("list")
    assert said.code == 0
    for name in ("original", "adv-conv5", "alpha-{ratio}", "coco", "scenes", "timm", "leakage", "builtin"):
        assert f"\n {name} " in said.out
    assert f"biasbench {metadata.version('biasbench')}" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("kind", "name"), [("methods", "adv-conv5"), ("datasets", "tiny"), ("backbones", "tinynet"), ("metrics", "leakage")]
)
def test_list_json_of_a_kind(cli, kind, name):
    said = json.loads(cli("list", kind, "--json", "--plugin", TINY).out)
    assert (said["schema"], said["schema_version"]) == ("biasbench/list", 1)
    assert set(said) == {"schema", "schema_version", kind}
    entry = next(e for e in said[kind] if e["name"] == name)
    assert set(entry) == {"name", "help", "options", "target", "plugin", "distribution"}
    if name == "adv-conv5":
        assert entry["options"] == {"at": "conv5"}
    if kind == "datasets":
        assert (entry["plugin"], entry["distribution"]) == ("tiny.py", str(TINY))


def test_broken_plugins_are_listed_and_named(cli, broken):
    said = json.loads(cli("list", "plugins", "--json", "--plugin", broken).out)
    found = [p for p in said["plugins"] if p["status"] == "broken"]
    assert [(p["name"], p["reason"]) for p in found] == [("broken.py", "biasbench_methods: RuntimeError: no luck")]
    assert "broken" in cli("list", "plugins", "--plugin", broken).out
    said = cli("list", "methods", "--plugin", broken)
    assert said.code == 0
    assert "failed to load and is left out: biasbench_methods: RuntimeError: no luck" in said.err
    assert "original" in said.out


@pytest.mark.torch
def test_describe_tells_options_types_defaults_presets_and_source(cli):
    said = json.loads(cli("describe", "adv-conv5", "--json").out)
    (item,) = said["found"]
    options = {o["name"]: o for o in item["options"]}
    assert (item["kind"], item["class"]) == ("method", "biasbench.builtin.methods.adversary:Adversary")
    assert "Wang" in item["source"]
    assert options["at"]["preset"] is True
    assert options["at"]["value"] == "conv5"
    assert options["weight"]["type"] == "float"
    assert isinstance(options["weight"]["default"], float)
    assert options["weight"]["help"]
    text = cli("describe", "adv-conv5").out
    for part in ("method adv-conv5", "Source: Wang", "Presets: at='conv5'", "'conv5' (set by the name)"):
        assert part in text


@pytest.mark.torch
def test_describe_each_kind_and_each_part_of_a_composition(cli):
    assert "column" in cli("describe", "leakage").out
    tiny = cli("describe", "tiny", "--plugin", TINY).out
    assert "data" in tiny
    assert "gap" in tiny
    assert "Brightness between the genders, 0 to 1." in tiny
    assert "backbone tinynet" in cli("describe", "tinynet", "--plugin", TINY).out
    assert "backbone resnet18" in cli("describe", "resnet18").out
    both = json.loads(cli("describe", "alpha-1.5+adv-conv4(weight=2.0)", "--json").out)["found"]
    assert [item["name"] for item in both] == ["alpha-1.5", "adv-conv4"]
    assert {o["name"]: o["value"] for o in both[0]["options"]}["ratio"] == 1.5


@pytest.mark.torch
def test_describe_everything_that_is_registered(cli):
    for kind in ("methods", "datasets", "backbones", "metrics"):
        for entry in json.loads(cli("list", kind, "--json").out)[kind]:
            name = entry["name"].replace("{ratio}", "2")
            said = cli("describe", name)
            assert said.code == 0, said.err
            assert f" {name} " in said.out


@pytest.mark.torch
def test_unknown_names_get_the_nearest_and_broken_plugins_are_blamed(cli, broken):
    said = cli("describe", "adv-conv55", "--plugin", broken)
    assert said.code == 2
    assert "nothing is called 'adv-conv55'. Did you mean 'adv-conv5'?" in said.err
    assert "Plugin broken.py" in said.err
    assert "no luck" in said.err


@pytest.mark.torch
def test_a_class_that_cannot_be_loaded_is_named(cli, tmp_path):
    file = tmp_path / "half.py"
    file.write_text(
        "from biasbench import Entry, hookimpl\n@hookimpl\ndef biasbench_methods():\n"
        "    return [Entry('half', 'no_such_module:Half', 'nothing')]\n"
    )
    assert "half" in cli("list", "methods", "--plugin", file).out
    said = cli("describe", "half", "--plugin", file)
    assert said.code == 2
    assert "'half' cannot be loaded from no_such_module:Half: ModuleNotFoundError" in said.err
