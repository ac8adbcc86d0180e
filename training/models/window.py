"""Which events of each request's history become tokens, and the plan of both attention passes.

Made on the host from offsets alone, so that the device never waits for it.
Shapes: R requests, T tokens of all requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.models.description import Sequence
from training.models.values import Batch
from training.ops import CrossingPlan


@dataclass(frozen=True)
class Window:
    """The tokens of a batch, oldest first within a request."""

    rows: torch.Tensor
    """[T] int64: the token's event, a row of the sequence's values."""
    position: torch.Tensor
    """[T] int64: counted back from the request, 1 for its latest event; the candidate stands at 0."""
    plan: CrossingPlan


def window(
    batch: Batch,
    history: Sequence | None,
    length: int,
    drop: float = 0.0,
    device: torch.device | str | None = None,
) -> Window:
    """The latest `length` events of each request, of which a random share of up to `drop` is forgotten.

    The share is drawn per request, so that the model meets short and long histories of the same user. The window lies
    on `device`, where the batch will be; by default where it is.
    """
    counts_offsets = batch.candidate_offsets.cpu()
    device = device or batch.candidate_offsets.device
    R = len(counts_offsets) - 1
    if history is None:
        none = torch.zeros(0, dtype=torch.int64, device=device)
        offsets = torch.zeros(R + 1, dtype=torch.int64)
        return Window(none, none, CrossingPlan.build(offsets, counts_offsets, device))
    events = batch.request[history.first]
    assert not isinstance(events, torch.Tensor), f"{history.first} is not a list"
    offsets = events.offsets.cpu()
    kept = offsets.diff().clamp(max=length)
    request = torch.repeat_interleave(kept)
    position = (kept.cumsum(0)[request] - torch.arange(len(request))).to(torch.int64)
    newest = offsets[:-1] if history.newest_first else offsets[1:]
    rows = newest[request] + (position - 1 if history.newest_first else -position)
    if drop:
        stay = torch.rand(len(rows)) >= drop * torch.rand(R)[request]
        request, position, rows = request[stay], position[stay], rows[stay]
        kept = torch.bincount(request, minlength=R)
    context_offsets = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
    plan = CrossingPlan.build(context_offsets, counts_offsets, device)
    return Window(rows.to(device), position.to(device), plan)
