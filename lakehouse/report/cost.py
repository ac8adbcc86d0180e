"""What a year of a layout costs at given prices. The formula is stated with the figures, or they mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.settings import PriceSettings

FORMULA = (
    "storage: bytes on disk / 10^9 x price of a GB and month x 12; reading: core seconds to decode it whole, measured "
    "here, / 3600 x price of a vCPU hour x reads a year"
)


@dataclass(frozen=True)
class YearlyCost:
    """One layout for a year, in the prices' currency; None where a price was not given."""

    label: str
    file_bytes: int
    decode_core_s: float
    storage: float | None
    reading: float | None

    @property
    def together(self) -> float:
        """Storage and reading; what has no price is left out."""
        return (self.storage or 0.0) + (self.reading or 0.0)


@dataclass(frozen=True)
class Costs:
    """The layouts whose decoding was measured, the prices, and how they were put together."""

    rows: tuple[YearlyCost, ...]
    prices: dict[str, float | None]
    formula: str


def yearly_costs(layouts: Mapping[str, tuple[int, float]], prices: PriceSettings) -> Costs | None:
    """Costs of layouts given as {label: (bytes on disk, core seconds to decode)}; None without any price."""
    if prices.per_gb_month is None and prices.per_vcpu_hour is None:
        return None
    rows = [
        YearlyCost(
            label,
            file_bytes,
            seconds,
            None if prices.per_gb_month is None else file_bytes / 1e9 * prices.per_gb_month * 12,
            None if prices.per_vcpu_hour is None else seconds / 3600 * prices.per_vcpu_hour * prices.reads_per_year,
        )
        for label, (file_bytes, seconds) in layouts.items()
    ]
    return Costs(tuple(rows), prices.model_dump(), FORMULA)
