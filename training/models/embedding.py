"""Hashed embedding tables: any int64 id has a row, and no dictionary is kept.

k sub-tables share a table's width; each hashes the id by its own odd multiplier, so two ids that meet in one sub-table
rarely meet in the next: of 9,066 films, 3,853 share their row of a table of 16,384 (in expectation), but only 0.15
pairs share both rows of two.
"""

from __future__ import annotations

import torch
from torch import nn

from training.models.description import Table
from training.models.values import Jagged, segment_mean

# Odd 64-bit multipliers (golden ratio, then the SplitMix64 and MurmurHash3 finalisers'), as signed integers.
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xFF51AFD7ED558CCD)
FINAL = 0x2545F4914F6CDD1D


def signed(value: int) -> int:
    """The int64 of the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


class HashedTable(nn.Module):
    """ids [...] int64 to vectors [..., dim]: `sub_tables` of `rows` rows, each dim / sub_tables wide."""

    multipliers: torch.Tensor

    def __init__(self, rows: int, dim: int, sub_tables: int) -> None:
        super().__init__()
        if dim % sub_tables or not 1 <= sub_tables <= len(MULTIPLIERS):
            sub_tables = 1
        self.rows, self.sub_tables = rows, sub_tables
        self.weight = nn.Parameter(torch.randn(sub_tables * rows, dim // sub_tables) * 0.05)
        multipliers = torch.tensor([signed(m) for m in MULTIPLIERS[:sub_tables]])
        self.register_buffer("multipliers", multipliers, persistent=False)

    def row(self, ids: torch.Tensor) -> torch.Tensor:
        """The row of each id in each sub-table, [..., sub_tables]: the top bits, which every bit of the id reaches."""
        mixed = ids[..., None] * self.multipliers  # wraps around
        mixed = (mixed ^ (mixed >> 32 & 0xFFFFFFFF)) * FINAL  # or ids in steps of 64 meet ten times as often
        high = mixed >> 33 & 0x7FFFFFFF
        return (high * self.rows >> 31) + torch.arange(self.sub_tables, device=ids.device) * self.rows

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of the ids."""
        return nn.functional.embedding(self.row(ids), self.weight).flatten(-2)


class Embeddings(nn.Module):
    """Ids of any column as vectors of the model's width: one hashed table and one linear map per name.

    Training forgets a random share of the single ids (an id seen a few times would be learned by heart), and of the
    numbers of their vectors.
    """

    def __init__(
        self, tables: tuple[tuple[str, Table], ...], width: int, *, sub_tables: int, id_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: HashedTable(t.rows, t.dim, sub_tables) for name, t in tables})
        self.maps = nn.ModuleDict({name: nn.Linear(t.dim, width, bias=False) for name, t in tables})
        self.id_dropout, self.dropout = id_dropout, nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor | Jagged, table: str) -> torch.Tensor:
        """[N, width] of one id a row [N], or the mean of several: [N, n] or Jagged; zero for none."""
        rows = self.tables[table]
        if not isinstance(ids, torch.Tensor):
            vectors = segment_mean(rows(ids.values.long()), ids.offsets)
        elif ids.dim() == 2:
            vectors = rows(ids.long()).mean(1)
        else:
            vectors = self.dropout(rows(ids.long()))
            if self.training and self.id_dropout:
                vectors = vectors * (torch.rand(len(ids), 1, device=ids.device) >= self.id_dropout)
        return self.maps[table](vectors)  # type: ignore[no-any-return]
