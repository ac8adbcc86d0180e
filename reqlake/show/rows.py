"""Rows of a query: in the terminal, or in a file."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.errors import ReqlakeError

LONGEST_LIST = 6


def show_rows(console: Console, rows: pa.Table, limit: int = 40, title: str | None = None) -> None:
    """The first rows as a table, numbers to the right, and how many there are in all."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=title, title_justify="left")
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(Text(field.name), justify="right" if numeric else "left", overflow="fold")
    for row in rows.slice(0, limit).to_pylist():
        table.add_row(*(Text(shown(row[name])) for name in rows.schema.names))
    console.print(table)
    if rows.num_rows > limit:
        console.print(f"{limit} of {rows.num_rows:,} rows (--limit shows more, --out-file keeps all)", style="dim")


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


def write_rows(rows: pa.RecordBatchReader, file: Path) -> int:
    """Write rows as .parquet or .csv by the file's ending; how many. Raises ReqlakeError for another ending."""
    writers = {".parquet": pq.ParquetWriter, ".csv": pacsv.CSVWriter}
    if file.suffix not in writers:
        raise ReqlakeError(f"{file}: name a file that ends in {' or '.join(writers)}")
    written = 0
    draft = file.with_name(f".{file.name}.partial")
    try:
        with writers[file.suffix](draft, rows.schema) as writer:
            for batch in rows:
                writer.write(pa.Table.from_batches([batch]))
                written += batch.num_rows
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return written
