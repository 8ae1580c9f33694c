"""Group distributionally robust optimisation (Sagawa et al., ICLR 2020)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from biasbench import Batch, BuildInfo, CellError, Method, UsageError, attribute, did_you_mean, targets


class GroupDRO(Method):
    """Weights each group's loss by how badly the group has been served so far.

    A group is a value of the protected attribute, together with the label where there is
    one label per example. Per batch (Algorithm 1, for all groups in the batch at once):
    q_g is multiplied by exp(eta x (mean loss of g + C / sqrt(n_g))), q is normalised, and
    the loss becomes sum_g q_g x (mean loss of g). Groups that are absent from a batch keep
    their q up to normalisation. Examples whose attribute is unknown keep their own loss.

    Args:
        attribute: The protected attribute.
        eta: Step size of q.
        adjustment: C; n_g counts the training rows of g as they reach this method, so
            write methods that choose rows to its left.

    Example:
        >>> GroupDRO(attribute="gender", eta=0.1).eta
        0.1
    """

    name = "groupdro"
    source = "Sagawa et al., ICLR 2020, Algorithm 1 and section 3.3"
    q: Tensor

    def __init__(self, attribute: str | None = None, eta: float = 0.01, adjustment: float = 0.0) -> None:
        super().__init__()
        if not 0 < eta < float("inf") or not 0 <= adjustment < float("inf"):
            raise UsageError(f"groupdro: eta must be above 0, adjustment at least 0, not {eta} and {adjustment}")
        self.attribute, self.eta, self.adjustment = attribute, eta, adjustment
        self.rows: dict[tuple[int, int], int] | None = None  # (group, label) -> training rows
        self.labels = 0  # labels that make groups; 0: the attribute alone

    def resample(self, table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """Counts the rows of each group; chooses none."""
        if self.adjustment:
            y, codes = targets(table), attribute(table, self._name)
            pairs = np.stack([codes, y if y.ndim == 1 else np.zeros_like(codes)], axis=1)[codes >= 0]
            found, counts = np.unique(pairs, axis=0, return_counts=True)
            self.rows = {(int(g), int(k)): int(n) for (g, k), n in zip(found, counts, strict=True)}
        return table

    def build(self, info: BuildInfo) -> None:
        if self._name not in info.groups:
            hint = did_you_mean(self._name, info.groups)
            known = f"Known: {', '.join(info.groups)}"
            raise UsageError(f"groupdro: no protected attribute {self._name!r}", fix=hint or known)
        self.labels = len(info.label_names) if info.task == "multiclass" else 0
        size = info.groups[self._name] * max(1, self.labels)
        self.register_buffer("q", torch.full((size,), 1 / size))

    def weight(self, losses: Tensor, batch: Batch) -> Tensor:
        """[B] weights whose mean with the losses is sum_g q_g x (mean loss of g); moves q first."""
        if not self.training:
            return torch.ones_like(losses)
        groups = self._groups(batch)  # [B]
        known = groups >= 0
        member = one_hot(groups.clamp(min=0), len(self.q)) * known[:, None]  # [B, G]
        count = member.sum(0)  # [G]
        mean = member.T.float() @ losses.detach().float() / count.clamp(min=1)
        rise = torch.where(count > 0, self.eta * (mean + self._margin()), 0.0)
        self.q.copy_((self.q.log() + rise).softmax(0))
        share = self.q / count.clamp(min=1) * known.sum()
        return torch.where(known, share[groups.clamp(min=0)], 1.0).to(losses.dtype)

    @property
    def _name(self) -> str:
        if self.attribute is None:
            raise UsageError("groupdro: no protected attribute is named", fix="Give attribute='...'")
        return self.attribute

    def _groups(self, batch: Batch) -> Tensor:
        codes = batch.attributes[self._name]
        if not self.labels:
            return codes
        assert batch.targets is not None
        return torch.where(codes < 0, -1, codes * self.labels + batch.targets)

    def _margin(self) -> Tensor:
        """[G] C / sqrt(n_g); 0 for a group without rows."""
        margin = torch.zeros_like(self.q)
        if self.adjustment:
            if self.rows is None:
                raise CellError("groupdro: the adjustment needs the training rows, which were never shown")
            for (group, label), count in self.rows.items():
                margin[group * max(1, self.labels) + label] = self.adjustment / count**0.5
        return margin
