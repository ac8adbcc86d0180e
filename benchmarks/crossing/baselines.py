# ruff: noqa: ANN001, ANN201, ANN202, PLR0917, SLF001 - short functions of tensors
"""The ways to crossing attention that torch offers, each checked against fp64 before it is timed.

Trap: autograd through a merge by log-sum-exp is silently wrong, since flash attention's backward drops the
gradient of its LSE. Its backward called with the *merged* output and LSE is exact; `Merged` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.crossing.problem import Problem
from training.ops import padded

aten = torch.ops.aten
Outcome = Callable[[], Any]


def merge(o, lse, q, k_self, v_self, scale):
    """Output and natural log-sum-exp of history and self token from the history's."""
    s = (q.float() * k_self.float()).sum(-1) * scale
    w = torch.sigmoid(s - lse)[..., None]
    return (o.float() * (1 - w) + v_self.float() * w).to(o.dtype), torch.logaddexp(s, lse)


def self_gradients(q, k_self, v_self, o, do, lse, dq, scale):
    """dq with the self token's share, dk_self, dv_self."""
    p = torch.exp((q.float() * k_self.float()).sum(-1) * scale - lse)
    ds = p * ((do.float() * v_self.float()).sum(-1) - (do.float() * o.float()).sum(-1)) * scale
    return (
        (dq.float() + ds[..., None] * k_self.float()).to(q.dtype),
        (ds[..., None] * q.float()).to(q.dtype),
        (p[..., None] * do.float()).to(q.dtype),
    )


# For each batch anew: with dynamic shapes the same merges took up to twice as long, which is not stock's best.
MERGE, SELF_GRADIENTS = (torch.compile(f, dynamic=False) for f in (merge, self_gradients))


class Flash:
    """(e) packed FlashAttention of torch and an exact merge by Inductor; any lengths."""

    def __init__(self, problem: Problem) -> None:
        self.p, self.scale = problem, problem.D**-0.5
        self.merge, self.self_gradients = MERGE, SELF_GRADIENTS
        plan = problem.plan
        self.packing = (plan.layout[1], plan.layout[0], plan.max_candidates, plan.max_length)

    def forward(self) -> torch.Tensor:
        """The output."""
        q, k_self, v_self, k, v, _ = self.p.tensors
        o, lse, self.rng, self.unused, _ = aten._flash_attention_forward(
            q, k, v, *self.packing, 0.0, False, False, scale=self.scale
        )
        self.o, merged = self.merge(o, lse.T, q, k_self, v_self, self.scale)
        self.lse = merged.T.contiguous()
        return self.o

    def backward(self) -> tuple[torch.Tensor, ...]:
        """The five gradients."""
        q, k_self, v_self, k, v, do = self.p.tensors
        dq, dk, dv = aten._flash_attention_backward(
            do, q, k, v, self.o, self.lse, *self.packing, 0.0, False, self.rng, self.unused, scale=self.scale
        )
        return *self.self_gradients(q, k_self, v_self, self.o, do, self.lse.T, dq, self.scale), dk, dv


class Cudnn:
    """(f) cuDNN's attention of equal lengths: without the self token as a ceiling, or with an exact merge."""

    def __init__(self, problem: Problem, merged: bool) -> None:
        self.p, self.scale, self.merged = problem, problem.D**-0.5, merged
        R = len(problem.counts)
        self.x = [x.view(R, -1, problem.H, problem.D).transpose(1, 2) for x in problem.tensors]
        self.merge, self.self_gradients = MERGE, SELF_GRADIENTS

    def packed(self, x: torch.Tensor) -> torch.Tensor:
        """[R, H, n, D] as [R n, H, D]."""
        return x.transpose(1, 2).reshape(-1, self.p.H, self.p.D)

    def forward(self) -> torch.Tensor:
        """The output."""
        q, k_self, v_self, k, v, _ = self.x
        r = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, False, False, scale=self.scale)
        self.o, self.lse, self.rest = r[0], r[1], (r[6], r[7], None, None, None, r[4], r[5], 0.0, False)
        if self.merged:
            self.o, lse = self.merge(self.o, self.lse.view(self.o.shape[:3]), q, k_self, v_self, self.scale)
            self.lse = lse[..., None]
        return self.packed(self.o)

    def backward(self) -> tuple[torch.Tensor, ...]:
        """The gradients: five, or without the self token three."""
        q, k_self, v_self, k, v, do = self.x
        dq, dk, dv = aten._scaled_dot_product_cudnn_attention_backward(
            do, q, k, v, self.o, self.lse, *self.rest, scale=self.scale
        )
        if not self.merged:
            return dq, dk, dv
        lse = self.lse.view(self.o.shape[:3])
        own = self.self_gradients(q, k_self, v_self, self.o, do, lse, dq, self.scale)
        return tuple(self.packed(x) for x in (*own, dk, dv))


class Autograd:
    """A differentiable function of (q, k_self, v_self, k, v), its backward by autograd."""

    def __init__(self, problem: Problem, fn: Callable[..., torch.Tensor]) -> None:
        self.p, self.fn = problem, fn

    def forward(self) -> torch.Tensor:
        """The output, with its graph."""
        self.xs = [x.detach().requires_grad_() for x in self.p.tensors[:5]]
        self.o = self.fn(*self.xs)
        return self.o

    def backward(self) -> tuple[torch.Tensor, ...]:
        """The five gradients; may be called again."""
        return torch.autograd.grad(self.o, self.xs, self.p.tensors[5], retain_graph=True)


def masked_sdpa(problem: Problem) -> Autograd:
    """(c) masked SDPA over [history ; candidates], requests padded in blocks of like length."""
    return Autograd(problem, lambda *xs: padded.crossing_attention(*xs, problem.plan, problem.D**-0.5))


def flex(problem: Problem) -> Autograd:
    """(d) FlexAttention over [all histories ; all candidates] with the request mask, built untimed."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.reset()
    plan = problem.plan
    request_C = plan.request_index
    lengths = plan.context_offsets.diff()
    request_M = torch.cat([torch.repeat_interleave(lengths).cuda(), torch.full((plan.C,), -1, device="cuda")])

    def sees(_b, _h, i, j):
        return (request_M[j] == request_C[i]) | (j == i + plan.T)

    mask = torch.compile(create_block_mask)(sees, None, None, plan.C, plan.T + plan.C, device="cuda")
    attend = torch.compile(flex_attention, dynamic=False)

    def fn(q, k_self, v_self, k, v):
        x = (y.transpose(0, 1)[None] for y in (q, torch.cat([k, k_self]), torch.cat([v, v_self])))
        return attend(*x, block_mask=mask)[0].transpose(0, 1)

    return Autograd(problem, fn)


def some_candidates(problem: Problem, tokens: int) -> list[tuple[int, int]]:
    """(request, candidate) pairs drawn at random until their histories hold `tokens`."""
    g = torch.Generator().manual_seed(1)
    picked, used = [], 0
    requests = problem.plan.request_index.tolist()
    for c in torch.randperm(len(requests), generator=g).tolist():
        if used >= tokens:
            break
        picked.append((requests[c], c))
        used += problem.lengths[requests[c]] + 1
    return picked


def duplicated(problem: Problem, tokens: int = 1 << 18) -> tuple[Outcome, Outcome, float]:
    """(a) causal self-attention over [history ; candidate] for a sample of candidates; and the sample's share."""
    from torch.nn.attention.varlen import varlen_attn

    picked = some_candidates(problem, tokens)
    q, k_self, v_self, k, v, _ = problem.tensors
    t = [s for s, _ in problem.plan.slices()]
    xs = [
        torch.cat([torch.cat([h[t[r]], own[c : c + 1]]) for r, c in picked]).requires_grad_()
        for h, own in ((k, q), (k, k_self), (v, v_self))
    ]
    lengths = torch.tensor([0, *(problem.lengths[r] + 1 for r, _ in picked)])
    starts, longest = lengths.cumsum(0).int().cuda(), int(lengths.max())
    grad = torch.randn_like(xs[0])

    def forward():
        return varlen_attn(*xs, starts, starts, longest, longest, window_size=(-1, 0))

    whole = sum(n * (m + 1) ** 2 for n, m in zip(problem.counts, problem.lengths, strict=True))
    share = sum((problem.lengths[r] + 1) ** 2 for r, _ in picked) / whole
    return forward, lambda: torch.autograd.grad(forward(), xs, grad), share


def expanded(problem: Problem, tokens: int = 1 << 15) -> tuple[Outcome, Outcome, float]:
    """(b) keys and values copied for each candidate of a sample, one query each (expansion is timed)."""
    picked = some_candidates(problem, tokens)
    q, k_self, v_self, k, v, do = problem.tensors
    plan, longest = problem.plan, max(problem.lengths)
    starts = plan.context_offsets.tolist()
    # padding names every row in turn: the backward sums by row, and would do it one by one if all named the same
    rows = torch.arange(len(picked) * (longest + 1)).view(len(picked), -1) % plan.T
    mask = torch.zeros(len(picked), 1, 1, longest + 1, dtype=torch.bool)
    for i, (r, c) in enumerate(picked):
        n = problem.lengths[r]
        rows[i, :n] = torch.arange(starts[r], starts[r] + n)
        rows[i, longest] = plan.T + c
        mask[i, ..., :n] = mask[i, ..., longest] = True
    rows, mask, chosen = rows.cuda(), mask.cuda(), torch.tensor([c for _, c in picked]).cuda()
    leaves = [x.detach().requires_grad_() for x in (q, k_self, v_self, k, v)]

    def forward():
        a, b, c, d, e = leaves
        keys, values = (torch.cat(x)[rows].transpose(1, 2) for x in ((d, b), (e, c)))
        return F.scaled_dot_product_attention(a[chosen][:, :, None], keys, values, attn_mask=mask)[:, :, 0]

    grad = do[chosen]
    used = sum(problem.lengths[r] + 1 for r, _ in picked)
    whole = sum(n * (m + 1) for n, m in zip(problem.counts, problem.lengths, strict=True))
    return forward, lambda: torch.autograd.grad(forward(), leaves, grad), used / whole
