"""Leakage: how well an attacker tells a protected attribute from labels or from a model's scores.

Wang, Zhao, Yatskar, Chang and Ordonez, "Balanced Datasets Are Not Enough", ICCV 2019, section 3,
with the controls that tell what a figure is worth. docs/leakage.md explains every figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from biasbench.data import Progress
from biasbench.errors import UsageError
from biasbench.measures.aim import Aim, aim_at, model_f1
from biasbench.measures.checks import about_draws, about_scores, closed_form, control, p_value
from biasbench.measures.figure import LeakageReport, undefined
from biasbench.measures.named import AnyProtocol
from biasbench.measures.perturb import Kind, kind_for
from biasbench.measures.prepared import prepare
from biasbench.measures.rounds import Attack, Reads, Rounds, Shuffled
from biasbench.measures.run import difference_of, figure_of, run
from biasbench.measures.sample import Samples
from biasbench.metric import Memo

NOISES = (0.01, 0.05, 0.10)
NULLS: tuple[Shuffled, ...] = ("all", "train")
STRENGTH = 0.9
"""How often the planted control tells the truth."""


def leakage(
    samples: Samples,
    protocol: str | AnyProtocol = "wang2019",
    *,
    attribute: str = "attribute",
    groups: Sequence[str] = (),
    seed: int = 0,
    f1: float | None = None,
    perturbation: Kind | None = None,
    noises: Sequence[float] = (),
    nulls: int | None = None,
    minimum: int | None = None,
    memo: Memo | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> LeakageReport:
    """Dataset leakage, model leakage and bias amplification, with nulls and controls.

    Each round draws equally many rows of every group from train, val and test, and trains one
    attacker per figure. Figures, in percent (accuracy on the balanced test draw):

    | name | the attacker reads |
    |---|---|
    | `lambda_D` | true labels |
    | `lambda_D_F1` | true labels made as inaccurate as the model (needs a model, or `f1`) |
    | `lambda_M` | the model's raw logits |
    | `lambda_M_decoded` | the model's decoded labels |
    | `delta` | `lambda_M` - `lambda_D_F1`: bias amplification, points |
    | `delta_decoded` | `lambda_M_decoded` - `lambda_D_F1` |
    | `null_all` | as `lambda_M` (without a model `lambda_D`), the attribute shuffled everywhere |
    | `null_train` | the same, shuffled in training only |
    | `null_all_D`, `null_train_D` | the same on true labels, beside a model |
    | `noise_1`, … | as `lambda_M` (`lambda_D`), with 1 % … of the attributes wrong |

    Args:
        samples: Train, val and test; rows with attribute -1 count in the model's F1 alone.
        protocol: Name or constants; see `protocol_named`.
        attribute: Its name, for the report.
        groups: Names of the groups, in the order of their codes; by default their numbers.
        seed: Base of every random stream. No stream depends on the model.
        f1: Macro F1 (0..1) to perturb labels to, in place of the model's on the full test split.
        perturbation: `"flips"` or `"replacement"`; by default flips for multi-label data and
            replacement for single-label data.
        noises: Shares of wrong attributes to measure under.
        nulls: Null draws (default: as many as rounds); at least 99 give a p-value, 0 leaves nulls out.
        minimum: Groups with fewer rows than this in any split are left out, and named in the details; by
            default 100 where there are more than two groups (an intersection soon has tiny ones), else 1.
        memo: Keeps every attacker's outcome by content, so that nothing is trained twice and an
            interrupted measurement goes on.
        progress: Called with attacker-epochs done and due.
        threads: Attackers trained side by side on the CPU (default: torch's threads).
        device: Where attackers are trained.

    Returns:
        Figures by name, details and flags. When a split has no row of some group, all are NaN
        and a flag says why.

    Raises:
        DataError: When the samples do not fit together.
        CellError: When scores are not finite or an attacker overflows.
        UsageError: For an unknown protocol or an option out of range.

    Example:
        >>> import numpy as np
        >>> from biasbench import Sample
        >>> rng = np.random.default_rng(0)
        >>> def sample(n: int) -> Sample:
        ...     group = rng.integers(0, 2, n)
        ...     return Sample(np.stack([group, 1 - group], 1), group)  # the labels tell everything
        >>> report = leakage({"train": sample(400), "val": sample(200), "test": sample(200)}, "smoke")
        >>> report.figures["lambda_D"].mean
        100.0
    """
    if f1 is not None and not 0 <= f1 <= 1:
        raise UsageError(f"f1 must be from 0 to 1, not {f1}")
    if nulls is not None and nulls < 0:
        raise UsageError(f"nulls must not be below 0, not {nulls}")
    ready = prepare(samples, protocol, groups, minimum)
    samples, names, constants = ready.samples, ready.names, ready.protocol
    kind = kind_for(perturbation, samples["train"].single)
    rounds = Rounds(samples, ready.width, len(names), constants, seed, kind)
    plan = _Plan(rounds, f1, noises, constants.rounds if nulls is None else nulls)
    details: dict[str, Any] = {"protocol": constants.name, **about_draws(rounds, names)}
    details |= {"dropped_groups": ready.dropped, "unknown_share": ready.unknown_share}
    details |= {"dropped_share": ready.dropped_share, **about_scores(samples), **closed_form(samples, len(names))}
    if details["undefined"]:
        figures = {name: undefined(constants.rounds) for name in plan.names}
        return LeakageReport(constants.name, attribute, names, figures, details, [f"leakage {details['undefined']}"])

    attacks = plan.attacks()
    flat = [attack for some in attacks.values() for attack in some]
    outcomes = dict(zip(flat, run(rounds, flat, memo, progress, threads, device), strict=True))
    figures = {name: figure_of([outcomes[a] for a in some], some, rounds) for name, some in attacks.items()}
    for name, of in (("delta", "lambda_M"), ("delta_decoded", "lambda_M_decoded")):
        if of in figures:
            one, other = ([outcomes[a] for a in attacks[key]] for key in (of, "lambda_D_F1"))
            figures[name] = figures[of].minus(figures["lambda_D_F1"], difference_of(one, other, attacks[of], rounds))
    figures = {name: figures[name] for name in plan.names}
    details |= plan.details() | control(attacks, outcomes, len(names)) | p_value(figures, plan.first)
    return LeakageReport(constants.name, attribute, names, figures, details, _flags(details))


@dataclass
class _Plan:
    """Which attackers a measurement needs.

    Attributes:
        rounds: What they have in common.
        f1: Macro F1 asked for, or None for the model's.
        noises: Shares of wrong attributes.
        nulls: Null draws of each kind.
    """

    rounds: Rounds
    f1: float | None
    noises: Sequence[float]
    nulls: int
    aims: list[Aim] = field(default_factory=list)

    @property
    def model(self) -> bool:
        """Whether there is a model to attack."""
        return self.rounds.samples["train"].scores is not None

    @property
    def first(self) -> str:
        """The figure that nulls and noise are measured beside."""
        return "lambda_M" if self.model else "lambda_D"

    @property
    def names(self) -> list[str]:
        """All figures, in the order to show."""
        aimed = self.model or self.f1 is not None
        decoded = self.model and self.rounds.samples["train"].labels is not None
        return [
            "lambda_D",
            *(["lambda_D_F1"] if aimed else []),
            *(["lambda_M"] if self.model else []),
            *(["lambda_M_decoded"] if decoded else []),
            *(["delta"] if self.model else []),
            *(["delta_decoded"] if decoded else []),
            *(["null_all", "null_train"] if self.nulls else []),
            *(["null_all_D", "null_train_D"] if self.model and self.nulls else []),
            *(f"noise_{100 * q:g}" for q in self.noises),
        ]

    def attacks(self) -> dict[str, list[Attack]]:
        """Attackers by figure."""
        plan, count = self.rounds, self.rounds.protocol.rounds
        every = range(count)
        first: Reads = "scores" if self.model else "targets"
        found = {"lambda_D": [Attack(r) for r in every]}
        if self.model or self.f1 is not None:
            target = model_f1(plan.samples, plan.width) if self.f1 is None else self.f1
            self.aims = [aim_at(plan, r, target) for r in every]
            found["lambda_D_F1"] = [Attack(r, perturbed=aim.rate) for r, aim in zip(every, self.aims, strict=True)]
        if self.model:
            found["lambda_M"] = [Attack(r, "scores") for r in every]
            if plan.samples["train"].labels is not None:
                found["lambda_M_decoded"] = [Attack(r, "labels") for r in every]
        beside: list[tuple[str, Reads, int]] = [
            ("", first, self.nulls),
            ("_D", "targets", count if self.model and self.nulls else 0),
        ]
        for ending, reads, draws in beside:
            for shuffled in NULLS if draws else ():
                found[f"null_{shuffled}{ending}"] = [
                    Attack(i % count, reads, shuffled=shuffled, shuffle=i // count) for i in range(draws)
                ]
        for q in self.noises:
            found[f"noise_{100 * q:g}"] = [Attack(r, first, noise=q) for r in every]
        found["control"] = [Attack(0, first, planted=STRENGTH)]
        if self.model:
            found["control_D"] = [Attack(0, planted=STRENGTH)]
        return found

    def details(self) -> dict[str, Any]:
        """How labels were perturbed."""
        if not self.aims:
            return {"perturbation": self.rounds.kind}
        return {
            "perturbation": self.rounds.kind,
            "perturbation_rate": [a.rate for a in self.aims],
            "f1_target": 100 * self.aims[0].target,
            "f1_expected": [100 * a.expected for a in self.aims],
            "f1_realised": [100 * a.realised for a in self.aims],
            "f1_split": "balanced validation draw",
            "f1_out_of_reach": any(a.out_of_reach for a in self.aims),
        }


def _flags(details: Mapping[str, Any]) -> list[str]:
    found = ["underpowered"] if details["underpowered"] else []
    if details.get("f1_out_of_reach"):
        found.append("F1 out of reach of perturbed labels")
    if details["shrunk_scores"]:
        found.append(f"{details['shrunk_scores']} logits too small for the attacker to read")
    missed = [name for name, shown in details["control"].items() if not shown["found"]]
    if missed:
        found.append(f"the attacker missed a leak planted in the {' and the '.join(missed)}")
    return found
