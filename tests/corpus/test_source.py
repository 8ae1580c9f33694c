"""No file is ever unpickled or run: proven on the source of everything that is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import biasbench

SRC = Path(biasbench.__file__).parent
MODULES = {"pickle", "_pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle"}  # of pandas
TORCH = {"weights.py"}  # the one place that may call torch.load, of plain tensors alone


def offences(text: str, name: str = "x.py") -> Iterator[str]:
    """What a module does that could run what it reads."""
    tree = ast.parse(text)
    aliases = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {a.name}" for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            yield from _calls(node, name, aliases)


def _calls(node: ast.Call, name: str, aliases: dict[str, str]) -> Iterator[str]:
    given = {k.arg: k.value for k in node.keywords}
    called = ast.unparse(node.func)
    called = aliases.get(called, called)
    if called in CALLS:
        yield f"calls {called}"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield f"calls {called}"
    if called in ("torch.load", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"):
        safe = isinstance(given.get("weights_only"), ast.Constant) and given["weights_only"].value is True
        if not (safe and called == "torch.load" and name in TORCH):
            yield f"calls {called}"
    if called in ("np.load", "numpy.load", "np.lib.format.read_array"):
        safe = isinstance(given.get("allow_pickle"), ast.Constant) and given["allow_pickle"].value is False
        if not safe:
            yield f"calls {called} without allow_pickle=False"
    for option, value in (
        ("allow_pickle", True),
        ("weights_only", False),
        ("shell", True),
        ("trust_remote_code", True),
    ):
        if option in given and not (isinstance(given[option], ast.Constant) and given[option].value is not value):
            yield f"passes {option}={ast.unparse(given[option])}"


def test_nothing_that_is_read_is_run() -> None:
    files = {str(file.relative_to(SRC)): file.read_text() for file in SRC.rglob("*.py")}
    assert len(files) > 200
    found = {name: list(offences(text, name)) for name, text in files.items()}
    assert {name: told for name, told in found.items() if told} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import os, joblib as j",
        "import yaml",
        "eval('1')",
        "exec(text)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=True)",  # elsewhere than in weights.py
        "from torch import load\nload(f)",
        "torch.load(f, weights_only=flag)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "from numpy import load\nload(f)",
        "savez(f, allow_pickle=True)",
        "pd.read_pickle(f)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_what_would_run_it_is_found(text: str) -> None:
    assert list(offences(text))


def test_what_is_safe_is_let_pass() -> None:
    assert not list(offences("torch.load(f, weights_only=True)", "weights.py"))
    assert list(offences("torch.load(f, weights_only=False)", "weights.py"))
    assert not list(offences("np.load(f, allow_pickle=False)\nnp.save(f, a, allow_pickle=False)\nopen(f)"))
