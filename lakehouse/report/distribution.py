"""How a length is distributed over requests: quantiles and a histogram, from counts of each value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 24


@dataclass(frozen=True)
class Bin:
    """Requests whose length lies in [low, high]."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class Distribution:
    """`count` requests whose lengths sum to `total`."""

    count: int
    total: int
    minimum: int
    median: int
    p90: int
    p99: int
    maximum: int
    bins: tuple[Bin, ...]

    @property
    def mean(self) -> float:
        """Mean length."""
        return self.total / self.count if self.count else 0.0


def distribution(values: list[int], counts: list[int]) -> Distribution:
    """From distinct values in ascending order and how often each occurs."""
    if not values:
        return Distribution(0, 0, 0, 0, 0, 0, 0, ())
    v, k = np.array(values, np.int64), np.array(counts, np.int64)
    seen = np.cumsum(k)

    def quantile(q: float) -> int:
        return int(v[np.searchsorted(seen, q * seen[-1], side="left")])

    return Distribution(
        count=int(seen[-1]),
        total=int((v * k).sum()),
        minimum=int(v[0]),
        median=quantile(0.5),
        p90=quantile(0.9),
        p99=quantile(0.99),
        maximum=int(v[-1]),
        bins=_bins(v, k),
    )


def _bins(values: np.ndarray, counts: np.ndarray) -> tuple[Bin, ...]:
    """At most 24 bins of equal width."""
    low, high = int(values[0]), int(values[-1])
    width = max(1, -(-(high - low + 1) // BINS))
    out = []
    for start in range(low, high + 1, width):
        inside = (values >= start) & (values < start + width)
        out.append(Bin(start, min(start + width - 1, high), int(counts[inside].sum())))
    return tuple(out)
