"""Numbers as people read them: bytes with a unit, factors with one decimal."""

from __future__ import annotations


def size(count: float) -> str:
    """`1,536` bytes as `1.5 kB`; powers of 1000."""
    if count < 1000:
        return f"{count:.0f} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            return f"{value:.{0 if value >= 99.5 else 1 if value >= 9.95 else 2}f} {unit}"
    raise AssertionError(count)


def change(factor: float) -> str:
    """`2.5× fewer` for a factor over one, `2.5× more` under it; `2% fewer` where a factor would read 1.0."""
    if factor <= 0:
        return "–"
    if factor < 1:
        return f"{times(1 / factor)} more" if factor <= 1 / 1.05 else f"{1 / factor - 1:.0%} more"
    return f"{times(factor)} fewer" if factor >= 1.05 else f"{1 - 1 / factor:.0%} fewer"


def times(factor: float) -> str:
    """`12.3×`, and `–` where there is nothing to compare."""
    if factor <= 0:
        return "–"
    return f"{factor:,.0f}×" if factor >= 99.5 else f"{factor:.1f}×"


def milliseconds(seconds: float) -> str:
    """`12.3 ms`, `1,234 ms`."""
    return f"{seconds * 1000:,.{0 if seconds >= 0.1 else 1}f} ms"


def money(value: float | None) -> str:
    """Two decimals, under one three significant digits; `–` for none."""
    return "–" if value is None else f"{value:,.2f}" if value >= 1 else f"{value:.3g}"
