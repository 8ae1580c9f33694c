"""The layout keeps its promises: one direction, one door, one place for I/O."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import biasbench

SRC = Path(biasbench.__file__).parent
FILES = sorted(SRC.rglob("*.py"))
# Each module may import modules of its own or an earlier layer.
LAYERS = (
    ("__init__",),
    ("errors",), ("faults",), ("io", "rng", "sandbox", "stopping", "presence"), ("seal", "leaderboard"), ("journal",),
    ("memo", "tables"), ("index",),
    ("data", "hookspecs", "grammar", "seeds"), ("plugins", "recipe", "scoring", "config"),
    ("weights", "regions", "images", "download", "environment", "head", "metric"), ("pictures", "imports"),
    ("measures",), ("backbone", "datacheck", "faces", "locate"),
    ("method",), ("streams", "spec", "job"), ("together",), ("shares",), ("model",),
    ("features", "checkpoint", "randomness"), ("source", "store", "tensorboard"),
    ("verify", "leftovers", "claims"), ("steps",), ("predict", "engine"), ("truth", "planned"), ("plan", "labels"),
    ("plots", "audit"), ("inputs", "benchmark"), ("guard",), ("measure", "cell", "commit", "jobs"), ("guarded",),
    ("family", "ranks"), ("child",), ("derived",), ("standings", "published", "runfolder", "pairs"), ("matrix",),
    ("executors",), ("runner",), ("costs", "testing"), ("cli",),
    ("__main__",),
)  # fmt: skip
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}


def top(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Modules of biasbench that a file imports anywhere, type checking aside."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "biasbench"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "biasbench":
            assert node.module is not None
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("file", [f for f in FILES if top(f) != "builtin"], ids=lambda f: str(f.relative_to(SRC)))
def test_dependencies_point_one_way(file: Path) -> None:
    own = RANK[top(file)]
    for name in imports(file):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else "__init__"
        if other in RANK:
            assert RANK[other] <= own, f"{file.name} imports {name}"
        else:
            assert other == "__version__", f"{file.name} imports {name}, which has no layer"


def test_every_module_has_a_layer() -> None:
    assert {top(f) for f in FILES} - {"builtin"} <= set(RANK)


@pytest.mark.parametrize("file", [f for f in FILES if top(f) == "builtin"], ids=lambda f: str(f.relative_to(SRC)))
def test_built_ins_use_public_names_only(file: Path) -> None:
    public = {f"biasbench.{n}" for n in (*biasbench.__all__, "io", "sandbox")}
    allowed_modules = ("biasbench.builtin.", "biasbench.hookspecs.")
    for name in imports(file):
        assert name in public or name.startswith(allowed_modules), f"{file.name} imports {name}"


def test_public_names_are_there() -> None:
    for name in biasbench.__all__:
        assert getattr(biasbench, name) is not None


def test_nothing_runs_what_it_reads() -> None:
    banned = {"pickle", "joblib", "dill", "marshal", "shelve", "yaml"}
    for file in FILES:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [a.name.split(".")[0] for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{file.name}:{node.lineno}"
            elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                assert (node.arg, node.value.value) not in (("weights_only", False), ("allow_pickle", True)), file.name
            assert not banned & set(names), f"{file.name} imports {names}"


def test_files_are_small() -> None:
    lengths = {str(f.relative_to(SRC)): len(f.read_text().splitlines()) for f in FILES}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= 150
    assert {n: c for n, c in lengths.items() if c > 400} == {}


@pytest.mark.parametrize(
    "module", ["biasbench", "biasbench.cli", "biasbench.leaderboard", "biasbench.store", "biasbench.plugins"]
)
def test_importing_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
