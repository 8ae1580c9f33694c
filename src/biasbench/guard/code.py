"""Whether the harness's functions are its own: a plugin that replaces a metric is found out.

Looked at are the functions and methods in biasbench's modules. Those that were there before the plugins must still be
the same; those of modules that came later must come from biasbench's folder, or from an installed library that is no
plugin. What third parties' own modules hold is not looked at.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from biasbench.errors import IntegrityError

if TYPE_CHECKING:
    from biasbench.plugins import Plugins

_OWN = "biasbench"
_HOME = str(Path(__file__).parent.parent)
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Code:
    """The functions of the harness, as they are before any plugin is loaded.

    Example:
        >>> from biasbench.plugins import load_plugins
        >>> before = Code()
        >>> before.check(load_plugins())
    """

    def __init__(self) -> None:
        self.known = {name: (found, _code(found)) for name, found in _functions()}

    def check(self, plugins: Plugins) -> None:
        """Compare with what is there now.

        Raises:
            IntegrityError: Naming the first function that is another one.
        """
        foreign = tuple(_places(plugins))
        for name, found in _functions():
            code = _code(found)
            if name in self.known:
                before, same = self.known[name]
                changed = found is not before or code is not same
            else:
                changed = code is not None and not _ours(code, name, foreign)
            if changed:
                raise IntegrityError(
                    f"a plugin has replaced {name}",
                    fix="Figures of this process cannot be trusted: leave the plugin out, or repair it",
                )


def _functions() -> Iterator[tuple[str, Any]]:
    """Every callable that a module of biasbench or a class in it holds, by its full name."""
    for module, holder in sorted(sys.modules.items()):
        if module != _OWN and not module.startswith(f"{_OWN}."):
            continue
        for name, found in list(vars(holder).items()):
            if isinstance(found, type):
                if found.__module__ == module:
                    yield from ((f"{module}.{name}.{k}", v) for k, v in vars(found).items() if _code(v) is not None)
            elif isinstance(found, Callable) and not name.startswith("__"):  # type: ignore[arg-type]
                yield f"{module}.{name}", found


def _code(found: Any) -> CodeType | None:
    """The code behind a function, method or property; None for what has none."""
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(getattr(found, "__func__", found))
    return found.__code__ if isinstance(found, FunctionType) else None


def _ours(code: CodeType, name: str, foreign: tuple[str, ...]) -> bool:
    file = code.co_filename
    if file.startswith("<"):  # of the standard library, frozen; dataclasses make their methods of text
        return file.startswith("<frozen") or name.rpartition(".")[2].startswith("__")
    return file.startswith(_HOME) or (file.startswith(_INSTALLED) and not file.startswith(foreign))


def _places(plugins: Plugins) -> Iterator[str]:
    """Files, or folders of packages, that plugins other than the built-in one come from."""
    yield from plugins.files
    for origin in plugins.origins:
        module = sys.modules.get(origin.module)
        file = getattr(module, "__file__", None)
        if file and not file.startswith(_HOME):
            yield str(Path(file).parent) if hasattr(module, "__path__") else file
