"""The loss of several tasks over candidates whose labels may be unknown.

Shapes: C candidates, K tasks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from training.models.description import Task
from training.models.values import Batch


def task_losses(
    logits_CK: torch.Tensor, batch: Batch, tasks: tuple[Task, ...], weight_C: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each task's summed loss over the candidates that know its label, and their number: both [K].

    Divide one by the other for the mean; over several ranks, sum both before. `weight_C` 0 leaves candidates out.
    """
    sums, counts = [], []
    for k, task in enumerate(tasks):
        label = batch.candidates[task.label]
        assert isinstance(label, torch.Tensor)
        known = (~label.isnan()).to(logits_CK.dtype)
        known = known if weight_C is None else known * weight_C
        y, z = label.nan_to_num(0.0).to(logits_CK.dtype), logits_CK[:, k]
        if task.loss == "bce":
            each = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        else:
            each = (z - (y - task.mean) / task.std) ** 2
        sums.append((each * known).sum())
        counts.append(known.sum())
    return torch.stack(sums), torch.stack(counts)


def total_loss(sums_K: torch.Tensor, counts_K: torch.Tensor, tasks: tuple[Task, ...]) -> torch.Tensor:
    """The tasks' mean losses, weighted; a task without a known label adds nothing."""
    weights = sums_K.new_tensor([task.weight for task in tasks])
    return (weights * sums_K / counts_K.clamp(min=1)).sum()
