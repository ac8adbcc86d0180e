"""Context attention on CUDA: the best stock form for each kind of batch, chosen by measurement (docs/kernels.md).

Histories of equal length are a dense batch, where cuDNN runs twice as fast as anything packed; ragged ones
go through FlashAttention's packed form, which pays for no padding.
"""

import functools
import inspect
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.ops.plan import CrossingPlan

DENSE = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def context_attention(
    q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan, scale: float
) -> torch.Tensor:
    """out_THD, as `naive.context_attention`, for bf16 and fp16."""
    if plan.R * plan.max_length == plan.T:
        q, k, v = (x.view(plan.R, -1, *x.shape[1:]).transpose(1, 2) for x in (q_THD, k_TGD, v_TGD))
        with sdpa_kernel(DENSE, set_priority=True):
            dense = F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
            )
        return dense.transpose(1, 2).reshape(q_THD.shape)
    from torch.nn.attention.varlen import varlen_attn

    if q_THD.shape[1] != k_TGD.shape[1] and not takes_gqa():
        rep = q_THD.shape[1] // k_TGD.shape[1]
        k_TGD, v_TGD = k_TGD.repeat_interleave(rep, 1), v_TGD.repeat_interleave(rep, 1)
    options: dict[str, Any] = {} if q_THD.shape[1] == k_TGD.shape[1] else {"enable_gqa": True}
    starts, longest = plan.layout[0], plan.max_length
    out = varlen_attn(
        q_THD, k_TGD, v_TGD, starts, starts, longest, longest, scale=scale, window_size=(-1, 0), **options
    )
    return cast("torch.Tensor", out)


@functools.cache
def takes_gqa() -> bool:
    """Whether this torch's varlen_attn groups query heads."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters
