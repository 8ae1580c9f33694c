"""Vision transformers in segments: tokens as [B, C, N, 1], channels first like every tap.

Prefix tokens (class, registers) are part of the activation: the embedding is computed from
them, so a map of the patches alone could not be resumed. Transposing is free: the memory
stays [B, N, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.vision_transformer import global_pool_nlc
from torch import Tensor, nn


def to_tap(tokens: Tensor) -> Tensor:
    """[B, N, C] to [B, C, N, 1]."""
    return tokens.transpose(1, 2).unsqueeze(-1)


def to_tokens(x: Tensor) -> Tensor:
    """[B, C, N, 1] to [B, N, C]."""
    return x.squeeze(-1).transpose(1, 2)


class TokenStem(nn.Module):
    """Patch and position embedding: what is left of the network once its blocks and norm are taken out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.blocks, network.norm = nn.Sequential(), nn.Identity()
        network.attn_pool, network.fc_norm = None, nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, N, 1] from normalised images."""
        tokens: Tensor = self.network.forward_features(images)
        return to_tap(tokens)


class TokenBlocks(nn.Sequential):
    """Transformer blocks from tap to tap."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N, 1] to the same."""
        tokens = to_tokens(x)
        for block in self:
            tokens = block(tokens)
        return to_tap(tokens)


class TokenEmbedding(nn.Module):
    """Final norm and pooling, as the network was configured."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.norm, self.attn_pool, self.fc_norm = network.norm, network.attn_pool, network.fc_norm
        self.pool = str(network.global_pool)
        self.prefix = int(network.num_prefix_tokens)
        self.include_prefix = bool(network.pool_include_prefix)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] from [B, C, N, 1]."""
        tokens = self.norm(to_tokens(x))
        if self.attn_pool is not None:
            pooled: Tensor = self.attn_pool(tokens if self.include_prefix else tokens[:, self.prefix :])
        else:
            pooled = global_pool_nlc(tokens, self.pool, self.prefix, self.include_prefix)
        out: Tensor = self.fc_norm(pooled)
        return out
