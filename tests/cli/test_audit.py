"""`biasbench audit`: what it prints and writes, and bad files of each kind: one clear line, exit code 4, no figure."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.unprivileged import unprivileged


def _outputs() -> ModuleType:
    path = Path(__file__).parents[1] / "audit" / "outputs.py"
    spec = importlib.util.spec_from_file_location("biasbench_test_outputs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


o = _outputs()

ROW_5, ROW_7 = "row 5 (id 'img-5')", "row 7 (id 'img-7')"
MISSING = ("Found: ", "Expected: ")
BROKEN: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    # the file itself
    "nowhere": (lambda folder: folder / "bad.npz", ("there is no such file",)),
    "a folder": (o.folder_named, ("is not a regular file",)),
    "a link to itself": (o.link_loop, ("there is no such file",)),
    "an unknown ending": (o.raw("bad.xlsx", b"PK"), ("'.xlsx'", ".npz, .parquet, .csv, .csv.gz")),
    "no ending": (o.raw("bad", b"x"), ("ending", ".npz")),
    "a single array": (o.raw("bad.npy", o.header_only("(3,)")), ("'.npy'", ".npz")),
    "empty npz": (o.raw("bad.npz", b""), ("the file is empty",)),
    "empty csv": (o.raw("bad.csv", b""), ("the file is empty",)),
    "empty parquet": (o.raw("bad.parquet", b""), ("the file is empty",)),
    "text as npz": (o.raw("bad.npz", b"id,split\n1,train\n"), ("cannot be read as .npz", "numpy.savez")),
    "text as parquet": (o.raw("bad.parquet", b"id,split\n1,train\n" * 9), ("cannot be read as Parquet", "to_parquet")),
    "zip as csv": (lambda folder: o.save(folder / "x.npz", o.arrays()).rename(folder / "bad.csv"),
                   ("bad.csv",)),
    "text as gzip": (o.raw("bad.csv.gz", b"id,split\n1,train\n"), ("cannot be read",)),
    "truncated npz": (o.cut(".npz", 0.6), ("cannot be read as .npz",)),
    "truncated parquet": (o.cut(".parquet", 0.6), ("cannot be read as Parquet",)),
    "truncated gzip": (o.cut(".csv.gz", 0.6), ("cannot be read",)),
    "a changed byte in npz": (o.flipped(".npz", 0.5), ("bad.npz",)),
    "not a pickle": (o.objects, ("'ids' holds objects", "dtype=str", "never unpickled")),
    "records": (o.npz(targets=np.zeros(24, dtype=[("a", "i4")])), ("'targets' holds records",)),
    "a stranger in the archive": (o.members(lambda a: a.writestr("run.py", "x")), ("'run.py'", "no array")),
    "a stranger called an array": (o.members(lambda a: a.writestr("labels.npy", "x")), ("cannot be read as .npz",)),
    "encrypted": (o.encrypted, ("cannot be read as .npz", "encrypted")),
    "a header of 16 TiB": (o.promising("(1048576, 4194304)"), ("cannot be read as .npz", "does not fit its size")),
    "a header of negative size": (o.promising("(-1, 3)"), ("cannot be read as .npz",)),
    "a header that is no header": (o.promising("__import__('os')"), ("cannot be read as .npz",)),
    # names
    "empty header": (o.raw("bad.csv", b"\n\n"), ("bad.csv",)),
    "header only": (o.lines(lambda t: t[:1]), ("'id' has no row",)),
    "a column without a name": (lambda f: (o.as_frame(o.arrays()).to_csv(f / "bad.csv"), f / "bad.csv")[1],
                                ("column 1 has no name", "index=False")),
    "a column twice": (o.lines(lambda t: [t[0].replace("target/cat", "target/dog"), *t[1:]]),
                       ("two columns are called 'target/dog'",)),
    "a column twice in parquet": (o.parquet_twice, ("two columns are called 'split'",)),
    "an array twice": (o.array_twice, ("two arrays are called 'ids'",)),
    "two names of one thing": (o.csv(lambda f: f.assign(ids=f["id"])), ("'id' and 'ids' mean the same",)),
    "semicolons": (o.lines(lambda t: [line.replace(",", ";") for line in t]), ("not separated by commas",)),
    "no ids": (o.npz(drop=("ids",)), ("there are no ids", *MISSING, "attribute/gender")),
    "no split": (o.npz(drop=("split",)), ("there is no split", *MISSING)),
    "no targets": (o.npz(drop=("targets",)), ("there are no targets", *MISSING)),
    "labels for targets": (o.csv(lambda f: f.rename(columns=lambda c: c.replace("target/", "label/"))),
                           ("there are no targets", "labels are what the model says")),
    "no scores": (o.npz(drop=("logits",)), ("neither logits nor scores", *MISSING)),
    "no attribute": (o.npz(drop=("attribute/gender",)), ("there is no attribute", *MISSING)),
    "logits and scores": (o.npz(scores=np.full((24, 3), 0.5)), ("both logits and scores",)),
    "a near miss": (o.csv(o.rename(split="spilt")), ("cannot tell what the column 'spilt' is", *MISSING)),
    "a near miss that would be ignored": (o.csv(lambda f: f.assign(label_dog=1)), ("'label_dog'", "label/<label>")),
    "a numbered id": (o.csv(lambda f: f.assign(**{"id.1": 1})), ("'id.1'",)),
    "a slash and nothing": (o.csv(o.rename(attribute__gender="attribute/")), ("'attribute/'",)),
    "a logit without its label": (o.csv(lambda f: f.assign(logit=0.1)), ("'logit' and 'logit/dog' mean the same",)),
    "one column of logits": (o.csv(lambda f: f[["id", "split", "target/dog", "attribute/gender"]].assign(logit=0.1)),
                             ("'logit' has no label", "logit/dog")),
    "targets twice": (o.csv(lambda f: f.assign(target=0)), ("'target' and 'target/dog' mean the same",)),
    "a label's logit in npz": (o.npz(**{"logit/dog": np.zeros(24)}), ("'logit/dog'", "logits or scores [N, K]")),
    # shapes
    "fewer rows": (o.npz(split=lambda s: s[:-1]), ("'split' has 23 rows", "24 ids")),
    "more rows": (o.npz(gender=lambda g: np.append(g, "man")), ("'attribute/gender' has 25 rows", "24 ids")),
    "flat logits": (o.npz(logits=lambda x: x[:, 0]), ("'logits' has shape [24]", "[N, K] is expected")),
    "deep logits": (o.npz(logits=lambda x: x[..., None]), ("'logits' has shape [24, 3, 1]",)),
    "deep targets": (o.npz(targets=lambda x: x[..., None]), ("'targets' has shape [24, 3, 1]", "[N] or [N, K]")),
    "deep ids": (o.npz(ids=lambda x: x[:, None]), ("'ids' has shape [24, 1]", "[N] is expected")),
    "a wide attribute": (o.npz(gender=np.zeros((24, 2), int)), ("'attribute/gender' has shape [24, 2]",)),
    "no labels at all": (o.npz(logits=np.zeros((24, 0)), drop=("label_names",)), ("'logits' has no column",)),
    "no rows": (o.npz(ids=np.array([], str)), ("'ids' has no row",)),
    "K of targets": (o.npz(targets=lambda x: x[:, :2]), ("'targets' has 2 labels", "the scores have 3")),
    "K of names": (o.npz(label_names=["dog", "cat"]), ("'label_names' has 2 names", "3 columns")),
    "names twice": (o.npz(label_names=["dog", "cat", "dog"]), ("'label_names' has an empty name or one twice",)),
    "names that are numbers": (o.npz(label_names=[0.5, 1.5, 2.5]), ("'label_names' holds float64",)),
    "shape of labels": (o.npz(labels=np.zeros(24, int)), ("labels are of shape [24], targets of [24, 3]",)),
    "K of labels": (o.npz(labels=np.zeros((24, 2), int)), ("'labels' has 2 labels", "the scores have 3")),
    "a target without a logit": (o.csv(lambda f: f.drop(columns="logit/cat")), ("no score for 'target/cat'",)),
    "a logit without a target": (o.csv(lambda f: f.drop(columns="target/cat")),
                                 ("a score of 'cat', but no target/cat",)),
    "a label short": (o.csv(lambda f: f.assign(**{"label/dog": 1, "label/cat": 1})),
                      ("a score of 'bus', but no label/bus",)),
    "ragged, too few": (o.lines(lambda t: [*t[:3], t[3].rsplit(",", 1)[0], *t[4:]]), ("line 4", "Expected 9 columns")),
    "ragged, too many": (o.lines(lambda t: [*t[:3], t[3] + ",1", *t[4:]]), ("line 4", "Expected 9 columns, got 10")),
    "an open quote": (o.lines(lambda t: [*t[:3], '"' + t[3], *t[4:]]), ("cannot be read as CSV", "quotes")),
    "a truncated csv": (o.cut(".csv", 0.5), ("cannot be read as CSV",)),
    # scores
    "a NaN logit": (o.npz(logits=o.at((5, 1), np.nan)), (ROW_5, "nothing (NaN), which is not finite", "fair")),
    "an infinite logit": (o.npz(logits=o.at((5, 1), -np.inf)), (ROW_5, "holds -inf")),
    "an empty logit": (o.csv(o.cell(7, "logit/cat", "")), (ROW_7, "'logit/cat' holds nothing")),
    "NaN as text": (o.csv(o.cell(7, "logit/cat", "nan")), (ROW_7, "'logit/cat'", "not finite")),
    "infinity as text": (o.csv(o.cell(7, "logit/cat", "Infinity")), (ROW_7, "not finite")),
    "a null logit": (o.parquet_of(logit__cat=[0.5] * 23 + [None]), ("row 23 (id 'img-23')", "not finite")),
    "text in numbers": (o.csv(o.cell(7, "logit/cat", "high")), (ROW_7, "'high', not a number")),
    "true as a logit": (o.csv(o.cell(7, "logit/cat", "True")), (ROW_7, "'True', not a number")),
    "text as logits": (o.npz(logits=lambda x: x.astype(str)), ("'logits' holds <U", "not numbers", "dtype")),
    "complex logits": (o.npz(logits=lambda x: x + 1j), ("'logits' holds complex64", "not numbers")),
    "a huge logit": (o.npz(logits=lambda x: o.at((5, 1), 1e39)(x.astype(float))), ("row 5", "1e+39", "float32")),
    "a list of logits": (o.parquet_of(logit__cat=[[0.5]] * 24), ("'logit/cat' holds list<",)),
    "a score above 1": (o.npz(drop=("logits",), scores=o.at((5, 1), 1.01)(np.full((24, 3), 0.5))),
                        (ROW_5, "'scores' holds 1.01, outside 0..1", "Call them logits")),
    "a score below 0": (o.csv(lambda f: f.rename(columns=lambda c: c.replace("logit/", "score/"))),
                        ("'score/", "outside 0..1")),
    # targets and labels
    "a target of 0.3": (o.npz(targets=lambda x: o.at((5, 1), 0.3)(x.astype(float))), ("row 5", "'targets' holds 0.3")),
    "a target of 2": (o.npz(targets=o.at((5, 1), 2)), (ROW_5, "holds 2, where 0 or 1 is expected")),
    "a target of -1": (o.npz(targets=lambda x: o.at((5, 1), -1)(x.astype(int))), ("row 5", "holds -1")),
    "a NaN target": (o.npz(targets=lambda x: o.at((5, 1), np.nan)(x.astype(float))), ("row 5", "nothing (NaN)")),
    "an empty target": (o.csv(o.cell(7, "target/cat", "")), (ROW_7, "'target/cat' holds nothing")),
    "a target in words": (o.csv(o.cell(7, "target/cat", "yes")), ("row 7", "'target/cat' holds 'yes'")),
    "a label of 2": (o.npz(labels=o.at((3, 0), 2)(np.zeros((24, 3), int))), ("row 3", "'labels' holds 2")),
    "a class too high": (o.npz(single=True, targets=o.at(5, 3)), (ROW_5, "class 3", "from 0 to 2")),
    "a negative class": (o.npz(single=True, targets=o.at(5, -1)), (ROW_5, "class -1, which is negative")),
    "half a class": (o.npz(single=True, targets=lambda x: o.at(5, 0.5)(x.astype(float))), ("row 5", "not a whole")),
    "an empty class": (o.csv(o.cell(7, "target", None), single=True), (ROW_7, "'target' holds nothing")),
    "an unknown class": (o.csv(o.cell(7, "target", "dgo"), single=True), ("row 7", "Did you mean 'dog'?", "cat")),
    "classes mixed": (o.csv(o.cell(7, "target", "dog"), single=True), ("row 7", "the name 'dog', and numbers")),
    "classes of one yes/no label": (o.npz(logits=lambda x: x[:, :1], targets=lambda x: x[:, 0], drop=("label_names",)),
                                    ("class 1", "[N, 1]")),
    "names that are numbers, as numbers": (o.npz(single=True, label_names=["1", "2", "3"]), ("'targets'", "no label")),
    "true text as targets": (o.npz(targets=np.array([["yes"] * 3] * 24)), ("'targets' holds <U3",)),
    # ids and splits
    "an id twice in a split": (o.npz(ids=o.at(5, "img-3")), ("row 5", "'img-3', as row 3 does")),
    "an id in two splits": (o.npz(ids=o.at(23, "img-3")), ("row 23", "'img-3', as row 3 does", "one split")),
    "an empty id": (o.npz(ids=o.at(5, " ")), ("row 5", "'ids' holds nothing")),
    "ids with a point": (o.npz(ids=np.arange(24.0)), ("'ids' holds float64",)),
    "ids that are not UTF-8": (o.npz(ids=np.array([b"\xff%d" % i for i in range(24)])), ("'ids' is not UTF-8 text",)),
    "an unknown split": (o.npz(split=o.at(5, "trian")), (ROW_5, "'trian'", "Did you mean 'train'?")),
    "splits as numbers": (o.npz(split=np.repeat([0, 1, 2], 8)), ("'0', which is no split", "train, val, test")),
    "two names of val": (o.npz(split=o.at(13, "dev")), ("'split' has the splits dev and val",)),
    "no val": (o.npz(split=lambda s: np.where(s == "val", "test", s)), ("no row of the split val",)),
    "train only": (o.npz(split=np.full(24, "train")), ("no row of the split val or test",)),
    # attributes
    "one group": (o.npz(gender=np.full(24, "man")), ("attribute 'gender' has one group only, 'man'",)),
    "no known group": (o.npz(gender=np.full(24, -1)), ("attribute 'gender' has no example whose group is known",)),
    "too many groups": (o.csv(lambda f: pd.concat([f.assign(id=f["id"] + f"-{i}") for i in range(3)]).assign(
        **{"attribute/gender": [f"g{i}" for i in range(72)]})), ("attribute 'gender' has 72 groups", "At most 50")),
    "numbers and names": (o.csv(o.cell(7, "attribute/gender", 3)), (ROW_7, "mixes numbers and names")),
    "a group of 0.5": (o.csv(lambda f: f.assign(**{"attribute/gender": [0, 0.5, 1] * 8})), ("row 1", "0.5", "whole")),
    "a group of -2": (o.npz(gender=np.arange(24) - 2), ("row 0 (id 'img-0')", "holds -2", "-1 is unknown")),
    "unknown in words": (o.npz(gender=o.at(5, "Unknown")), (ROW_5, "'Unknown'", "Leave the cell empty")),
    "NaN in words": (o.npz(gender=o.at(5, "nan")), (ROW_5, "'nan'", "Leave the cell empty")),
    "dates": (o.parquet_of(attribute__gender=pd.date_range("2020-01-01", periods=24)), ("'attribute/gender' holds",)),
    # text
    "Latin-1": (o.raw("bad.csv", "id,split\nb\xe9b\xe9,train\n".encode("latin-1")), ("line 2", "is not UTF-8 text")),
    "UTF-16": (o.raw("bad.csv", "id,split\na,train\n".encode("utf-16")), ("line 1", "is not UTF-8 text")),
    "NUL bytes": (o.raw("bad.csv", bytes(400)), ("bad.csv",)),
    "escapes in names": (o.csv(o.rename(split="\x1b[2Jsplit")), ("\\x1b[2Jsplit",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bad_file(cli: Any, tmp_path: Path, kind: str) -> None:
    make, parts = BROKEN[kind]
    path = make(tmp_path)
    said = cli("audit", path, "--attribute", "gender")
    assert (said.code, said.out) == (4, ""), said.err
    assert "Traceback" not in said.err
    (line,) = said.err.splitlines()
    assert line.startswith(f"biasbench: error[data]: {path}")
    assert line.isprintable()
    assert line.endswith((".", "?"))  # what to do comes last
    for part in parts:
        assert part in line, line


def test_a_file_that_may_not_be_read(cli: Any, tmp_path: Path) -> None:
    path = o.save(tmp_path / "bad.csv", o.arrays())
    path.chmod(0)
    with unprivileged():
        said = cli("audit", path)
    assert said.code == 4
    assert said.err.startswith(f"biasbench: error[data]: {path}: cannot be read: Permission denied.")


@pytest.mark.parametrize("ending", [".npz", ".csv", ".csv.gz", ".parquet"])
def test_a_file_that_unpacks_to_more_than_any_memory(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    of = o.arrays()
    bomb = {**of, "zeros": np.zeros(200_000, np.uint8)}
    path = tmp_path / f"bad{ending}"
    if ending == ".npz":
        np.savez_compressed(path, **bomb)
    elif ending == ".parquet":
        frame = o.as_frame(of)
        pd.concat([frame] * 500).to_parquet(path)
    else:
        text = o.as_frame(of).to_csv(index=False) + "\n" * 200_000
        path.write_bytes(gzip.compress(text.encode()) if ending == ".csv.gz" else text.encode())
    monkeypatch.setattr("biasbench.audit.source.MAX_BYTES", 100_000)
    packed = path.stat().st_size < 100_000
    assert packed == (ending != ".csv")
    said = cli("audit", path)
    assert said.code == 4
    assert said.err.startswith(f"biasbench: error[data]: {path}: holds more than ")
    assert "GiB when unpacked" in said.err


def good(folder: Path, **more: Any) -> Path:
    return o.save(folder / "good.npz", {**o.arrays(), **more})


def test_an_attribute_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    said = cli("audit", good(tmp_path, **{"attribute/age": np.arange(24) % 2}), "--attribute", "gendre")
    assert said.code == 4
    assert "there is no attribute 'gendre'. Did you mean 'gender'? Attributes of the file: gender, age." in said.err


def test_several_attributes_of_which_none_is_named(cli: Any, tmp_path: Path) -> None:
    said = cli("audit", good(tmp_path, **{"attribute/age": np.arange(24) % 2}))
    assert said.code == 2
    assert "the file has several attributes. Name one of: gender, age." in said.err


def test_an_output_of_unknown_ending(cli: Any, tmp_path: Path) -> None:
    said = cli("audit", good(tmp_path), "--output", "figures.xlsx")
    assert said.code == 2
    assert "cannot write 'figures.xlsx'. Let it end in .json or .csv." in said.err


def test_an_unknown_protocol_is_told_before_the_file_is_read(cli: Any) -> None:
    said = cli("audit", "nowhere.npz", "--protocol", "wang2091")
    assert said.code == 2
    assert "no leakage protocol 'wang2091'. Did you mean 'wang2019'?" in said.err


@pytest.mark.torch
def test_figures_in_every_form(cli: Any, tmp_path: Path) -> None:
    command = ("audit", good(tmp_path), "--protocol", "smoke", "--quiet")
    shown = cli(*command)
    assert (shown.code, shown.err) == (0, "")
    for part in ("mAP", "macro F1", "λ_M", "λ_D(F1)", "Δ", "null of λ_M", "last epoch", "(MALS)", "equalised odds gap",
                 "worst group", "Read as logits of 3 labels, several an example; predicted from 0 on.",
                 "! underpowered", "! test: the group of 2 of 6 examples is unknown (33.3 %)"):  # fmt: skip
        assert part in shown.out
    said = cli(*command, "--json", "--output", tmp_path / "figures.json")
    document = json.loads(said.out)
    assert (document["schema"], document["schema_version"]) == ("biasbench/audit", 1)
    for key in ("lambda_D", "lambda_M", "lambda_D_F1", "delta", "null", "last_epoch"):
        assert {"mean", "std", "n"} <= document[key].keys()
        assert 0 <= abs(document[key]["mean"]) <= 100
    assert document["counts"]["val"]["groups"] == {"man": 2, "woman": 2}
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    assert cli(*command, "--output", tmp_path / "figures.csv").out == shown.out
    with open(tmp_path / "figures.csv", newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    assert float(rows["lambda_M"]["mean"]) == document["lambda_M"]["mean"]
    assert rows["directional_ta"]["mean"] == ""


@pytest.mark.torch
def test_several_attributes(cli: Any, tmp_path: Path) -> None:
    path = good(tmp_path, **{"attribute/age": np.array([1, 2, 3, -1])[np.arange(24) // 2 % 4]})
    command = ("audit", path, "--protocol", "smoke", "--quiet", "--attribute", "age", "--attribute", "gender")
    documents = json.loads(cli(*command, "--json").out)["attributes"]
    assert [d["attribute"] for d in documents] == ["age", "gender"]
    alone = json.loads(cli("audit", path, "--protocol", "smoke", "--quiet", "-a", "gender", "--json").out)
    assert {**alone, "schema": "", "schema_version": ""} == {**documents[1], "schema": "", "schema_version": ""}


@pytest.mark.torch
def test_an_output_that_cannot_be_written_costs_no_figure(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = cli("audit", good(tmp_path), "--protocol", "smoke", "--quiet", "-o", tmp_path / "file" / "figures.json")
    assert said.code == 5
    assert "λ_M" in said.out
    assert "cannot be written" in said.err
