"""Rows of a query in the terminal, batch by batch: a large result never lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

LONGEST_LIST = 6
COUNTED = 1_000_000  # rows after which the rest of a result is not even counted


def show_rows(
    console: Console, rows: pa.Table | pa.RecordBatchReader, limit: int = 40, title: str | None = None
) -> None:
    """The first rows as a table, numbers to the right; what was cut is said, with its number up to a million."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=title, title_justify="left")
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(Text(field.name), justify="right" if numeric else "left", overflow="fold")
    count = 0
    for batch in _batches(rows):
        for row in batch.slice(0, max(0, limit - count)).to_pylist():
            table.add_row(*(Text(shown(row[name])) for name in rows.schema.names))
        count += batch.num_rows
        if count > COUNTED:
            break
    console.print(table)
    if count > limit:
        of = f"more than {COUNTED:,}" if count > COUNTED else f"{count:,}"
        console.print(f"{limit} of {of} rows (--limit shows more, --out-file keeps all)", style="dim")


def _batches(rows: pa.Table | pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    return iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)


def show_names(console: Console, names: list[str]) -> None:
    """What a query can read: one name a line."""
    for name in names:
        console.print(name)
    if not names:
        console.print("no tables yet: `reqlake ingest SPEC RAW` makes the first", style="dim")


def shown(value: Any, longest: int = LONGEST_LIST) -> str:
    """A value as a person reads it: short floats, times without microseconds, long lists cut."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list():
            inner = ", ".join(shown(v) for v in islice(value, longest))
            return f"[{inner}{f', … {len(value)}' if len(value) > longest else ''}]"
        case _:
            return str(value)
