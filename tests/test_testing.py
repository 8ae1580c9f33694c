"""The conformance kit: everything registered passes it, and every kind of fault is caught."""

from __future__ import annotations

import pytest

from biasbench.errors import UsageError
from biasbench.grammar import parse
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def kit():
    import biasbench.testing

    return biasbench.testing


AS_TESTED = {"rba": "crf+rba(support=2)", "adv-image": "adv-image(channels=2, warmup=1, mask_steps=1, repeat=1)"}
LIKE_BLACKOUT = ("blur", "gray", "edges")  # other paint on the same region


def registered():
    """Every class, under its own name; presets are the same class."""
    names = [o.name for o in load_plugins().methods if not o.entry.options and "{" not in o.name]
    return [AS_TESTED.get(name, name) for name in names]


# ------------------------------------------------------------------ what is registered conforms
@pytest.mark.parametrize("name", registered())
def test_conforms(kit, name):
    kit.check_method(name)


@pytest.mark.parametrize("name", registered())
def test_conforms_on_one_label_per_picture(kit, name):
    from biasbench.testing._subject import Subject

    subject = Subject(name, task="multiclass")
    kit.check_resample(subject)
    kit.check_points(subject)
    kit.check_reload(subject)


def test_every_built_in_class_is_composed_with(kit):
    methods = load_plugins().methods
    ours = {o.entry.target for o in methods if o.origin.plugin == "builtin"}
    left_out = {methods.find(name).entry.target for name in (*LIKE_BLACKOUT, "rba")}  # rba needs a crf
    assert {methods.find(parse(text)[0].name).entry.target for text in kit.BUILT_INS} == ours - left_out


def test_compositions_of_three(kit):
    from biasbench.testing._subject import Subject

    kit.check_determinism(Subject("alpha-2+blackout-segm+adv-conv5(warmup=2, task_stream='balanced')"))


# ------------------------------------------------------------------ faults
PLUGIN = """
from dataclasses import replace

import numpy as np
import torch

from biasbench import Method, Phase, hookimpl

new = np.random.default_rng

def enough(table):
    if len(table) < 32:
        raise RuntimeError("too few")

class Faulty(Method):
    name = "faulty"
    touches = ("conv4",)
    seen = 0
{body}

@hookimpl
def biasbench_methods():
    return [Faulty]
"""

ARGUMENTS = {
    "resample": "self, table, rng",
    "edit": "self, image, masks, scale",
    "prepare": "self, batch",
    "intervene": "self, tap, x, batch",
    "weight": "self, losses, batch",
    "loss": "self, out, batch",
    "phases": "self",
    "diagnose": "self, out, batch",
    "postprocess": "self, o, table, head",
}
# check, what it says, point, its body (the last expression is returned)
FAULTS = [
    ("check_resample", "changes its input", "resample", "table['label/red'] = 0; table"),
    ("check_resample", "not the table's", "resample", "table.set_index(table.index + 100)"),
    ("check_resample", "may only select", "resample", "table.assign(**{'label/red': 0})"),
    ("check_resample", "draws differently", "resample", "table.sample(9, random_state=new())"),
    ("check_edit", "in place", "edit", "image[:] = 0; image"),
    ("check_edit", "shape or dtype", "edit", "image / 2"),
    ("check_edit", "shape or dtype", "edit", "image[1:]"),
    ("check_edit", "repeat", "edit", "new().integers(9, size=image.shape).astype(np.uint8)"),
    (
        "check_prepare",
        "drops or moves rows",
        "prepare",
        "replace(batch, images=batch.images[1:], index=batch.index[1:])",
    ),
    ("check_prepare", "'images' in place", "prepare", "batch.images.mul_(0.5); batch"),
    ("check_points", "intervene changes its input", "intervene", "x.add_(1)"),
    ("check_points", "intervene returns shape", "intervene", "x.mean(1)"),
    ("check_points", "weight changes its input 'losses'", "weight", "losses.mul_(2)"),
    ("check_points", "weight returns shape", "weight", "losses.mean()"),
    ("check_points", "weight returns values that are not finite", "weight", "losses / 0"),
    ("check_points", "loss returns shape", "loss", "{'x': out.scores['label'].sum(1)}"),
    ("check_points", "loss changes its input 'scores/label'", "loss", "{'x': out.scores['label'].zero_().sum()}"),
    ("check_points", "foreign", "phases", "[Phase('p', [torch.nn.Parameter(torch.ones(1))], None)]"),
    ("check_points", "diagnose returns shape", "diagnose", "{'x': out.scores['label'].mean()}"),
    ("check_postprocess", "changes its input", "postprocess", "o.scores['label'][:] = 0; o"),
    ("check_postprocess", "changes the rows", "postprocess", "replace(o, ids=o.ids[::-1])"),
    ("check_determinism", "differ", "weight", "losses.detach() * new().random()"),
    ("check_reload", "predictions .* differ", "intervene", "self.seen += self.training; x * (1 + self.seen)"),
    ("check_composition", r"alpha-2\+faulty fails: RuntimeError: too few", "resample", "enough(table); table"),
]


@pytest.mark.parametrize(("check", "problem", "point", "body"), FAULTS, ids=[f"{c}-{p}" for c, p, *_ in FAULTS])
def test_faults_are_caught(kit, tmp_path, check, problem, point, body):
    from biasbench.testing._subject import Subject

    *before, last = body.split("; ")
    lines = [f"    def {point}({ARGUMENTS[point]}):", *(f"        {b}" for b in before), f"        return {last}"]
    path = tmp_path / "faulty.py"
    path.write_text(PLUGIN.replace("{body}", "\n".join(lines)))
    with pytest.raises(kit.ConformanceError, match=problem) as caught:
        getattr(kit, check)(Subject("faulty", [path]))
    assert "faulty" in str(caught.value)


def test_unknown_methods_are_usage_errors(kit):
    with pytest.raises(UsageError, match="Did you mean 'original'"):
        kit.check_method("orginal")
