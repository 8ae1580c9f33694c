"""Fitting scikit-learn's attackers: logistic regression and boosted trees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biasbench.measures.certified import Certified
from biasbench.measures.certified_kinds import Kind
from biasbench.measures.certified_pool import Fit
from biasbench.rng import seed_for

Told = NDArray[np.float32]
"""[S, n, G] probabilities of the groups: stages, rows read, groups."""


def fit_logistic(fit: Fit, kind: Kind, protocol: Certified) -> Told:
    """Logistic regression with a mild L2 penalty, by L-BFGS to convergence."""
    from sklearn.linear_model import LogisticRegression

    train, read = fit.tables()
    model = LogisticRegression(C=1 / protocol.penalty, max_iter=kind.steps, tol=1e-5)
    model.fit(train.astype(np.float64), fit.pool.codes[fit.train])
    told: Told = model.predict_proba(read.astype(np.float64)).astype(np.float32)[None]
    return told


def fit_boosting(fit: Fit, kind: Kind, protocol: Certified) -> Told:
    """Gradient-boosted trees on histograms; a leaf holds 20 rows or more."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    train, read = fit.tables()
    model = HistGradientBoostingClassifier(
        learning_rate=protocol.shrinkage,
        max_iter=kind.steps,
        max_leaf_nodes=kind.size,
        early_stopping=False,
        random_state=seed_for(*fit.stream, kind.name) % 2**32,
    )
    model.fit(train, fit.pool.codes[fit.train])
    marks = set(kind.stages())
    told = enumerate(model.staged_predict_proba(read), 1)
    return np.stack([said.astype(np.float32) for step, said in told if step in marks])
