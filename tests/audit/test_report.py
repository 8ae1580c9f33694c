"""An audit's figures: each is the measure it is called after, on the split it should be on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score

from biasbench.audit.read import read_audit_file
from biasbench.audit.report import AuditReport, audit_file
from biasbench.measures.leakage import leakage

pytestmark = pytest.mark.torch
SIZES = {"train": 240, "val": 120, "test": 120}


def data(seed: int = 0) -> dict[str, Any]:
    """480 examples, 3 labels that lean to a gender, logits that tell some more of it."""
    rng = np.random.default_rng(seed)
    n = sum(SIZES.values())
    gender = np.arange(n) % 2
    targets = (rng.random((n, 3)) < np.where(gender[:, None] == 1, [0.6, 0.3, 0.5], [0.3, 0.6, 0.4])).astype(np.uint8)
    return {
        "ids": np.array([f"img-{i}" for i in range(n)]),
        "split": np.repeat(list(SIZES), list(SIZES.values())),
        "logits": 2.0 * targets - 1 + rng.normal(size=(n, 3)) + 0.5 * gender[:, None],
        "targets": targets,
        "label_names": np.array(["dog", "cat", "bus"]),
        "attribute/gender": np.array(["man", "woman"])[gender],
    }


def audit(folder: Path, of: dict[str, Any], attribute: str = "gender", **options: Any) -> AuditReport:
    np.savez(folder / "outputs.npz", **of)
    return audit_file(folder / "outputs.npz", attribute, "smoke", **options)


def values(report: AuditReport) -> dict[str, float]:
    return {line.key: line.mean for line in report.lines}


@pytest.mark.parametrize("kind", ["logits", "scores"])
def test_accuracy_is_scikit_learns_on_the_test_split(tmp_path: Path, kind: str) -> None:
    of = data()
    logits, targets = of.pop("logits"), of["targets"][-120:]
    of[kind] = logits if kind == "logits" else expit(logits)
    found = values(audit(tmp_path, of))
    assert found["map"] == pytest.approx(100 * average_precision_score(targets, logits[-120:], average="macro"))
    assert found["f1"] == pytest.approx(100 * f1_score(targets, logits[-120:] >= 0, average="macro"))


def test_accuracy_of_one_label(tmp_path: Path) -> None:
    of = data()
    of["targets"] = of["targets"].argmax(1)
    targets, logits = of["targets"][-120:], of["logits"][-120:]
    found = values(audit(tmp_path, of))
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = 100 * average_precision_score(np.eye(3)[targets], softmax, average="macro")
    assert found["map"] == pytest.approx(expected)
    assert found["f1"] == pytest.approx(100 * f1_score(targets, logits.argmax(1), average="macro"))


def test_leakage_is_that_of_the_files_arrays(tmp_path: Path) -> None:
    of = data()
    report = audit(tmp_path, of, seed=3)
    samples = read_audit_file(tmp_path / "outputs.npz").samples("gender")
    shares = (0.01, 0.05, 0.1)
    direct = leakage(samples, "smoke", seed=3, attribute="gender", groups=("man", "woman"), noises=shares)
    assert report.leakage.to_json() == direct.to_json()
    found = values(report)
    for name, figure in direct.figures.items():
        assert found[name] == figure.mean
    assert found["last_epoch"] == pytest.approx(direct.to_json()["last_epoch"]["mean"])


def test_logits_that_tell_everything_and_labels_that_tell_nothing(tmp_path: Path) -> None:
    of = data()
    gender = (of["attribute/gender"] == "woman").astype(float)
    of["targets"] = np.tile(np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0]], np.uint8), (120, 1))
    of["logits"] = np.stack([gender * 10 + 1] * 3, axis=1) + np.random.default_rng(0).normal(size=(480, 3)) / 10
    found = values(audit(tmp_path, of))
    assert found["lambda_M"] == 100
    assert found["lambda_D"] == 50  # each label vector is as frequent among men as among women
    assert found["delta"] == 100 - found["lambda_D_F1"]


def test_figures_by_hand(tmp_path: Path) -> None:
    """One label. Train: 30 of 40 with the label are men. Test: 16 men and 16 women, as below."""
    man, woman = ["man"], ["woman"]
    train = ([1] * 40 + [0] * 40, man * 30 + woman * 10 + man * 10 + woman * 30)
    val = ([1, 0] * 10, man * 10 + woman * 10)
    # test, men: 8 with the label, 6 of them found, 2 more claimed; women: 8 with it, 4 found, none claimed
    test_truth, test_said = (
        [1] * 8 + [0] * 8 + [1] * 8 + [0] * 8,
        [1] * 6 + [0] * 2 + [1] * 2 + [0] * 6 + [1] * 4 + [0] * 12,
    )
    truth = np.array([*train[0], *val[0], *test_truth])
    said = np.array([*train[0], *val[0], *test_said])
    of = {
        "ids": np.arange(len(truth)),
        "split": np.repeat(["train", "val", "test"], [80, 20, 32]),
        "logits": (2.0 * said - 1)[:, None],
        "targets": truth[:, None],
        "attribute/gender": np.array([*train[1], *val[1], *man * 16, *woman * 16]),
    }
    found = values(audit(tmp_path, of))
    assert found["mals"] == pytest.approx(100 * (8 / 12 - 30 / 40))  # men's share of the predictions, and in training
    # men, with the lean: P(said) - P(label) = 8/16 - 8/16; women, against it: 4/16 - 8/16
    assert found["directional_at"] == pytest.approx(100 * (0 + 0.25) / 2)
    assert math.isnan(found["directional_ta"])
    assert found["multi_mals"] == pytest.approx(100 * abs(8 / 12 - 30 / 40))
    assert found["demographic_parity_gap"] == pytest.approx(100 * (8 / 16 - 4 / 16))
    assert found["true_positive_gap"] == pytest.approx(100 * (6 / 8 - 4 / 8))
    assert found["false_positive_gap"] == pytest.approx(100 * 2 / 8)
    assert found["equalised_odds_gap"] == pytest.approx(25)
    assert found["worst_group_accuracy"] == pytest.approx(75)  # 12 of 16, both
    assert found["worst_group_f1"] == pytest.approx(100 * 2 * 4 / (8 + 4))  # women: 4 hits, 8 with it, 4 claimed
    assert found["worst_pair_accuracy"] == pytest.approx(50)
    (note,) = [line.note for line in report_lines(tmp_path) if line.key == "worst_group_f1"]
    assert note == "woman, n = 16"


def report_lines(folder: Path) -> Any:
    return audit_file(folder / "outputs.npz", None, "smoke").lines


def test_the_same_file_in_another_format_and_twice_has_the_same_bits(outputs: Any, tmp_path: Path) -> None:
    of = data()
    of["logits"] = of["logits"].astype(np.float32)
    one = audit(tmp_path, of)
    again = audit(tmp_path, of)
    table = audit_file(outputs.save(tmp_path / "outputs.csv", of), "gender", "smoke")
    assert values(one) == pytest.approx(values(again), rel=0, abs=0, nan_ok=True)
    assert values(one) == pytest.approx(values(table), rel=0, abs=0, nan_ok=True)
    assert values(audit(tmp_path, of, seed=1))["lambda_M"] != values(one)["lambda_M"]


def test_unknown_groups_count_in_accuracy_alone(tmp_path: Path) -> None:
    of = data()
    whole = values(audit(tmp_path, of))
    hidden = np.arange(480) % 6 < 2  # as many men as women of each split
    of["attribute/gender"] = np.where(hidden, "", of["attribute/gender"])
    partly = audit(tmp_path, of)
    assert partly.counts()["test"] == {
        "examples": 120, "unknown": 40, "unknown_percent": pytest.approx(100 / 3), "groups": {"man": 40, "woman": 40},
    }  # fmt: skip
    assert any("test: the group of 40 of 120 examples is unknown (33.3 %)" in note for note in partly.notes)
    found = values(partly)
    assert (found["map"], found["f1"]) == (whole["map"], whole["f1"])
    kept = {name: v if name == "label_names" else v[~hidden] for name, v in data().items()}
    for key, value in values(audit(tmp_path, kept)).items():
        if key in ("mals", "multi_mals", "demographic_parity_gap", "worst_pair_f1", "lambda_D", "null_all_D"):
            assert found[key] == value


def test_a_group_that_a_split_lacks_leaves_leakage_undefined(tmp_path: Path) -> None:
    of = data()
    of["attribute/gender"] = np.where(of["split"] == "val", "man", of["attribute/gender"])
    report = audit(tmp_path, of)
    found = {line.key: line for line in report.lines}
    assert math.isnan(found["lambda_M"].mean)
    assert "no example of woman (val)" in found["lambda_M"].note
    assert found["lambda_M"].shown == "undefined"
    assert not math.isnan(found["worst_group_f1"].mean)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["lambda_M"]["mean"] is None
    assert document["null"]["mean"] is None


def test_an_intersection(tmp_path: Path) -> None:
    of = data()
    of["attribute/age"] = np.array([1, 2, -1])[np.arange(480) % 3]
    report = audit(tmp_path, of, "gender*age")
    assert report.counts()["test"]["groups"] == {"man*1": 20, "man*2": 20, "woman*1": 20, "woman*2": 20}
    assert report.counts()["test"]["unknown"] == 40
    assert report.to_json()["attribute"] == "gender*age"


def test_json_and_tables(tmp_path: Path) -> None:
    report = audit(tmp_path, data())
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    for key in ("lambda_D", "lambda_M", "lambda_D_F1", "delta", "null", "last_epoch", "map", "f1", "mals"):
        assert {"mean", "std", "n"} <= document[key].keys()
        assert document[key]["n"] == 1
    assert document["directional_ta"]["mean"] is None
    assert document["file"]["labels"] == ["dog", "cat", "bus"]
    assert (document["file"]["decoded"], document["file"]["threshold"]) == (True, 0.0)
    table = report.to_frame()
    assert table["figure"].tolist() == [line.key for line in report.lines]
    assert table.set_index("figure").loc["lambda_M", "mean"] == document["lambda_M"]["mean"]
    for line in report.lines:
        assert line.title in str(report)


def test_what_was_rounded_is_told(tmp_path: Path) -> None:
    of = data()
    of["scores"] = np.round(expit(8 * of.pop("logits")), 3)
    of["epoch"] = np.array(7)
    report = audit(tmp_path, of)
    rounded = int(((of["scores"] == 0) | (of["scores"] == 1)).sum())
    assert rounded > 0
    assert f"{rounded} of 1440 probabilities are rounded to 0 or 1" in " ".join(report.notes)
    assert "passed over in the file: epoch" in report.notes


def test_more_combinations_than_can_be_listed(tmp_path: Path) -> None:
    of = data()
    wide = 40
    of["targets"] = np.ones((480, wide), np.uint8)  # 2^40 combinations
    of["logits"], of["label_names"] = np.ones((480, wide)), np.array([f"label {k}" for k in range(wide)])
    found = {line.key: line for line in audit(tmp_path, of).lines}
    assert math.isnan(found["multi_mals"].mean)
    assert "combinations" in found["multi_mals"].note
    assert math.isnan(found["multi_mals_variance"].mean)
    assert found["f1"].mean == 100
