"""Planted bugs: modules loaded from their source with one piece of text replaced.

A set of modules is executed anew, in the order given, each seeing the fresh ones before it; nothing is written, and
the imported modules are as they were afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace


@dataclass(frozen=True)
class Mutation:
    """One planted bug.

    Attributes:
        module: Full name of the module.
        what: The mistake, in words.
        old: Text that stands exactly once in the module's source.
        new: What stands there instead.
    """

    module: str
    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]}: {self.what}"


@contextmanager
def loaded(modules: Sequence[str], mutation: Mutation | None = None) -> Iterator[SimpleNamespace]:
    """The public names of `modules`, executed anew with one of them mutated.

    Args:
        modules: Full names, each after those it imports.
        mutation: None loads them as they are.

    Raises:
        LookupError: When the mutation's text does not stand exactly once in its module, or the module is not one of
            `modules`.
    """
    if mutation is not None and mutation.module not in modules:
        raise LookupError(f"{mutation}: {mutation.module} is not loaded")
    before = {name: sys.modules.get(name) for name in modules}
    names: dict[str, object] = {}
    try:
        for name in modules:
            module = ModuleType(name)
            module.__file__, source = _source(name)
            if mutation is not None and name == mutation.module:
                source = mutated(source, mutation)
            sys.modules[name] = module
            exec(compile(source, module.__file__, "exec"), module.__dict__)
            names |= {key: value for key, value in vars(module).items() if not key.startswith("_")}
        yield SimpleNamespace(**names)
    finally:
        for name, module_before in before.items():
            if module_before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module_before


def mutated(source: str, mutation: Mutation) -> str:
    """The source with the mutation's text replaced."""
    found = source.count(mutation.old)
    if found != 1:
        raise LookupError(f"{mutation}: its text stands {found} times in {mutation.module}:\n{mutation.old}")
    return source.replace(mutation.old, mutation.new)


def _source(name: str) -> tuple[str, str]:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin, Path(spec.origin).read_text(encoding="utf-8")
