"""What the installed distribution offers."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest


@pytest.fixture(scope="module", autouse=True)
def _installed():
    if not any(e.name == "groupdro" for e in metadata.entry_points(group="biasbench")):
        pytest.skip("biasbench-groupdro is not installed: pip install plugins/biasbench-groupdro")


def test_found_through_its_entry_point():
    from biasbench.plugins import load_plugins

    offer = load_plugins().methods.find("groupdro")
    assert offer.origin.distribution.startswith("biasbench-groupdro ")
    assert offer.load().__name__ == "GroupDRO"


def test_listing_it_imports_no_torch():
    code = (
        "import sys, biasbench.plugins as p; p.load_plugins().methods.find('groupdro'); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_public_names_only():
    import ast
    from pathlib import Path

    import biasbench_groupdro

    files = sorted(Path(biasbench_groupdro.__file__).parent.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not [n for n in names if n.startswith("biasbench.")], file


@pytest.mark.parametrize("spec", ["groupdro", "groupdro(eta=0.1, adjustment=2.0)"])
def test_conforms(spec):
    from biasbench.testing import check_method

    check_method(spec, tasks=("multilabel", "multiclass"))
