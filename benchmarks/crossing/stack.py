# ruff: noqa: ANN001, ANN002, ANN202, SLF001 - short functions of tensors
"""A stack of DCAT layers in three forms over the same weights: ours packed, plain padded, duplicated packed.

The plain form is what one writes without this package: requests padded to the longest, causal SDPA for the
context, masked SDPA over [history ; candidates] for the crossing. Every form is compiled whole; the last
layer's context computes keys and values only, in every form that has one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.varlen import varlen_attn

from benchmarks.crossing.baselines import aten, merge
from training.ops import CrossingPlan, context_attention, crossing_attention, linear_gelu

Attend = Callable[..., torch.Tensor]
Widen = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def plain_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """GELU of a linear layer, for the compiler to fuse as it can."""
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


class Block(nn.Module):
    """Pre-norm transformer layer, split where attention goes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def project(self, x: torch.Tensor) -> list[torch.Tensor]:
        """q, k, v: slices of one product, no copies."""
        return [y.unflatten(-1, (self.heads, -1)) for y in self.qkv(self.norm1(x)).chunk(3, -1)]

    def project_kv(self, x: torch.Tensor) -> list[torch.Tensor]:
        """k, v alone."""
        y = F.linear(self.norm1(x), self.qkv.weight[self.width :], self.qkv.bias[self.width :])
        return [z.unflatten(-1, (self.heads, -1)) for z in y.chunk(2, -1)]

    def finish(self, x: torch.Tensor, attended: torch.Tensor, widen: Widen) -> torch.Tensor:
        """Residuals and MLP."""
        x = x + self.out(attended.flatten(-2))
        return x + self.down(widen(self.norm2(x), self.up.weight, self.up.bias))


class Stack(nn.Module):
    """Layers of context and crossing over any pair of attentions."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(
        self, x: torch.Tensor, c: torch.Tensor, context: Attend, crossing: Attend, widen: Widen = plain_gelu
    ) -> torch.Tensor:
        """Candidates' last hidden states from histories x and candidates c."""
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            q, k, v = (None, *block.project_kv(x)) if last else block.project(x)
            cq, ck, cv = block.project(c)
            c = block.finish(c, crossing(cq, ck, cv, k, v), widen)
            if not last:
                x = block.finish(x, context(q, k, v), widen)
        return c

    def duplicated(self, x: torch.Tensor, context: Attend, last: torch.Tensor) -> torch.Tensor:
        """The same for sequences [history ; candidate], one a candidate; `last` are the candidates' rows."""
        for block in self.blocks:
            x = block.finish(x, context(*block.project(x)), plain_gelu)
        return x[last]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed inputs of a stack."""

    counts: list[int]
    lengths: list[int]
    histories: torch.Tensor
    candidates: torch.Tensor
    plan: CrossingPlan

    @classmethod
    def of(cls, counts: list[int], lengths: list[int], width: int) -> Batch:
        """Random bf16 inputs."""
        x, c = (torch.randn(sum(n), width, device="cuda").bfloat16() for n in (lengths, counts))
        offsets = (torch.tensor([0, *n]).cumsum(0) for n in (lengths, counts))
        return cls(counts, lengths, x, c, CrossingPlan.build(*offsets, "cuda"))


def ours(net: Stack, b: Batch) -> Callable[[], torch.Tensor]:
    """(h) packed, with this package's attentions and, where no gradient is asked for, its GELU."""
    run = torch.compile(
        lambda x, c: net(
            x,
            c,
            lambda *qkv: context_attention(*qkv, b.plan),
            lambda *qkv: crossing_attention(*qkv, b.plan),
            linear_gelu,
        ),
        dynamic=False,
        fullgraph=True,
    )
    return lambda: run(b.histories, b.candidates)


def plain(net: Stack, b: Batch) -> Callable[[], torch.Tensor]:
    """(g) padded to the longest, SDPA."""
    R, L, N = len(b.lengths), max(b.lengths), max(b.counts)
    width = b.histories.shape[1]
    x, c = b.histories.new_zeros(R, L, width), b.candidates.new_zeros(R, N, width)
    mask = torch.eye(N, dtype=torch.bool, device="cuda").repeat(R, 1, 1, 1)
    mask = torch.cat([torch.zeros(R, 1, N, L, dtype=torch.bool, device="cuda"), mask], -1)
    for r, (t, rows) in enumerate(b.plan.slices()):
        x[r, : b.lengths[r]], c[r, : b.counts[r]] = b.histories[t], b.candidates[rows]
        mask[r, ..., : b.lengths[r]] = True
    index_C = torch.cat([torch.arange(n) + r * N for r, n in enumerate(b.counts)]).cuda()

    def context(q, k, v):
        return F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)), is_causal=True).transpose(1, 2)

    def crossing(q, k_self, v_self, k, v):
        y = (y.transpose(1, 2) for y in (q, torch.cat([k, k_self], 1), torch.cat([v, v_self], 1)))
        return F.scaled_dot_product_attention(*y, attn_mask=mask).transpose(1, 2)

    run = torch.compile(lambda x, c: net(x, c, context, crossing).flatten(0, 1)[index_C], dynamic=False)
    return lambda: run(x, c)


def plain_merged(net: Stack, b: Batch) -> Callable[[], torch.Tensor]:
    """(g) equal lengths, forward only: dense flash attention and a merge instead of the mask."""
    R = len(b.lengths)

    def context(q, k, v):
        return F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)), is_causal=True).transpose(1, 2)

    def crossing(*tensors):
        q, k_self, v_self, k, v = (y.transpose(1, 2) for y in tensors)
        o, lse = aten._scaled_dot_product_flash_attention(q, k, v)[:2]
        return merge(o, lse, q, k_self, v_self, q.shape[-1] ** -0.5)[0].transpose(1, 2)

    run = torch.compile(lambda x, c: net(x, c, context, crossing).flatten(0, 1), dynamic=False)
    return lambda: run(b.histories.view(R, -1, b.histories.shape[1]), b.candidates.view(R, -1, b.candidates.shape[1]))


def stock_packed(net: Stack, b: Batch, widen: Widen = plain_gelu) -> Callable[[], torch.Tensor]:
    """Packed, forward only: torch's varlen attention and a merge, the strongest stock form on ragged lengths."""
    starts, longest, most = b.plan.layout[:2], b.plan.max_length, b.plan.max_candidates

    def context(q, k, v):
        return varlen_attn(q, k, v, starts[0], starts[0], longest, longest, window_size=(-1, 0))

    def crossing(q, k_self, v_self, k, v):
        o, lse = aten._flash_attention_forward(q, k, v, starts[1], starts[0], most, longest, 0.0, False, False)[:2]
        return merge(o, lse.T, q, k_self, v_self, q.shape[-1] ** -0.5)[0]

    run = torch.compile(lambda x, c: net(x, c, context, crossing, widen), dynamic=False)
    return lambda: run(b.histories, b.candidates)


def duplicated(net: Stack, b: Batch, tokens: int) -> tuple[Callable[[], torch.Tensor], float, torch.Tensor]:
    """(a) a random sample of candidates, each with its own copy of the history; its share of all tokens."""
    g = torch.Generator().manual_seed(1)
    requests, slices = b.plan.request_index.tolist(), list(b.plan.slices())
    picked, used = [], 0
    for c in torch.randperm(len(requests), generator=g).tolist():
        if used > tokens:
            break
        picked.append(c)
        used += b.lengths[requests[c]] + 1
    x = torch.cat([torch.cat([b.histories[slices[requests[c]][0]], b.candidates[c : c + 1]]) for c in picked])
    ends = torch.tensor([0, *(b.lengths[requests[c]] + 1 for c in picked)]).cumsum(0)
    starts, last, longest = ends.int().cuda(), (ends[1:] - 1).cuda(), max(b.lengths) + 1

    def context(q, k, v):
        return varlen_attn(q, k, v, starts, starts, longest, longest, window_size=(-1, 0))

    run = torch.compile(lambda x: net.duplicated(x, context, last), dynamic=False)
    whole = sum(n * (m + 1) for n, m in zip(b.counts, b.lengths, strict=True))
    return lambda: run(x), used / whole, torch.tensor(picked).cuda()


def flop(net: Stack, b: Batch) -> int:
    """Products of the deduplicated forward."""
    D, layers = net.blocks[0].width, len(net.blocks)
    T, C = sum(b.lengths), sum(b.counts)
    causal = sum(2 * n * n for n in b.lengths) * D
    across = sum(4 * n * (m + 1) for n, m in zip(b.counts, b.lengths, strict=True)) * D
    return (layers - 1) * (24 * T * D * D + causal) + 4 * T * D * D + layers * (24 * C * D * D + across)
