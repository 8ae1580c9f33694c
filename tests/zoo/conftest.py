"""One zoo for all tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def zoo(coco_files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world with an honest run in it: `original`."""
    from world import Zoo

    found = Zoo.open(coco_files, tmp_path_factory.mktemp("zoo"))
    assert found.run("original").ok == 1
    return found
