# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""The two forms of DCAT attention (PinFM, arXiv 2507.12704) in plain torch: slow, exact, the oracle.

`duplicated_attention` is what a ranker does without deduplication: causal self-attention over
[history ; candidate], once for each candidate. `crossing_attention` reads the history's keys and values
once per request. They are equal, outputs and gradients: that equality is what this package rests on.

Shapes: T history tokens and C candidates of all requests, packed; H query heads, G key-value heads
(query head h reads head h // (H / G)), D head width.
"""

import torch

from training.ops.plan import CrossingPlan


def attend(
    q_NHD: torch.Tensor, k_NLHD: torch.Tensor, v_NLHD: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One query a row against its own keys: softmax(q . k scale) v and the log-sum-exp of the scores."""
    s_NHL = torch.einsum("nhd,nlhd->nhl", q_NHD, k_NLHD) * scale
    lse_NH = torch.logsumexp(s_NHL, -1)
    return torch.einsum("nhl,nlhd->nhd", torch.exp(s_NHL - lse_NH[..., None]), v_NLHD), lse_NH


def crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each candidate attends to its request's whole history and to itself; returns out_CHD and lse_CH."""
    rep = q_CHD.shape[1] // k_TGD.shape[1]
    k_self, v_self, k, v = (x.repeat_interleave(rep, 1) for x in (k_self_CGD, v_self_CGD, k_TGD, v_TGD))
    outs, lses = [], []
    for t, c in plan.slices():
        n = c.stop - c.start
        keys = torch.cat([k[t].expand(n, -1, -1, -1), k_self[c, None]], 1)
        values = torch.cat([v[t].expand(n, -1, -1, -1), v_self[c, None]], 1)
        out, lse = attend(q_CHD[c], keys, values, scale)
        outs.append(out)
        lses.append(lse)
    return torch.cat(outs), torch.cat(lses)


def crossing_gradients(
    do_CHD: torch.Tensor,
    dlse_HC: torch.Tensor | None,
    inputs: tuple[torch.Tensor, ...],
    out_CHD: torch.Tensor,
    lse_HC: torch.Tensor,
    plan: CrossingPlan,
    scale: float,
) -> tuple[torch.Tensor, ...]:
    """Gradients of q, k_self, v_self, k, v by formula: what the backward kernels compute, request by request."""
    q, k_self, v_self, k, v = inputs
    G, rep = k.shape[1], q.shape[1] // k.shape[1]
    delta_CH = (do_CHD * out_CHD).sum(-1) - (0 if dlse_HC is None else dlse_HC.T)
    k_heads, v_heads, ks_heads, vs_heads = (x.repeat_interleave(rep, 1) for x in (k, v, k_self, v_self))
    p_CH = torch.exp((q * ks_heads).sum(-1) * scale - lse_HC.T)
    ds_CH = p_CH * ((do_CHD * vs_heads).sum(-1) - delta_CH) * scale
    dq, dks, dvs = ds_CH[..., None] * ks_heads, ds_CH[..., None] * q, p_CH[..., None] * do_CHD
    dk, dv = torch.zeros_like(k_heads, dtype=dq.dtype), torch.zeros_like(v_heads, dtype=dq.dtype)
    for t, c in plan.slices():
        p_NHL = torch.exp(torch.einsum("nhd,lhd->nhl", q[c], k_heads[t]) * scale - lse_HC.T[c, :, None])
        dp_NHL = torch.einsum("nhd,lhd->nhl", do_CHD[c], v_heads[t])
        ds_NHL = (p_NHL * (dp_NHL - delta_CH[c, :, None]) * scale).to(k.dtype)
        dq[c] += torch.einsum("nhl,lhd->nhd", ds_NHL, k_heads[t])
        dk[t] = torch.einsum("nhl,nhd->lhd", ds_NHL, q[c]).to(dk.dtype)
        dv[t] = torch.einsum("nhl,nhd->lhd", p_NHL.to(do_CHD.dtype), do_CHD[c]).to(dv.dtype)
    shared = (x.unflatten(1, (G, rep)).sum(2) for x in (dks, dvs, dk, dv))  # type: ignore[no-untyped-call]
    return tuple(g.to(x.dtype) for g, x in zip((dq, *shared), inputs, strict=True))


def context_attention(
    q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """Causal self-attention of each request's history."""
    rep = q_THD.shape[1] // k_TGD.shape[1]
    k, v = k_TGD.repeat_interleave(rep, 1), v_TGD.repeat_interleave(rep, 1)
    return torch.cat([causal(q_THD[t], k[t], v[t], scale) for t, _ in plan.slices()])


def causal(q_LHD: torch.Tensor, k_LHD: torch.Tensor, v_LHD: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal self-attention of one sequence."""
    later_LL = torch.ones(len(q_LHD), len(q_LHD), dtype=torch.bool, device=q_LHD.device).triu(1)
    s_HLL = torch.einsum("qhd,khd->hqk", q_LHD, k_LHD) * scale
    p_HLL = s_HLL.masked_fill(later_LL, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", p_HLL, v_LHD)


def duplicated_attention(
    history: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    candidate: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    plan: CrossingPlan,
    scale: float,
) -> torch.Tensor:
    """(q, k, v) of the histories and of the candidates, H heads each; out_CHD: each sequence's last row."""
    outs = [candidate[0][:0]]
    for t, c in plan.slices():
        for i in range(c.start, c.stop):
            q, k, v = (torch.cat([x[t], y[i : i + 1]]) for x, y in zip(history, candidate, strict=True))
            outs.append(causal(q, k, v, scale)[-1:])
    return torch.cat(outs)
