"""Columns of a batch as the model's numbers: pooled, transformed, standardised, gaps marked.

Shapes: N rows (requests, candidates or events), F numbers of all columns together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import nn

from training.models.description import Dense

# Beyond ten standard deviations a value says only "very large"; serving meets values that training never saw.
LIMIT = 10.0
MICROSECONDS = 1_000_000


class Jagged(Protocol):
    """Ragged rows: row i is values[offsets[i]:offsets[i + 1]]."""

    @property
    def values(self) -> torch.Tensor:
        """[sum of lengths]."""

    @property
    def offsets(self) -> torch.Tensor:
        """[N + 1] int64."""


class Batch(Protocol):
    """What a model needs of a `feature_reader.RequestBatch` of torch tensors."""

    @property
    def request(self) -> Mapping[str, torch.Tensor | Jagged]:
        """Columns of R rows, sequences as Jagged."""

    @property
    def candidates(self) -> Mapping[str, torch.Tensor | Jagged]:
        """Columns of C rows."""

    @property
    def candidate_offsets(self) -> torch.Tensor:
        """[R + 1] int64."""


def segment_mean(x_N: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The mean of each segment's rows, [S, ...]; zero for an empty one."""
    lengths = offsets.diff()
    segment = torch.repeat_interleave(lengths, output_size=len(x_N))
    total = x_N.new_zeros(len(lengths), *x_N.shape[1:]).index_add(0, segment, x_N)
    return total / lengths.clamp(min=1).to(x_N.dtype).view(-1, *[1] * (x_N.dim() - 1))


def raw_numbers(value: torch.Tensor | Jagged, dense: Dense, request_ts: torch.Tensor) -> torch.Tensor:
    """One column as float64 [N, size] before standardising; NaN where it is missing.

    `request_ts` [N] is each row's request time in microseconds, read by `age` only.
    """
    ragged = not isinstance(value, torch.Tensor)
    x = value if isinstance(value, torch.Tensor) else value.values
    if dense.transform == "age":
        at = value.offsets.diff() if not isinstance(value, torch.Tensor) else None
        asked = request_ts if at is None else torch.repeat_interleave(request_ts, at)
        seconds = (asked.view(-1, *[1] * (x.dim() - 1)) - x).double() / MICROSECONDS
        x = torch.where(x == 0, torch.nan, seconds.clamp(min=1).log2())
    x = x.double()
    if dense.transform == "log1p":
        x = x.clamp(min=0).log1p()
    if ragged:
        known = ~x.isnan()
        assert not isinstance(value, torch.Tensor)
        share = segment_mean(known.double(), value.offsets)
        x = segment_mean(x.nan_to_num(0.0), value.offsets) / share  # 0 / 0 is NaN: nothing known, missing
    return x.reshape(len(x), dense.size)


def numbers(
    dense: tuple[Dense, ...],
    column: Callable[[str], torch.Tensor | Jagged],
    request_ts: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """All columns of one kind, standardised, [N, F]; `column` gives a column by name, `request_ts` is [N]."""
    parts = [request_ts.new_zeros((len(request_ts), 0), dtype=dtype)]
    for d in dense:
        x = raw_numbers(column(d.column), d, request_ts)
        mean, std = (torch.tensor(s, dtype=torch.float64, device=x.device) for s in (d.mean, d.std))
        gone = x.isnan()
        parts.append(((x - mean) / std).clamp(-LIMIT, LIMIT).masked_fill(gone, 0.0).to(dtype))
        if d.missing:
            parts.append(gone.to(dtype))
    return torch.cat(parts, 1)


def width(dense: tuple[Dense, ...]) -> int:
    """F of `numbers`."""
    return sum(d.width for d in dense)


class LinearOfNumbers(nn.Linear):
    """A linear map of `numbers`, of which a dataset may have none: then it is its bias, zero at first."""

    def reset_parameters(self) -> None:
        """torch's own draw, which warns of empty weights."""
        if self.in_features:
            super().reset_parameters()
        else:
            nn.init.zeros_(self.bias)
