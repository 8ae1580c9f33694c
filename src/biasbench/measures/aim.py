"""Making labels as inaccurate as a model: the rate of perturbation for a macro F1."""

from __future__ import annotations

from dataclasses import dataclass

from biasbench.errors import CellError
from biasbench.measures.perturb import calibrate
from biasbench.measures.rounds import Rounds
from biasbench.measures.sample import Samples
from biasbench.scoring import macro_f1, one_hot


@dataclass(frozen=True)
class Aim:
    """One round's rate and what it yields; macro F1 in 0..1.

    Attributes:
        rate: Probability that a bit is flipped, or a label replaced.
        target: Asked for.
        expected: Over draws of the perturbation, on the round's balanced validation draw.
        realised: Of the labels that the attacker was selected on.
        out_of_reach: Whether no rate comes within 0.1 point of the target; the nearest is taken.
    """

    rate: float
    target: float
    expected: float
    realised: float
    out_of_reach: bool


def aim_at(rounds: Rounds, round_: int, target: float) -> Aim:
    """The rate at which a round's labels are expected to score `target`.

    Read, as released, on the balanced validation draw; the attacker that follows reads training
    and test labels perturbed at the same rate.
    """
    clean = rounds.samples["val"].targets[rounds.rows(round_, "val")]
    found = calibrate(rounds.kind, clean, rounds.width, target)
    said = rounds.perturbed(round_, "val", found.p)
    realised = macro_f1(one_hot(said, rounds.width), one_hot(clean, rounds.width), "multilabel", rounds.width)
    return Aim(found.p, target, found.f1, realised, found.out_of_reach)


def model_f1(samples: Samples, width: int) -> float:
    """Macro F1 of the model's decoded labels on the whole test split, rows without attribute included.

    Raises:
        CellError: When there are no decoded labels.
    """
    test = samples["test"]
    if test.labels is None:
        raise CellError("a model without decoded labels has no F1", fix="Pass labels with the scores")
    return macro_f1(one_hot(test.labels, width), one_hot(test.targets, width), "multilabel", width)
