"""Whether a store says what was computed: hashes of every file, and measurements made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biasbench import io, journal
from biasbench.errors import BiasBenchError, printable
from biasbench.store import Store, made_by

if TYPE_CHECKING:
    from biasbench.job import MeasureJob

Record = Mapping[str, Any]
Kind = Literal["runs", "trainings"]


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was written, or that cannot be found out.

    Attributes:
        kind: `damaged`, `differs` (a measurement comes out otherwise) or `unverified` (it cannot be made again).
        part: What it makes untrustworthy: `runs/<key>`, `trainings/<key>`, `plan.json`, `unscored/<key>.json`,
            `journal.jsonl`.
        where: A file, relative to the results folder, or a cell.
        what: What was found.
    """

    kind: Literal["damaged", "differs", "unverified"]
    part: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}  {printable(self.where)}: {self.what}"


# ------------------------------------------------------------------ files
def document_faults(store: Store) -> Iterator[Fault]:
    """Faults of the plan, of the journal, and of the records of cells without a score."""
    try:
        store.plan()
    except BiasBenchError as error:
        yield Fault("damaged", "plan.json", "plan.json", error.what)
    for number in journal.read(store.root)[1]:
        where = f"{journal.FILE}, line {number}"
        yield Fault("damaged", journal.FILE, where, "it is not what was written")
    for path in sorted((store.root / "unscored").glob("[!.]*")):
        part = f"unscored/{path.name}"
        try:
            key = store.unscored(path.stem).get("key")
        except BiasBenchError as error:
            yield Fault("damaged", part, part, error.what)
        else:
            if key != path.stem:
                yield Fault("damaged", part, part, f"it is about {printable(key)}")


def folder_faults(store: Store, kind: Kind, key: str) -> list[Fault]:
    """Faults of a finished run or training: its manifest, its key, every file, its measurements.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()), create=True)
        >>> aside = store.aside("run", "k1")
        >>> io.write_text(aside / "ids.json", "[]")
        >>> store.commit_run(aside, "k1", {})
        >>> folder_faults(store, "runs", "k1")
        []
        >>> _ = (store.run("k1") / "ids.json").write_text("[1]")
        >>> print(folder_faults(store, "runs", "k1")[0])  # doctest: +ELLIPSIS
        damaged  runs/k1/ids.json: the file is damaged: SHA-256 ...
    """
    part, folder = f"{kind}/{key}", store.root / kind / key
    try:
        manifest = store.manifest(folder)
    except BiasBenchError as error:
        return [Fault("damaged", part, f"{part}/manifest.json", error.what)]
    faults = [Fault("damaged", part, f"{part}/manifest.json", text) for text in _wrong_keys(kind, key, manifest)]
    for name in manifest["files"]:
        try:
            io.safe_join(folder, name)
            store.checked(folder, name, manifest)
        except BiasBenchError as error:
            faults.append(Fault("damaged", part, f"{part}/{name}", error.what))
    own = {*manifest["files"], "manifest.json", *(["metrics.json"] if kind == "runs" else [])}
    faults += [
        Fault("damaged", part, f"{part}/{name}", "the file is none of the folder's own")
        for name in sorted(_files(folder) - own)
    ]
    if kind == "runs" and (folder / "metrics.json").exists():
        try:
            store.metrics(key)
        except BiasBenchError as error:
            faults.append(Fault("damaged", part, f"{part}/metrics.json", error.what))
    return faults


def _files(folder: Path) -> set[str]:
    """Files below a folder, without those that a process has just begun to write."""
    paths = (path.relative_to(folder) for path in io.below(folder) if not path.is_dir())
    return {path.as_posix() for path in paths if not any(part.startswith(io.ASIDE) for part in path.parts)}


def _wrong_keys(kind: Kind, key: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What in a manifest disagrees with its folder's name, which is the hash of all that decided the result."""
    claims = [("the key", manifest.get("key", key), key)]
    if kind == "runs":
        spec = manifest.get("spec", {})
        claims += [("the identity", manifest.get("identity"), key),
                   ("the training's identity", spec.get("training"), spec.get("training_key"))]  # fmt: skip
    else:
        claims += [("the identity", manifest.get("training"), key)]
    for what, found, expected in claims:
        if isinstance(found, Mapping):
            found = io.hash_json(found)[: len(key)]
        if found is not None and found != expected:
            yield f"{what} in it gives {printable(found)}, not {printable(expected)}"


# ------------------------------------------------------------------ measurements
def measure_jobs(store: Store, key: str, cache: Path, plugin_files: Sequence[str] = ()) -> Iterator[MeasureJob]:
    """Jobs that make a run's measurements again, as few as have them all and no other.

    Args:
        store: The store.
        key: A run.
        cache: An empty folder: nothing that was computed before is taken over.
        plugin_files: Files given with `--plugin`.
    """
    from biasbench.job import MeasureJob

    metrics: dict[tuple[str, str], list[str]] = {}
    for record in measured(store, key):
        metrics.setdefault((record["protocol"], record["attribute"]), []).append(record["metric"])
    attributes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (protocol, attribute), names in metrics.items():
        attributes.setdefault((protocol, tuple(names)), []).append(attribute)
    for (protocol, wanted), of in attributes.items():
        yield MeasureJob(
            key=key,
            metrics=wanted,
            attributes=tuple(of),
            protocol=protocol,
            results=store.root.absolute(),
            cache=cache.absolute(),
            threads=store.manifest(store.run(key))["spec"]["recipe"]["threads"],
            plugins=tuple(plugin_files),
        )


def measured(store: Store, key: str) -> list[dict[str, Any]]:
    """A run's measurements, without those that failed."""
    path = store.run(key) / "metrics.json"
    return [r for r in store.metrics(key) if not r["error"]] if path.exists() else []


def differences(stored: Iterable[Record], found: Iterable[Record], tolerance: float = 0.0) -> Iterator[str]:
    """Where figures that were made again differ from the stored ones: means, spreads, counts and every round.

    Args:
        stored: Records as `measure_run` returns them.
        found: Those made again; records without a stored one are passed over.
        tolerance: Largest difference that is none, in the figures' own unit.

    Example:
        >>> one = {"metric": "accuracy", "attribute": "gender", "protocol": "quick", "rounds": {}}
        >>> stored = {**one, "values": {"f1": {"mean": 50.0, "std": None, "n": 1}}}
        >>> again = {**one, "values": {"f1": {"mean": 50.5, "std": None, "n": 1}}}
        >>> list(differences([stored], [again])), list(differences([stored], [again], 0.5))
        (['f1 (gender, quick): stored 50.0, computed 50.5'], [])
    """
    again = {(r["metric"], r["attribute"], r["protocol"]): r for r in found}
    for record in stored:
        other = again.get((record["metric"], record["attribute"], record["protocol"]))
        place = f"({printable(record['attribute'])}, {printable(record['protocol'])})"
        if other is None:
            yield f"{printable(record['metric'])} {place}: stored, but not computed"
            continue
        figures, changed = _figures(other), made_by(other) != made_by(record)
        why = " (the metric's code has changed since)" if changed else ""
        for name, value in _figures(record).items():
            if not _equal(value, figures.get(name), tolerance):
                yield f"{printable(name)} {place}: stored {_shown(value)}, computed {_shown(figures.get(name))}{why}"


def _figures(record: Record) -> dict[str, Any]:
    """Every number of a record, by a name for people."""
    found: dict[str, Any] = {}
    for column, summary in record["values"].items():
        titles = {"mean": column, "std": f"spread of {column}", "n": f"rounds of {column}"}
        found |= {titles[part]: value for part, value in summary.items()}
    for column, rounds in record["rounds"].items():
        found |= {f"{column}, round {number}": value for number, value in enumerate(rounds, 1)}
    return found


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or abs(one - other) <= tolerance  # no tolerance that is NaN lets anything pass
    return bool(one == other)


def _shown(value: Any) -> str:
    return "undefined" if value is None else printable(value)
