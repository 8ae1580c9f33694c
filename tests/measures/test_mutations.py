"""The conformance scenarios notice planted bugs in every measure."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from tests.measures.conformance import wrong_answers
from tests.measures.mutations import Mutation, loaded
from tests.measures.test_conformance import SCENARIOS

HOME = "biasbench.measures"
# Each after those it imports.
MODULES = tuple(
    f"{HOME}.{name}"
    for name in ("figures", "counts", "amplification", "directional", "combinations", "multi", "gaps", "groups")
)
# Module, the mistake, what stands there, what is planted.
PLANTED = (
    ("figures", "undefined counts as 0", "np.full(shape, np.nan)", "np.zeros(shape)"),
    ("figures", "mean over undefined values too", "float(defined.mean()) if", "float(defined.sum() / values.size) if"),
    ("figures", "sum for mean", "float(defined.mean()) if", "float(defined.sum()) if"),
    (
        "counts",
        "unknown attributes are the first group",
        "known = codes >= 0",
        "codes, known = np.maximum(codes, 0), codes >= -1",
    ),
    ("counts", "nobody is unknown", "int((~known).sum())", "0"),
    ("counts", "groups swapped", "labels[codes == g]", "labels[codes == len(self.groups) - 1 - g]"),
    (
        "counts",
        "groups by position, not by code",
        "labels[codes == g]",
        "labels[np.unique(codes, return_inverse=True)[1] == g]",
    ),
    (
        "counts",
        "group sizes by position",
        "np.bincount(codes, minlength=len(self.groups))",
        "np.pad(np.unique(codes, return_counts=True)[1], (0, len(self.groups) - len(np.unique(codes))))",
    ),
    ("counts", "the reference is ignored", "if reference is None else reference", "if True else reference"),
    (
        "counts",
        "the true labels are taken for the predicted",
        '"labels": labels}, extra)',
        '"labels": targets}, extra)',
    ),
    (
        "counts",
        "the predicted labels are taken for the true",
        '{"targets": targets, "labels"',
        '{"targets": labels, "labels"',
    ),
    ("amplification", "exactly 1/G is a bias", "reference * groups > total", "reference * groups >= total"),
    ("amplification", "all groups count", "biased = reference * groups > total", "biased = reference >= 0"),
    (
        "amplification",
        "predicted bias decides which groups count",
        "biased = reference * groups > total",
        "biased = predicted * groups > predicted.sum(0)",
    ),
    (
        "amplification",
        "signs turned",
        "ratio(predicted, predicted.sum(0)) - ratio(reference, total)",
        "ratio(reference, total) - ratio(predicted, predicted.sum(0))",
    ),
    (
        "amplification",
        "absolute values of groups",
        "np.isnan(difference), difference, 0.0)",
        "np.isnan(difference), np.abs(difference), 0.0)",
    ),
    (
        "amplification",
        "absolute values",
        "100 * summed(toward_biased(true, predicted, int(present.sum())))",
        "100 * np.abs(summed(toward_biased(true, predicted, int(present.sum()))))",
    ),
    (
        "amplification",
        "shares of the group, not of the label",
        "difference = ratio(predicted, predicted.sum(0))",
        "difference = ratio(predicted, predicted.sum(1, keepdims=True))",
    ),
    (
        "amplification",
        "no normalisation",
        "difference = ratio(predicted, predicted.sum(0))",
        "difference = ratio(predicted, total)",
    ),
    (
        "amplification",
        "training and test swapped",
        "toward_biased(true, predicted, int",
        "toward_biased(predicted, true, int",
    ),
    (
        "amplification",
        "absent groups count in 1/G",
        "predicted, int(present.sum())))",
        "predicted, len(scope.groups)))",
    ),
    ("amplification", "groups that are not measured count", "(reference > 0) & (measured > 0)", "reference > 0"),
    (
        "amplification",
        "predicted attributes are ignored",
        'test.extra.get("attribute_predictions", test.codes)',
        "test.codes",
    ),
    ("amplification", "one group has a bias", "if groups < 2 else out", "if groups < 1 else out"),
    ("amplification", "fractions, not points", "per_label = 100 * summed", "per_label = summed"),
    ("directional", "direction of the test split", "_association(scope, train)", "_association(scope, test)"),
    (
        "directional",
        "direction without base rates",
        "pairs * len(train.codes) - in_group * with_label",
        "pairs * 2 - with_label",
    ),
    (
        "directional",
        "direction from rounded shares",
        "pairs * len(train.codes) - in_group * with_label",
        "pairs / len(train.codes) - (with_label / len(train.codes)) * (in_group / len(train.codes))",
    ),
    (
        "directional",
        "independent pairs count against",
        "sign[np.broadcast_to",
        "sign[sign == 0] = -1\n    sign[np.broadcast_to",
    ),
    ("directional", "only positive associations", "100 * sign * change", "100 * np.maximum(sign, 0) * change"),
    ("directional", "direction left out", "100 * sign * change", "100 * change"),
    ("directional", "unsigned", "100 * sign * change", "100 * np.abs(sign * change)"),
    (
        "directional",
        "labels over all labels of a group",
        "[:, None]\n    return ratio(",
        "[:, None] * len(scope.label_names)\n    return ratio(",
    ),
    (
        "directional",
        "guesses over all examples",
        "true.sum(0, dtype=np.int64))\n    change",
        "np.array(len(true)))\n    change",
    ),
    (
        "directional",
        "guesses beside predicted labels",
        '    true = test.labels["targets"]',
        '    true = test.labels["labels"]',
    ),
    ("directional", "an absent group has a change", "change[scope.sizes(test.codes) == 0] = np.nan", "pass"),
    (
        "directional",
        "a label missing in the reference has a direction",
        "(in_group == 0) | (with_label == 0)",
        "in_group == 0",
    ),
    ("combinations", "more than min_count in training", "true.sum(0) >= min_count", "true.sum(0) > min_count"),
    ("combinations", "more than min_count measured", "first).sum(0) >= min_count", "first).sum(0) > min_count"),
    (
        "combinations",
        "not asked of the measured split",
        "measured.counted(rows[1], first).sum(0) >= min_count",
        "true.sum(0) > 0",
    ),
    ("combinations", "one label too few", "len(longer) != max_size", "len(longer) + 1 != max_size"),
    ("combinations", "single labels only", "longer[-1] + 1 < k", "longer[-1] + 1 < 0"),
    (
        "combinations",
        "predictions of the first label only",
        "p.having(r, longer[-1]) for p, r in",
        "p.having(r, longer[0]) for p, r in",
    ),
    (
        "combinations",
        "counts of truth for predictions",
        "predicted.counted(rows[2], first)",
        "measured.counted(rows[1], first)",
    ),
    ("multi", "signed", "value = mean_defined(summed(np.abs(change)))", "value = mean_defined(summed(change))"),
    (
        "multi",
        "absolute value of the sum",
        "mean_defined(summed(np.abs(change)))",
        "mean_defined(np.abs(summed(change)))",
    ),
    ("multi", "mean over groups too", "mean_defined(summed(np.abs(change)))", "mean_defined(np.abs(change))"),
    ("multi", "sample variance", "np.var(pairs[~np.isnan(pairs)])", "np.var(pairs[~np.isnan(pairs)], ddof=1)"),
    ("multi", "variance of absolute changes", "pairs = change[present]", "pairs = np.abs(change[present])"),
    ("multi", "absent groups in the variance", "pairs = change[present]", "pairs = change"),
    ("multi", "training and test swapped", "counts[:, 0].T, counts[:, 1].T", "counts[:, 1].T, counts[:, 0].T"),
    ("multi", "label sets seen once are enough", "if whole[m] >= min_count", "if whole[m] > 0"),
    ("multi", "predicted attributes are ignored", 'test.extra.get("attribute_predictions", test.codes)', "test.codes"),
    ("gaps", "mean of the groups for the lowest", "(highest - lowest)", "(highest - np.nanmean(rates, 0))"),
    ("gaps", "first less last group", "(highest - lowest)", "np.abs(rates[0] - rates[-1])"),
    ("gaps", "one group has a gap", "enough = defined.sum(0) > 1", "enough = defined.sum(0) > 0"),
    (
        "gaps",
        "undefined rates count as 0",
        "    defined = ~np.isnan(rates)",
        "    rates = np.nan_to_num(rates)\n    defined = ~np.isnan(rates)",
    ),
    ("gaps", "share of everybody", "scope.sizes(rows.codes)[:, None])", "np.array(len(rows.codes)))"),
    ("gaps", "the smaller gap", "np.maximum(true_positive", "np.minimum(true_positive"),
    (
        "gaps",
        "the mean gap",
        "np.maximum(true_positive.per_label, false_positive.per_label)",
        "(true_positive.per_label + false_positive.per_label) / 2",
    ),
    ("gaps", "false positives among positives", "ratio(wrong, negative)", "ratio(wrong, positive)"),
    ("gaps", "true positives among the predicted", "ratio(both, positive)", "ratio(both, both + wrong)"),
    ("gaps", "all predictions are wrong ones", "rows.codes) - both", "rows.codes)"),
    (
        "groups",
        "best group",
        "np.nanargmin(figures))\n    return Worst(float(figures[g])",
        "np.nanargmax(figures))\n    return Worst(float(figures[g])",
    ),
    ("groups", "best pair", "np.unravel_index(np.nanargmin(", "np.unravel_index(np.nanargmax("),
    ("groups", "mean of the groups", "return Worst(float(figures[g]),", "return Worst(float(np.nanmean(figures)),"),
    (
        "groups",
        "label and group swapped",
        "scope.label_names[k]}, {scope.groups[g]",
        "scope.groups[g]}, {scope.label_names[k]",
    ),
    ("groups", "F1 without its 2", "100 * ratio(2 * both", "100 * ratio(both"),
    ("groups", "F1 of a label that a group does not have", "np.where(positives > 0, either, 0)", "either"),
    ("groups", "undefined F1 counts as 0", "mean_defined(f1) for f1", "mean_defined(np.nan_to_num(f1)) for f1"),
    ("groups", "accuracy of one-hot decisions", "single = np.ndim(targets) == 1", "single = False"),
    ("groups", "accuracy over examples, not decisions", "n if single else n * len(scope.label_names)", "n"),
    ("groups", "n of the whole group for a pair", "int(n[g, k]), name", "int(n[g].sum()), name"),
)
MUTATIONS = [Mutation(f"{HOME}.{module}", *rest) for module, *rest in PLANTED]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_planted_bug_is_noticed(mutation: Mutation) -> None:
    with loaded(MODULES, mutation) as measures:
        assert wrong_answers(SCENARIOS, measures)  # a crash alone would prove nothing


def test_without_a_bug_nothing_fails() -> None:
    imported = import_module(MODULES[0])
    with loaded(MODULES) as measures:
        assert sys.modules[MODULES[0]] is not imported
        assert [s.wrong(measures) for s in SCENARIOS if s.wrong(measures)] == []
    assert sys.modules[MODULES[0]] is imported


def test_a_mutation_that_changes_nothing_is_an_error() -> None:
    for old in ("this text is nowhere", "import"):  # never there; there more than once
        with pytest.raises(LookupError, match="times in"), loaded(MODULES, Mutation(MODULES[0], "none", old, "")):
            pass
    with pytest.raises(LookupError, match="not loaded"), loaded(MODULES, Mutation("biasbench.io", "none", "a", "b")):
        pass
    assert len({str(m) for m in MUTATIONS}) == len(MUTATIONS)
