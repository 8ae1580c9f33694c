"""What adversaries and classifiers of attributes tell about themselves."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import one_hot


def hits(logits: Tensor, groups: Tensor) -> Tensor:
    """Whether each group is recognised; means over columns, then over these, are the class-mean accuracy.

    Args:
        logits: [B, G].
        groups: [B] int64, -1 unknown.

    Returns:
        [B, G] float32: 1 or 0 in the column of the row's own group, NaN elsewhere.

    Example:
        >>> import torch
        >>> hits(torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1, -1])).tolist()
        [[1.0, nan], [nan, 0.0], [nan, nan]]
    """
    own = one_hot(groups.clamp(min=0), logits.shape[1]).bool() & (groups >= 0)[:, None]
    right = (logits.argmax(1) == groups).float()[:, None]
    return right.expand_as(logits).masked_fill(~own, math.nan)
