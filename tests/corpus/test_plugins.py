"""Plugins that cannot be imported, collide or misuse a hook: installed beside a good one, and as files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.said import calm, refused
from tests.helpers.commands import Said

Cli = Callable[..., Said]
HOOK = "import biasbench\n@biasbench.hookimpl\ndef "
METHOD = "import biasbench\nclass M(biasbench.Method):\n    '''Mine.'''\n    name = {name!r}\n"
OFFER = METHOD + "@biasbench.hookimpl\ndef biasbench_methods():\n    return [M]\n"

BROKEN: dict[str, tuple[str, str]] = {  # cannot be used, and stops nobody: source, cause
    "P1": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "P2": ("def broken(:", "SyntaxError"),
    "P3": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "P4": ("import os; os._exit(0)", "SystemExit: os._exit(0)"),
    "P4, hook": (HOOK + "biasbench_methods(): import os; os._exit(0)", "biasbench_methods: SystemExit: os._exit(0)"),
    "P9": (HOOK + "biasbench_methods(): raise KeyError('k')", "biasbench_methods: KeyError: 'k'"),
    "P9, nothing": (HOOK + "biasbench_methods(): pass", "biasbench_methods: TypeError"),
    "P12": ("from biasbench import AnotherVersionsName", "ImportError: cannot import name 'AnotherVersionsName'"),
}  # fmt: skip
MISUSED: dict[str, tuple[str, tuple[str, ...]]] = {  # would change what a name means: refused
    "P5": (OFFER.format(name="adv-conv5"), ("two plugins offer the method 'adv-conv5'", "biasbench.builtin")),
    "P7": (HOOK + "biasbench_methods(registry): return []", ("a hook is misused", "registry")),
    "P8": (HOOK + "biasbench_method(): return []", ("no such hook 'biasbench_method'", "'biasbench_methods'")),
}


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("biasbench_plugin_", "aa", "bb")):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a distribution on the path: a module and its metadata, as an installer would."""

    def put(module: str, source: str) -> None:
        info = tmp_path / f"site-{module}" / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info.parent / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[biasbench]\n{module} = {module}\n")
        monkeypatch.syspath_prepend(info.parent)

    return put


def test_broken_plugins_are_named_and_stop_nobody(cli: Cli, install: Any) -> None:
    for number, (source, _) in enumerate(BROKEN.values()):
        install(f"aabroken{number}", source)
    install("bbgood", OFFER.format(name="good"))
    listed = cli("list", "plugins")
    assert listed.code == 0, listed.text
    calm(listed)
    for number, (_, cause) in enumerate(BROKEN.values()):
        (line,) = [row for row in listed.out.splitlines() if f"aabroken{number} " in row]
        assert "broken" in line
        assert cause in line
    assert any(row.split()[:3] == ["bbgood", "bbgood", "1.0"] and "ok" in row for row in listed.out.splitlines())
    assert cli("describe", "good").code == 0
    asked = cli("describe", "theirs")
    refused(asked, 2, "'theirs'", *(f"aabroken{n}" for n in range(len(BROKEN))))


@pytest.mark.parametrize("case", [case for case in BROKEN if "," not in case and case != "P9"])
def test_a_broken_file_is_refused(cli: Cli, home: Path, case: str) -> None:
    source, cause = BROKEN[case]
    (home / "mine.py").write_text(source)
    refused(cli("list", "methods", "--plugin", "mine.py"), 2, str(home / "mine.py"), cause)


@pytest.mark.parametrize("case", MISUSED)
@pytest.mark.parametrize("how", ["installed", "file"])
def test_misused_hooks_are_refused(cli: Cli, install: Any, home: Path, case: str, how: str) -> None:
    source, parts = MISUSED[case]
    if how == "file":
        (home / "mine.py").write_text(source)
        refused(cli("list", "methods", "--plugin", "mine.py"), 2, "mine.py", *parts)
    else:
        install("aamisused", source)
        refused(cli("list", "methods"), 2, "aamisused", *parts)


def test_p6_two_distributions_with_one_name(cli: Cli, install: Any) -> None:
    install("aaone", OFFER.format(name="good"))
    install("bbother", OFFER.format(name="good"))
    refused(cli("list", "methods"), 2, "two plugins offer the method 'good'", "aaone 1.0", "bbother 1.0")


def test_p10_a_slow_import_is_waited_for_and_ctrl_c_ends_it(cli: Cli, home: Path) -> None:
    (home / "slow.py").write_text("import time; time.sleep(0.2)\n" + OFFER.format(name="slow"))
    assert "slow" in cli("list", "methods", "--plugin", "slow.py").out
    (home / "stopped.py").write_text("raise KeyboardInterrupt\n")
    said = cli("list", "methods", "--plugin", "stopped.py")
    assert (said.code, said.err.strip()) == (130, "biasbench: interrupted")
