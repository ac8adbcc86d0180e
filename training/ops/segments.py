"""Request rows to candidate rows and back: a gather whose transpose is a sum over each request's candidates.

Candidates are sorted by request, so the sum needs no atomics: on the GPU one program adds up one
request's rows in order, and the result is the same to the bit in every run. Each is the other's gradient.
"""

from __future__ import annotations

from typing import Any

import torch

from training.ops import paths
from training.ops.fallback import attempt
from training.ops.plan import CrossingPlan


def segment_expand(x_R: torch.Tensor, plan: CrossingPlan) -> torch.Tensor:
    """Each request's row, once for each of its candidates: [R, ...] to [C, ...]."""
    if len(x_R) != plan.R:
        raise ValueError(f"segment_expand takes one row a request: {plan.R} requests, {len(x_R)} rows")
    if paths.choose(x_R) != "triton":
        return x_R.index_select(0, plan.request_index)
    flat: torch.Tensor = expand_rows(x_R.reshape(plan.R, -1), plan.request_index, plan.layout[1])
    return flat.view(plan.C, *x_R.shape[1:])


def segment_sum(x_C: torch.Tensor, plan: CrossingPlan) -> torch.Tensor:
    """The sum of each request's candidate rows: [C, ...] to [R, ...]; zero where a request has none."""
    if len(x_C) != plan.C:
        raise ValueError(f"segment_sum takes one row a candidate: {plan.C} candidates, {len(x_C)} rows")
    if paths.choose(x_C) != "triton":
        return x_C.new_zeros(plan.R, *x_C.shape[1:]).index_add(0, plan.request_index, x_C)
    flat: torch.Tensor = sum_rows(x_C.reshape(plan.C, -1), plan.request_index, plan.layout[1])
    return flat.view(plan.R, *x_C.shape[1:])


@torch.library.custom_op("reqlake::expand_rows", mutates_args=())
def expand_rows(x: torch.Tensor, request_index: torch.Tensor, candidate_starts: torch.Tensor) -> torch.Tensor:
    """[R, W] to [C, W]: torch's gather, under an operator for the sake of its gradient."""
    del candidate_starts
    return x.index_select(0, request_index)


@torch.library.custom_op("reqlake::sum_rows", mutates_args=())
def sum_rows(x: torch.Tensor, request_index: torch.Tensor, candidate_starts: torch.Tensor) -> torch.Tensor:
    """[C, W] to [R, W]."""

    def kernel() -> torch.Tensor:
        from training.ops.kernels.segment import segment_sum as launch

        return launch(x, candidate_starts)

    rows = len(candidate_starts) - 1
    return attempt(kernel, lambda: x.new_zeros(rows, x.shape[1]).index_add(0, request_index, x))


@expand_rows.register_fake
def _(x: torch.Tensor, request_index: torch.Tensor, candidate_starts: torch.Tensor) -> torch.Tensor:
    del candidate_starts
    return x.new_empty(request_index.shape[0], x.shape[1])


@sum_rows.register_fake
def _(x: torch.Tensor, request_index: torch.Tensor, candidate_starts: torch.Tensor) -> torch.Tensor:
    del request_index
    return x.new_empty(candidate_starts.shape[0] - 1, x.shape[1])


def keep_tables(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Both gradients need the tables alone."""
    del output
    ctx.save_for_backward(*inputs[1:])


def expand_gradient(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    """Sum over candidates."""
    return sum_rows(grad, *ctx.saved_tensors), None, None


def sum_gradient(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    """Repeat to candidates."""
    return expand_rows(grad, *ctx.saved_tensors), None, None


expand_rows.register_autograd(expand_gradient, setup_context=keep_tables)
sum_rows.register_autograd(sum_gradient, setup_context=keep_tables)
