"""biasbench: measure and mitigate protected-attribute bias in image classifiers.

These are the public names; plugins import from here and nowhere else. They are loaded on
first use, so that `import biasbench` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "audit.file": ("AuditFile",),
    "audit.read": ("read_audit_file",),
    "audit.report": ("AuditReport", "audit_file"),
    "backbone": ("Backbone", "seeded"),
    "data": (
        "Batch", "Dataset", "Outputs", "Predictions", "Progress", "SPLITS", "Split", "attribute", "check_table",
        "targets",
    ),
    "errors": (
        "BiasBenchError", "CellError", "DataError", "IntegrityError", "PluginError", "StoreError", "UsageError",
        "did_you_mean", "printable",
    ),
    "head": ("Head", "MultiClassHead", "MultiLabelHead", "default_head"),
    "hookspecs": ("Entry", "hookimpl"),
    "method": ("Activations", "BuildInfo", "Method", "Phase", "Pipeline"),
    "measures.amplification": ("bias_amplification",),
    "measures.directional": ("directional_amplification",),
    "measures.embedding": ("embedding_leakage",),
    "measures.gaps": ("demographic_parity_gap", "equalised_odds_gap"),
    "measures.groups": ("worst_group",),
    "measures.ablation": ("leakage_by_attacker",),
    "measures.curve": ("Curve", "leakage_curve"),
    "measures.leakage": ("leakage",),
    "measures.multi": ("multi_attribute_amplification",),
    "measures.named": ("LEAKAGE_PROTOCOLS",),
    "measures.figure": ("Figure", "LeakageReport"),
    "measures.sample": ("Sample",),
    "measures.unlearning": ("group_accuracy", "near_chance", "prediction_divergence", "rescaled", "unlearned"),
    "metric": ("Column", "Measurement", "Memo", "Metric"),
    "rng": ("generator", "seed_for", "torch_generator", "uniforms"),
    "weights": ("ResolvedWeights", "load_strict", "mismatch"),
    "scoring": ("macro_f1", "mean_average_precision", "one_hot"),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(["__version__", *_WHERE])

if TYPE_CHECKING:
    from biasbench.audit.file import AuditFile as AuditFile
    from biasbench.audit.read import read_audit_file as read_audit_file
    from biasbench.audit.report import AuditReport as AuditReport
    from biasbench.audit.report import audit_file as audit_file
    from biasbench.backbone import Backbone as Backbone
    from biasbench.backbone import seeded as seeded
    from biasbench.data import SPLITS as SPLITS
    from biasbench.data import Batch as Batch
    from biasbench.data import Dataset as Dataset
    from biasbench.data import Outputs as Outputs
    from biasbench.data import Predictions as Predictions
    from biasbench.data import Progress as Progress
    from biasbench.data import Split as Split
    from biasbench.data import attribute as attribute
    from biasbench.data import check_table as check_table
    from biasbench.data import targets as targets
    from biasbench.errors import BiasBenchError as BiasBenchError
    from biasbench.errors import CellError as CellError
    from biasbench.errors import DataError as DataError
    from biasbench.errors import IntegrityError as IntegrityError
    from biasbench.errors import PluginError as PluginError
    from biasbench.errors import StoreError as StoreError
    from biasbench.errors import UsageError as UsageError
    from biasbench.errors import did_you_mean as did_you_mean
    from biasbench.errors import printable as printable
    from biasbench.head import Head as Head
    from biasbench.head import MultiClassHead as MultiClassHead
    from biasbench.head import MultiLabelHead as MultiLabelHead
    from biasbench.head import default_head as default_head
    from biasbench.hookspecs import Entry as Entry
    from biasbench.hookspecs import hookimpl as hookimpl
    from biasbench.measures.ablation import leakage_by_attacker as leakage_by_attacker
    from biasbench.measures.amplification import bias_amplification as bias_amplification
    from biasbench.measures.curve import Curve as Curve
    from biasbench.measures.curve import leakage_curve as leakage_curve
    from biasbench.measures.directional import directional_amplification as directional_amplification
    from biasbench.measures.embedding import embedding_leakage as embedding_leakage
    from biasbench.measures.figure import Figure as Figure
    from biasbench.measures.figure import LeakageReport as LeakageReport
    from biasbench.measures.gaps import demographic_parity_gap as demographic_parity_gap
    from biasbench.measures.gaps import equalised_odds_gap as equalised_odds_gap
    from biasbench.measures.groups import worst_group as worst_group
    from biasbench.measures.leakage import leakage as leakage
    from biasbench.measures.multi import multi_attribute_amplification as multi_attribute_amplification
    from biasbench.measures.named import LEAKAGE_PROTOCOLS as LEAKAGE_PROTOCOLS
    from biasbench.measures.sample import Sample as Sample
    from biasbench.measures.unlearning import group_accuracy as group_accuracy
    from biasbench.measures.unlearning import near_chance as near_chance
    from biasbench.measures.unlearning import prediction_divergence as prediction_divergence
    from biasbench.measures.unlearning import rescaled as rescaled
    from biasbench.measures.unlearning import unlearned as unlearned
    from biasbench.method import Activations as Activations
    from biasbench.method import BuildInfo as BuildInfo
    from biasbench.method import Method as Method
    from biasbench.method import Phase as Phase
    from biasbench.method import Pipeline as Pipeline
    from biasbench.metric import Column as Column
    from biasbench.metric import Measurement as Measurement
    from biasbench.metric import Memo as Memo
    from biasbench.metric import Metric as Metric
    from biasbench.rng import generator as generator
    from biasbench.rng import seed_for as seed_for
    from biasbench.rng import torch_generator as torch_generator
    from biasbench.rng import uniforms as uniforms
    from biasbench.scoring import macro_f1 as macro_f1
    from biasbench.scoring import mean_average_precision as mean_average_precision
    from biasbench.scoring import one_hot as one_hot
    from biasbench.weights import ResolvedWeights as ResolvedWeights
    from biasbench.weights import load_strict as load_strict
    from biasbench.weights import mismatch as mismatch


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'biasbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"biasbench.{_WHERE[name]}"), name)
