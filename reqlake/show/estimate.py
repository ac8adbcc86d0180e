"""An estimate, for people."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.estimate import Estimate, Estimated
from lakehouse.report.units import size

SHOWN = 14


def show_estimate(console: Console, found: Estimate) -> None:
    """Counts, factors with intervals, columns, cost, and the verdict."""
    console.print(
        Text.assemble(
            ("Estimate ", "bold"),
            (found.source, "bold cyan"),
            f"  {found.rows:,} rows, {size(found.file_bytes)} as they lie; from {found.sampled_rows:,} rows of "
            f"{found.sampled_users:,} users",
        )
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column()
    table.add_row(f"{found.fan_out.value:.1f}", "rows per request", _interval(found.fan_out))
    table.add_row(f"{found.file.value:.2f}×", "fewer bytes on disk than as they lie", _interval(found.file))
    table.add_row(f"{found.decoded.value:.2f}×", "fewer bytes decoded", _interval(found.decoded))
    minutes = found.core_seconds / 60
    table.add_row(f"{minutes:.1f}", f"core minutes to ingest {size(found.decoded_bytes)} decoded", "")
    if found.yearly_cost is not None:
        before, after = found.yearly_cost
        table.add_row(f"{before - after:,.2f}", f"saved a year in storage, {before:,.2f} now", "")
    console.print(table)
    columns = Table(box=None, pad_edge=False, header_style="dim")
    columns.add_column("column", overflow="fold")
    columns.add_column("stored per")
    for name in ("as it lies", "on disk", "", "decoded", ""):
        columns.add_column(name, justify="right", no_wrap=True)
    for c in found.columns[:SHOWN]:
        columns.add_row(c.name, c.level, size(c.file_bytes), *_cells(c.file_factor), *_cells(c.decoded_factor))
    console.print(columns)
    if len(found.columns) > SHOWN:
        console.print(f"and {len(found.columns) - SHOWN} smaller columns", style="dim")
    console.print(found.advice)


def _cells(factor: Estimated | None) -> tuple[str, str]:
    return ("–", "") if factor is None else (f"{factor.value:.2f}×", _interval(factor))


def _interval(factor: Estimated) -> str:
    return "one group of users: no interval" if math.isinf(factor.high) else f"{factor.low:.2f} to {factor.high:.2f}"
