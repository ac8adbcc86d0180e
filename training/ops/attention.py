# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""The two attentions of DCAT over packed, ragged requests: one function each, the path chosen by device."""

from typing import Literal, overload

import torch

from training.ops import naive, padded, paths
from training.ops.plan import CrossingPlan


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
    out = padded.crossing_attention(q_CHD, k_self_CGD, v_self_CGD, k_TGD, v_TGD, plan, scale)
    return (out, padded.crossing_lse(q_CHD, k_self_CGD, k_TGD, plan, scale)) if return_lse else out


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
    return padded.context_attention(q_THD, k_TGD, v_TGD, plan, scale)


def check(q: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: CrossingPlan) -> None:
    """Errors a caller can act on, before a kernel reads past an end."""
    if q.dim() != 3 or k_TGD.dim() != 3 or k_TGD.shape != v_TGD.shape:
        raise ValueError(f"q [., H, D], k and v [T, G, D] expected: {[list(x.shape) for x in (q, k_TGD, v_TGD)]}")
    if len(k_TGD) != plan.T:
        raise ValueError(f"the plan holds {plan.T} history tokens, k and v {len(k_TGD)} rows")
    if q.shape[2] != k_TGD.shape[2] or q.shape[1] % k_TGD.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads of width {q.shape[2]} do not share {list(k_TGD.shape[1:])}")
