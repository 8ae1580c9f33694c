"""The encoder-decoder of `adv-image`: a U-Net that proposes a mask for an image."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

STRIDE = 32  # five halvings
_REFLECTED = (2, 1, 2, 1)  # left, right, top, bottom: a 4x4 convolution then keeps the size


class MaskNet(nn.Module):
    """Five halving convolutions, five doubling ones, skips between them; one mask for all colours.

    With 64 `channels` it is the released network, of 16.66 million parameters. Its last bias is
    drawn from N(3, 1), so that masks start open: near sigmoid(3) = 0.95, and from 0.73 to 0.99
    when the draw lies two standard deviations off.

    Args:
        channels: Of the first level; the deeper ones have 2, 4, 8 and 8 times as many.

    Example:
        >>> net = MaskNet(channels=4)
        >>> net(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1, 64, 64])
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, 2, 4, 8, 8)]
        self.down = nn.ModuleList([_halve(3, widths[0])])
        for i, (before, after) in enumerate(pairwise(widths)):
            norm = [nn.BatchNorm2d(after)] if i < len(widths) - 2 else []  # none at the bottom
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), _halve(before, after), *norm))
        self.up = nn.ModuleList([_Double(widths[4], widths[3])])
        for level, after in ((3, widths[2]), (2, widths[1]), (1, widths[0])):
            self.up.append(_Double(2 * widths[level], after))
        self.last = _Double(2 * widths[0], 1, norm=False)
        assert self.last.conv.bias is not None
        nn.init.normal_(self.last.conv.bias, mean=3, std=1)

    def forward(self, image: Tensor) -> Tensor:
        """The mask in (0, 1), [B, 1, H, W].

        Args:
            image: [B, 3, H, W], normalised; H and W are multiples of 32.
        """
        x, skips = image, []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for up in (*self.up, self.last):
            x = up(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return torch.sigmoid(x)


class _Double(nn.Module):
    """ReLU, twice the size, convolution."""

    def __init__(self, before: int, after: int, *, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 4)
        self.norm = nn.BatchNorm2d(after) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate(torch.relu(x), scale_factor=2, mode="bilinear", align_corners=False)
        # Two pixels cannot be reflected by two; only an input of 32 pixels gets there.
        x = pad(x, _REFLECTED, mode="reflect" if min(x.shape[2:]) > max(_REFLECTED) else "replicate")
        out: Tensor = self.norm(self.conv(x))
        return out


def _halve(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 4, stride=2, padding=1)
