"""Where data, results and caches live, and who said so.

For each setting the first of these that speaks wins: the command line, the environment
(`BIASBENCH_DATA`, `BIASBENCH_RESULTS`, `BIASBENCH_CACHE`), `./biasbench.toml`,
`$XDG_CONFIG_HOME/biasbench/config.toml`, the default. A configuration file has up to three
keys; relative paths count from the file's folder:

    data = ["/data", "more"]     # one path or several
    results = "results"
    cache = "/scratch/me/biasbench"
"""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biasbench.errors import UsageError, did_you_mean, printable

KEYS = ("data", "results", "cache")


@dataclass(frozen=True)
class Settings:
    """The folders of one invocation.

    Attributes:
        data_roots: Folders in which data sets are looked for, in this order.
        results: The store of finished cells.
        cache: Everything that can be made again: generated data, indexes, image stores, logs.
        origins: For each of `data`, `results`, `cache`: who set it.

    Example:
        >>> Settings((Path("/data"),), Path("results"), Path("/tmp/cache")).data_roots
        (PosixPath('/data'),)
    """

    data_roots: tuple[Path, ...]
    results: Path
    cache: Path
    origins: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    *,
    data: Sequence[str | Path] = (),
    results: str | Path | None = None,
    cache: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings of one invocation.

    Args:
        data: Data roots from the command line; each may hold several, joined with `os.pathsep`.
        results: Results folder from the command line.
        cache: Cache folder from the command line.
        environ: Environment variables; the process's own by default.
        folder: Where `biasbench.toml` is looked for; the working directory by default.

    Raises:
        UsageError: For a configuration file that cannot be read or says something unknown, and for a path
            that no folder can have.

    Example:
        >>> s = load_settings(data=["/a:/b"], environ={"BIASBENCH_RESULTS": "/r"}, folder=Path("/nowhere"))
        >>> s.data_roots, s.results, s.origins["results"]
        ((PosixPath('/a'), PosixPath('/b')), PosixPath('/r'), 'BIASBENCH_RESULTS')
    """
    environ = os.environ if environ is None else environ
    given: dict[str, tuple[str, tuple[Path, ...]]] = {}
    layers = _layers({"data": data, "results": results, "cache": cache}, environ, folder or Path.cwd())
    for origin, values in layers:
        for key, paths in values.items():
            if paths:
                given.setdefault(key, (origin, paths))
    for key in KEYS:
        _check(*given[key], key)
    return Settings(
        data_roots=given["data"][1],
        results=given["results"][1][0],
        cache=given["cache"][1][0],
        origins={key: given[key][0] for key in KEYS},
    )


def _check(origin: str, paths: Iterable[Path], key: str) -> None:
    """Refuse paths that the system itself refuses: too long, a loop of links, a NUL."""
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if getattr(error, "errno", None) in (errno.ENAMETOOLONG, errno.ELOOP, None):
                raise UsageError(
                    f"{key}: no folder can have this path: {printable(reason)}",
                    where=f"{printable(path, 100)} ({printable(origin)})",
                    fix="Give another path",
                ) from error


def _layers(
    flags: Mapping[str, Any], environ: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, Mapping[str, tuple[Path, ...]]]]:
    """What each source says, strongest first."""
    yield "command line", {key: _split(key, value) for key, value in flags.items() if value}
    for key in KEYS:
        name = f"BIASBENCH_{key.upper()}"
        yield name, {key: _split(key, environ.get(name, ""))}
    for file in (folder / "biasbench.toml", _user_file(environ)):
        yield str(file), _read(file)
    yield "default", _defaults(environ)


def _split(key: str, value: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """Paths in a value; only `data` may name several."""
    values = [value] if isinstance(value, str | Path) else list(value)
    texts = [t for v in values for t in (str(v).split(os.pathsep) if key == "data" else [str(v)])]
    return tuple(Path(t).expanduser() for t in texts if t)


def _user_file(environ: Mapping[str, str]) -> Path:
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "biasbench" / "config.toml"
    from platformdirs import user_config_path

    return user_config_path("biasbench") / "config.toml"


def _defaults(environ: Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
    from platformdirs import user_cache_path, user_data_path

    data, cache = environ.get("XDG_DATA_HOME"), environ.get("XDG_CACHE_HOME")
    return {
        "data": (Path(data) / "biasbench" if data else user_data_path("biasbench"),),
        "results": (Path("results"),),
        "cache": (Path(cache) / "biasbench" if cache else user_cache_path("biasbench"),),
    }


def _read(file: Path) -> dict[str, tuple[Path, ...]]:
    """The paths that a configuration file sets; all its mistakes are told at once."""
    where = printable(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors put a mark first
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=where) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"is not TOML: {printable(error)}", where=where, fix="Repair or delete the file") from error
    problems = []
    for key, value in content.items():
        if key not in KEYS:
            hint = did_you_mean(key, KEYS) or f"Known: {', '.join(KEYS)}"
            problems.append(f"unknown key {printable(key)!r} ({hint.rstrip('.')})")
        elif not _is_paths(key, value):
            expected = "a path or a list of paths" if key == "data" else "a path"
            problems.append(f"{key} must be {expected}, not {printable(repr(value))}")
    if problems:
        raise UsageError("; ".join(problems), where=where, fix="See docs/cli.md, 'Configuration'")
    return {key: tuple(file.parent / p for p in _split(key, value)) for key, value in content.items()}


def _is_paths(key: str, value: Any) -> bool:
    if isinstance(value, list) and key == "data":
        return all(isinstance(v, str) and v for v in value)
    return isinstance(value, str) and bool(value)
