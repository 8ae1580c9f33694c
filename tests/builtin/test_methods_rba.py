"""RBA: the penalty by hand, optima by enumeration and integer programming, and what becomes of outputs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from biasbench import MultiLabelHead, Outputs, UsageError
from biasbench.builtin.methods.crf import JointHead, StarHead
from biasbench.builtin.methods.crf_fields import JointField, StarField
from biasbench.builtin.methods.rba import Rba, training_shares
from biasbench.builtin.methods.rba_lagrange import Constraints, relax

pytestmark = pytest.mark.torch
MARGIN = 0.05


def obeys(counts, shares, margin=MARGIN):
    """Whether [K, G] counts keep [K, G] shares, written as a ratio."""
    total = counts.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        stray = np.abs(counts / total - shares)
    return bool((np.isnan(stray) | (stray <= margin + 1e-9)).all())


def counted(labels, groups, k, g):
    hot = labels if labels.ndim == 2 else np.eye(k, dtype=int)[labels]
    return np.stack([hot[groups == j].sum(0) for j in range(g)], 1)


def constraints(shares, margin=MARGIN):
    first = 1 if shares.shape[1] == 2 else shares.shape[1]
    return Constraints(torch.tensor(shares[:, :first]), margin)


def states(field):
    """All (labels, group) of a picture: labels as [S, K] in {0, 1}, groups [S], potentials [N, S]."""
    _, k, g = field.pairwise.shape
    many = isinstance(field, StarField)
    rows = list(itertools.product((0, 1), repeat=k)) if many else np.eye(k, dtype=int).tolist()
    y = np.array([row for row in rows for _ in range(g)])
    group = np.array([j for _ in rows for j in range(g)])
    values = np.einsum("sk,nks->ns", y, field.pairwise.numpy()[:, :, group])
    return y, group, values + (field.unary.numpy()[:, group] if many else 0)


def optimum(field, shares, margin=MARGIN, whole=True):
    """The potential of the best prediction that obeys, by HiGHS: one state per picture, or shares of states."""
    y, group, values = states(field)
    n, s = values.shape
    rows = [LinearConstraint(np.kron(np.eye(n), np.ones((1, s))), 1, 1)]
    for k, g in itertools.product(*map(range, shares.shape)):
        if not np.isnan(shares[k, g]):
            inside = y[:, k] * (group == g)
            low, high = inside - (shares[k, g] - margin) * y[:, k], inside - (shares[k, g] + margin) * y[:, k]
            rows.append(LinearConstraint(np.tile(low, n)[None], -1e-9, np.inf))
            rows.append(LinearConstraint(np.tile(high, n)[None], -np.inf, 1e-9))
    found = milp(-values.ravel(), constraints=rows, integrality=np.full(n * s, whole), bounds=Bounds(0, 1))
    assert found.status in (0, 2), found.message
    return -found.fun if found.status == 0 else None


def star(rng, n, k, g=2, lean=1.5):
    """Potentials that lean further to a group than the shares say."""
    shares = rng.dirichlet(np.full(g, 4.0), k)
    pairwise = rng.normal(0, 1.5, (n, k, 1)) + lean * np.log(shares / shares.max(1, keepdims=True))[None]
    return StarField(torch.tensor(rng.normal(0, 1, (n, g))), torch.tensor(pairwise)), shares


def joint(rng, n, k, g=2, lean=2.0):
    shares = rng.dirichlet(np.full(g, 4.0), k)
    pairwise = rng.normal(0, 1.5, (n, k, 1)) + rng.normal(0, 1, (n, 1, g)) + lean * np.log(shares)[None]
    return JointField(torch.tensor(pairwise)), shares


# ------------------------------------------------------------------ the relaxation
def test_penalty_is_the_published_one():
    """Zhao et al.: lambda_1 ((b - 1 - m) y_man + (b - m) y_woman), lambda_2 ((1 - b - m) y_man - (b + m) y_woman)."""
    limits = constraints(np.array([[0.7, 0.3], [0.4, 0.6], [np.nan, np.nan]]))
    off = limits.penalty(torch.tensor([[2.0], [-3.0], [0.0]], dtype=torch.float64), 2)
    expected = [[2 * (0.7 - 1 - 0.05), 2 * (0.7 - 0.05)], [3 * (1 - 0.4 - 0.05), -3 * (0.4 + 0.05)], [0, 0]]
    np.testing.assert_allclose(off.numpy(), expected)
    assert limits.count == 4


@pytest.mark.parametrize("groups", [2, 3])
def test_penalty_times_counts_is_what_the_multipliers_weigh(groups):
    rng = np.random.default_rng(0)
    limits = constraints(rng.dirichlet(np.ones(groups), 3))
    counts = torch.tensor(rng.integers(0, 30, (3, groups)).astype(float))
    multipliers = torch.tensor(rng.normal(0, 1, tuple(limits.shares.shape)))
    low, high = limits.excess(counts)
    weighed = (multipliers.clamp(min=0) * low + (-multipliers).clamp(min=0) * high).sum()
    torch.testing.assert_close((limits.penalty(multipliers, groups) * counts).sum(), weighed)


@pytest.mark.parametrize("kind", [star, joint])
@pytest.mark.parametrize("groups", [2, 3])
def test_brings_planted_shares_within_the_margin(kind, groups):
    for seed in range(3):
        field, shares = kind(np.random.default_rng(seed), 800, 6, groups)
        found = relax(field, constraints(shares), 0.5, 200)
        labels, chosen, _ = field.lowered(found.penalty).decode()
        assert found.before > 3
        assert found.after == 0
        assert obeys(counted(labels.numpy(), chosen.numpy(), 6, groups), shares)
        assert found.score <= found.bound
        assert found.bound - found.score < 0.02 * 800  # potentials have a spread of 1.5 a picture


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2), st.integers(2, 3), st.booleans())
def test_bound_and_score_enclose_the_optimum_of_all_predictions(seed, k, g, many):
    """Enumerates every prediction of a split of two or three pictures."""
    rng = np.random.default_rng(seed)
    field, shares = (star if many else joint)(rng, 2 if many else 3, k, g)
    margin = 0.3
    found = relax(field, constraints(shares, margin), 0.5, 60)
    y, group, values = states(field)
    n = len(values)
    best = -np.inf
    for pick in itertools.product(range(len(y)), repeat=n):
        if obeys(counted(y[list(pick)], group[list(pick)], k, g), shares, margin):
            best = max(best, values[np.arange(n), pick].sum())
    assert found.bound >= best - 1e-6
    if found.after == 0:
        assert found.score <= best + 1e-6


@pytest.mark.parametrize("kind", [star, joint])
def test_against_integer_and_linear_programmes(kind):
    """On every instance score <= integer optimum <= linear optimum <= bound, and both ends are near.

    The bound's limit is the linear optimum, which may hand fractions of a picture to two states: what
    is lost to that does not grow with the number of pictures.
    """
    n, lost, loose = 24, [], []
    for seed in range(12):
        field, shares = kind(np.random.default_rng(seed), n, 2)
        found = relax(field, constraints(shares, 0.08), 0.5, 400)
        whole, linear = optimum(field, shares, 0.08), optimum(field, shares, 0.08, whole=False)
        assert linear >= whole - 1e-6
        assert found.bound >= linear - 1e-6
        loose.append(found.bound - linear)
        if found.after == 0:
            assert found.score <= whole + 1e-6
            lost.append(whole - found.score)
    assert len(lost) >= 11
    assert np.mean(lost) < 0.02 * n
    assert np.mean(loose) < 0.02 * n


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 40))
def test_exact_where_pictures_can_only_change_group(seed, n):
    """Every picture has the label; flipping one costs its difference, and the cheapest flips are the optimum."""
    rng = np.random.default_rng(seed)
    cost = rng.permutation(np.arange(1, n + 1)) * 0.1  # what picture i loses when it leaves group 0
    field = StarField(torch.tensor(np.stack([cost, np.zeros(n)], 1)), torch.full((n, 1, 2), 50.0, dtype=torch.float64))
    found = relax(field, constraints(np.array([[0.5, 0.5]]), 0.1), 0.5, 400)
    flips = next(m for m in range(n) if (n - m) / n <= 0.6 + 1e-9)
    assert (found.before, found.after) == (1, 0)
    assert found.score == pytest.approx(50 * n + np.sort(cost)[flips:].sum())


def test_pictures_that_are_nearly_alike_are_told_apart():
    lead = torch.arange(40, dtype=torch.float64) * 1e-4 + 1.0
    field = StarField(torch.stack([lead, torch.zeros(40)], 1), torch.full((40, 1, 2), 2.0, dtype=torch.float64))
    found = relax(field, constraints(np.array([[0.5, 0.5]])), 0.5, 200)
    assert (found.before, found.after) == (1, 0)
    kept = field.lowered(found.penalty).decode()[1] == 0
    assert 18 <= kept.sum() <= 22
    assert torch.equal(kept, torch.arange(40) >= 40 - kept.sum())  # the pictures that lead most


def test_what_cannot_be_obeyed_is_told_and_ends():
    one = JointField(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))  # one picture, one label: a share of 0 or 1
    shares = np.array([[0.5, 0.5]])
    assert optimum(one, shares) is None
    found = relax(one, constraints(shares), 0.5, 50)
    assert (found.before, found.after, found.iterations) == (1, 1, 50)


def test_what_obeys_is_left_alone():
    field, shares = star(np.random.default_rng(0), 50, 3)
    labels, groups, values = field.decode()
    counts = counted(labels.numpy(), groups.numpy(), 3, 2)
    found = relax(field, constraints(counts / counts.sum(1, keepdims=True)), 0.5, 50)
    assert (found.before, found.after, found.iterations) == (0, 0, 1)
    assert not found.penalty.any()
    assert found.score == found.bound == values.sum().item()
    free = relax(field, constraints(np.full_like(shares, np.nan)), 0.5, 50)
    assert (free.constraints, free.before, free.iterations) == (0, 0, 1)


def test_a_label_that_is_predicted_nowhere_shifts_nothing():
    field, shares = star(np.random.default_rng(0), 300, 3)
    field.pairwise[:, 1] = -40.0
    with_it, without = shares.copy(), shares.copy()
    without[1] = np.nan
    a, b = (relax(field, constraints(s), 0.5, 200) for s in (with_it, without))
    assert a.before > 0
    assert torch.equal(a.penalty, b.penalty)


@pytest.mark.parametrize("groups", [2, 3])
def test_how_far_the_worst_share_strays_is_told_as_a_ratio(groups):
    rng = np.random.default_rng(groups)
    shares, counts = rng.dirichlet(np.full(groups, 3.0), 5), rng.integers(0, 40, (5, groups)).astype(float)
    shares[1], counts[2] = np.nan, 0.0  # a label that is free, and one that is predicted nowhere
    stray = np.abs(counts / np.maximum(counts.sum(1, keepdims=True), 1) - shares)[[0, 3, 4]]
    limits = constraints(shares)
    assert limits.beyond(torch.tensor(counts)) == pytest.approx(max(0.0, stray.max() - MARGIN))
    assert limits.beyond(torch.tensor(shares).nan_to_num(0.5) * 1000) == 0.0
    assert np.isnan(limits.beyond(torch.zeros(5, groups, dtype=torch.float64)))
    assert np.isnan(constraints(np.full((2, groups), np.nan)).beyond(torch.ones(2, groups, dtype=torch.float64)))


@pytest.mark.parametrize("kind", [star, joint])
def test_what_is_left_beyond_the_margin_is_that_of_the_kept_prediction(kind):
    field, shares = kind(np.random.default_rng(1), 300, 5)
    limits = constraints(shares)
    found = relax(field, limits, 0.5, 2)  # too few iterations to obey

    def beyond(penalty):
        labels, chosen, _ = field.lowered(penalty).decode()
        counts = counted(labels.numpy(), chosen.numpy(), 5, 2)
        kept = counts.sum(1) > 0
        return np.abs(counts[kept] / counts[kept].sum(1, keepdims=True) - shares[kept]).max() - MARGIN

    assert found.after > 0
    assert found.beyond_before == pytest.approx(beyond(torch.zeros_like(found.penalty)))
    assert found.beyond_after == pytest.approx(beyond(found.penalty))


# ------------------------------------------------------------------ the method
def table(rng, n, shares, many=True):
    k = len(shares)
    codes = rng.integers(-1, 2, n)
    if many:
        columns = {f"label/l{i}": (rng.random(n) < 0.5).astype(np.uint8) for i in range(k)}
        for i in range(k):  # the label's carriers are of group 0 with the planted share
            carriers = columns[f"label/l{i}"] == 1
            columns[f"label/l{i}"] = (carriers & (rng.random(n) < np.where(codes == 0, *shares[i]))).astype(np.uint8)
    else:
        columns = {"label": rng.integers(0, k, n)}
    ids = [f"r{i}" for i in range(n)]
    return pd.DataFrame({"id": ids, "path": ids, **columns, "attribute/gender": codes})


def outputs(head, field):
    scores = {name: s.float().numpy() for name, s in head.scores(field).items()} | {
        "other": np.ones((len(field.pairwise), 2), np.float32)
    }
    kept = {name: torch.tensor(scores[name]) for name in head.potential_scores}
    return Outputs(scores, head.decode(kept).numpy(), [f"i{i}" for i in range(len(field.pairwise))])


@pytest.mark.parametrize("many", [True, False])
def test_outputs_are_those_of_the_constrained_field(many):
    rng = np.random.default_rng(0)
    field, shares = (star if many else joint)(rng, 500, 4)
    head = (StarHead if many else JointHead)(2, torch.ones(4), "gender", 2)
    reference, given_ = table(rng, 900, shares, many), outputs(head, field)
    before = {name: s.copy() for name, s in given_.scores.items()}
    rba = Rba(support=10)
    assert rba.report() == {}
    told = rba.postprocess(given_, reference, head)
    assert rba.found.before > 0
    assert rba.found.after == 0
    assert all(np.array_equal(before[name], s) for name, s in given_.scores.items())
    assert told.ids == given_.ids
    assert told.labels.dtype == given_.labels.dtype
    assert list(told.scores) == list(given_.scores)
    assert told.scores["other"] is given_.scores["other"]
    stored = {name: torch.tensor(s) for name, s in told.scores.items()}
    assert np.array_equal(head.decode(stored).numpy(), told.labels)
    again = head.field(stored)
    np.testing.assert_allclose(again.label_scores().numpy(), told.scores["label"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(again.group_scores().numpy(), told.scores["gender"], rtol=1e-4, atol=1e-4)
    y = reference[[f"label/l{i}" for i in range(4)]].to_numpy() if many else np.eye(4)[reference["label"]]
    code = reference["attribute/gender"].to_numpy()
    trained = np.stack([y[code == g].sum(0) for g in (0, 1)], 1)
    groups = again.decode()[1].numpy()
    assert obeys(counted(told.labels, groups, 4, 2), trained / trained.sum(1, keepdims=True))
    assert (told.labels != given_.labels).any()
    assert rba.postprocess(told, reference, head) is told  # what obeys is left alone


def test_support_frees_rare_labels():
    rows = pd.DataFrame({"label/a": [1, 1, 1, 0], "label/b": [0, 1, 1, 1], "attribute/gender": [0, 1, 0, -1]})
    np.testing.assert_allclose(training_shares(rows, "gender", 2, 2, 0), [[2 / 3, 1 / 3], [1 / 2, 1 / 2]])
    shares = training_shares(rows, "gender", 2, 2, 2)
    np.testing.assert_allclose(shares[0], [2 / 3, 1 / 3])
    assert np.isnan(shares[1]).all()


def test_needs_a_crf():
    given_ = Outputs({"label": np.zeros((2, 2), np.float32)}, np.zeros((2, 2), np.uint8), ["a", "b"])
    with pytest.raises(UsageError, match=r"Write crf\+rba"):
        Rba().postprocess(given_, pd.DataFrame(), MultiLabelHead(3, torch.ones(2)))


@pytest.mark.parametrize(
    "options", [{"margin": -0.1}, {"margin": float("nan")}, {"step": 0.0}, {"iterations": 0}, {"support": -1}]
)
def test_senseless_options(options):
    with pytest.raises(UsageError, match="rba"):
        Rba(**options)
