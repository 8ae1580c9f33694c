"""One NaN, one infinity or one huge number, anywhere: the cell fails, and is never scored."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench.data import LARGEST, Predictions
from biasbench.errors import CellError, DataError, IntegrityError
from biasbench.metric import Column
from biasbench.rng import generator

pytestmark = pytest.mark.torch
PLUGIN = '''
import numpy as np
import torch

from biasbench import Method, Phase, hookimpl

VALUES = {"nan": float("nan"), "inf": float("inf"), "minus": float("-inf"), "huge": 1e38, "none": 0.0}


class Spoil(Method):
    """Puts one bad number in one place."""

    name = "spoil"
    touches = ("embedding",)

    def __init__(self, place: str = "loss", value: str = "none", row: int = 0, column: int = 0):
        super().__init__()
        self.place, self.value, self.row, self.column = place, VALUES[value], row, column

    def build(self, info):
        self.scale = torch.nn.Parameter(torch.ones(()))

    def put(self, x):
        if self.value:
            x = x.clone()
            x[self.row % len(x), self.column % x.shape[1]] = self.value
        return x

    def intervene(self, tap, x, batch):
        if self.place == ("embedding" if self.training else "prediction"):
            return self.put(x)
        if self.place == "gradient" and x.requires_grad and self.value:
            x.register_hook(self.put)
        return x

    def loss(self, out, batch):
        return {"mine": 0 * self.scale + (self.value if self.place == "loss" else 0)}

    def weight(self, losses, batch):
        weights = torch.ones_like(losses)
        if self.place == "weight" and self.value:
            weights[self.row % len(weights)] = self.value
        return weights

    def phases(self):
        value = self.value if self.place == "phase" else 0
        return [Phase("mine", [self.scale], lambda out, batch: self.scale * 0 + value)]

    def postprocess(self, outputs, reference, head):
        if self.place == "postprocess":
            scores = outputs.scores["label"].copy()
            if self.value:
                scores[self.row % len(scores), self.column % scores.shape[1]] = self.value
            return type(outputs)({"label": scores}, outputs.labels, outputs.ids)
        return outputs


@hookimpl
def biasbench_methods():
    return [Spoil]
'''
PLACES = ("loss", "weight", "phase", "embedding", "prediction", "postprocess", "gradient")
VALUES = ("nan", "inf", "minus", "huge")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "spoil.py"
    file.write_text(PLUGIN)
    return file


def train(plugin: Path, place: str, value: str, row: int = 0, column: int = 0) -> None:
    """Two steps of training, and prediction, in the conformance kit's cell."""
    from biasbench.testing._subject import Subject, scratch

    text = f"spoil(place='{place}', value='{value}', row={row}, column={column})"
    with scratch() as folder:
        Subject(text, [plugin]).train(Path(folder))


def test_control_nothing_is_wrong_without(plugin: Path) -> None:
    train(plugin, "loss", "none")


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_number_while_training_or_predicting(plugin: Path, place: str) -> None:
    rng = generator("nonfinite", place)  # the campaign tries a hundred positions
    value, row, column = VALUES[PLACES.index(place) % len(VALUES)], *rng.integers(0, 200, 2).tolist()
    with pytest.raises(CellError, match=r"not finite|as large as"):
        train(plugin, place, value, row, column)


# ------------------------------------------------------------------ what is computed once and kept
@settings(max_examples=25, deadline=None)
@given(st.sampled_from([math.nan, math.inf, -math.inf, 1e38]), st.integers(0, 5), st.integers(0, 6))
def test_a_bad_activation_is_not_kept(tmp_path_factory: Any, value: float, row: int, column: int) -> None:
    from biasbench.features import FeatureBank
    from biasbench.source import CENTRE

    bank, folder = FeatureBank(tmp_path_factory.getbasetemp() / "bank", {}), tmp_path_factory.getbasetemp() / "array"
    array = np.ones((6, 7), np.float32)
    array[row, column] = value
    with pytest.raises(CellError, match="not finite"):
        bank._write(folder, array, "conv5", "train", CENTRE)
    assert not folder.exists()


# ------------------------------------------------------------------ what metrics are handed
def predictions(**change: Any) -> Predictions:
    arrays = {"scores": np.ones((6, 2), np.float32), "view": np.ones((6, 2), np.float32), "kept": np.ones((6, 4))}
    arrays |= change
    return Predictions(
        {"label": arrays["scores"]}, np.ones((6, 2), np.uint8), np.ones((6, 2), np.uint8),
        {"gender": np.zeros(6, np.int64)}, list("abcdef"), [{"label": arrays["view"]}], {"own": arrays["kept"]},
    )  # fmt: skip


@settings(max_examples=25)
@given(st.sampled_from(["scores", "view", "kept"]), st.sampled_from([math.nan, math.inf]), st.integers(0, 5))
def test_metrics_are_never_handed_a_bad_number(where: str, value: float, row: int) -> None:
    predictions()
    array = np.ones((6, 2), np.float32)
    array[row, 1] = value
    with pytest.raises(DataError, match=f"of example '{'abcdef'[row]}' is not finite"):
        predictions(**{where: array})


# ------------------------------------------------------------------ what metrics say
METRIC: Any = SimpleNamespace(name="mine", columns=(Column("one", "1", "higher"), Column("several", "n", "lower")))


def tidy(one: float, several: list[float]) -> dict[str, Any]:
    from biasbench.measure import tidy as real

    found: dict[str, Any] = real(METRIC, {"one": one, "several": several})["values"]
    return found


@given(st.sampled_from([math.inf, -math.inf, 1e38, -2 * LARGEST]), st.integers(0, 3))
def test_an_infinite_figure_is_no_figure(value: float, at: int) -> None:
    rounds = [1.0, 2.0, 3.0, 4.0]
    assert tidy(50.0, rounds)["several"]["mean"] == 2.5
    with pytest.raises(IntegrityError, match="no figure"):
        tidy(value, rounds)
    rounds[at] = value
    with pytest.raises(IntegrityError, match="no figure"):
        tidy(50.0, rounds)


@given(st.integers(0, 3))
def test_nan_is_undefined_and_never_a_number(at: int) -> None:
    rounds = [1.0, 2.0, 3.0, 4.0]
    rounds[at] = math.nan
    found = tidy(math.nan, rounds)
    assert [found[name]["mean"] for name in ("one", "several")] == [None, None]
