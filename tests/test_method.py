"""The laws of composition: a neutral element, associativity, order, and at most one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from biasbench import (
    Activations,
    Backbone,
    Batch,
    BuildInfo,
    Method,
    MultiLabelHead,
    Outputs,
    Phase,
    Pipeline,
    UsageError,
)
from biasbench.builtin.methods.original import Original
from biasbench.method import POINTS, overrides

pytestmark = pytest.mark.torch


class Chain(Backbone):
    name = "chain"

    def __init__(self):
        super().__init__()
        self.segments = nn.ModuleDict(
            {
                "conv5": nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5)),
                "embedding": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            }
        )
        self.channels = {"image": 3, "conv5": 2, "embedding": 2}
        self.strides = {"image": 1, "conv5": 2}


class Affine(Method):
    """x -> times * x + plus at every point that chains, so that order shows."""

    name = "affine"
    taps = ("conv5",)
    touches = ("conv5",)

    def __init__(self, times, plus, region="person"):
        super().__init__()
        self.times, self.plus = times, plus
        self.requires = frozenset({f"masks:{region}"})
        self.regions, self.masks = (region,), (region,)

    def build(self, info):
        self.probe = nn.Linear(info.backbone.channels["embedding"], 1)

    def _turn(self, x):
        return self.times * x + self.plus

    def resample(self, table, rng):
        return table[table["x"] % self.times != 0] if self.plus else table.iloc[::-1]

    def edit(self, image, masks, scale):
        return (self._turn(image.astype(int)) % 256).astype(np.uint8)

    def prepare(self, batch):
        return replace(batch, images=self._turn(batch.images))

    def intervene(self, tap, x, batch):
        return self._turn(x)

    def weight(self, losses, batch):
        return torch.full_like(losses, float(self.times))

    def loss(self, out, batch):
        return {"term": self.plus * out.scores["label"].sum()}

    def phases(self):
        return [Phase("probe", list(self.probe.parameters()), lambda out, _: self._turn(out.taps["conv5"]).sum())]

    def diagnose(self, out, batch):
        return {"hit": self._turn(out.scores["label"][:, 0])}

    def postprocess(self, outputs, reference, head):
        return replace(outputs, scores={k: self._turn(v) for k, v in outputs.scores.items()})


class NewHead(Method):
    name = "newhead"

    def head(self, info):
        return MultiLabelHead(2, torch.ones(3))


class Balanced(Method):
    name = "balanced"

    def balance_by(self):
        return "gender"


class Elsewhere(Affine):
    """Touches another tap than the one it is asked about."""

    name = "elsewhere"
    taps = ("embedding",)
    touches = ("embedding",)


INFO = BuildInfo(Chain(), "multilabel", ("a", "b", "c"), {"gender": 2}, 8, torch.ones(3))
BATCH = Batch(torch.rand(4, 3, 8, 8), torch.zeros(4, 3), {"gender": torch.zeros(4).long()}, {}, torch.arange(4))
OUT = Activations({"label": torch.arange(12.0).reshape(4, 3)}, {"conv5": torch.rand(4, 2, 4, 4)})
TABLE = pd.DataFrame({"x": range(12)})
OUTPUTS = Outputs({"label": np.ones((2, 3), np.float32)}, np.ones((2, 3), np.uint8), ["a", "b"])
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def behaviour(method):
    """What a method does at every point, as plain values."""
    torch.manual_seed(0)
    method.build(INFO)
    x, phases = torch.rand(4, 2, 4, 4, generator=torch.Generator().manual_seed(1)), method.phases()
    return {
        "resample": method.resample(TABLE, np.random.default_rng(0))["x"].tolist(),
        "edit": method.edit(IMAGE, {}, 1.0).tolist(),
        "prepare": method.prepare(BATCH).images.tolist(),
        "balance_by": method.balance_by(),
        "head": type(method.head(INFO)).__name__,
        "intervene": [method.intervene(tap, x, BATCH).tolist() for tap in ("conv5", "embedding")],
        "weight": method.weight(torch.ones(4), BATCH).tolist(),
        "loss": [(k, v.item()) for k, v in method.loss(OUT, BATCH).items()],
        "diagnose": [(k, v.tolist()) for k, v in method.diagnose(OUT, BATCH).items()],
        "phases": [(p.name, [q.tolist() for q in p.params], p.loss(OUT, BATCH).item()) for p in phases],
        "postprocess": method.postprocess(OUTPUTS, TABLE, nn.Identity()).scores["label"].tolist(),
        "state": {k: v.tolist() for k, v in method.state_dict().items()},
        "declared": (method.requires, method.regions, method.masks, method.taps, method.touches),
    }


def unnumbered(told):
    """The same, without the positions in names."""
    for key in ("loss", "diagnose", "phases"):
        told[key] = [(entry[0].split(".", 1)[1], *entry[1:]) for entry in told[key]]
    told["state"] = {k.split(".", 2)[2]: v for k, v in told["state"].items()}
    return told


def parts():
    return [Affine(2, 3), NewHead(), Affine(5, 0, "face"), Balanced(), Elsewhere(3, 1)]


# ------------------------------------------------------------------ laws
def test_defaults_change_nothing():
    method = Method()
    told = behaviour(method)
    assert told["resample"] == TABLE["x"].tolist()
    assert told["edit"] == IMAGE.tolist()
    assert method.prepare(BATCH) is BATCH
    assert told["weight"] == [1, 1, 1, 1]
    assert (told["loss"], told["phases"], told["diagnose"], told["state"]) == ([], [], [], {})
    assert method.postprocess(OUTPUTS, TABLE, nn.Identity()) is OUTPUTS
    assert not any(overrides(method, point) for point in POINTS)
    assert behaviour(Pipeline([])) == told
    assert behaviour(Pipeline([Original()])) == told
    assert behaviour(Original()) == told


@pytest.mark.parametrize("part", range(5))
def test_original_is_neutral_on_both_sides(part):
    alone = unnumbered(behaviour(Pipeline([parts()[part]])))
    assert unnumbered(behaviour(Pipeline([Original(), parts()[part]]))) == alone
    assert unnumbered(behaviour(Pipeline([parts()[part], Original()]))) == alone


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 3, 0), (4, 0, 3), (0, 2, 4)])
def test_associative_in_behaviour_names_and_state(order):
    def pick():
        return [parts()[i] for i in order]

    flat = behaviour(Pipeline(pick()))
    a, b, c = pick()
    assert behaviour(Pipeline([Pipeline([a, b]), c])) == flat
    a, b, c = pick()
    assert behaviour(Pipeline([a, Pipeline([b, c])])) == flat


def test_left_to_right_as_written():
    double, add = Affine(2, 0), Affine(1, 3)
    told = {"double+add": Pipeline([double, add]), "add+double": Pipeline([add, double])}
    x = torch.ones(1, 2, 2, 2)
    one = Outputs({"label": np.ones((1, 1), np.float32)}, np.ones((1, 1)), ["a"])
    for name, expected in (("double+add", 5), ("add+double", 8)):
        m = told[name]
        assert m.intervene("conv5", x, BATCH).unique().tolist() == [expected]
        assert m.prepare(replace(BATCH, images=x)).images.unique().tolist() == [expected]
        assert np.unique(m.edit(np.ones((2, 2, 3), np.uint8), {}, 1.0)).tolist() == [expected]
        assert m.postprocess(one, TABLE, nn.Identity()).scores["label"].item() == expected
    tail = Pipeline([Affine(1, 0), Affine(3, 1)]).resample(TABLE, np.random.default_rng(0))
    assert tail.x.tolist() == [x for x in reversed(range(12)) if x % 3]


def test_weights_multiply_and_losses_add_up():
    m = Pipeline([Affine(2, 3), Affine(5, 4)])
    assert m.weight(torch.ones(2), BATCH).tolist() == [10, 10]
    assert {k: v.item() for k, v in m.loss(OUT, BATCH).items()} == {"0.affine/term": 3 * 66, "1.affine/term": 4 * 66}


def test_one_method_may_appear_twice():
    m = Pipeline([Affine(1, 1), Original(), Affine(1, 1)])
    m.build(INFO)
    assert [p.name for p in m.phases()] == ["0.affine/probe", "2.affine/probe"]
    assert list(m.state_dict()) == [f"methods.{i}.probe.{n}" for i in (0, 2) for n in ("weight", "bias")]
    assert not {id(p) for p in m.phases()[0].params} & {id(p) for p in m.phases()[1].params}


def test_what_is_declared_is_merged_once_in_order():
    m = Pipeline([Affine(1, 1, "face"), Elsewhere(1, 1, "person"), Affine(1, 1, "face")])
    assert m.requires == {"masks:face", "masks:person"}
    assert m.regions == m.masks == ("face", "person")
    assert m.taps == m.touches == ("conv5", "embedding")


def test_a_method_is_asked_about_its_own_taps_only():
    x = torch.ones(1, 2)
    assert Pipeline([Elsewhere(7, 0)]).intervene("conv5", x, BATCH) is x
    assert Pipeline([Elsewhere(7, 0)]).intervene("embedding", x, BATCH).unique().tolist() == [7]


def test_at_most_one_head_and_one_balance():
    assert type(Pipeline([Original(), NewHead()]).head(INFO)) is MultiLabelHead
    with pytest.raises(UsageError, match="only one method may decide this, not newhead and newhead"):
        Pipeline([NewHead(), Original(), NewHead()]).head(INFO)
    assert Pipeline([Balanced(), NewHead()]).balance_by() == "gender"
    with pytest.raises(UsageError, match="balanced and balanced"):
        Pipeline([Balanced(), Balanced()]).balance_by()


def test_overrides_looks_into_pipelines():
    m = Pipeline([Original(), Pipeline([NewHead()])])
    assert overrides(m, "head")
    assert not overrides(m, "edit")
    assert [p for p in POINTS if overrides(Pipeline([Balanced()]), p)] == ["balance_by"]


# ------------------------------------------------------------------ what a row must tell
class Told(Method):
    """Goes by things that a new picture does not bring along."""

    name = "told"

    def __init__(self, transductive=False, privileged=(), regions=(), masks=()):
        super().__init__()
        self.transductive, self.privileged, self.regions, self.masks = transductive, privileged, regions, masks
        self.flags = ("told: so",)

    def report(self):
        return {"count": 2.0}


def test_marks_are_declared_or_follow_from_the_regions_that_are_handed_out():
    assert Pipeline([Original(), Told()]).flags == ("told: so",)
    method = Pipeline([Told(privileged=("attribute gender",), masks=("person",)), Told(True, (), ("face", "person"))])
    assert method.transductive
    known = ("told: so", "transductive", "privileged: attribute gender")
    assert method.flags == method.row_flags() == (*known, "privileged: region face", "privileged: region person")
    assert method.row_flags(detected={"face"}) == (*known, "privileged: region person")
    assert Pipeline([Original(), method]).flags == method.flags


def test_blackout_is_privileged_by_annotated_boxes_only():
    from biasbench.builtin.methods.redact import Blackout

    method = Pipeline([Blackout("face")])
    assert method.flags == ("privileged: region face",)
    assert method.row_flags(detected=("face",)) == ()


def test_reports_carry_the_place_and_name():
    assert Pipeline([Original(), Told(), Told()]).report() == {"1.told/count": 2.0, "2.told/count": 2.0}
    assert Pipeline([Original()]).report() == {}


def test_any_method_may_refuse_before_the_head_is_asked_for():
    class Refuses(Original):
        def check(self, info):
            if info.crop % 5:
                raise UsageError("five")

    method = Pipeline([NewHead(), Pipeline([Refuses()])])
    with pytest.raises(UsageError, match="five"):
        method.head(INFO)
    assert type(method.head(replace(INFO, crop=10))) is MultiLabelHead


# ------------------------------------------------------------------ sizes for building
@pytest.mark.parametrize("training", [True, False])
def test_tap_shapes_come_from_a_real_pass_that_leaves_no_trace(training):
    info = replace(INFO, backbone=Chain().train(training))
    before = {k: v.clone() for k, v in info.backbone.state_dict().items()}
    modes = [m.training for m in info.backbone.modules()]
    assert info.tap_shape("conv5") == (2, 4, 4)
    assert info.tap_shape("embedding") == (2,)
    assert info.tap_shape("image") == (3, 8, 8)
    assert [m.training for m in info.backbone.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in info.backbone.state_dict().items())
    with pytest.raises(UsageError, match=r"no tap 'conv9'.*Did you mean 'conv5'"):
        info.tap_shape("conv9")


def test_tap_shape_keeps_mixed_modes():
    backbone = Chain().train()
    backbone.segments["conv5"][1].eval()  # a layer that is held
    replace(INFO, backbone=backbone).tap_shape("conv5")
    assert not backbone.segments["conv5"][1].training
    assert backbone.segments["conv5"][2].training
