"""Measuring a finished run: every metric, for every attribute asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from biasbench.data import LARGEST
from biasbench.errors import CellError, IntegrityError, printable
from biasbench.faults import point
from biasbench.grammar import parse
from biasbench.guard.code import Code
from biasbench.job import MeasureJob
from biasbench.locate import SUPPLIED
from biasbench.memo import Memo as Memo
from biasbench.metric import Measurement, Metric
from biasbench.plugins import Plugins, Registry, load_plugins
from biasbench.rng import seed_for
from biasbench.spec import code_of
from biasbench.store import Store
from biasbench.truth import beside, read_predictions


def build_metric(text: str, registry: Registry) -> Metric:
    """The metric that a string names.

    Raises:
        UsageError: For an unknown name or a wrong option.
    """
    from biasbench.grammar import bind

    (component,) = parse(text)
    offer = registry.find(component.name)
    cls = offer.load()
    metric: Metric = cls(**bind(cls, component, offer.entry.options, SUPPLIED))
    return metric


def measure_run(job: MeasureJob) -> list[dict[str, Any]]:
    """One record per metric and attribute; a metric that cannot answer says why in its record."""
    import torch

    torch.set_num_threads(job.threads)
    code = Code()
    plugins: Plugins = load_plugins(job.plugins)
    store = Store(job.results)
    manifest = store.verify(store.run(job.key))
    spec, read = manifest["spec"], cache(read_predictions)
    records = []
    for name, measured in product(job.metrics, job.attributes):
        point("measure.metric")
        metric = build_metric(name, plugins.metrics)
        by = code_of(type(metric), plugins.metrics.find(parse(name)[0].name))
        place, groups, attribute = _place(store.run(job.key), manifest, measured)
        context = Measurement(
            task=manifest["task"],
            label_names=tuple(manifest["label_names"]),
            attribute=attribute,
            groups=groups,
            protocol=job.protocol,
            seed=seed_for("measure", spec["training"]["fingerprint"], spec["seed"]),
            memo=Memo(job.cache / "memo", of="" if by == str(metric.version) else by),
            threads=job.threads,
        )
        record = {"metric": name, "attribute": measured, "protocol": job.protocol, "code": by}
        empty = {c.key: summary(float("nan")) for c in metric.columns}
        undefined: dict[str, Any] = {**record, "values": empty, "rounds": {}, "details": {}, "flags": [], "error": None}
        if attribute != measured and not metric.secondary:
            records.append(undefined)  # it compares with labels that another data set does not have
            continue
        predictions, tables = read(place)
        try:
            figures = metric.measure(
                {s: predictions[s] for s in metric.splits}, {s: tables[s] for s in metric.splits}, context
            )
            records.append({**record, **tidy(metric, figures), "error": None})
        except CellError as error:
            records.append({**undefined, "flags": [f"{metric.name} undefined: {printable(error)}"]})
    code.check(plugins)
    return records


def _place(run: Path, manifest: Mapping[str, Any], name: str) -> tuple[Path, tuple[str, ...], str]:
    """Where an attribute's predictions lie, its groups, and its name there: `laofiw:ancestry` is another data set's."""
    for number, other in enumerate(manifest.get("beside", ())):
        attribute = name.removeprefix(f"{other['dataset']}:")
        if attribute != name:
            return beside(run, number), tuple(other["groups"].get(attribute, ())), attribute
    return run, tuple(manifest["groups"].get(name, ())), name


def tidy(metric: Metric, figures: Mapping[str, Any]) -> dict[str, Any]:
    """A metric's answer as JSON: a summary for each declared column, the rest as details.

    Raises:
        CellError: When a declared column is missing.
        IntegrityError: When a figure is infinite, or too large to be one; NaN alone means undefined.
    """
    keys = [c.key for c in metric.columns]
    if lacking := [k for k in keys if k not in figures]:
        raise CellError(f"metric {metric.name} returned no {', '.join(lacking)}")
    for key in keys:
        values = np.asarray(figures[key], np.float64)
        if (np.abs(values) > LARGEST).any():
            raise IntegrityError(f"metric {metric.name} says {float(np.abs(values).max()):g} for {key}: no figure")
    details = {k: _plain(v) for k, v in figures.items() if k not in keys}
    flags = details.pop("flags", None) or []
    rounds = {k: _plain(figures[k]) for k in keys if not np.isscalar(figures[k])}
    return {"values": {k: summary(figures[k]) for k in keys}, "rounds": rounds, "details": details, "flags": flags}


def summary(value: float | Sequence[float]) -> dict[str, float | int | None]:
    """Mean, population standard deviation (ddof = 0) and n of a figure's rounds; NaN becomes None.

    Example:
        >>> summary([1.0, 3.0])
        {'mean': 2.0, 'std': 1.0, 'n': 2}
        >>> summary(float("nan"))
        {'mean': None, 'std': None, 'n': 1}
    """
    values = np.atleast_1d(np.asarray(value, np.float64))
    if not np.isfinite(values).all():
        return {"mean": None, "std": None, "n": len(values)}
    return {"mean": float(values.mean()), "std": float(values.std()) if len(values) > 1 else None, "n": len(values)}


def _plain(value: Any) -> Any:
    """JSON values only; undefined figures become None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
