"""Files of weights that hold code, claim what they do not have, or are damaged: `biasbench import-weights`."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from biasbench import DataError, IntegrityError, ResolvedWeights, StoreError, UsageError, sandbox
from biasbench.checkpoint import Checkpoints, load_tensors
from biasbench.imports import convert, import_weights
from biasbench.io import hash_file

pytestmark = pytest.mark.torch


class Code:
    """An object whose pickle runs a command when it is read carelessly."""

    def __init__(self, canary: Path, call: Any = os.system) -> None:
        self.call, self.arguments = call, (f"touch {canary}",) if call is os.system else (str(canary), "w")

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return self.call, self.arguments


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def with_pickle(whole: bytes, text: bytes) -> bytes:
    """A PyTorch archive whose own pickle is another."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, text if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    return file.getvalue()


WHOLE = saved({"a": torch.arange(30.0)})


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


REFUSED: dict[str, tuple[bytes | Callable[[Path], bytes], str]] = {
    "T1, reduce": (lambda c: saved({"a": torch.zeros(1), "b": Code(c)}), "not a PyTorch file of plain tensors"),
    "T1, open": (lambda c: saved({"b": Code(c, open)}), "not a PyTorch file of plain tensors"),
    "T1, plain pickle": (lambda c: pickle.dumps(Code(c)), "not a PyTorch file of plain tensors"),
    "T1, protocol 0": (lambda c: pickle.dumps(Code(c), protocol=0), "not a PyTorch file of plain tensors"),
    "T1, old format": (
        lambda c: saved({"b": Code(c)}, _use_new_zipfile_serialization=False), "not a PyTorch file of plain tensors"
    ),
    "T1, global": (
        lambda c: with_pickle(WHOLE, b"cposix\nsystem\n(V" + f"touch {c}".encode() + b"\ntR."),
        "not a PyTorch file of plain tensors",
    ),
    "T1, eval": (
        lambda c: with_pickle(WHOLE, b"cbuiltins\neval\n(V" + f"open({str(c)!r}, 'w')".encode() + b"\ntR."),
        "not a PyTorch file of plain tensors",
    ),
    "T1, inside a zip": (lambda c: zipped("archive/data.pkl", pickle.dumps(Code(c))), "not a PyTorch file of plain"),
    "T1, nested zip": (lambda c: zipped("x.pth", saved({"b": Code(c)})), "not a PyTorch file of plain tensors"),
    "T1, object array": (objects(), "not a PyTorch file of plain tensors"),
    "T1, yaml": (lambda c: f"!!python/object/apply:os.system ['touch {c}']".encode(), "not a PyTorch file of plain"),
    "T2, stride 0": (saved({"w": torch.zeros(1).expand(10_000_000_000)}), "'w' claims 10000000000 elements"),
    "T2, overlapping": (saved({"w": torch.zeros(64).as_strided((60, 5), (1, 1))}), "'w' claims 300 elements"),
    "T3": (WHOLE[: len(WHOLE) // 2], "not a PyTorch file of plain tensors"),
    "T3, empty": (b"", "not a PyTorch file of plain tensors"),
    "T5, other things": (saved({"epoch": 3}), "holds values that are not tensors"),
    "T5, nothing": (saved({}), "holds no state_dict"),
    "T5, a list": (saved([torch.zeros(1)]), "holds no state_dict"),
    "T6, sparse": (saved({"w": torch.eye(3).to_sparse()}), "'w' is no dense tensor"),
    "T7": (saved({"w": torch.tensor([1.0, float("nan")])}), "'w' holds NaN"),
}  # fmt: skip


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in this process what is read in another: a start of PyTorch costs seconds."""

    class Near:
        def __init__(self, _reader: str, path: Path, memory: int, scratch: Path) -> None:
            self.path, self.folder = path, scratch / "near"

        def __enter__(self) -> Path:
            self.folder.mkdir()
            convert(self.path, self.folder)
            return self.folder

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("biasbench.imports.read_apart", Near)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_state_is_refused(tmp_path: Path, near: None, case: str) -> None:
    make, why = REFUSED[case]
    canary, path = tmp_path / "canary", tmp_path / "w.pth"
    path.write_bytes(make if isinstance(make, bytes) else make(canary))
    with pytest.raises(DataError) as caught:
        import_weights(path, tmp_path / "out.safetensors")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_the_canary_would_appear(tmp_path: Path) -> None:
    """Reading such a file carelessly does run it."""
    pickle.loads(pickle.dumps(Code(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()
    torch.load(io.BytesIO(saved({"b": Code(tmp_path / "other")})), weights_only=False)
    assert (tmp_path / "other").exists()


def test_a_state_comes_through_a_process_of_its_own(tmp_path: Path) -> None:
    tied = torch.arange(12.0)
    state = {"module.a": tied.view(3, 4), "module.b": tied, "module.n": torch.tensor(3), "module.t": tied.view(3, 4).T}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "w.pth")
    made = import_weights(tmp_path / "w.pth", tmp_path / "new" / "w.safetensors")
    assert (made.tensors, made.numbers, made.sha256) == (4, 37, hash_file(made.path))
    read = load_file(made.path)
    assert set(read) == {"a", "b", "n", "t"}
    assert all(torch.equal(read[name], state[f"module.{name}"]) for name in read)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["w.safetensors"]


def test_a_file_that_unfolds_beyond_its_limit_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile(io.BytesIO(WHOLE)) as old:
        for name in old.namelist():
            archive.writestr(name, bytes(700 << 20) if name.endswith("data/0") else old.read(name))
    with (
        pytest.raises(DataError) as caught,
        sandbox.read_apart("biasbench.imports:convert", path, memory=1 << 30, scratch=tmp_path),
    ):
        pass
    assert str(caught.value).startswith(str(path))
    assert "its reader needs more than 10" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pth", "work"]


NAMES = [
    ("w.h5", "out.safetensors", "no PyTorch file by its name"),
    ("absent.pth", "out.safetensors", "no such file"),
    ("w.pth", "out.pth", "written as safetensors"),
    ("w.pth", "there.safetensors", "is there already"),
]


@pytest.mark.parametrize(("name", "out", "why"), NAMES)
def test_k17_names_that_cannot_be_meant(tmp_path: Path, name: str, out: str, why: str) -> None:
    for file in ("w.pth", "w.h5", "there.safetensors"):
        (tmp_path / file).write_bytes(b"mine")
    with pytest.raises(UsageError, match=why):
        import_weights(tmp_path / name, tmp_path / out)
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_a_torch_whose_reader_is_not_sound_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(WHOLE)
    for release in ("2.5.1+cu121", "2.9.1"):
        monkeypatch.setattr("biasbench.imports.version", lambda _name, release=release: release)
        with pytest.raises(UsageError, match=f"PyTorch {release[:3]}"):
            import_weights(tmp_path / "w.pth", tmp_path / "out.safetensors")


# -- safetensors, and our own checkpoints -------------------------------------------------------
def test_t4_one_bit_of_a_weights_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(100)}, path)
    resolved = ResolvedWeights.of_file(path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError, match="damaged"):
            resolved.read()
    path.write_bytes(whole)
    assert resolved.read()["a"].sum() == 100


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        header(b'{"a": {"dtype": "F32", "shape": [9999999999], "data_offsets": [0, 4]}}', bytes(4)),
        header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
        header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', bytes(8)),
        (1 << 60).to_bytes(8, "little") + b"{}",
        header(b"[" * 5000),
        b"",
    ],
    ids=["T2, size", "T3, no data", "T3, hole", "T2, header", "T3, nested", "T3, empty"],
)
def test_safetensors_that_lie(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a safetensors file") as caught:
        ResolvedWeights.of_file(path).read()
    assert str(caught.value).startswith(str(path))


def test_t1_a_pickle_among_our_checkpoints_is_not_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"x": torch.ones(3)})
    file = next((tmp_path / "c").rglob("*.safetensors"))
    file.write_bytes(pickle.dumps(Code(tmp_path / "canary")))
    assert Checkpoints(tmp_path / "c").latest() is None
    with pytest.raises(StoreError):
        load_tensors(file if file.exists() else tmp_path / "gone.safetensors")
    assert not (tmp_path / "canary").exists()


def test_the_command_says_what_it_wrote(cli: Any, tmp_path: Path, near: None) -> None:
    (tmp_path / "w.pth").write_bytes(WHOLE)
    out = tmp_path / "w.safetensors"
    said = cli("import-weights", tmp_path / "w.pth", "--out", out)
    assert (said.code, said.out.startswith(f"{out}: 1 tensors, 30 numbers, ")) == (0, True)
    assert hash_file(out)[:16] in said.out
