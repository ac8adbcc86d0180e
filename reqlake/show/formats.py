"""Rows of a query as CSV, JSON or Parquet, batch by batch, in a file or on standard output.

CSV has no lists, so they stand in it as JSON. JSON has neither NaN nor infinity: they are the strings of those names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lakehouse.errors import ReqlakeError

Writer = AbstractContextManager[Any]


class JsonWriter:
    """An array, an object a line: one value to a parser, and lines to `grep`."""

    def __init__(self, target: Path | BinaryIO, schema: pa.Schema) -> None:
        self.schema, self.any = schema, False
        self.own = target.open("wb") if isinstance(target, Path) else None
        self.target = self.own or target

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pa.Table) -> None:
        """More rows."""
        for row in rows.to_pylist():
            self._put(f"{',' if self.any else '['}\n{json.dumps(_plain(row), ensure_ascii=False)}")
            self.any = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._put("\n]\n" if self.any else "[]\n")
        if self.own is not None:
            self.own.close()

    def _put(self, text: str) -> None:
        self.target.write(text.encode())  # type: ignore[union-attr]


class CsvWriter:
    """A header and the rows; lists, structs and maps as JSON."""

    def __init__(self, target: Path | BinaryIO, schema: pa.Schema) -> None:
        self.schema = pa.schema([f.with_type(pa.string()) if pa.types.is_nested(f.type) else f for f in schema])
        self.writer = pacsv.CSVWriter(target, self.schema)

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pa.Table) -> None:
        """More rows."""
        columns = [_as_json(c) if pa.types.is_nested(c.type) else c for c in rows.columns]
        self.writer.write(pa.table(columns, schema=self.schema))

    def __exit__(self, *_: object) -> None:
        self.writer.close()


WRITERS: dict[str, Callable[[Any, pa.Schema], Writer]] = {
    ".parquet": pq.ParquetWriter,
    ".csv": CsvWriter,
    ".json": JsonWriter,
}


def write_rows(rows: pa.RecordBatchReader, file: Path) -> int:
    """Write rows to a file by its ending, whole or not at all; how many. Raises ReqlakeError for another ending."""
    if file.suffix not in WRITERS:
        *others, last = WRITERS
        raise ReqlakeError(f"{file}: name a file that ends in {', '.join(others)} or {last}")
    draft = file.with_name(f".{file.name}.partial")
    try:
        with WRITERS[file.suffix](draft, rows.schema) as writer:
            written = _write(rows, writer)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return written


def print_rows(rows: pa.RecordBatchReader, form: str, target: BinaryIO) -> None:
    """Every row as `csv` or `json`, for a pipe."""
    with WRITERS[f".{form}"](target, rows.schema) as writer:
        _write(rows, writer)
    target.flush()


def _write(rows: Iterable[pa.RecordBatch], writer: Any) -> int:
    written = 0
    for batch in rows:
        writer.write(pa.Table.from_batches([batch]))
        written += batch.num_rows
    return written


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    texts = [None if v is None else json.dumps(_plain(v), ensure_ascii=False) for v in column.to_pylist()]
    return pa.array(texts, pa.string())


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    match value:
        case dict():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            return value
