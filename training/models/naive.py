"""The duplicated twin of the ranker: one row per impression, full causal self-attention over [history ; candidate].

It is what a ranker does without deduplication, with the same weights, in plain torch and padded blocks of attention.
`Ranker` must equal it in outputs and in every gradient (tests/training/models/test_equivalence.py).
Shapes: R requests, C candidates, L longest history of the batch, S = L + 1, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.models.block import Block
from training.models.ranker import Ranker
from training.models.values import Batch, Jagged
from training.models.window import Window
from training.ops import CrossingPlan


@dataclass(frozen=True)
class Rows:
    """Ragged rows."""

    values: torch.Tensor
    offsets: torch.Tensor


@dataclass(frozen=True)
class Impressions:
    """A batch whose every request has one candidate: request columns are repeated."""

    request: dict[str, torch.Tensor | Jagged]
    candidates: dict[str, torch.Tensor | Jagged]
    candidate_offsets: torch.Tensor


def duplicate(batch: Batch) -> Impressions:
    """One row per impression, in the batch's order; slow and plain."""
    owner = torch.repeat_interleave(batch.candidate_offsets.diff()).tolist()

    def repeated(column: torch.Tensor | Jagged) -> torch.Tensor | Jagged:
        if isinstance(column, torch.Tensor):
            return torch.stack([column[r] for r in owner]) if owner else column[:0]
        parts = [column.values[column.offsets[r] : column.offsets[r + 1]] for r in owner]
        lengths = torch.tensor([0, *(len(p) for p in parts)])
        return Rows(torch.cat(parts) if parts else column.values[:0], lengths.cumsum(0))

    return Impressions(
        {name: repeated(column) for name, column in batch.request.items()},
        dict(batch.candidates),
        torch.arange(len(owner) + 1),
    )


def duplicated_forward(model: Ranker, rows: Batch) -> torch.Tensor:
    """Logits [C, K] of a batch in which each request has exactly one candidate. Dropout must be off."""
    seen = model.window(rows)
    dense_CF, candidate_CD = model.candidate_tokens(rows, seen.plan.request_index)
    lengths_C = seen.plan.context_offsets.diff()
    x_CSD = sequences(model.history_tokens(rows, seen), candidate_CD, seen)
    for block in model.blocks:
        assert isinstance(block, Block)
        x_CSD = full_block(block, x_CSD)
    last_CD = x_CSD[torch.arange(len(lengths_C)), lengths_C]
    request_CF = model.request_numbers(rows)
    request_CE = torch.cat([request_CF, *model.request_vectors(rows)], 1)
    return model.heads(last_CD, dense_CF, request_CE, request_CF)


def sequences(history_TD: torch.Tensor, candidate_CD: torch.Tensor, seen: Window) -> torch.Tensor:
    """[history ; candidate] of each impression, padded behind: [C, S, D]."""
    plan: CrossingPlan = seen.plan
    rows = []
    for (t, _), own in zip(plan.slices(), candidate_CD, strict=True):
        row = torch.cat([history_TD[t], own[None]])
        rows.append(torch.nn.functional.pad(row, (0, 0, 0, plan.max_length + 1 - len(row))))
    return torch.stack(rows) if rows else candidate_CD.new_zeros(0, 1, candidate_CD.shape[1])


def full_block(block: Block, x_CSD: torch.Tensor) -> torch.Tensor:
    """A layer as plain causal self-attention; padding lies behind every real token, so no one sees it."""
    q, k, v = (y.transpose(1, 2) for y in block.split(block.qkv(block.attention_norm(x_CSD)), 3))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    attended = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
    return block.rest(x_CSD, attended.transpose(1, 2))
