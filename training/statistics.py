"""Mean, deviation, skew and gaps of number columns, from one pass over batches.

Merged batch by batch (Chan, Golub, LeVeque 1979), so nothing is kept and large offsets (a year, a time) cost no digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

HEAVY_TAIL = 1.0
"""Skew above which log1p is tried, for numbers that are never negative."""


@dataclass
class Moments:
    """Of one column, [size] each: count, mean, and summed second and third powers of the distance from the mean."""

    count: torch.Tensor
    mean: torch.Tensor
    second: torch.Tensor
    third: torch.Tensor

    @classmethod
    def none(cls, size: int) -> Moments:
        """Of no rows."""
        return cls(*(torch.zeros(size, dtype=torch.float64) for _ in range(4)))

    def add(self, x: torch.Tensor) -> None:
        """Take in rows [N, size] in float64; NaN is left out."""
        known = ~x.isnan()
        n = known.sum(0).double()
        mean = x.nan_to_num(0.0).sum(0) / n.clamp(min=1)
        away = torch.where(known, x - mean, 0.0)
        second, third = (away**2).sum(0), (away**3).sum(0)
        total = (self.count + n).clamp(min=1)
        d, a, b = mean - self.mean, self.count, n
        self.third += third + d**3 * a * b * (a - b) / total**2 + 3 * d * (a * second - b * self.second) / total
        self.second += second + d**2 * a * b / total
        self.mean += d * b / total
        self.count += n

    @property
    def std(self) -> torch.Tensor:
        """Population deviation; 1 where the column does not vary."""
        std = (self.second / self.count.clamp(min=1)).sqrt()
        return torch.where(std > 1e-12 * self.mean.abs().clamp(min=1e-12), std, 1.0)

    @property
    def skew(self) -> torch.Tensor:
        """Third standardised moment; 0 where the column does not vary."""
        return self.third / self.count.clamp(min=1) / self.std**3


@dataclass
class Column:
    """Moments of a number column as it is and in log1p, its least value, and how many rows have no value."""

    plain: Moments
    log: Moments
    least: float = float("inf")
    rows: int = 0
    missing: int = 0

    def add(self, x: torch.Tensor) -> None:
        """Take in rows [N, size] in float64."""
        gone = x.isnan()
        if bool((~gone).any()):
            self.least = min(self.least, float(x[~gone].min()))
        self.plain.add(x)
        self.log.add(x.clamp(min=0).log1p())
        self.rows, self.missing = self.rows + len(x), self.missing + int(gone.any(1).sum())

    @property
    def prefers_log(self) -> bool:
        """Whether the numbers are never negative, heavy-tailed, and less so in log1p."""
        plain, log = self.plain.skew.abs().max(), self.log.skew.abs().max()
        return self.least >= 0 and bool(plain > HEAVY_TAIL) and bool(log < plain)


@dataclass
class Statistics:
    """Columns by name."""

    columns: dict[str, Column] = field(default_factory=dict)
    requests: int = 0
    candidates: int = 0

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take in one batch's columns, float64 [N, size] each."""
        for name, x in values.items():
            if name not in self.columns:
                self.columns[name] = Column(Moments.none(x.shape[1]), Moments.none(x.shape[1]))
            self.columns[name].add(x)
