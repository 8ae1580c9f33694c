"""What attackers read: tables in memory, batches, and distinct rows that are read once."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import CellError, torch_generator
from biasbench.measures import reader as reader_module
from biasbench.measures.batch import every_row
from biasbench.measures.reader import Draw, Reader
from biasbench.measures.stacked import Shape, Stack

pytestmark = pytest.mark.torch
PLAIN = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "helpers" / "plain_attacker.py")))
CPU = torch.device("cpu")
BITS = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def draw(table, rows=None, codes=None):
    rows = np.arange(len(table)) if rows is None else np.asarray(rows)
    return Draw(lambda: table, rows, np.zeros(len(rows), np.int64) if codes is None else codes)


def trained(shape, count, seed=0):
    """A stack whose running statistics have moved, and networks with the same numbers."""
    stack = Stack(shape, [torch_generator(seed, a) for a in range(count)], CPU)
    nets = [PLAIN.network(shape, torch_generator(seed, a)) for a in range(count)]
    rng = np.random.default_rng(seed)
    for _ in range(3):
        features = rng.normal(0.3, 1, (20, count, shape.inputs)).astype(np.float32)
        wide = np.zeros((20, count, stack.weights[0].shape[1]), np.float32)
        wide[:, :, : shape.inputs] = features
        stack.learn(every_row(torch.from_numpy(wide), torch.zeros(20, count, dtype=torch.int64), shape.outputs))
        for a, net in enumerate(nets):
            net.train()(torch.from_numpy(features[:, a].copy()))
    return stack, nets


def table_of(kind, rng, n, k):
    """Few distinct rows, many times."""
    if kind == "classes":
        return rng.integers(0, k, n)
    if kind == "labels":
        return (rng.random((n, k)) < 0.3).astype(np.uint8)
    return rng.normal(size=(max(1, n // 3), k)).astype(np.float32)[rng.integers(0, max(1, n // 3), n)]


# -- tables --------------------------------------------------------------------------------
def test_a_table_that_draws_share_is_made_and_held_once():
    made = []

    def shared():
        made.append("shared")
        return BITS

    draws = [Draw(shared, np.array(rows), np.array([0, 1])) for rows in ([0, 3], [2, 1])]
    own = draw(1 - BITS, [1, 2])
    read = Reader([draws[0], own, draws[1]], CPU)
    assert read.table.shape == (8, 16)
    features, _ = read.rows_at(torch.tensor([[0, 0, 0], [1, 1, 1]]))
    assert features[:, 0, :3].tolist() == BITS[[0, 3]].tolist()
    assert features[:, 1, :3].tolist() == (1 - BITS)[[1, 2]].tolist()
    assert features[:, 2, :3].tolist() == BITS[[2, 1]].tolist()
    assert made == ["shared"]


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int8, np.int64, np.float16, np.float32, np.float64])
def test_tables_of_any_type_read_the_same(dtype):
    read = Reader([draw(BITS.astype(dtype), [3, 0])], CPU)
    features, _ = read.rows_at(torch.tensor([[1], [0]]))
    assert features.dtype == torch.float32
    assert features.shape == (2, 1, 16)
    assert features[:, 0, :3].tolist() == BITS[[0, 3]].tolist()
    assert not features[:, :, 3:].any()
    assert read.table.element_size() == 1 or dtype not in (np.uint8, np.bool_)


def test_scores_are_float32_to_the_last_bit():
    scores = np.random.default_rng(0).normal(size=(5, 4)) * 1e3
    features, _ = Reader([draw(scores)], CPU).rows_at(torch.arange(5).unsqueeze(1))
    assert (features[:, 0, :4].numpy() == scores.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int16])
def test_whole_numbers_beyond_1_are_kept(dtype):
    counts = np.array([[0, 1], [0, 2], [0, 255], [1, 0]], dtype)
    counts[3, 0] = 255 if dtype == np.uint8 else 300
    read = Reader([draw(counts)], CPU)
    features, _ = read.rows_at(torch.arange(4).unsqueeze(1))
    assert features[:, 0, :2].tolist() == counts.tolist()
    stack, (net,) = trained(Shape(2, layers=2, width=8), 1)
    for codes in (np.zeros(4, np.int64), np.ones(4, np.int64)):
        expected = PLAIN.right(net, PLAIN.dense(counts, 2), torch.from_numpy(codes))
        read = Reader([draw(counts, codes=codes)], CPU)
        assert read.right(stack)[:, 0].tolist() == expected.tolist()
        assert len(read.first) == 4


def test_codes_and_classes_go_with_their_rows():
    read = Reader([draw(np.array([4, 7, 9]), [2, 0, 1], np.array([1, 0, 2]))], CPU)
    features, codes = read.rows_at(torch.tensor([[2], [0], [1]]))
    assert features.tolist() == [[7], [9], [4]]
    assert codes.tolist() == [[2], [1], [0]]


# -- numbers that are none -----------------------------------------------------------------
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.zeros((4, 3))
    scores[2, 1] = value
    with pytest.raises(CellError, match="not finite"):
        Reader([draw(np.zeros((4, 3))), draw(scores)], CPU)


def test_an_attacker_that_overflows_is_refused():
    stack, _ = trained(Shape(3, layers=2, width=8), 2)
    read = Reader([draw(BITS), draw(BITS)], CPU)
    assert read.right(stack).shape == (4, 2)
    stack.weights[0][1, 0, 0] = torch.inf
    with pytest.raises(CellError, match="overflowed"):
        read.right(stack)


# -- distinct rows -------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["classes", "labels", "scores"]),
    st.integers(1, 20),
    st.lists(st.integers(1, 60), min_size=1, max_size=3),
    st.integers(1, 50),
    st.integers(0, 2**32 - 1),
)
def test_reading_distinct_rows_equals_reading_all(kind, k, sizes, n, seed):
    """Attackers whose tables differ in length and in distinct rows."""
    rng = np.random.default_rng(seed)
    stack, nets = trained(Shape(k, 3, layers=2, width=8), len(sizes))
    draws = [draw(table_of(kind, rng, m, k), rng.integers(0, m, n), rng.integers(0, 3, n)) for m in sizes]
    read = Reader(draws, CPU)
    got = read.right(stack)
    for a, (net, d) in enumerate(zip(nets, draws, strict=True)):
        features, codes = PLAIN.examples(d, k)
        top = net.eval()(features).topk(2, dim=1).values
        clear = (top[:, 0] - top[:, 1]).detach() > 1e-5  # the others may fall either way by rounding
        assert (got[:, a].numpy() == PLAIN.right(net, features, codes))[clear.numpy()].all()
    if kind != "scores":
        assert len(read.first) == max(len(np.unique(d.table()[d.rows], axis=0)) for d in draws)


def test_many_rows_are_read_in_slabs(monkeypatch):
    rng = np.random.default_rng(3)
    stack, _ = trained(Shape(6, layers=3, width=8), 2)
    draws = [draw(rng.normal(size=(70, 6)), codes=rng.integers(0, 2, 70)) for _ in range(2)]
    whole = Reader(draws, CPU).right(stack)
    monkeypatch.setattr(reader_module, "SLAB", 16)  # the last of them partial
    assert torch.equal(Reader(draws, CPU).right(stack), whole)
    assert 0 < whole.sum() < whole.numel()
