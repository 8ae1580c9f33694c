"""`biasbench plot histogram`, `embedding`, `distribution` and `training` on real runs of a small data set."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biasbench import io, prediction_divergence
from biasbench.cli.plot import plot_command
from biasbench.config import Settings
from biasbench.errors import DataError, IntegrityError, StoreError, UsageError
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.seal import read_sealed, write_sealed
from biasbench.store import Store

pytestmark = pytest.mark.torch
TINY, PORTRAITS = (str(Path(__file__).parents[1] / "helpers" / name) for name in ("tiny.py", "portraits.py"))
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "imdb-wiki"
JLU, TWO = "jlu(attributes=('gender','pose'), warmup=2, steps=2)", "adv(at='conv5')"
AGES, GENDERS = ("young", "middle", "old"), ("woman", "man")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of results: three methods on two seeds, one that cannot run, and the other task on one seed."""
    folder = tmp_path_factory.mktemp("portraits")
    settings = Settings((), folder / "results", folder / "cache")
    plugins = load_plugins((TINY, PORTRAITS))
    common = {"backbones": ["tiny"], "profile": "smoke", "metrics": ["accuracy"]}
    recipe = {"crop": 32, "short_side": 32, "stages.0.epochs": 2, "stages.1.epochs": 3, "stages.1.lr": 0.01}
    kept = {**recipe, "embeddings": True}
    requests = [
        Request(["original", JLU, TWO], ["portraits"], seeds=[0, 1], overrides=kept, **common),
        Request(["original", JLU, "blackout-segm"], ["portraits(task='gender')"], overrides=recipe, **common),
    ]
    cells = make_plan(requests, plugins, settings)
    store = Store(settings.results, create=True)
    done = Runner(cells, store, settings.cache, plugin_files=(TINY, PORTRAITS)).run()
    assert done == Summary(ok=8, na=1), [r["reason"] for r in store.records()]
    return store


@pytest.fixture
def plot(home, capsys, made):
    """The command in this process; gives what it printed."""

    def run(*arguments, results=True):
        capsys.readouterr()
        more = ("--results", made.root) if results else ("--plugin", PORTRAITS)
        plot_command.main([str(a) for a in (*arguments, *more)], prog_name="plot", standalone_mode=False)
        return capsys.readouterr().out

    return run


def stored(store, method, seed, dataset="portraits"):
    """Folder, manifest and test truth of one run."""
    for key in store.runs():
        spec = store.manifest(store.run(key))["spec"]
        if (spec["method"], spec["seed"], spec["dataset"]) == (method, seed, dataset):
            run = store.run(key)
            return run, store.manifest(run), pd.read_parquet(run / "truth" / "test.parquet")
    raise AssertionError(method)


def both(home, name):
    """The picture is there, in both formats, and not empty."""
    assert ElementTree.parse(home / f"{name}.svg").getroot().tag.endswith("svg")
    with Image.open(home / f"{name}.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


# -- histogram -------------------------------------------------------------------------------
def test_histogram_counts_the_labels_of_each_split(plot, home):
    said = json.loads(plot("histogram", "-d", "portraits", "--json", results=False))
    assert (said["of"], said["by"]) == ("label", "gender")
    assert said["splits"]["train"]["counts"] == [[12, 12, 0], [0, 12, 12]]
    assert said["splits"]["train"]["difference"] == [[50.0, 0.0, -50.0]]
    assert said["splits"]["test"]["counts"] == [[8, 8, 8]] * 2
    both(home, "histogram")
    text = plot("histogram", "-d", "portraits", results=False)
    row = next(line.split() for line in text.splitlines() if line.strip().startswith("young"))
    assert row == ["young", "12", "0", "6", "0", "8", "8"]
    assert "left out, unknown: train 0, val 0, test 0" in text


def test_histogram_of_any_attribute_by_any_other(plot, home):
    arguments = ("histogram", "-d", "portraits(task='gender')", "--json", "-o", "x.svg")
    said = json.loads(plot(*arguments, "--of", "age", "--by", "label", results=False))
    assert said["splits"]["val"]["counts"] == [[6, 6, 0], [0, 6, 6]]
    pose = json.loads(plot(*arguments, "--of", "pose", results=False))["splits"]["train"]
    assert pose["groups"] == list(AGES)
    assert pose["unknown"] == 9
    crossed = json.loads(plot(*arguments, "--by", "age*pose", results=False))["splits"]["train"]
    assert len(crossed["groups"]) == 6
    assert sum(crossed["examples"]) == np.sum(crossed["counts"]) == 48 - 9


def test_histogram_opens_no_picture(plot, home, tmp_path):
    plot("histogram", "-d", "portraits", "-o", "x.svg", results=False)
    for image in (tmp_path / "cache").rglob("*.png"):
        image.unlink()
    plot("histogram", "-d", "portraits", "-o", "y.svg", results=False)
    assert (home / "x.svg").read_bytes() == (home / "y.svg").read_bytes()


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--by", "gendre"), "no attribute 'gendre' here. Did you mean 'gender'"),
        (("--of", "age*gendre"), "no attribute 'age\\*gendre' here"),
        (("--by", "gender", "--of", "gender"), "both 'gender'"),
        (("-o", "x.gif"), r"cannot draw 'x\.gif'"),
    ],
)
def test_a_histogram_that_cannot_be_meant_is_refused(plot, more, match):
    with pytest.raises(UsageError, match=match):
        plot("histogram", "-d", "portraits", *more, results=False)


def test_a_histogram_of_one_group_is_refused(plot, home):
    text = Path(PORTRAITS).read_text().replace('"portraits"', '"women"')
    text = text.replace("gender = np.arange(n) % 2\n", "gender = np.zeros(n, np.int64)\n")
    (home / "women.py").write_text(text)
    with pytest.raises(UsageError, match="gender: only the group 'woman' has examples"):
        plot("histogram", "-d", "women", "--plugin", home / "women.py", results=False)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real wiki.mat is not here")
def test_histogram_of_real_ages_is_that_of_the_tables(plot, home):
    from biasbench.locate import open_dataset

    text = "wiki(task='gender', bias='eb1')"
    arguments = ("histogram", "-d", text, "--of", "age", "--by", "gender", "--json", "--data-root", REAL)
    said = json.loads(plot(*arguments, results=False))
    dataset, _ = open_dataset(text, load_plugins(()), Settings((REAL,), home, home / "c"))
    names = dataset.attribute_names
    for split, found in said["splits"].items():
        table = dataset.table(split)
        counts = pd.crosstab(table["attribute/gender"], table["attribute/age"])
        counts = counts.reindex(index=range(2), columns=range(len(names["age"])), fill_value=0)
        assert found["counts"] == counts.to_numpy().tolist()
    train = dict(zip(names["gender"], np.array(said["splits"]["train"]["counts"]), strict=True))
    young = [i for i, name in enumerate(names["age"]) if name.endswith(("14", "19", "24", "29"))]
    assert train["man"][young].sum() == 0
    assert train["woman"].sum() == train["woman"][young].sum() > 1000
    assert said["splits"]["test"]["difference"] == [[0.0] * len(names["age"])]
    both(home, "histogram")


# -- embedding -------------------------------------------------------------------------------
def test_embedding_shows_the_same_examples_of_each_method(plot, home, made, monkeypatch):
    from biasbench.plots import embedding

    seen, project = [], embedding.project
    monkeypatch.setattr(embedding, "project", lambda x, *a: (seen.append(np.array(x)), project(x, *a))[1])
    arguments = ("embedding", "-m", JLU, "-m", TWO, "--points", 30, "--perplexity", 5, "--seed", 1)
    plot(*arguments)
    both(home, "embedding")
    shown = []
    for method, x in zip(("original", JLU, TWO), seen, strict=True):
        run, _, table = stored(made, method, 1)
        every = np.load(run / "predictions" / "test" / "embedding-tiny.npy")
        shown.append([int(np.flatnonzero((every == row).all(1))[0]) for row in x])
    assert shown[0] == shown[1] == shown[2] == sorted(set(shown[0])) != list(range(30))
    assert table["attribute/gender"][shown[0]].value_counts().to_dict() == {0: 15, 1: 15}
    first = [(home / f"embedding.{e}").read_bytes() for e in ("svg", "png")]
    plot(*arguments)
    assert [(home / f"embedding.{e}").read_bytes() for e in ("svg", "png")] == first


def test_embedding_draws_as_many_of_each_group_as_can_be(plot, made, monkeypatch):
    from biasbench.plots import embedding

    calls = []
    monkeypatch.setattr(embedding, "draw_embedding", lambda *a: calls.append(a))
    plot("embedding", "-m", JLU, "--points", 20, "--perplexity", 5, "--by", "pose", "-o", "x.png")
    ((_, panels, codes, groups, title),) = calls
    assert list(panels) == ["original", JLU]
    there = stored(made, JLU, 0)[2]["attribute/pose"].value_counts()
    assert there[1] < 10 < there[0]
    assert np.bincount(codes).tolist() == [20 - there[1], there[1]]
    assert groups == ("left", "right")
    assert title.endswith("seed 0, test split: pose")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("-m", JLU, "-d", "portraits(task='gender')"), r"kept their embeddings\. Run them again with --set recipe"),
        (("-m", JLU, "--perplexity", 48), "a perplexity of 48 needs more points than that; there are 48"),
        (("-m", JLU, "--by", "posse"), "no attribute 'posse' here. Did you mean 'pose'"),
        (("-m", "jlu"), "no run of 'jlu'"),
        (("-m", "blackout-segm"), "'blackout-segm' has no result to draw: n/a: needs masks:person"),
        (("-m", JLU, "--seed", 7), "no runs with seed 7 of 'original' and .* Seeds: 0, 1"),
    ],
)
def test_an_embedding_that_cannot_be_drawn_is_refused(plot, home, more, match):
    with pytest.raises(UsageError, match=match):
        plot("embedding", *more)
    assert list(home.glob("embedding*")) == []


# -- distribution ----------------------------------------------------------------------------
def test_distribution_is_that_of_the_stored_predictions(plot, home, made):
    said = json.loads(plot("distribution", "-d", "portraits", "-m", JLU, "--json"))
    (picture,) = said["pictures"]
    for method, found in picture["methods"].items():
        shares, far = [], []
        for seed in (0, 1):
            run, _, table = stored(made, method, seed)
            labels = np.load(run / "predictions" / "test" / "labels.npy")
            codes = table["attribute/gender"].to_numpy()
            counts = pd.crosstab(codes, labels, normalize="index").reindex(columns=range(3), fill_value=0)
            shares.append(100 * counts.to_numpy())
            pairs = permutations((0, 1))
            far.append(np.mean([prediction_divergence(labels, codes, a, b, num_labels=3) for a, b in pairs]))
        assert np.array(found["share"]) == pytest.approx(np.mean(shares, 0))
        assert found["divergence_by_seed"] == pytest.approx(far)
        assert np.array(found["truth"]) == pytest.approx(np.full((2, 3), 100 / 3))
        assert found["truth_divergence"] == pytest.approx(0)
    assert list(picture["methods"]) == ["original", JLU]
    both(home, "distribution")


def test_distribution_over_an_attribute_groups_by_predicted_class(plot, home, made):
    said = json.loads(plot("distribution", "-d", "portraits(task='gender')", "-m", JLU, "--over", "age", "--json"))
    (picture,) = said["pictures"]
    assert (picture["x"], picture["y"]) == ("age", "% of each predicted class")
    for method, found in picture["methods"].items():
        run, _, table = stored(made, method, 0, "portraits(task='gender')")
        labels = np.load(run / "predictions" / "test" / "labels.npy")
        for g in (0, 1):
            ages = table["attribute/age"][labels == g]
            shown = ages.value_counts(normalize=True).reindex(range(3), fill_value=0) * 100 if len(ages) else None
            assert found["share"][g] == ([None] * 3 if shown is None else pytest.approx(shown.tolist()))
        assert (found["classes"], found["groups"]) == (list(AGES), list(GENDERS))
    text = plot("distribution", "-d", "portraits(task='gender')", "-m", JLU, "--over", "age")
    assert "woman, truth" in text
    assert "of the truth 0.000" in text


def test_each_configuration_gets_its_picture_and_the_same_bytes(plot, home):
    arguments = ("distribution", "-m", JLU, "--seed", 0)
    assert len(json.loads(plot(*arguments, "--json"))["pictures"]) == 2
    first = {f.name: f.read_bytes() for f in home.glob("distribution*")}
    assert set(first) == {f"distribution-{i}.{e}" for i in (1, 2) for e in ("svg", "png")}
    plot(*arguments)
    assert {f.name: f.read_bytes() for f in home.glob("distribution*")} == first


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--by", "gender", "--over", "age"), "--by and --over say different things"),
        (("--by", "label"), "label is what is predicted"),
        (("--over", "agge"), "no attribute 'agge' here. Did you mean 'age'"),
        (("--before", "noise"), "no run of 'noise'"),
        (("-d", "portrait"), "no results on 'portrait'"),
    ],
)
def test_a_distribution_that_cannot_be_meant_is_refused(plot, more, match):
    with pytest.raises(UsageError, match=match):
        plot("distribution", "-m", JLU, *more)


def test_a_distribution_needs_one_label_an_image(home):
    settings = Settings((), home / "results", home / "cache")
    request = Request(
        ["original"], ["scenes(train=16, val=8, test=8, size=64)"], backbones=["tiny"], profile="smoke",
        metrics=["accuracy"], overrides={"crop": 32, "short_side": 36, "stages.0.epochs": 1, "stages.1.epochs": 1},
    )  # fmt: skip
    cells = make_plan([request], load_plugins((TINY,)), settings)
    store = Store(settings.results, create=True)
    assert Runner(cells, store, settings.cache, plugin_files=(TINY,)).run() == Summary(ok=1)
    with pytest.raises(UsageError, match="has several labels an image"):
        plot_command.main(["distribution", "-m", "original"], standalone_mode=False)


# -- training --------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "groups"), [(JLU, {"gender": 2, "pose": 2}), (TWO, {"gender": 2})])
def test_training_is_that_of_the_logs(plot, home, made, method, groups):
    (picture,) = json.loads(plot("training", "-d", "portraits", "-m", method, "--json"))["pictures"]
    logs = []
    for seed in (0, 1):
        _, manifest, _ = stored(made, method, seed)
        folder = made.training(manifest["spec"]["training_key"])
        logs.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
        selected = io.read_json(folder / "manifest.json")["selected"]
        kept = logs[-1][picture["kept"][seed] - 1]
        assert {name: kept[name] for name in selected} == selected
    assert np.array(picture["f1"]) == pytest.approx(np.array([[100 * r["val_f1"] for r in log] for log in logs]))
    assert {a["attribute"]: a["groups"] for a in picture["attributes"]} == groups
    for attribute in picture["attributes"]:
        chance = 1 / attribute["groups"]
        for shown, log in zip(attribute["rescaled"], logs, strict=True):
            values = [record.get(attribute["key"]) for record in log]
            expected = [None if v is None else pytest.approx(100 * (v - chance) / (1 - chance)) for v in values]
            assert shown == expected
            assert any(v is not None for v in values)
    plain = [stored(made, "original", seed)[1]["spec"]["training_key"] for seed in (0, 1)]
    baseline = [100 * io.read_json(made.training(k) / "manifest.json")["selected"]["val_f1"] for k in plain]
    assert picture["baseline"] == pytest.approx(baseline)
    assert picture["stage_starts"] == ([3] if method == JLU else [])
    both(home, "training")


def test_training_of_the_plain_model_has_its_f1_alone(plot):
    (picture,) = json.loads(plot("training", "-d", "portraits", "-m", "original", "--json"))["pictures"]
    assert (picture["attributes"], picture["baseline"]) == ([], [])
    text = plot("training", "-d", "portraits", "-m", JLU, "--before", "noise", "-o", "x.svg")
    assert "task, F1" in text
    assert "pose (jlu), rescaled" in text


def test_a_changed_or_lost_log_is_noticed(plot, made):
    _, manifest, _ = stored(made, TWO, 1)
    log = made.training(manifest["spec"]["training_key"]) / "log.jsonl"
    content = log.read_bytes()
    try:
        log.write_bytes(content.replace(b"val_f1", b"val_f2"))
        with pytest.raises(IntegrityError, match="damaged"):
            plot("training", "-d", "portraits", "-m", TWO)
        log.unlink()
        with pytest.raises(IntegrityError, match="a file is missing"):
            plot("training", "-d", "portraits", "-m", TWO)
    finally:
        log.write_bytes(content)


def test_changed_predictions_are_noticed(plot, made):
    run, _, _ = stored(made, JLU, 0)
    file = run / "predictions" / "test" / "labels.npy"
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(IntegrityError, match="damaged"):
            plot("distribution", "-d", "portraits", "-m", JLU)
    finally:
        file.write_bytes(content)


def test_two_runs_that_nothing_tells_apart_are_refused(home, made):
    shutil.copytree(made.root, home / "results")
    run = stored(made, JLU, 0)[0]
    shutil.copytree(run, home / "results" / "runs" / "twin")
    manifest = read_sealed(run / "manifest.json")
    write_sealed(home / "results" / "runs" / "twin" / "manifest.json", {**manifest, "key": "twin"})
    for name in ("embedding", "distribution", "training"):
        with pytest.raises(UsageError, match=f"two runs of jlu.* with seed 0 differ in nothing .*{run.name}.*twin"):
            plot_command.main([name, "-m", JLU, "-d", "portraits"], standalone_mode=False)


# -- all -------------------------------------------------------------------------------------
def test_without_results_or_data_there_is_one_line(plot, home):
    for name in ("embedding", "distribution", "training"):
        with pytest.raises(StoreError, match="holds no results"):
            plot_command.main([name, "-m", "x", "--results", str(home / "none")], standalone_mode=False)
    with pytest.raises(DataError, match="was not found"):
        plot("histogram", "-d", "wiki", "--data-root", home, results=False)
    with pytest.raises(UsageError, match="unknown dataset 'portrays'"):
        plot("histogram", "-d", "portrays", results=False)


def test_the_command_line_names_them_and_says_one_line(cli, made):
    for name in ("histogram", "embedding", "distribution", "training"):
        assert name in cli("plot", "--help").out
        said = cli("plot", name, *(("-d", "nosuch") if name == "histogram" else ("-m", "x", "--results", made.root)))
        assert said.code == 2
        assert len(said.err.strip().splitlines()) == 1
