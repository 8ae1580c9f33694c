"""The helper module of this folder as a fixture."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def outputs() -> ModuleType:
    """The module `tests/audit/outputs.py`."""
    spec = importlib.util.spec_from_file_location("biasbench_test_outputs", Path(__file__).parent / "outputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
