"""`biasbench plot` on a folder of results whose figures are known."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biasbench import io
from biasbench.cli.plot import plot_command
from biasbench.errors import CellError, DataError, IntegrityError, StoreError, UsageError
from biasbench.seal import SEAL, write_sealed
from biasbench.store import Store

pytestmark = pytest.mark.torch

spec = importlib.util.spec_from_file_location("biasbench_test_stored", Path(__file__).parent / "stored.py")
stored = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stored)

PLUGIN = '''
from pathlib import Path
import numpy as np
import pandas as pd
from biasbench import Dataset, hookimpl

class Boxed(Dataset):
    """Sixteen white pictures; the first twelve of each split have a person."""
    name = "boxed"
    label_names = ("red", "blue")
    attribute_names = {"gender": ("man", "woman")}
    crop = 16
    short_side = 16
    provides = frozenset({"masks:person"})

    def table(self, split):
        n = np.arange(16)
        return pd.DataFrame({
            "id": [f"{split}-{i}" for i in n], "path": [f"{split}-{i}.png" for i in n],
            "label/red": (n % 3 == 0).astype(np.uint8), "label/blue": (n % 2 == 0).astype(np.uint8),
            "attribute/gender": n % 2,
        })

    def region(self, split, name):
        n = np.arange(12)
        return pd.DataFrame({"id": [f"{split}-{i}" for i in n], "x0": 4.0, "y0": 4.0, "x1": 12.0, "y1": 12.0})

@hookimpl
def biasbench_datasets():
    return [Boxed]
'''


@pytest.fixture
def plot(home, capsys):
    """The command in this process; gives what it printed."""

    def run(*arguments):
        capsys.readouterr()
        plot_command.main([str(a) for a in arguments], prog_name="plot", standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def results(home):
    """Two seeds: a plain model, two levels of noise, a method far below their line and one far above."""
    rows = {
        "original": (50.0, 10.0), "noise(sigma=0.2)": (45.0, 8.0), "noise(sigma=0.5)": (35.0, 4.0),
        "adv-conv5": (47.0, 3.0), "blur-segm": (40.0, 9.0), "blackout-box": (20.0, 1.0),
    }  # fmt: skip
    for seed in (0, 1):
        for method, (f1, delta) in rows.items():
            stored.commit(home / "results", method, seed, f1 + seed, (delta - 1, delta + 1 + 0.02 * seed))
    return home / "results"


def test_frontier_compares_methods_with_noise_of_their_own_f1(plot, results, home):
    said = json.loads(plot("frontier", "--json"))
    (picture,) = said["pictures"]
    assert picture["title"] == "coco, resnet50, paper, gender, wang2019, timm:a"
    found = {p["name"]: p for p in picture["points"]}
    adv = found["adv-conv5"]["margin"]
    # Within a seed F1 47 lies 2/5 of the way from 45 to 50, where the curve is at 8.8; both move together by seed.
    assert adv["difference"] == pytest.approx(3.0 - 8.8)
    assert (adv["n"], adv["over"], adv["verdict"]) == (2, "seeds", "better")
    assert found["blur-segm"]["margin"]["difference"] == pytest.approx(9.0 - 6.0)
    assert found["blur-segm"]["margin"]["verdict"] == "worse"
    outside = found["blackout-box"]["margin"]
    assert (outside["difference"], outside["verdict"]) == (None, "unknown")
    assert "outside the curve" in outside["reason"]
    assert found["original"]["margin"] is None
    assert found["noise(sigma=0.2)"]["noise"] is True
    assert found["adv-conv5"]["f1"] == 47.5
    assert ElementTree.parse(home / "frontier.svg").getroot().tag.endswith("svg")
    with Image.open(home / "frontier.png") as drawn:
        assert drawn.size[0] > 500


def test_frontier_compares_methods_with_noise_of_their_own_amplification(plot, results):
    (picture,) = json.loads(plot("frontier", "--json"))["pictures"]
    found = {p["name"]: p for p in picture["points"]}
    # Δ of blur-segm is 9 in seed 0, where noise has an F1 of 47.5; of blackout-box below every level.
    gain = found["blur-segm"]["gain"]
    assert gain["difference"] == pytest.approx(40.0 - 47.5, abs=0.05)
    assert (gain["n"], gain["verdict"]) == (2, "worse")
    assert "lies below the curve" in found["blackout-box"]["gain"]["reason"]
    assert found["original"]["gain"] is None


def test_another_plain_method_has_its_own_curve(plot, results, home):
    control = "adv-conv5(weight=0.0)"
    rows = {control: (52.0, 12.0), f"{control}+noise(sigma=0.5)": (42.0, 2.0), "alpha-1": (47.0, 3.0)}
    for seed in (0, 1):
        for method, (f1, delta) in rows.items():
            stored.commit(results, method, seed, f1 + seed, (delta - 1, delta + 1 + 0.02 * seed))
    (picture,) = json.loads(plot("frontier", "--plain", control, "--json"))["pictures"]
    found = {p["name"]: p for p in picture["points"]}
    assert [p["name"] for p in picture["points"] if p["noise"]] == [f"{control}+noise(sigma=0.5)"]
    assert found[control]["margin"] is None
    assert found["alpha-1"]["margin"]["difference"] == pytest.approx(3.0 - 7.0)
    assert found["original"]["gain"]["difference"] == pytest.approx(50.0 - 50.0, abs=0.1)
    assert found["adv-conv5"]["family"] == "adv-conv5"
    with pytest.raises(UsageError, match="no row 'crf'"):
        plot("frontier", "--plain", "crf")


def test_frontier_says_what_it_found(plot, results):
    lines = plot("frontier", "-o", "x.svg").splitlines()
    by_method = {line.split()[0]: line for line in lines if line.strip()}
    assert "better" in by_method["adv-conv5"]
    assert "-5.80" in by_method["adv-conv5"]
    assert "worse" in by_method["blur-segm"]
    assert "undefined: its F1 20.00 lies outside" in by_method["blackout-box"]
    assert "on the curve" in by_method["original"]


def test_the_same_results_give_the_same_bytes(plot, results, home):
    for method, more in (("frontier", ()), ("labels", ("-m", "adv-conv5"))):
        for name in ("a", "b"):
            plot(method, *more, "-o", f"{name}.svg", "-o", f"{name}.png")
        for ending in ("svg", "png"):
            assert (home / f"a.{ending}").read_bytes() == (home / f"b.{ending}").read_bytes()


def test_one_seed_rests_on_its_rounds(plot, home):
    for method, f1, delta in (("original", 50.0, 10.0), ("noise(0.2)", 40.0, 6.0), ("adv-conv5", 45.0, 2.0)):
        stored.commit(home / "results", method, 0, f1, (delta - 0.5, delta, delta + 0.5))
    (picture,) = json.loads(plot("frontier", "--json"))["pictures"]
    found = {p["name"]: p for p in picture["points"]}["adv-conv5"]["margin"]
    assert (found["difference"], found["n"], found["over"]) == (pytest.approx(-6.0), 3, "rounds")


def test_data_sets_are_never_mixed(plot, results, home):
    stored.commit(results, "original", 0, 30.0, (9.0, 9.0), dataset="imsitu")
    said = json.loads(plot("frontier", "--json"))
    assert [len(p["points"]) for p in said["pictures"]] == [6, 1]
    assert {f.name for f in home.glob("frontier*")} == {f"frontier-{i}.{e}" for i in (1, 2) for e in ("svg", "png")}
    (only,) = json.loads(plot("frontier", "--json", "-d", "imsitu"))["pictures"]
    assert only["title"].startswith("imsitu")
    with pytest.raises(UsageError, match="no results on 'cocoo'"):
        plot("frontier", "-d", "cocoo")


def test_labels_name_the_one_that_fell_out(plot, home):
    rows = np.arange(stored.N)
    for seed in (0, 1):
        stored.commit(home / "results", "original", seed, wrong=dict.fromkeys(stored.LABELS[:3], rows[seed::10]))
        wrong = {"cup": rows[3::10], "dog": rows[4::10], "kite": rows[::2]}
        stored.commit(home / "results", "adv-conv5", seed, wrong=wrong)
    said = json.loads(plot("labels", "-m", "adv-conv5", "--json"))
    (picture,) = said["pictures"]
    labels = {label["name"]: label for label in picture["labels"]}
    assert [n for n, label in labels.items() if label["falls_out"]] == ["kite"]
    assert labels["none"]["f1_before"] is None
    assert picture["pairs"] == 2
    truth = stored.truth("test")["label/kite"].to_numpy()
    turned = truth ^ (rows % 2 == 0)
    assert labels["kite"]["f1_after"] == pytest.approx(200 * (truth & turned).sum() / (truth.sum() + turned.sum()))
    assert (home / "labels.svg").exists()
    text = plot("labels", "-m", "adv-conv5")
    assert "4 labels, 1 of them without an example in the test split; pairs of runs: 2" in text
    assert "1 labels fall out" in text


def test_labels_of_unknown_methods_are_refused(plot, results):
    with pytest.raises(UsageError, match="no seed has runs of both 'original' and 'crf'"):
        plot("labels", "-m", "crf")


def test_changed_predictions_are_noticed(plot, home):
    for method in ("original", "adv-conv5"):
        key = stored.commit(home / "results", method)
    file = home / "results" / "runs" / key / "predictions" / "test" / "labels.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        plot("labels", "-m", "adv-conv5")


@pytest.mark.parametrize("name", ["frontier", "labels"])
def test_a_picture_of_an_unknown_kind_is_refused_first(plot, name):
    more = ("-m", "x") if name == "labels" else ()
    with pytest.raises(UsageError, match=r"cannot draw 'x\.gif'"):
        plot(name, *more, "-o", "x.gif")


def test_without_the_package_there_is_a_clear_line(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="need the package matplotlib"):
        plot("frontier")


def test_without_results_there_is_a_clear_line(plot, home):
    with pytest.raises(StoreError, match="holds no results"):
        plot("frontier")
    Store(home / "results", create=True)
    with pytest.raises(StoreError, match="no row with both F1 and Δ"):
        plot("frontier")


# -- images --------------------------------------------------------------------------------


@pytest.fixture
def boxed(home):
    """A data set with regions, a run of a method on it, and the options that find both."""
    (home / "boxed.py").write_text(PLUGIN)
    folder = home / "data" / "boxed"
    folder.mkdir(parents=True)
    for split in ("train", "val", "test"):
        for i in range(16):
            Image.fromarray(np.full((16, 16, 3), 255, np.uint8)).save(folder / f"{split}-{i}.png")
    return ("--data-root", home / "data", "--plugin", home / "boxed.py")


def commit_boxed(home, options, method):
    from biasbench.config import load_settings
    from biasbench.locate import open_dataset
    from biasbench.planned import Data
    from biasbench.plugins import load_plugins

    dataset, text = open_dataset("boxed", load_plugins([options[3]]), load_settings(data=[options[1]]))
    recipe = {"protocol": "wang2019", "crop": 16, "short_side": 16, "limit": None}
    training = {"fingerprint": Data("boxed", text, dataset, None).fingerprint}
    stored.commit(home / "results", method, dataset="boxed", recipe=recipe, training=training)


def test_grid_shows_pictures_before_and_after(plot, boxed, home):
    from biasbench.cli.images import images_of
    from biasbench.cli.pictures import blocks
    from biasbench.config import load_settings
    from biasbench.plugins import load_plugins
    from biasbench.store import Store

    commit_boxed(home, boxed, "blackout-segm")
    plot("grid", "-m", "blackout-segm", *boxed, "--count", 6, "--columns", 3)
    first = [(home / f"grid.{e}").read_bytes() for e in ("svg", "png")]
    plot("grid", "-m", "blackout-segm", *boxed, "--count", 6, "--columns", 3)
    assert [(home / f"grid.{e}").read_bytes() for e in ("svg", "png")] == first
    store = Store(home / "results")
    ((_, (record,)),) = blocks(store, None, by_measurement=False)
    before, (after,), captions = images_of(
        store, [record], load_plugins([boxed[3]]), load_settings(data=[boxed[1]]), 6, 0
    )  # fmt: skip
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    assert (before == 255).all()
    assert (after[:, inside] == 0).all()
    assert (after[:, ~inside] == 255).all()
    assert sorted(captions) == ["man"] * 3 + ["woman"] * 3


def test_grid_of_a_method_that_edits_nothing_is_refused(plot, boxed, home):
    commit_boxed(home, boxed, "original")
    with pytest.raises(UsageError, match="edits no picture"):
        plot("grid", "-m", "original", *boxed)
    with pytest.raises(UsageError, match="no run of 'blur-segm'"):
        plot("grid", "-m", "blur-segm", *boxed)


def test_grid_of_other_data_is_refused(plot, boxed, home):
    commit_boxed(home, boxed, "blackout-segm")
    Image.fromarray(np.zeros((18, 18, 3), np.uint8)).save(home / "data" / "boxed" / "test-3.png")
    with pytest.raises(DataError, match="not those of the run any more"):
        plot("grid", "-m", "blackout-segm", *boxed)


@pytest.fixture
def trained(home):
    """Real runs on a few generated scenes: a redaction, a trained mask, and that mask beside noise."""
    from biasbench.config import load_settings
    from biasbench.plan import Request, make_plan
    from biasbench.plugins import load_plugins
    from biasbench.runner import Runner, Summary
    from biasbench.store import Store

    helper = str(Path(__file__).parents[1] / "helpers" / "tiny.py")
    settings, plugins = load_settings(), load_plugins([helper])
    mask = "adv-image(channels=2, warmup=1, repeat=1)"
    methods = ["blackout-segm", mask, f"noise(sigma=0.2)+{mask}"]
    training = {"stages.0.epochs": 1, "stages.1.epochs": 1, "stages.1.max_steps": 2, "crop": 32, "short_side": 36}
    request = Request(
        methods, ["scenes(train=16, val=8, test=8, size=64)"], backbones=["tiny"], profile="smoke", overrides=training
    )
    store = Store(settings.results, create=True)
    cells = make_plan([request], plugins, settings)
    assert Runner(cells, store, settings.cache, plugin_files=(helper,)).run() == Summary(ok=3)
    return store, plugins, settings, methods, ("--plugin", helper)


def test_grid_shows_what_the_trained_mask_leaves_beside_the_redactions(plot, trained, home):
    import torch
    from safetensors.torch import load_file

    from biasbench.builtin.methods.image_adversary import MEAN, STD
    from biasbench.builtin.methods.masknet import MaskNet
    from biasbench.cli.images import images_of
    from biasbench.cli.pictures import blocks, runs_of

    store, plugins, settings, methods, options = trained
    ((_, records),) = runs_of(blocks(store, None, by_measurement=False), methods).items()
    assert [r["method"] for r in records] == methods
    before, (redacted, masked, noisy), captions = images_of(store, records, plugins, settings, 5, 0)
    assert before.shape == masked.shape == (5, 32, 32, 3)
    assert sorted(set(captions)) == ["man", "woman"]
    changed = (redacted != before).any(3)
    assert (redacted[changed] < 128).all(1).mean() > 0.5  # black, but for the rim that resizing blends
    # By hand: the network that the run's training ended with, on the normalised image.
    spec = store.manifest(store.run(records[1]["key"]))["spec"]
    weights = load_file(store.training(spec["training_key"]) / "weights.safetensors")
    net = MaskNet(2)
    start = "method.methods.0.mask.1."
    net.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    x = torch.from_numpy(before).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        mask = net.eval()((x - mean) / std)
        expected = (mean + mask * (x - mean)).permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(masked - expected).max() <= 2  # eight bits in and out
    assert (masked != before).mean() > 0.2
    assert np.array_equal(noisy, masked)  # one training serves both
    plot("grid", *(part for m in methods for part in ("-m", m)), *options, "--count", 4, "-o", "a.png")
    with Image.open(home / "a.png") as drawn:
        assert drawn.size[0] > drawn.size[1]


def test_grid_of_runs_that_are_not_there_is_refused(plot, trained):
    store, _, _, methods, options = trained
    with pytest.raises(UsageError, match=r"no run of 'blackout-segm' and 'blur-segm' made alike\. Methods: adv-image"):
        plot("grid", "-m", methods[0], "-m", "blur-segm", *options)
    for folder in (store.root / "trainings").iterdir():
        for file in folder.iterdir():
            file.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        plot("grid", "-m", methods[1], *options)


def test_runs_of_other_examples_are_never_paired(plot, home):
    stored.commit(home / "results", "original")
    key = stored.commit(home / "results", "adv-conv5")
    run = home / "results" / "runs" / key
    ids = [f"x{i}" for i in range(stored.N)]
    io.write_text(run / "predictions" / "test" / "ids.json", json.dumps(ids))
    table = pd.read_parquet(run / "truth" / "test.parquet")
    table["id"] = ids
    table.to_parquet(run / "truth" / "test.parquet", index=False)
    manifest = io.read_json(run / "manifest.json")
    manifest["files"] = {n: d for n, d in io.checksums(run).items() if n in manifest["files"]}
    write_sealed(run / "manifest.json", {name: value for name, value in manifest.items() if name != SEAL})
    with pytest.raises(CellError, match="tested on other examples"):
        plot("labels", "-m", "adv-conv5")
