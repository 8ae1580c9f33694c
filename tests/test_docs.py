"""Documentation is tested: its code runs, its files parse, its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.torch
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    for number, body in enumerate(blocks(page, "python"), start=1):
        if body.startswith("# ") and body.partition("\n")[0].endswith(".py"):
            Path(body.partition("\n")[0].removeprefix("# ")).write_text(body)
        exec(compile(body, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "toml")], ids=lambda p: p.name)
def test_toml_blocks_parse(page: Path) -> None:
    from biasbench.benchmark import Benchmark

    for body in blocks(page, "toml"):
        data = tomllib.loads(body)
        if "rows" in data:
            Benchmark.model_validate(data)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_shipped_benchmarks_are_valid() -> None:
    from biasbench.benchmark import load_benchmark
    from biasbench.recipe import load_recipe

    files = sorted((ROOT / "benchmarks").glob("*.toml"))
    assert files
    for file in files:
        benchmark = load_benchmark(file)
        load_recipe(benchmark.profile, benchmark.request().overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_tests_and_promises_exist(page: Path) -> None:
    text = page.read_text()
    for name in set(re.findall(r"tests/[\w/]+\.py", text)):
        assert (ROOT / name).is_file(), f"{page.name} names {name}"
    source = "".join(file.read_text() for file in (ROOT / "benchmarks" / "campaign").glob("*.py"))
    for name in set(re.findall(r"--only ([a-z][a-z-]+)", text)):
        assert f'"{name}"' in source, f"{page.name} names the promise {name}"
