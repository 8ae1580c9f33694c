"""Protocols by name and their options."""

from __future__ import annotations

import pytest

from biasbench import LEAKAGE_PROTOCOLS, UsageError
from biasbench.measures.named import protocol_named
from biasbench.measures.protocol import PROTOCOLS, Protocol


def test_the_published_constants():
    """The code released with Wang et al. 2019: COCO's four layers, imSitu's five and its larger draws."""
    coco, imsitu = (protocol_named("wang2019", single) for single in (False, True))
    for p in (coco, imsitu):
        assert (p.name, p.rounds, p.epochs, p.lr, p.weight_decay) == ("wang2019", 5, 100, 5e-5, 1e-5)
        assert (p.batch_size, p.width, p.slope, p.share, p.fold) == (128, 300, 0.01, 1.0, True)
    assert (coco.layers, coco.caps) == (4, (3000, 1500, 1500))
    assert (imsitu.layers, imsitu.caps) == (5, (7300, 3000, 3000))


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("name", LEAKAGE_PROTOCOLS)
def test_every_name_is_known_for_any_data(name, single):
    assert protocol_named(name, single).name == name
    if name in PROTOCOLS:  # named outright, it does not depend on the data
        assert protocol_named(name, single) == PROTOCOLS[name]


def test_options_are_constants():
    paper = protocol_named("wang2019(layers=4)", single=True)
    assert (paper.layers, paper.caps, paper.name) == (4, (7300, 3000, 3000), "wang2019(layers=4)")
    changed = protocol_named("quick(lr=1, caps=(10, 20, 30), fold=False, share=0.25)", single=False)
    assert (changed.lr, changed.caps, changed.fold, changed.share) == (1, (10, 20, 30), False, 0.25)
    assert (changed.rounds, changed.epochs) == (PROTOCOLS["quick"].rounds, PROTOCOLS["quick"].epochs)
    certified = protocol_named("certified(folds=3, kinds=('logistic', 'mlp-1'), caps=(9, 9, 9))", single=False)
    assert (certified.folds, certified.kinds, certified.caps) == (3, ("logistic", "mlp-1"), (9, 9, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quik", r"no leakage protocol 'quik'. Did you mean 'quick'\? Known: wang2019, "),
        ("quick+smoke", "names several protocols. Name one"),
        ("quick(3)", "write NAME=VALUE"),
        ("quick(epoch=3)", r"no constant 'epoch'. Did you mean 'epochs'\? Known: rounds, epochs"),
        ("quick(name='x')", "no constant 'name'"),
        ("certified(layers=3)", "protocol certified has no constant 'layers'"),
        ("quick(epochs=2.5)", "epochs must be like 25, not 2.5"),
        ("quick(epochs='3')", "epochs must be like 25, not '3'"),
        ("quick(epochs=True)", "epochs must be like 25, not True"),
        ("quick(fold=1)", "fold must be like True, not 1"),
        ("quick(caps=3)", r"caps must be like \(3000, 1500, 1500\), not 3"),
        ("quick(caps=(1, 2))", "caps needs a positive number for each of train, val, test"),
        ("quick(caps=(1, 2, 3.5))", "caps must be like"),
        ("quick(caps=(1, 2, 0))", "caps needs a positive number for each of train, val, test"),
        ("quick(epochs=0, rounds=0)", "rounds must be at least 1; epochs must be at least 1"),
        ("quick(share=0)", "share must be above 0 and at most 1"),
        ("quick(lr=0.0)", "lr must be above 0"),
        ("quick(slope=-1)", "slope must not be below 0"),
        ("certified(folds=1)", "folds must be at least 2"),
        ("certified(kinds=('forest',))", "kinds must be some of logistic"),
        ("certified(caps='all')", "caps"),
        ("certified(kinds='logistic')", "kinds"),
    ],
)
def test_what_cannot_be_meant_is_told(text, said):
    with pytest.raises(UsageError, match=said):
        protocol_named(text, single=False)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(UsageError, match=r"lr must be above 0"):
        Protocol("bad", lr=float("nan"))


def test_names_are_shown_made_harmless():
    with pytest.raises(UsageError) as error:
        protocol_named("a\x1b[2J", single=False)
    assert "\x1b" not in str(error.value)
