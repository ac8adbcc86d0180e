"""Tokens: an event of a sequence, and a candidate as the event that would come next.

A token is the sum of its ids' vectors, its numbers through one linear map, its age and its place. A candidate's aligned
columns go through the very same tables and map; what only an event has (its rating, its time) is zero, what only a
candidate has (its genres) is added. Shapes: T events, C candidates, D width.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from training.models.description import ModelInputs, Sequence
from training.models.embedding import Embeddings
from training.models.values import MICROSECONDS, Batch, Jagged, LinearOfNumbers, numbers, width

AGES = 32
"""Buckets of log2 of the seconds from an event to the request, so 2^30 s (34 years) and more share one."""
NOW = AGES - 1
"""The bucket of a candidate."""


class EventTokens(nn.Module):
    """Tokens [T, D] of one sequence's events, without their place."""

    def __init__(self, sequence: Sequence, to: int) -> None:
        super().__init__()
        self.sequence = sequence
        self.numbers = LinearOfNumbers(width(sequence.dense), to)
        self.age = nn.Embedding(AGES, to) if sequence.time else None
        if self.age is not None:
            nn.init.normal_(self.age.weight, std=0.05)

    def forward(self, batch: Batch, embeddings: Embeddings, rows: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Tokens of the chosen events: `rows` [T] of the sequence's values, `asked` [T] their request's time."""
        sequence = self.sequence

        def column(name: str) -> torch.Tensor:
            return flat(batch.request[name])[rows]

        x_TD = self.numbers(numbers(sequence.dense, column, asked, self.numbers.weight.dtype))
        for lookup in sequence.lookups:
            x_TD = x_TD + embeddings(column(lookup.column), lookup.table)
        if self.age is not None and sequence.time:
            seconds = (asked - column(sequence.time)) // MICROSECONDS
            x_TD = x_TD + self.age(seconds.clamp(min=1).double().log2().long().clamp(max=NOW - 1))
        return x_TD  # type: ignore[no-any-return]

    def of_candidates(self, batch: Batch, embeddings: Embeddings, asked: torch.Tensor) -> torch.Tensor:
        """Candidates [C, D] as events of this sequence; numbers that only events have are zero, their mean."""
        sequence, aligned = self.sequence, dict(self.sequence.aligned)
        dtype = self.numbers.weight.dtype
        parts = [asked.new_zeros((len(asked), 0), dtype=dtype)]
        for dense in sequence.dense:
            if dense.column in aligned:
                same = dataclasses.replace(dense, column=aligned[dense.column])
                parts.append(numbers((same,), batch.candidates.__getitem__, asked, dtype))
            else:
                parts.append(asked.new_zeros((len(asked), dense.width), dtype=dtype))
        x_CD = self.numbers(torch.cat(parts, 1))
        for lookup in sequence.lookups:
            if lookup.column in aligned:
                x_CD = x_CD + embeddings(batch.candidates[aligned[lookup.column]], lookup.table)
        if self.age is not None:
            x_CD = x_CD + self.age.weight[NOW]
        return x_CD  # type: ignore[no-any-return]


class CandidateTokens(nn.Module):
    """What only candidates have, and their place."""

    def __init__(self, inputs: ModelInputs, to: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.numbers = LinearOfNumbers(width(inputs.candidate_dense), to)

    def forward(self, dense_CF: torch.Tensor, batch: Batch, embeddings: Embeddings) -> torch.Tensor:
        """[C, D] of the candidates' own features."""
        x_CD = self.numbers(dense_CF)
        for lookup in self.inputs.candidate_lookups:
            x_CD = x_CD + embeddings(batch.candidates[lookup.column], lookup.table)
        return x_CD  # type: ignore[no-any-return]


def flat(value: torch.Tensor | Jagged) -> torch.Tensor:
    """The values of a ragged column."""
    assert not isinstance(value, torch.Tensor)
    return value.values
