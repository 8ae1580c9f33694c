"""Checkpoints hold all state, survive damage, and run no code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench.checkpoint import Checkpoints, flatten, load_tensors, save_tensors, unflatten
from biasbench.errors import IntegrityError, StoreError
from biasbench.io import hash_file

pytestmark = pytest.mark.torch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60)
@given(JSON)
def test_any_state_comes_back(value: object) -> None:
    tensors: dict[str, torch.Tensor] = {}
    assert unflatten(flatten("s", value, tensors), tensors) == value


def test_an_optimiser_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def run(steps: int, resume: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=1e-3)
        checkpoints = Checkpoints(tmp_path / "c")
        first = 0
        if resume:
            state = checkpoints.latest()
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            first = 3
        for step in range(first, steps):
            optimiser.zero_grad()
            model(torch.full((4, 3), float(step + 1))).pow(2).sum().backward()
            optimiser.step()
        if not resume:
            checkpoints.save(steps, {"model": model.state_dict(), "optimiser": optimiser.state_dict()})
        return model.weight.detach().clone()

    run(3, resume=False)
    resumed = run(7, resume=True)
    assert torch.equal(run(7, resume=False), resumed)


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(1, 6):
        checkpoints.save(number, {"x": torch.tensor([number])})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000004", "000005"]
    assert checkpoints.latest() == {"x": torch.tensor([5])}


@pytest.mark.parametrize("damage", ["flip", "truncate", "no state"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(number, {"x": torch.full((50,), float(number))})
    file = tmp_path / "000002" / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[:30])
    else:
        (tmp_path / "000002" / "state.json").unlink()
    state = checkpoints.latest()
    assert state is not None
    assert torch.equal(state["x"], torch.full((50,), 1.0))
    assert not (tmp_path / "000002").exists()


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").latest() is None


def test_tensors_are_checked_before_use(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.ones(100)})
    digest = hash_file(path)
    assert torch.equal(load_tensors(path, digest)["a"], torch.ones(100))
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        load_tensors(path, digest)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    import pickle

    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (canary,)

    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(StoreError):
        load_tensors(path)
    assert not canary.exists()
