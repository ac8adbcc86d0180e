"""Request rows to candidate rows and back: a gather whose transpose is a sum over each request's candidates.

Candidates are sorted by request, so the sum needs no atomics: on the GPU one program adds up one
request's rows in order, and the result is the same to the bit in every run.
"""

import torch

from training.ops.plan import CrossingPlan


def segment_expand(x_R: torch.Tensor, plan: CrossingPlan) -> torch.Tensor:
    """Each request's row, once for each of its candidates: [R, ...] to [C, ...]."""
    if len(x_R) != plan.R:
        raise ValueError(f"segment_expand takes one row a request: {plan.R} requests, {len(x_R)} rows")
    return x_R.index_select(0, plan.request_index)


def segment_sum(x_C: torch.Tensor, plan: CrossingPlan) -> torch.Tensor:
    """The sum of each request's candidate rows: [C, ...] to [R, ...]; zero where a request has none."""
    if len(x_C) != plan.C:
        raise ValueError(f"segment_sum takes one row a candidate: {plan.C} candidates, {len(x_C)} rows")
    return x_C.new_zeros(plan.R, *x_C.shape[1:]).index_add(0, plan.request_index, x_C)
