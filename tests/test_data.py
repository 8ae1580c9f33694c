"""Tables, predictions and digests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench.data import (
    Dataset,
    Predictions,
    attribute,
    attributes_of,
    check_table,
    table_digest,
    targets,
    withhold,
)
from biasbench.errors import DataError


def table(n=4, **columns):
    base = {"id": [f"i{k}" for k in range(n)], "path": [f"{k}.jpg" for k in range(n)]}
    return pd.DataFrame({**base, **columns})


# ------------------------------------------------------------------ labels and attributes
def test_targets_in_the_order_of_the_columns():
    t = table(2, **{"label/b": [1, 0], "attribute/gender": [0, 1], "label/a": [0, 1]})
    assert targets(t).tolist() == [[1, 0], [0, 1]]
    assert targets(t).dtype == np.uint8
    assert targets(table(2, label=[5, 0])).tolist() == [5, 0]
    assert targets(table(2, label=[5, 0])).dtype == np.int64


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 3)), min_size=1, max_size=40))
def test_intersections_tell_every_pair_apart(pairs):
    a, b = (np.array(c) for c in zip(*pairs, strict=True))
    codes = attribute(pd.DataFrame({"attribute/a": a, "attribute/b": b}), "a*b")
    assert ((codes == -1) == ((a < 0) | (b < 0))).all()
    known = codes >= 0
    seen = set(zip(a[known], b[known], codes[known], strict=True))
    assert len({code for *_, code in seen}) == len({pair[:2] for pair in seen}) == len(seen)
    for x, y, code in seen:
        assert code == x * (b.max() + 1) + y


def test_intersection_of_three():
    t = pd.DataFrame({f"attribute/{n}": v for n, v in {"a": [0, 1, 1], "b": [1, 0, 1], "c": [2, 0, -1]}.items()})
    assert attribute(t, "a*b*c").tolist() == [0 * 6 + 1 * 3 + 2, 1 * 6, -1]
    assert attributes_of(t) == ("a", "b", "c")


def test_unknown_attribute():
    with pytest.raises(DataError, match=r"Did you mean 'gender'\? Known: gender"):
        attribute(table(2, **{"attribute/gender": [0, 1]}), "gendr")
    with pytest.raises(DataError, match="Known: none"):
        attribute(table(), "gender*age")


def test_withheld_tables_tell_nothing():
    t = table(2, **{"label/a": [0, 1], "attribute/gender": [0, 1], "extra": [1, 2]})
    assert list(withhold(t)) == ["id", "path"]


# ------------------------------------------------------------------ digests
def test_digest_ignores_columns_order_and_storage(tmp_path):
    t = table(3, **{"label/a": np.array([0, 1, 1], np.uint8), "x": [0.5, 1.5, np.nan], "counts": [b"\1", b"", b"ab"]})
    digest = table_digest(t)
    assert table_digest(t[reversed(list(t))]) == digest
    assert table_digest(t.astype({"label/a": np.int64})) == digest
    assert table_digest(t.set_index(np.array([7, 8, 9]))) == digest
    t.to_parquet(tmp_path / "t.parquet")
    assert table_digest(pd.read_parquet(tmp_path / "t.parquet")) == digest


def test_digest_sees_values_rows_and_names():
    t = table(3, **{"label/a": [0, 1, 1]})
    others = [
        t.iloc[::-1],
        t.iloc[:2],
        t.iloc[:0],
        t.assign(**{"label/a": [0, 1, 0]}),
        t.rename(columns={"label/a": "label/b"}),
        t.assign(extra=0),
        t.assign(id=["i0", "i1", "i3"]),
        t.assign(**{"label/a": [0.0, 1.0, 1.0]}),
    ]
    assert len({table_digest(o) for o in [t, *others]}) == len(others) + 1


strings = st.lists(st.text(st.sampled_from("ab:0\0"), max_size=4), min_size=1, max_size=3)


@settings(max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "a:1"]), strings, min_size=1), min_size=2, max_size=2))
def test_digest_has_no_ambiguous_borders(columns):
    one, other = (pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in c.items()}).fillna("-") for c in columns)
    same = one.sort_index(axis=1).equals(other.sort_index(axis=1))
    assert (table_digest(one) == table_digest(other)) == same


def test_digest_of_image_files(tmp_path):
    t = table(2)
    (tmp_path / "0.jpg").write_bytes(b"1234")
    digest = table_digest(t, tmp_path)
    (tmp_path / "0.jpg").write_bytes(b"4321")
    assert table_digest(t, tmp_path) == digest  # sizes, not bytes: said so in the docstring
    (tmp_path / "0.jpg").write_bytes(b"12345")
    assert table_digest(t, tmp_path) != digest
    assert table_digest(t, tmp_path / "elsewhere") != digest


@dataclass
class Told:
    """What `Dataset.fingerprint` reads."""

    tables: dict
    root: Path = Path("nowhere")
    task: str = "multilabel"
    label_names: tuple = ("a",)
    attribute_names: dict = field(default_factory=lambda: {"gender": ("man", "woman")})
    provides: frozenset = frozenset()

    def table(self, split):
        return self.tables[split]

    def fingerprint(self):
        return Dataset.fingerprint(self)


def test_fingerprint_is_of_the_content_wherever_it_lies():
    tables = {s: table(2, **{"label/a": [0, 1], "attribute/gender": [0, 1]}) for s in ("train", "val", "test")}
    base = Told(tables).fingerprint()
    assert Told(tables, Path("elsewhere")).fingerprint() == base
    assert Told({**tables, "test": tables["test"].iloc[:1]}).fingerprint() != base
    assert Told(tables, label_names=("b",)).fingerprint() != base
    assert Told(tables, attribute_names={"gender": ("woman", "man")}).fingerprint() != base


# ------------------------------------------------------------------ the contract of a table
GOOD = table(3, **{"label/a": [0, 1, 1], "label/b": [0, 0, 1], "attribute/gender": [0, 1, -1]})


def told(task="multilabel"):
    return SimpleNamespace(name="toy", task=task, label_names=("a", "b"), attribute_names={"gender": ("man", "woman")})


def test_good_tables():
    check_table(GOOD, told(), "val")
    check_table(GOOD.iloc[:0], told(), "val")
    check_table(table(2, label=[0, 1], **{"attribute/gender": [-1, 1]}), told("multiclass"), "val")


@pytest.mark.parametrize(
    ("bad", "task", "problem"),
    [
        (GOOD.drop(columns="id"), "multilabel", "no column 'id'"),
        (GOOD.drop(columns="path"), "multilabel", "no column 'path'"),
        (GOOD.assign(id=["x\x1b", "x\x1b", "y"]), "multilabel", r"id 'x\\\\x1b' stands twice"),
        (GOOD.iloc[1:], "multilabel", "index is not"),
        (GOOD.drop(columns="label/b"), "multilabel", "expected 2 label columns"),
        (GOOD.assign(**{"label/b": [0, 2, 0]}), "multilabel", "'label/b' holds other values than 0 and 1"),
        (GOOD.assign(**{"label/b": [0, 256, 0]}), "multilabel", "'label/b' holds other values than 0 and 1"),
        (GOOD.assign(**{"label/b": [0, np.nan, 0]}), "multilabel", "'label/b' holds float64, not integers"),
        (GOOD.assign(**{"label/b": ["0", "1", "0"]}), "multilabel", "'label/b' holds .*, not integers"),
        (GOOD, "multiclass", "expected a column 'label' in 0..1"),
        (table(2, label=[0, 2], **{"attribute/gender": [0, 1]}), "multiclass", "expected a column 'label' in 0..1"),
        (table(2, label=[0.0, 0.5], **{"attribute/gender": [0, 1]}), "multiclass", "'label' holds float64"),
        (GOOD.drop(columns="attribute/gender"), "multilabel", "no protected attribute 'gender'"),
        (GOOD.assign(**{"attribute/gender": [0, 1, 2]}), "multilabel", r"'gender' is outside -1..1"),
        (GOOD.assign(**{"attribute/gender": [0, 1, -2]}), "multilabel", r"'gender' is outside -1..1"),
        (GOOD.assign(**{"attribute/gender": [0, 1, np.nan]}), "multilabel", "holds float64, not integers"),
    ],
)
def test_broken_tables(bad, task, problem):
    with pytest.raises(DataError, match=problem):
        check_table(bad, told(task), "val")


# ------------------------------------------------------------------ predictions
def predictions(**changes):
    fields = {
        "scores": {"label": np.zeros((2, 3), np.float32)},
        "labels": np.zeros((2, 3), np.uint8),
        "targets": np.zeros((2, 3), np.uint8),
        "attributes": {"gender": np.array([0, 1])},
        "ids": ["a", "b"],
    }
    return Predictions(**{**fields, **changes})


def test_predictions():
    p = predictions(views=[{"label": np.full((2, 3), v, np.float32)} for v in (1, 2)])
    assert len(p) == 2
    assert [p.training_scores(r)[0, 0] for r in range(4)] == [1, 2, 1, 2]
    assert predictions().training_scores(3)[0, 0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": ["a"]},
        {"labels": np.zeros((3, 3), np.uint8)},
        {"targets": np.zeros((1, 3), np.uint8)},
        {"attributes": {"gender": np.array([0])}},
        {"scores": {"label": np.zeros((1, 3), np.float32)}},
        {"views": [{"label": np.zeros((1, 3), np.float32)}]},
        {"embeddings": {"coco": np.zeros((3, 8), np.float32)}},
    ],
)
def test_predictions_of_unequal_length(changes):
    with pytest.raises(DataError, match="rows, the split has"):
        predictions(**changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite(value):
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = value
    with pytest.raises(DataError, match="score 'label' of example 'b' is not finite"):
        predictions(scores={"label": scores})
    with pytest.raises(DataError, match="of example 'b'"):
        predictions(views=[{"label": scores}])
    with pytest.raises(DataError, match="of example 'b'"):
        predictions(scores={"label": np.zeros((2, 3), np.float32), "group": scores[:, 2]})
