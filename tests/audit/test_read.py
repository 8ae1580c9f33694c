"""What a valid file says is what is read, whatever its format and spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, log_softmax, softmax

from biasbench.audit.file import AuditFile
from biasbench.audit.read import read_audit_file

ENDINGS = (".npz", ".csv", ".csv.gz", ".parquet")


def whole(file: AuditFile, field: str) -> np.ndarray:
    """An array of all splits, in order."""
    return np.concatenate([np.asarray(getattr(part, field)) for part in file.splits.values()])


def same(a: AuditFile, b: AuditFile) -> None:
    """Everything equal but the format."""
    assert (a.task, a.label_names, a.group_names) == (b.task, b.label_names, b.group_names)
    assert (a.score_kind, a.threshold, a.decoded) == (b.score_kind, b.threshold, b.decoded)
    for split, part in a.splits.items():
        other = b.splits[split]
        assert part.ids == other.ids
        for field in ("targets", "labels"):
            assert getattr(part, field).dtype == getattr(other, field).dtype
            np.testing.assert_array_equal(getattr(part, field), getattr(other, field))
        np.testing.assert_array_equal(part.scores.astype(np.float32), other.scores.astype(np.float32))
        assert part.attributes.keys() == other.attributes.keys()
        for name, codes in part.attributes.items():
            assert codes.dtype == np.int64
            np.testing.assert_array_equal(codes, other.attributes[name])


@pytest.mark.parametrize("single", [False, True], ids=["several labels", "one label"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_says_the_same(outputs: Any, tmp_path: Path, ending: str, single: bool) -> None:
    of = outputs.arrays(single=single)
    file = read_audit_file(outputs.save(tmp_path / f"outputs{ending}", of))
    assert file.format == ending.split(".")[1]
    assert [len(part) for part in file.splits.values()] == [12, 6, 6]
    assert list(file.splits) == ["train", "val", "test"]
    assert file.label_names == outputs.LABELS
    assert whole(file, "ids").tolist() == of["ids"].tolist()
    np.testing.assert_array_equal(whole(file, "targets"), of["targets"])
    np.testing.assert_array_equal(whole(file, "scores").astype(np.float32), of["logits"])
    decoded = of["logits"].argmax(1) if single else of["logits"] >= 0
    np.testing.assert_array_equal(whole(file, "labels"), decoded)
    assert (file.task, file.threshold) == (("multiclass", None) if single else ("multilabel", 0.0))
    assert file.group_names == {"gender": ("man", "woman")}
    assert file.splits["val"].attributes["gender"].tolist() == [0, 1, -1, 0, 1, -1]
    assert file.unknown("gender") == {"train": 4, "val": 2, "test": 2}
    assert file.group_counts("gender")["train"] == {"man": 4, "woman": 4}
    same(file, read_audit_file(outputs.save(tmp_path / "plain.npz", of)))


def test_splits_may_be_mixed_and_named_otherwise(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    order = np.random.default_rng(1).permutation(24)
    of = {name: values if name == "label_names" else values[order] for name, values in of.items()}
    spelt = {"train": "Train", "val": "dev", "test": " test"}
    of["split"] = np.array([spelt[s] for s in of["split"]])
    file = read_audit_file(outputs.save(tmp_path / "outputs.csv", of))
    for split in ("train", "val", "test"):
        expected = of["ids"][of["split"] == spelt[split]]
        assert list(file.splits[split].ids) == expected.tolist()


def test_targets_and_labels_are_matched_to_scores_by_name(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    of["labels"] = 1 - (of["logits"] >= 0)
    table = outputs.as_frame(of)
    right = read_audit_file(outputs.save(tmp_path / "right.parquet", of))
    scores = [name for name in table if name.startswith("logit")]
    others = [name for name in table if name not in scores]
    table[[*scores[::-1], *others]].to_parquet(tmp_path / "turned.parquet")
    turned = read_audit_file(tmp_path / "turned.parquet")
    order = [right.label_names.index(name) for name in turned.label_names]
    assert order != sorted(order)
    for field in ("scores", "targets", "labels"):
        np.testing.assert_array_equal(whole(turned, field), whole(right, field)[:, order])


def test_labels_of_the_file_override_decoding(outputs: Any, tmp_path: Path) -> None:
    for single in (False, True):
        of = outputs.arrays(single=single)
        of["labels"] = of["targets"]
        file = read_audit_file(outputs.save(tmp_path / "outputs.csv", of))
        np.testing.assert_array_equal(whole(file, "labels"), of["targets"])
        assert (file.decoded, file.threshold) == (False, None)


def test_probabilities_become_log_odds(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    logits = of.pop("logits").astype(np.float64) * 4
    of["scores"] = expit(logits)
    file = read_audit_file(outputs.save(tmp_path / "outputs.npz", of))
    np.testing.assert_allclose(whole(file, "scores"), logits, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(whole(file, "labels"), logits >= 0)
    assert (file.score_kind, file.threshold, sum(file.clipped.values())) == ("probabilities", 0.5, 0)


def test_probabilities_of_one_label_become_log_probabilities(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays(single=True)
    logits = of.pop("logits").astype(np.float64) * 4
    of["scores"] = softmax(logits, axis=1)
    file = read_audit_file(outputs.save(tmp_path / "outputs.parquet", of))
    np.testing.assert_allclose(whole(file, "scores"), log_softmax(logits, axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(whole(file, "labels"), logits.argmax(1))
    assert file.notes == ()


def test_certain_probabilities_are_clipped_and_counted(outputs: Any, tmp_path: Path) -> None:
    for single, ends in ((False, (-8.516993, 8.516993)), (True, (-8.517193, 0.0))):  # of 0.0002, half of 0.0004
        of = outputs.arrays(single=single)
        of.pop("logits")
        scores = np.full((24, 3), 0.25)
        scores[0], scores[13], scores[20] = (0, 1, 0), (1, 0, 0), (0.0004, 0.9996, 0)
        file = read_audit_file(outputs.save(tmp_path / "outputs.npz", {**of, "scores": scores}))
        assert file.clipped == ({"train": 2, "val": 2, "test": 1} if single else {"train": 3, "val": 3, "test": 1})
        first = file.splits["train"].scores[0]
        assert (first.min(), first.max()) == pytest.approx(ends, abs=1e-6)
        if single:
            assert file.notes == ("the scores of 21 of 24 examples do not sum to 1",)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.int8, ">f4"])
def test_logits_of_any_numeric_type(outputs: Any, tmp_path: Path, dtype: Any) -> None:
    of = outputs.arrays()
    of["logits"] = (10 * of["logits"]).astype(dtype)
    file = read_audit_file(outputs.save(tmp_path / "outputs.npz", of))
    np.testing.assert_array_equal(whole(file, "scores"), of["logits"].astype(np.float64))
    wide = np.dtype(dtype) in (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.int8))
    assert whole(file, "scores").dtype == (np.float64 if wide else np.float32)


@pytest.mark.parametrize("kind", [bool, np.float32, np.int64])
@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
def test_targets_of_any_type_that_is_0_or_1(outputs: Any, tmp_path: Path, ending: str, kind: Any) -> None:
    of = outputs.arrays()
    plain = read_audit_file(outputs.save(tmp_path / "plain.npz", of))
    of["targets"] = of["targets"].astype(kind)
    same(plain, read_audit_file(outputs.save(tmp_path / f"outputs{ending}", of)))


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("how", ["names", "floats", "numbers"])
def test_classes_by_name_or_number(outputs: Any, tmp_path: Path, ending: str, how: str) -> None:
    of = outputs.arrays(single=True)
    plain = read_audit_file(outputs.save(tmp_path / "plain.npz", of))
    spelt = {"names": np.array(outputs.LABELS)[of["targets"]], "floats": of["targets"].astype(float)}
    of["targets"] = spelt.get(how, of["targets"])
    same(plain, read_audit_file(outputs.save(tmp_path / f"outputs{ending}", of)))


def test_labels_called_by_numbers_are_meant_by_name(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays(single=True)
    plain = of["targets"]
    of["label_names"], of["targets"] = np.array(["1", "2", "3"]), plain + 1
    for ending in (".npz", ".csv"):
        file = read_audit_file(outputs.save(tmp_path / f"outputs{ending}", of))
        np.testing.assert_array_equal(whole(file, "targets"), plain)


GROUPS: dict[str, tuple[Any, tuple[str, ...], list[int]]] = {
    "names": (["b", "a", "", "a"], ("a", "b"), [1, 0, -1, 0]),
    "names, -1 unknown": (["b", "a", "-1", "a"], ("a", "b"), [1, 0, -1, 0]),
    "numbers": ([1, 0, -1, 0], ("0", "1"), [1, 0, -1, 0]),
    "numbers from 1": ([2, 1, -1, 1], ("1", "2"), [1, 0, -1, 0]),
    "numbers with a gap, by size": ([10, 2, -1, 0], ("0", "2", "10"), [2, 1, -1, 0]),
    "floats, NaN unknown": ([1.0, 0.0, np.nan, 0.0], ("0", "1"), [1, 0, -1, 0]),
    "booleans": ([True, False, False, True], ("False", "True"), [1, 0, 0, 1]),
    "spaces around": ([" b", "a ", " ", "a"], ("a", "b"), [1, 0, -1, 0]),
    "capitals first": (["b", "A", "", "a"], ("A", "a", "b"), [2, 0, -1, 1]),
}


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("kind", GROUPS)
def test_groups(outputs: Any, tmp_path: Path, ending: str, kind: str) -> None:
    values, names, codes = GROUPS[kind]
    of = {**outputs.arrays(), "attribute/gender": np.tile(np.array(values), 6)}
    file = read_audit_file(outputs.save(tmp_path / f"outputs{ending}", of))
    assert file.group_names == {"gender": names}
    assert file.splits["train"].attributes["gender"].tolist() == codes * 3


def test_parquet_types_of_pandas(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    table = outputs.as_frame(of)
    table["split"] = table["split"].astype("category")
    table["attribute/gender"] = table["attribute/gender"].replace("", None).astype("category")
    table["attribute/age"] = pd.array([1, None, 2, 2] * 6, dtype="Int64")
    table["attribute/tall"] = pd.array([True, None, False, False] * 6, dtype="boolean")
    table.to_parquet(tmp_path / "outputs.parquet")
    file = read_audit_file(tmp_path / "outputs.parquet")
    plain = read_audit_file(outputs.save(tmp_path / "plain.npz", of))
    assert file.splits["test"].attributes["gender"].tolist() == plain.splits["test"].attributes["gender"].tolist()
    assert file.splits["train"].attributes["age"].tolist() == [0, -1, 1, 1] * 3
    assert file.group_names["tall"] == ("False", "True")
    assert file.splits["train"].attributes["tall"].tolist() == [1, -1, 0, 0] * 3


def test_an_attribute_without_a_name_and_names_without_labels(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    of["attribute"] = of.pop("attribute/gender")
    del of["label_names"]
    file = read_audit_file(outputs.save(tmp_path / "outputs.npz", of))
    assert file.label_names == ("0", "1", "2")
    assert file.attribute() == "attribute"


def test_numbers_as_ids_keep_their_zeros(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    of["ids"] = np.array([f"{i:03}" for i in range(24)])
    file = read_audit_file(outputs.save(tmp_path / "outputs.csv", of))
    assert file.splits["train"].ids[:2] == ("000", "001")
    of["ids"] = np.arange(24)
    assert read_audit_file(outputs.save(tmp_path / "outputs.npz", of)).splits["train"].ids[:2] == ("0", "1")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: '"id"' + text.removeprefix("id"),
        lambda text: text.replace(",man", ", man ").replace(",train", ", train"),
        lambda text: text.replace("logit/", "logits.").replace("target/", "Targets: ").replace("id,", "IDs,"),
    ],
    ids=["byte order mark", "CRLF", "no last line end", "empty lines", "quotes", "spaces", "spelling"],
)
def test_csv_as_others_write_it(outputs: Any, tmp_path: Path, change: Any) -> None:
    plain = outputs.save(tmp_path / "plain.csv", outputs.arrays())
    (tmp_path / "other.csv").write_bytes(change(plain.read_text()).encode())
    same(read_audit_file(plain), read_audit_file(tmp_path / "other.csv"))


def test_what_means_nothing_is_named(outputs: Any, tmp_path: Path) -> None:
    of = {**outputs.arrays(), "epoch": np.array(7), "path": np.array(["x"] * 24, dtype=object)}
    file = read_audit_file(outputs.save(tmp_path / "outputs.npz", of))
    assert file.ignored == ("epoch", "path")


def test_logits_that_look_like_probabilities_are_noted(outputs: Any, tmp_path: Path) -> None:
    of = outputs.arrays()
    of["logits"] = expit(of["logits"])
    assert "call them scores" in " ".join(read_audit_file(outputs.save(tmp_path / "outputs.npz", of)).notes)


def test_samples_are_what_measures_read(outputs: Any, tmp_path: Path) -> None:
    file = read_audit_file(outputs.save(tmp_path / "outputs.npz", outputs.arrays()))
    samples = file.samples("gender")
    assert [len(sample) for sample in samples.values()] == [12, 6, 6]
    assert samples["val"].attribute is file.splits["val"].attributes["gender"]
    assert samples["val"].scores is file.splits["val"].scores
