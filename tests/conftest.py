"""Fixtures that several test files use."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write tests/golden.json anew")


def _helper(name: str) -> ModuleType:
    known = f"biasbench_test_helpers_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).parent / "helpers" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[known]


@pytest.fixture(scope="session")
def coco_files() -> ModuleType:
    """The module `tests/helpers/coco_files.py`."""
    return _helper("coco_files")


@pytest.fixture(scope="session")
def several() -> ModuleType:
    """The module `tests/helpers/several.py`."""
    return _helper("several")


@pytest.fixture
def coco_folder(coco_files: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """Writes a small COCO folder after an optional change: `coco_folder(lambda files: ...)`."""

    def write(change: Callable[[Any], object] | None = None, year: str = "2014", images: bool = True) -> Path:
        files = coco_files.small_coco(year)
        if change is not None:
            change(files)
        return Path(files.write(tmp_path / "coco", images))

    return write
