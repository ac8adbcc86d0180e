# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""The two attentions of DCAT over packed, ragged requests: one function each, the path chosen by device."""

from typing import Literal, overload

import torch
import torch.nn.functional as F

from training.ops import naive, padded, paths, varlen
from training.ops.crossing_op import crossing_forward, crossing_paged, page_rows
from training.ops.plan import CrossingPlan

MAX_WIDTH = 256


@overload
def crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    *,
    scale: float | None = None,
    return_lse: Literal[False] = False,
) -> torch.Tensor: ...


@overload
def crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    *,
    scale: float | None = None,
    return_lse: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...


def crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    *,
    scale: float | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Each candidate attends to its request's whole history and to itself.

    T history tokens and C candidates of all requests, packed as `plan` says; H query heads, of which
    H / G in a row share a key-value head; D head width; `scale` defaults to D ** -0.5. Returns out_CHD and,
    with `return_lse`, the natural log-sum-exp of the scores, lse_CH. Both are differentiable. An empty
    history is legal (the output is the candidate's own value), and so is a request without candidates.
    """
    check(q_CHD, k_TGD, v_TGD, plan)
    if k_self_CGD.shape != v_self_CGD.shape or k_self_CGD.shape != (plan.C, *k_TGD.shape[1:]):
        got = [list(x.shape) for x in (k_self_CGD, v_self_CGD)]
        raise ValueError(f"k_self and v_self must be {[plan.C, *k_TGD.shape[1:]]}, got {got}")
    if len(q_CHD) != plan.C:
        raise ValueError(f"the plan holds {plan.C} candidates, q {len(q_CHD)} rows")
    scale = q_CHD.shape[-1] ** -0.5 if scale is None else scale
    path = paths.choose(q_CHD)
    if path == "reference":
        out, lse = naive.crossing_attention(q_CHD, k_self_CGD, v_self_CGD, k_TGD, v_TGD, plan, scale)
        return (out, lse) if return_lse else out
    if path == "triton":
        return crossing_by_kernel(q_CHD, (k_self_CGD, v_self_CGD), (k_TGD, v_TGD), plan, scale, return_lse)
    out = padded.crossing_attention(q_CHD, k_self_CGD, v_self_CGD, k_TGD, v_TGD, plan, scale)
    return (out, padded.crossing_lse(q_CHD, k_self_CGD, k_TGD, plan, scale)) if return_lse else out


def paged_crossing_attention(
    q_CHD: torch.Tensor,
    k_self_CGD: torch.Tensor,
    v_self_CGD: torch.Tensor,
    k_PSGD: torch.Tensor,
    v_PSGD: torch.Tensor,
    page_table_RP: torch.Tensor,
    plan: CrossingPlan,
    *,
    scale: float | None = None,
) -> torch.Tensor:
    """`crossing_attention` over histories in pages of S tokens, for a cache: forward only.

    Token n of request r is row n % S of page `page_table_RP[r, n // S]` (int32 on the device; entries past
    the history are not read). Pages may be shared between requests.
    """
    page = k_PSGD.shape[1]
    scale = q_CHD.shape[-1] ** -0.5 if scale is None else scale
    if k_PSGD.shape != v_PSGD.shape or page_table_RP.shape[1] * page < plan.max_length:
        raise ValueError(
            f"a table of {page_table_RP.shape[1]} pages of {page} tokens does not hold {plan.max_length}, "
            f"or k {list(k_PSGD.shape)} and v {list(v_PSGD.shape)} differ"
        )
    if paths.choose(q_CHD) == "triton":
        return crossing_paged_by_kernel(q_CHD, (k_self_CGD, v_self_CGD), (k_PSGD, v_PSGD), page_table_RP, plan, scale)
    rows = page_rows(page_table_RP, page, plan)
    k_TGD, v_TGD = (x.detach().flatten(0, 1)[rows] for x in (k_PSGD, v_PSGD))
    with torch.no_grad():
        return crossing_attention(q_CHD, k_self_CGD, v_self_CGD, k_TGD, v_TGD, plan, scale=scale)


def context_attention(
    q_THD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    plan: CrossingPlan,
    *,
    scale: float | None = None,
) -> torch.Tensor:
    """Causal self-attention of each request's history, packed as `plan` says: out_THD, differentiable."""
    check(q_THD, k_TGD, v_TGD, plan)
    if len(q_THD) != plan.T:
        raise ValueError(f"the plan holds {plan.T} history tokens, q {len(q_THD)} rows")
    scale = q_THD.shape[-1] ** -0.5 if scale is None else scale
    path = paths.choose(q_THD)
    if path == "reference":
        return naive.context_attention(q_THD, k_TGD, v_TGD, plan, scale)
    if path == "triton" and q_THD.is_cuda and q_THD.dtype != torch.float32 and plan.T:
        return varlen.context_attention(q_THD, k_TGD, v_TGD, plan, scale)
    return padded.context_attention(q_THD, k_TGD, v_TGD, plan, scale)


def check(q: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan) -> None:
    """Errors a caller can act on, before a kernel reads past an end."""
    if q.dim() != 3 or k_TGD.dim() != 3 or k_TGD.shape != v_TGD.shape:
        raise ValueError(f"q [., H, D], k and v [T, G, D] expected: {[list(x.shape) for x in (q, k_TGD, v_TGD)]}")
    if len(k_TGD) != plan.T:
        raise ValueError(f"the plan holds {plan.T} history tokens, k and v {len(k_TGD)} rows")
    if q.shape[2] != k_TGD.shape[2] or q.shape[1] % k_TGD.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads of width {q.shape[2]} do not share {list(k_TGD.shape[1:])}")


def crossing_by_kernel(
    q_CHD: torch.Tensor,
    self_kv: tuple[torch.Tensor, torch.Tensor],
    kv: tuple[torch.Tensor, torch.Tensor],
    plan: CrossingPlan,
    scale: float,
    return_lse: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """The operator, over heads and widths that the kernels take."""
    q, k_self, v_self, k, v = fit_kernel(q_CHD, *self_kv, *kv)
    out, lse_HC = crossing_forward(q, k_self, v_self, k, v, plan.layout, plan.sizes, scale)
    out = out[..., : q_CHD.shape[2]]
    return (out, lse_HC.T) if return_lse else out


def crossing_paged_by_kernel(
    q_CHD: torch.Tensor,
    self_kv: tuple[torch.Tensor, torch.Tensor],
    pages: tuple[torch.Tensor, torch.Tensor],
    page_table_RP: torch.Tensor,
    plan: CrossingPlan,
    scale: float,
) -> torch.Tensor:
    """As `crossing_by_kernel`; pages are handed over as they are, so their width must be a power of two."""
    k_PSGD, v_PSGD = pages
    out: torch.Tensor = crossing_paged(q_CHD, *self_kv, k_PSGD, v_PSGD, page_table_RP, plan.layout, plan.sizes, scale)[
        0
    ]
    return out


def fit_kernel(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """q, k_self, v_self, k, v with a power of two of at least 16 as width, and of at most 8 heads sharing keys.

    Zeros in the width change no product, and repeating keys to smaller groups no score; neither is common.
    """
    q, *keys = tensors
    rep, D = q.shape[1] // keys[0].shape[1], q.shape[2]
    shared = next(n for n in (8, 4, 2, 1) if rep % n == 0)
    width = max(16, 1 << (D - 1).bit_length())
    if width > MAX_WIDTH:
        raise ValueError(f"head width {D}: the kernels take up to {MAX_WIDTH}")
    if shared != rep:
        keys = [x.repeat_interleave(rep // shared, 1) for x in keys]
    return [F.pad(x, (0, width - D)) if width != D else x for x in (q, *keys)]
