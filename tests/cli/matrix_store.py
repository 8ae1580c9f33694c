"""A results folder whose runs were measured on several attributes, written by hand; nothing is trained."""

from __future__ import annotations

import numpy as np
import pandas as pd

from biasbench import io
from biasbench.store import Store

GENDER, TILT = ("woman", "man"), ("left", "right")


def commit(
    results, method, seed=0, embedding=None, *, text=None, dataset="plain", groups=None, beside=(), flags=(),
    details=None, sizes=None, fingerprint="f", lambda_m=None, protocol="certified", unlike="", extra=None,
):  # fmt: skip
    """One finished, measured run.

    Args:
        results: The folder of the store.
        method: As the user wrote it.
        seed: Of the run.
        embedding: Attribute to mean, or to (mean, std, rounds); None is undefined.
        text: The method as its class resolved it; the typed one by default.
        dataset: As the user wrote it.
        groups: Groups of the data set's own attributes.
        beside: Pairs of a secondary data set and its groups.
        flags: Of the run.
        details: Attribute to what the metric keeps beside its figures.
        sizes: Attribute to rows of each group in every split; labels are stored for these alone.
        fingerprint: Content of the data set.
        lambda_m: As `embedding`.
        protocol: The measuring protocol.
        unlike: Makes another key of the same spec.
        extra: Attribute to flags of its measurement.

    Returns:
        The run's key.
    """
    store = Store(results, create=True)
    spec = {
        "method": method, "method_text": text or method, "dataset": dataset, "backbone": "tiny", "profile": "smoke",
        "seed": seed, "weights": "random", "recipe": {"protocol": protocol}, "training": {"fingerprint": fingerprint},
    }  # fmt: skip
    key = io.hash_json([spec, unlike, list(flags)])[:20]
    folder = store.aside("run", key)
    for name, counts in (sizes or {}).items():
        number = next((i for i, (other, _) in enumerate(beside) if name.startswith(f"{other}:")), None)
        place = folder / "truth" if number is None else folder / "secondary" / str(number) / "truth"
        codes = np.repeat(np.arange(len(counts)), counts)
        for split in ("train", "val", "test"):
            with io.writing(place / f"{split}.parquet") as aside:
                pd.DataFrame({f"attribute/{name.rpartition(':')[2]}": codes}).to_parquet(aside, index=False)
    manifest = {
        "spec": spec, "flags": ["weights=random", *flags], "attribute": "gender", "label_names": ["a", "b"],
        "groups": {k: list(v) for k, v in ({"gender": GENDER} if groups is None else groups).items()},
        "beside": [{"dataset": name, "groups": {k: list(v) for k, v in other.items()}} for name, other in beside],
    }  # fmt: skip
    store.commit_run(folder, key, manifest)
    records = [
        {"metric": metric, "attribute": name, "protocol": protocol, "values": {column: summary(value)}, "rounds": {},
         "details": (details or {}).get(name, {}), "flags": (extra or {}).get(name, []), "error": None}
        for metric, column, figures in (("embedding", "embedding", embedding), ("leakage", "lambda_m", lambda_m))
        for name, value in (figures or {}).items()
    ]  # fmt: skip
    store.write_metrics(key, records)
    return key


def summary(value):
    """Mean, std and n as the store keeps them."""
    mean, std, n = value if isinstance(value, tuple) else (value, None, 1)
    return {"mean": mean, "std": std, "n": n}


def unscored(results, method, status, reason, seed=0, dataset="plain", protocol="certified"):
    """A cell without a score."""
    Store(results, create=True).note_unscored(
        {
            "key": f"{method}-{seed}-{dataset}-{status}".encode().hex()[:60], "status": status, "reason": reason,
            "method": method, "dataset": dataset, "backbone": "tiny", "profile": "smoke", "seed": seed,
            "weights": "random", "flags": ["weights=random"], "attribute": "gender", "protocol": protocol,
            "values": {},
        }
    )  # fmt: skip
