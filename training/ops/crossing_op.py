# ruff: noqa: PLR0917 - an operator's schema is flat
"""Crossing attention as `torch.library` operators, so that compile, autograd and CUDA graphs see one opaque call.

Layout of the arguments: `layout` and `sizes` are the plan's. lse is [H, C], in
natural logarithm, and differentiable. A launch that fails goes on with padded SDPA (`fallback.py`).
"""

from __future__ import annotations

from typing import Any

import torch

from training.ops import naive, padded
from training.ops.fallback import attempt
from training.ops.plan import CrossingPlan


@torch.library.custom_op("reqlake::crossing_forward", mutates_args=())
def crossing_forward(
    q: torch.Tensor,
    k_self: torch.Tensor,
    v_self: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: list[torch.Tensor],
    sizes: list[int],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out [C, H, D] and lse [H, C]."""

    def kernel() -> tuple[torch.Tensor, torch.Tensor]:
        from training.ops.kernels.crossing_launch import Problem, forward

        return forward(q, (k_self, v_self), (k, v), Problem(layout, sizes, scale))

    return attempt(kernel, lambda: plain_forward(q, k_self, v_self, k, v, plan_of(layout), scale))


@torch.library.custom_op("reqlake::crossing_backward", mutates_args=())
def crossing_backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k_self: torch.Tensor,
    v_self: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    layout: list[torch.Tensor],
    sizes: list[int],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k_self, v_self, k, v."""
    inputs = (q, k_self, v_self, k, v)

    def kernel() -> tuple[torch.Tensor, ...]:
        from training.ops.kernels.crossing_launch import Problem, backward

        return backward(d_out, d_lse, inputs, out, lse, Problem(layout, sizes, scale))

    def plain() -> tuple[torch.Tensor, ...]:
        return naive.crossing_gradients(d_out, d_lse, inputs, out, lse, plan_of(layout), scale)

    dq, dk_self, dv_self, dk, dv = attempt(kernel, plain)
    return dq, dk_self, dv_self, dk, dv


@crossing_forward.register_fake
def _(q: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@crossing_backward.register_fake
def _(_d_out: torch.Tensor, _d_lse: torch.Tensor | None, *arguments: Any) -> tuple[torch.Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in arguments[:5])


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Keep what the backward reads."""
    *tensors, layout, ctx.sizes, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output, *layout)
    ctx.set_materialize_grads(False)


def backward(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None) -> tuple[Any, ...]:
    """Autograd formula of `crossing_forward`."""
    *tensors, out, lse = ctx.saved_tensors[:7]
    layout = list(ctx.saved_tensors[7:])
    if d_out is None:
        d_out = torch.zeros_like(out)
    grads = crossing_backward(d_out, d_lse, *tensors, out, lse, layout, ctx.sizes, ctx.scale)
    return *grads, [None] * len(layout), None, None


crossing_forward.register_autograd(backward, setup_context=setup_context)


@torch.library.custom_op("reqlake::crossing_paged", mutates_args=())
def crossing_paged(
    q: torch.Tensor,
    k_self: torch.Tensor,
    v_self: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    page_table: torch.Tensor,
    layout: list[torch.Tensor],
    sizes: list[int],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out [C, H, D] and lse [H, C] over pages [P, page, G, D] and a table [R, pages of a request] of int32."""
    page = k_pages.shape[1]
    k, v = k_pages.flatten(0, 1), v_pages.flatten(0, 1)

    def kernel() -> tuple[torch.Tensor, torch.Tensor]:
        from training.ops.kernels.crossing_launch import Paging, Problem, forward

        problem = Problem(layout, sizes, scale)
        return forward(q, (k_self, v_self), (k, v), problem, Paging(page_table.contiguous(), page))

    def plain() -> tuple[torch.Tensor, torch.Tensor]:
        plan = plan_of(layout)
        rows = page_rows(page_table, page, plan)
        return plain_forward(q, k_self, v_self, k[rows], v[rows], plan, scale)

    return attempt(kernel, plain)


@crossing_paged.register_fake
def _(q: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


def page_rows(page_table: torch.Tensor, page: int, plan: CrossingPlan) -> torch.Tensor:
    """[T] rows of the flattened pages that hold each history token."""
    lengths = plan.context_offsets.diff()
    request = torch.repeat_interleave(lengths)
    within = torch.arange(plan.T) - plan.context_offsets[request]
    request, within = request.to(page_table.device), within.to(page_table.device)
    return page_table[request, within // page].long() * page + within % page


def plain_forward(
    q: torch.Tensor,
    k_self: torch.Tensor,
    v_self: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    plan: CrossingPlan,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by padded SDPA."""
    out = padded.crossing_attention(q, k_self, v_self, k, v, plan, scale)
    return out.contiguous(), padded.crossing_lse(q, k_self, k, plan, scale).float().T.contiguous()


def plan_of(layout: list[torch.Tensor]) -> CrossingPlan:
    """The plan that a layout came from; reads the device, which only the plain path after a failure does."""
    context, candidates = (x.cpu().long() for x in layout[:2])
    return CrossingPlan.build(context, candidates, layout[0].device)
