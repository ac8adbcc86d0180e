# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""Both attentions without kernels: pad requests of like length into a block, one masked SDPA a block.

The path of the CPU and of every device that has no Triton, and the plain path after a failed launch.
Twenty times faster than expanding the history to each candidate: the block's keys are
[history ; candidates], where the mask lets a candidate see its history and, of the candidates, itself.
Query heads that share a key-value head are stacked as rows, so keys are never repeated.
"""

import torch
import torch.nn.functional as F

from training.ops.blocks import Block
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
    padded = plan.padded
    rows = zip(*map(padded.candidates.pad, (q_CHD, k_self_CGD, v_self_CGD)), strict=True)
    context = zip(*map(padded.tokens.pad, (k_TGD, v_TGD)), strict=True)
    outs = []
    for b, xs, kv in zip(padded.blocks, rows, context, strict=True):
        q, k_self, v_self = (split_rows(x, b.R, b.N) for x in xs)
        k, v = (split_rows(x, b.R, b.L) for x in kv)
        pieces = [q[:, :0]] + [
            crossing_block(q[:, n], torch.cat([k, k_self[:, n]], 1), torch.cat([v, v_self[:, n]], 1), b, scale)
            for n in (slice(i, i + SLICE) for i in range(0, b.N, SLICE))
        ]
        outs.append(torch.cat(pieces, 1).flatten(0, 1))
    return padded.candidates.unpad(outs) if outs else q_CHD.clone()


def crossing_block(
    q_RNHD: torch.Tensor, k_RMGD: torch.Tensor, v_RMGD: torch.Tensor, block: Block, scale: float
) -> torch.Tensor:
    """Candidates of padded requests against [history ; candidates]."""
    R, N, H, D = q_RNHD.shape
    G = k_RMGD.shape[2]
    rep = H // G
    position_L = torch.arange(block.L, device=q_RNHD.device)
    history_RNL = (position_L < block.lengths[:, None])[:, None].expand(R, N, -1)
    itself_RNN = torch.eye(N, dtype=torch.bool, device=q_RNHD.device).expand(R, -1, -1)
    mask_RNM = torch.cat([history_RNL, itself_RNN], -1)
    q_RGQD = q_RNHD.reshape(R, N, G, rep, D).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask_RQM = mask_RNM.repeat(1, rep, 1)[:, None]
    k_RGMD, v_RGMD = k_RMGD.transpose(1, 2), v_RMGD.transpose(1, 2)
    out_RGQD = F.scaled_dot_product_attention(q_RGQD, k_RGMD, v_RGMD, attn_mask=mask_RQM, scale=scale)
    return out_RGQD.reshape(R, G, rep, N, D).permute(0, 3, 1, 2, 4).flatten(2, 3)


def crossing_lse(
    q_CHD: torch.Tensor, k_self_CGD: torch.Tensor, k_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """lse_CH of the crossing's scores; SDPA keeps its own to itself, so they are computed again."""
    rep = q_CHD.shape[1] // k_TGD.shape[1]
    itself_CH = (q_CHD * k_self_CGD.repeat_interleave(rep, 1)).sum(-1) * scale
    padded = plan.padded
    rows = zip(*map(padded.candidates.pad, (q_CHD, itself_CH)), strict=True)
    outs = []
    for b, (q_NHD, itself_NH), k_LGD in zip(padded.blocks, rows, padded.tokens.pad(k_TGD), strict=True):
        q_RNHD = split_rows(q_NHD, b.R, b.N)
        k_RLHD = split_rows(k_LGD, b.R, b.L).repeat_interleave(rep, 2)
        absent_RL = torch.arange(b.L, device=q_CHD.device) >= b.lengths[:, None]
        s_RNHL = torch.einsum("rnhd,rlhd->rnhl", q_RNHD, k_RLHD) * scale
        s_RNHL = s_RNHL.masked_fill(absent_RL[:, None, None], float("-inf"))
        outs.append(torch.logsumexp(torch.cat([s_RNHL.flatten(0, 1), itself_NH[..., None]], -1), -1))
    return padded.candidates.unpad(outs) if outs else itself_CH


def context_attention(
    q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """out_THD, as `naive.context_attention`: causality alone keeps tokens from the padding after them."""
    padded = plan.padded
    outs = []
    for b, *qkv in zip(padded.blocks, *map(padded.tokens.pad, (q_THD, k_TGD, v_TGD)), strict=True):
        q, k, v = (split_rows(x, b.R, b.L).transpose(1, 2) for x in qkv)
        if b.L:
            shared = k.shape[1] != q.shape[1]
            q = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=shared)
        outs.append(q.transpose(1, 2).flatten(0, 1))
    return padded.tokens.unpad(outs) if outs else q_THD.clone()


def split_rows(x: torch.Tensor, R: int, width: int) -> torch.Tensor:
    """[R * width, ...] as [R, width, ...]."""
    return x.view(R, width, *x.shape[1:])
