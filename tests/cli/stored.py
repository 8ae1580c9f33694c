"""A folder of results written by hand: known figures, known predictions, nothing trained."""

from __future__ import annotations

import numpy as np
import pandas as pd

from biasbench import io
from biasbench.store import Store

LABELS = ("cup", "dog", "kite", "none")
N = 400


def truth(split):
    """A table of N rows: each label on a third of the rows, the last on none."""
    rng = np.random.default_rng(len(split))
    hot = (rng.random((N, len(LABELS))) < 1 / 3).astype(np.uint8)
    hot[:, -1] = 0
    labels = {f"label/{name}": hot[:, i] for i, name in enumerate(LABELS)}
    return pd.DataFrame({"id": [f"{split}{i}" for i in range(N)], **labels, "attribute/gender": np.arange(N) % 2})


def commit(results, method, seed=0, f1=50.0, delta=(5.0, 5.0), lambda_m=60.0, wrong=None, **spec):
    """One finished, measured run; `wrong` maps a label to the rows whose decoded label is turned round.

    Returns:
        The run's key.
    """
    store = Store(results, create=True)
    described = {
        "method": method, "dataset": "coco", "backbone": "resnet50", "profile": "paper", "seed": seed,
        "weights": "timm:a", "recipe": {"protocol": "wang2019"}, **spec,
    }  # fmt: skip
    key = io.hash_json(described)[:20]
    folder = store.aside("run", key)
    for split in ("train", "val", "test"):
        table = truth(split)
        said = table[[f"label/{n}" for n in LABELS]].to_numpy().copy()
        for name, rows in (wrong or {}).items():
            said[rows, LABELS.index(name)] ^= 1
        place = folder / "predictions" / split
        place.mkdir(parents=True)
        io.write_array(place / "score-label.npy", said.astype(np.float32))
        io.write_array(place / "labels.npy", said)
        io.write_text(place / "ids.json", pd.Series(table["id"]).to_json(orient="values"))
        with io.writing(folder / "truth" / f"{split}.parquet") as aside:
            table.to_parquet(aside, index=False)
    manifest = {"spec": described, "flags": ["weights=timm:a"], "attribute": "gender", "label_names": list(LABELS)}
    store.commit_run(folder, key, manifest)
    rounds = np.array(delta, float)
    figures = {"delta": rounds, "lambda_m": lambda_m + rounds - rounds.mean()}
    leakage = {
        k: {"mean": float(v.mean()), "std": float(v.std()) if len(v) > 1 else None, "n": len(v)}
        for k, v in figures.items()
    }
    base = {"attribute": "gender", "protocol": "wang2019", "details": {}, "flags": [], "error": None}
    store.write_metrics(key, [
        {"metric": "accuracy", "values": {"f1": {"mean": f1, "std": None, "n": 1}}, "rounds": {}, **base},
        {"metric": "leakage", "values": leakage, "rounds": {k: v.tolist() for k, v in figures.items()}, **base},
    ])  # fmt: skip
    return key
