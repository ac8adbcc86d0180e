"""One DCAT layer (PinFM, arXiv 2507.12704): the same weights pass over the history once, and over each candidate.

Pre-norm; `context` and `cross` together equal causal self-attention over [history ; candidate], for each candidate
alone, because a history token never sees what comes after it. Shapes: T history tokens, C candidates of all requests,
D width, H heads of D / H.
"""

from __future__ import annotations

import torch
from torch import nn

from training.ops import CrossingPlan, context_attention, crossing_attention


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def context(
        self, x_TD: torch.Tensor, plan: CrossingPlan, last: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The history's next tokens and this layer's keys and values; the last layer's tokens nobody reads."""
        if last:
            width = x_TD.shape[1]
            kv = nn.functional.linear(self.attention_norm(x_TD), self.qkv.weight[width:], self.qkv.bias[width:])
            k_THD, v_THD = self.split(kv, 2)
            return x_TD, k_THD, v_THD
        q_THD, k_THD, v_THD = self.split(self.qkv(self.attention_norm(x_TD)), 3)
        return self.rest(x_TD, context_attention(q_THD, k_THD, v_THD, plan)), k_THD, v_THD

    def cross(self, x_CD: torch.Tensor, k_THD: torch.Tensor, v_THD: torch.Tensor, plan: CrossingPlan) -> torch.Tensor:
        """The candidates' next tokens: each sees its request's history and itself."""
        q_CHD, k_self, v_self = self.split(self.qkv(self.attention_norm(x_CD)), 3)
        return self.rest(x_CD, crossing_attention(q_CHD, k_self, v_self, k_THD, v_THD, plan))

    def split(self, x: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """[N, parts * D] to `parts` tensors [N, H, D / H]."""
        each = x.shape[-1] // parts // self.heads
        return tuple(y.view(*y.shape[:-1], self.heads, each) for y in x.chunk(parts, -1))

    def rest(self, x: torch.Tensor, attended_NHD: torch.Tensor) -> torch.Tensor:
        """What follows attention."""
        x = x + self.dropout(self.out(attended_NHD.flatten(-2)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))  # type: ignore[no-any-return]
