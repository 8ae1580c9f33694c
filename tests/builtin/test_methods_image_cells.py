"""The mask on the image in cells of the real harness: who moves in which step, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from biasbench.config import Settings
from biasbench.errors import UsageError
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.steps import Steps
from biasbench.store import Store
from biasbench.testing import check_determinism, check_method
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent.parent / "helpers"
SMALL = "channels=2, warmup=1, repeat=1, mask_steps=2"
# The class as somebody's plugin offers it: under its own name it is the harness's.
PLUGIN = """
from biasbench import hookimpl
from biasbench.builtin.methods.image_adversary import ImageAdversary


class Masked(ImageAdversary):
    name = "masked"


@hookimpl
def biasbench_methods():
    return [Masked]
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("plugin") / "masked.py"
    file.write_text(PLUGIN)
    return str(file)


def test_conforms(plugin: str) -> None:
    check_method(f"masked({SMALL})", plugins=[plugin])


@pytest.mark.parametrize("update", ["reversal", "released"])
def test_the_other_ways_repeat_themselves(plugin: str, update: str) -> None:
    check_determinism(Subject(f"masked(update='{update}', {SMALL})", [plugin]))


def test_composes_with_an_adversary_further_on(plugin: str) -> None:
    text = f"masked({SMALL})+adv-conv5(warmup=1, repeat=1, width=4)"
    subject = Subject(text, [plugin])
    assert subject.method().taps == ("image", "conv5")
    check_determinism(subject)


@pytest.mark.parametrize("text", [f"masked({SMALL})", f"adv-conv5+masked({SMALL})"])
def test_a_crop_that_does_not_fit_is_refused_while_planning(plugin: str, tmp_path: Path, text: str) -> None:
    files = (str(HELPERS / "tiny.py"), str(HELPERS / "trouble.py"), plugin)
    settings = Settings((), tmp_path / "results", tmp_path / "cache")
    request = Request([text], ["plain"], backbones=["tiny"], profile="smoke", overrides={"crop": 48, "short_side": 48})
    with pytest.raises(UsageError, match=r"a crop of 48 pixels is no multiple of 32.*--set recipe\.crop=32"):
        make_plan([request], load_plugins(files), settings)
    assert not (tmp_path / "results").exists()


# ------------------------------------------------------------------ who moves
@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str]]]:
    """Of every step of a training: its name, and which parts of the model it changed."""
    record: list[tuple[str, set[str]]] = []

    def parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        names = [k for k, v in after.items() if not torch.equal(before[k], v)]
        shortened = (k.removeprefix("method.methods.0.").split(".") for k in names)
        return {
            f"{part[0]} statistics" if part[-1].startswith(("running", "num_batches")) else part[0]
            for part in shortened
        }

    def watch(name_of, step):
        def watched(self, *args):
            before = {k: v.clone() for k, v in self.t.model.state_dict().items()}
            value = step(self, *args)
            record.append((name_of(args), parts(before, self.t.model.state_dict())))
            return value

        return watched

    monkeypatch.setattr(Steps, "phase", watch(lambda args: args[0].name.split("/")[1], Steps.phase))
    monkeypatch.setattr(Steps, "task_step", watch(lambda _: "task", Steps.task_step))
    return record


ADVERSARY = {"adversary", "adversary statistics"}
MASK = {"mask", "mask statistics"}
TASK = {"backbone", "backbone statistics", "head"}


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ("alternate", [("adversary", ADVERSARY)] + [("adversary", ADVERSARY), ("task", TASK | MASK)] * 2),
        ("reversal", [("adversary", ADVERSARY)] + [("task", TASK | MASK | ADVERSARY)] * 2),
        ("released", [("adversary", ADVERSARY)] + [("mask", MASK | {"steps"})] * 2 + [("task", TASK | ADVERSARY)] * 2),
    ],
)  # fmt: skip
def test_only_what_is_to_move_moves(
    plugin: str, tmp_path: Path, moved: list[tuple[str, set[str]]], update: str, expected: list[tuple[str, set[str]]]
) -> None:
    Subject(f"masked(update='{update}', {SMALL})", [plugin]).train(tmp_path, predict=False)
    assert moved == expected


# ------------------------------------------------------------------ end to end
def test_cells_end_to_end(plugin: str, tmp_path: Path) -> None:
    files = (str(HELPERS / "tiny.py"), str(HELPERS / "trouble.py"), plugin)
    plugins, settings = load_plugins(files), Settings((), tmp_path / "results", tmp_path / "cache")
    training = {"stages.0.epochs": 1, "stages.1.epochs": 2, "stages.1.max_steps": 2, "crop": 32, "short_side": 32}
    methods = ["original", f"masked({SMALL})", f"masked(update='released', {SMALL})"]
    request = Request(methods, ["plain"], backbones=["tiny"], profile="smoke", overrides=training)
    cells = make_plan([request], plugins, settings)
    store = Store(settings.results, create=True)
    assert Runner(cells, store, settings.cache, plugin_files=files).run() == Summary(ok=3)
    rows = {r["method"]: r for r in store.records()}
    for method in methods[1:]:
        assert "adv-image: adversary weights=random" in rows[method]["flags"]
        manifest = store.manifest(store.run(rows[method]["key"]))
        training_folder = store.training(manifest["spec"]["training_key"])
        log = [json.loads(line) for line in (training_folder / "log.jsonl").read_text().splitlines()]
        assert [e["stage"] for e in log] == [1, 1]  # from the plain model on
        assert all(e["start"] == "image" for e in log)
        assert all(0 < e["val_0.masked/distance"] < 3 for e in log)
        assert all(0 <= e["val_0.masked/accuracy"] <= 1 for e in log)
        assert store.manifest(training_folder)["training"]["init"] is not None
    assert not [f for f in rows["original"]["flags"] if "adversary" in f]
