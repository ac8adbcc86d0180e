"""One-cycle learning rate (Smith, Topin 2017) as a function of the step, so that there is no state to save.

The rate rises along a cosine from 1/25 of its peak, falls to 1/250,000 of it; Adam's first beta moves against it.
"""

from __future__ import annotations

import math

import torch


def one_cycle(step: int, steps: int, peak: float, warmup_share: float) -> tuple[float, float]:
    """Learning rate and first beta of a step (the first is 0)."""
    warmup = max(1.0, warmup_share * steps - 1)
    if step <= warmup:
        share = step / warmup
        return cosine(peak / 25, peak, share), cosine(0.95, 0.85, share)
    share = min(1.0, (step - warmup) / max(1.0, steps - 1 - warmup))
    return cosine(peak, peak / 25e4, share), cosine(0.85, 0.95, share)


def cosine(start: float, end: float, share: float) -> float:
    """From start at 0 to end at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def set_rates(optimizer: torch.optim.Optimizer, rate: float, beta: float) -> None:
    """Give AdamW the rates of a step."""
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = rate, (beta, group["betas"][1])
