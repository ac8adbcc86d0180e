# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""Both attentions without kernels: pad requests of like length into a block, one masked SDPA a block.

The path of the CPU and of every device that has no Triton, and the plain path after a failed launch.
Twenty times faster than expanding the history to each candidate: the block's keys are
[history ; candidates], where the mask lets a candidate see its history and, of the candidates, itself.
Query heads that share a key-value head are stacked as rows, so keys are never repeated.
"""

import torch
import torch.nn.functional as F

from training.ops.blocks import PaddedBlock
from training.ops.plan import CrossingPlan

# Each candidate of a slice adds a key to every other's row: past a few hundred, a second pass is cheaper.
SLICE = 256


def crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    scale: float,
) -> torch.Tensor:
    """out_CHD, as `naive.crossing_attention`."""
    outs, rows = [], []
    for b in plan.blocks:
        q, k_self, v_self = (
            pad(x, b.candidates, b.candidate_slots, b.R, b.N) for x in (q_CHD, k_self_CGD, v_self_CGD)
        )
        k, v = (pad(x, b.tokens, b.token_slots, b.R, b.L) for x in (k_TGD, v_TGD))
        pieces = [
            crossing_block(
                q[:, n], torch.cat([k, k_self[:, n]], 1), torch.cat([v, v_self[:, n]], 1), b, scale
            )
            for n in (slice(i, i + SLICE) for i in range(0, b.N, SLICE))
        ]
        if pieces:
            outs.append(torch.cat(pieces, 1).flatten(0, 1).index_select(0, b.candidate_slots))
            rows.append(b.candidates)
    return unsort(outs, rows, q_CHD)


def crossing_block(
    q_RNHD: torch.Tensor, k_RMGD: torch.Tensor, v_RMGD: torch.Tensor, block: PaddedBlock, scale: float
) -> torch.Tensor:
    """Candidates of padded requests against [history ; candidates]."""
    R, N, H, D = q_RNHD.shape
    G = k_RMGD.shape[2]
    position = torch.arange(block.L, device=q_RNHD.device)
    history_RNL = (position < block.lengths[:, None])[:, None].expand(R, N, -1)
    itself_RNN = torch.eye(N, dtype=torch.bool, device=q_RNHD.device).expand(R, -1, -1)
    mask_RNM = torch.cat([history_RNL, itself_RNN], -1)
    q_RGQD = q_RNHD.view(R, N, G, H // G, D).permute(0, 2, 3, 1, 4).reshape(R, G, -1, D)
    k_RGMD, v_RGMD = k_RMGD.transpose(1, 2), v_RMGD.transpose(1, 2)
    mask_RQM = mask_RNM.repeat(1, H // G, 1)[:, None]
    out_RGQD = F.scaled_dot_product_attention(q_RGQD, k_RGMD, v_RGMD, attn_mask=mask_RQM, scale=scale)
    return out_RGQD.view(R, G, H // G, N, D).permute(0, 3, 1, 2, 4).reshape(R, N, H, D)


def crossing_lse(
    q_CHD: torch.Tensor, k_self_CGD: torch.Tensor, k_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """lse_CH of the crossing's scores; SDPA keeps its own to itself, so they are computed again."""
    rep = q_CHD.shape[1] // k_TGD.shape[1]
    k_self_CHD = k_self_CGD.repeat_interleave(rep, 1)
    itself_CH = (q_CHD * k_self_CHD).sum(-1) * scale
    outs, rows = [], []
    for b in plan.blocks:
        q, itself = (pad(x, b.candidates, b.candidate_slots, b.R, b.N) for x in (q_CHD, itself_CH))
        k = pad(k_TGD, b.tokens, b.token_slots, b.R, b.L).repeat_interleave(rep, 2)
        absent_RL = torch.arange(b.L, device=q.device) >= b.lengths[:, None]
        s_RNHL = torch.einsum("rnhd,rlhd->rnhl", q, k) * scale
        s_RNHL = s_RNHL.masked_fill(absent_RL[:, None, None], float("-inf"))
        lse_RNH = torch.logsumexp(torch.cat([s_RNHL, itself[..., None]], -1), -1)
        outs.append(lse_RNH.flatten(0, 1).index_select(0, b.candidate_slots))
        rows.append(b.candidates)
    return unsort(outs, rows, itself_CH)


def context_attention(
    q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """out_THD, as `naive.context_attention`: causality alone keeps tokens from the padding after them."""
    outs, rows = [], []
    for b in plan.blocks:
        if b.L:
            q, k, v = (
                pad(x, b.tokens, b.token_slots, b.R, b.L).transpose(1, 2) for x in (q_THD, k_TGD, v_TGD)
            )
            out = F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=k.shape[1] != q.shape[1]
            )
            outs.append(out.transpose(1, 2).flatten(0, 1).index_select(0, b.token_slots))
            rows.append(b.tokens)
    return unsort(outs, rows, q_THD)


def pad(x: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, R: int, width: int) -> torch.Tensor:
    """The chosen rows in their places of [R, width, ...]; zeros elsewhere, as 0 times a stray NaN is NaN."""
    block = x.new_zeros(R * width, *x.shape[1:])
    return block.index_copy(0, slots, x.index_select(0, rows)).view(R, width, *x.shape[1:])


def unsort(outs: list[torch.Tensor], rows: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """The blocks' rows, back in packed order."""
    if not outs:
        return like.clone()
    return torch.empty_like(like).index_copy(0, torch.cat(rows), torch.cat(outs))
