"""Keys: any input that can change a figure changes them, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.planned import Cell
from biasbench.plugins import load_plugins
from biasbench.recipe import Recipe, Stage, load_recipe
from biasbench.spec import MethodSpec, RunSpec, resolve_method

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent / "helpers"
RECIPE = {"crop": 24, "short_side": 28}
PLUGIN = """
from biasbench import Method, hookimpl


class Mine(Method):
    name = "mine"

    def __init__(self, strength: float = 1.0):
        super().__init__()


@hookimpl
def biasbench_methods():
    return [Mine]
"""


class World:
    """A folder with COCO, weights and a plugin, all of which may be changed, and plans made of it."""

    def __init__(self, coco_files: ModuleType, folder: Path) -> None:
        self.folder, self.coco_files, self.files = folder, coco_files, coco_files.small_coco()
        self.root = folder / "data" / "coco"
        self.plugin = folder / "mine.py"
        self.plugin.parent.mkdir(parents=True, exist_ok=True)
        self.plugin.write_text(PLUGIN)
        self.weights = folder / "weights.safetensors"
        self.save_weights(0)
        self.write()

    def write(self) -> None:
        self.files.write(self.root)

    def save_weights(self, seed: int) -> None:
        import torch
        from safetensors.torch import save_file

        tiny = load_plugins([HELPERS / "tiny.py"]).backbones.find("tiny").load()
        torch.manual_seed(seed)
        save_file(tiny().state_dict(), self.weights)

    def cell(self, method: str = "mine+adv-conv5(warmup=1)", device: str = "cpu", **more: Any) -> Cell:
        """The cell of one method, in a fresh plan."""
        given = {"backbones": ["tiny"], "profile": "smoke", "overrides": RECIPE, "weights": str(self.weights)} | more
        settings = Settings((self.root.parent,), self.folder / "results", self.folder / "cache")
        plugins = load_plugins([HELPERS / "tiny.py", self.plugin])
        datasets = given.pop("datasets", ["coco"])
        (cell,) = make_plan([Request([method], datasets, **given)], plugins, settings, device=device)
        return cell


@pytest.fixture
def world(coco_files: ModuleType, tmp_path: Path) -> World:
    return World(coco_files, tmp_path)


def one_pixel(world: World) -> None:
    """One pixel of one picture, in a file of the same size with the same times."""
    import os

    from PIL import Image

    path = next((world.root / "val2014").iterdir())
    before, status = path.read_bytes(), path.stat()
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)
    after = path.read_bytes()
    path.write_bytes((after + bytes(len(before)))[: len(before)] if len(after) < len(before) else after)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def one_bit(world: World) -> None:
    path = next((world.root / "train2014").iterdir())
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def one_label(world: World) -> None:
    world.files.instances["train"]["annotations"][1]["category_id"] = world.coco_files.BALL
    world.write()


def one_gender(world: World) -> None:
    captions = world.files.captions["val"]["annotations"]
    mine = [c for c in captions if c["image_id"] == 51]
    for caption in mine:
        caption["caption"] = caption["caption"].replace("woman", "man")
    world.write()


def one_picture_more(world: World) -> None:
    person, bottle = (world.coco_files.PERSON, world.coco_files.BOTTLE)
    rectangle = world.coco_files.rectangle(2, 3, 10, 20)
    world.files.image("train", 29, [(person, rectangle), (bottle, rectangle)], ["A man."])
    world.write()


def plugin_byte(world: World) -> None:
    world.plugin.write_text(PLUGIN.replace('"mine"', "'mine'"))


CHANGES: dict[str, Callable[[World], None]] = {
    "one pixel": one_pixel, "one bit of a picture": one_bit, "one label": one_label, "one gender": one_gender,
    "one picture more": one_picture_more, "the plugin's source": plugin_byte,
    "the weights in the file": lambda world: world.save_weights(1),
}  # fmt: skip


def test_what_lies_in_files_changes_the_key(world: World) -> None:
    seen = [world.cell()]
    assert world.cell().key == seen[0].key
    for name, change in CHANGES.items():  # one after the other, each on top of those before
        change(world)
        after = world.cell()
        assert after.key not in {cell.key for cell in seen}, name
        assert after.training_key not in {cell.training_key for cell in seen}, name
        seen.append(after)


ASKED: dict[str, dict[str, Any]] = {
    "a method's option": {"method": "mine(strength=2.0)+adv-conv5(warmup=1)"},
    "an option of another": {"method": "mine+adv-conv5(warmup=2)"},
    "the order of methods": {"method": "adv-conv5(warmup=1)+mine"},
    "another method": {"method": "mine+alpha-1+adv-conv5(warmup=1)"},
    "a data set's option": {"datasets": ["coco(keep_unlabelled=True)"]},
    "the words for genders": {"datasets": ["coco(words='adults')"]},
    "the limit on rows": {"overrides": RECIPE | {"limit": 8}},
    "a backbone's option": {"backbones": ["tiny(width=4)"], "weights": "random"},
    "the weights": {"weights": "random"},
    "the seed": {"seeds": (1,)},
    "the precision": {"precision": "bf16"},
    "the device": {"device": "cuda"},
    "a data set beside": {"secondary": ["coco(keep_unlabelled=True)"]},
}


def test_what_is_asked_for_changes_the_key(world: World) -> None:
    keys = {name: world.cell(**more).key for name, more in ({"nothing": {}} | ASKED).items()}
    assert len(set(keys.values())) == len(keys), keys


OTHER = {
    "name": "other", "select": "best", "class_weights": False, "crop": 20, "short_side": 26, "pixels": "native",
    "train_views": "fresh", "cache": False, "views": 3, "embeddings": True, "random_weights": True, "threads": 2,
    "channels_last": False, "micro_batch": 4, "eval_batch": 8, "limit": 9,
    "processes": 2, "compile": True,
}  # fmt: skip
STAGE = {
    "train": "all", "epochs": 7, "lr": 0.5, "head_lr": 10.0, "optimizer": "sgd", "momentum": 0.1, "batch_size": 5,
    "weight_decay": 0.1, "norm": "batch", "method": True, "max_steps": 3,
}  # fmt: skip


@cache
def named(method: str) -> MethodSpec:
    return resolve_method(method, load_plugins().methods, "gender")


def spec(recipe: Recipe, **more: Any) -> RunSpec:
    method = more.pop("method", None) or named("original")
    given = {
        "dataset": "d", "fingerprint": "f", "backbone": "b", "weights": "w", "weights_digest": "h", "seed": 0
    } | more  # fmt: skip
    return RunSpec(method=method, recipe=recipe, **given)


BASE = load_recipe("short", {"crop": 24, "short_side": 28})


@pytest.mark.parametrize("field", sorted(Recipe.model_fields.keys() - {"stages", "protocol"}))
def test_every_field_of_the_recipe_changes_the_key(field: str) -> None:
    other = BASE.model_copy(update={field: "last" if field == "select" and BASE.select == "best" else OTHER[field]})
    assert getattr(other, field) != getattr(BASE, field)
    assert spec(other).key() != spec(BASE).key()


@pytest.mark.parametrize("field", Stage.model_fields)
def test_every_field_of_a_stage_changes_the_key(field: str) -> None:
    first = BASE.stages[0]
    other = first.model_copy(update={field: STAGE[field]})
    assert other != first
    assert spec(BASE.model_copy(update={"stages": (other, *BASE.stages[1:])})).key() != spec(BASE).key()


def test_every_field_of_the_spec_changes_the_key_but_how_weights_are_called() -> None:
    other = {
        "dataset": "e", "fingerprint": "g", "backbone": "c", "weights_digest": "i", "seed": 1, "precision": "bf16",
        "device": "cuda", "plugin_sources": ("p",), "boxes": "x", "pictures": "z", "recipe": load_recipe("smoke"),
        "method": named("alpha-2"),
    }  # fmt: skip
    base = spec(BASE)
    keys = {base.key(), *(replace(base, **{field: value}).key() for field, value in other.items())}
    assert len(keys) == 1 + len(other)
    beside = replace(base, secondary={"n": "1"}, beside=("n",)).key()
    assert len({base.key(), beside, replace(base, secondary={"n": "2"}, beside=("n",)).key()}) == 3
    assert replace(base, weights="another name").key() == base.key()
    assert {*other, "secondary", "beside", "weights"} == set(RunSpec.__dataclass_fields__)


TEXTS = st.text("ab", min_size=1, max_size=2)
SPECS = st.fixed_dictionaries(
    {"dataset": TEXTS, "fingerprint": TEXTS, "backbone": TEXTS, "weights_digest": TEXTS, "pictures": TEXTS,
     "boxes": TEXTS, "seed": st.integers(0, 2), "precision": st.sampled_from(["fp32", "bf16"]),
     "device": st.sampled_from(["cpu", "cuda"]), "plugin_sources": st.lists(TEXTS, max_size=2, unique=True)}
)  # fmt: skip


@given(SPECS, SPECS)
def test_equal_keys_mean_equal_specs(one: dict[str, Any], other: dict[str, Any]) -> None:
    keys = []
    for given_ in (one, other):
        sources = tuple(given_["plugin_sources"])
        keys.append(spec(BASE, **{**given_, "plugin_sources": sources}).key())
    same = {**one, "plugin_sources": sorted(one["plugin_sources"])} == {
        **other, "plugin_sources": sorted(other["plugin_sources"])
    }  # fmt: skip
    assert (keys[0] == keys[1]) is same


# ------------------------------------------------------------------ what changes no key
def test_what_changes_no_figure_changes_no_key(world: World, tmp_path: Path) -> None:
    base = world.cell().key
    same: list[dict[str, Any]] = [
        {"method": " mine +  adv-conv5( warmup = 1 ) "},
        {"method": "mine(strength=1.0)+adv(at='conv5', warmup=1)"},
        {"method": "mine+adv(warmup=1, at='conv5')"},
        {"method": "original+mine+adv-conv5(warmup=1)"},
        {"datasets": [" coco "]}, {"datasets": ["coco(year='auto')"]},
        {"overrides": dict(reversed(RECIPE.items()))},
        {"backbones": ["tiny(width=8)"]},
        {"protocol": "quick"}, {"metrics": ["accuracy"]}, {"attributes": ["gender*gender"]},
        {"device": "cpu"},
    ]  # fmt: skip
    assert {world.cell(**more).key for more in same} == {base}
    shutil.move(world.folder / "weights.safetensors", world.folder / "renamed.safetensors")
    world.weights = world.folder / "renamed.safetensors"
    shutil.copytree(world.root, tmp_path / "elsewhere" / "data" / "coco")
    world.root = tmp_path / "elsewhere" / "data" / "coco"
    assert world.cell().key == base  # copies, in another place, with other times
    shutil.rmtree(world.folder / "cache")
    assert world.cell().key == base


def test_what_measuring_depends_on_is_part_of_the_measurement(world: World) -> None:
    def asked(**more: Any) -> set[tuple[str, str, str]]:
        cell = world.cell(**more)
        return {(m, a, cell.protocol) for m in cell.metrics for a in cell.attributes}

    base = asked(metrics=["leakage"])
    for more in ({"protocol": "quick"}, {"attributes": ["gender*gender"]}, {"metrics": ["accuracy"]}):
        assert not base & asked(**({"metrics": ["leakage"]} | more))


def test_every_module_of_a_plugin_package_is_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    from biasbench.hookspecs import Entry
    from biasbench.plugins import Offer, Origin
    from biasbench.spec import source_of

    package = tmp_path / "several"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("HALF = 0.5\n")
    (package / "method.py").write_text("from several.other import HALF\nclass M:\n    half = HALF\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "several", importlib.import_module("several"))
    cls = importlib.import_module("several.method").M
    offer = Offer(Entry("m", "several.method:M"), Origin("several", "several 1.0", "several"))
    before = source_of(cls, offer)
    (package / "other.py").write_text("HALF = 0.6\n")
    assert source_of(cls, offer) != before
    assert before.startswith("several 1.0 ")
