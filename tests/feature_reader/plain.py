"""The reader's contract in plain Python, one value at a time: what a request has to look like in a batch."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from feature_reader import Jagged, Reader, RequestBatch
from lakehouse.spec import Column, DatasetSpec
from tests.support.datasets import string_id

HIDDEN = ("user_id_raw", "request_id_raw", "item_id_raw")


def expected_rows(requests: pa.Table, spec: DatasetSpec) -> dict[int, dict[str, Any]]:
    """Request id to its columns as a batch holds them (`rows_of`), from the table's own rows."""
    columns = [c for c in spec.columns() if c.role != "rank" and c.name not in HIDDEN]
    columns = [c for c in columns if c.role != "label" or c.name in spec.labels]
    return {
        row["request_id"]: {c.name: _column(row[c.name], c, len(row["item_id"]), spec) for c in columns}
        for row in requests.to_pylist()
    }


def rows_of(batch: RequestBatch, *, padding: bool = False) -> list[dict[str, Any]]:
    """The batch's requests as dicts of Python values; padding is left out unless asked for."""
    batch = batch.numpy()
    rows = []
    for i in range(batch.R if padding else batch.R - batch.padding):
        first, last = int(batch.candidate_offsets[i]), int(batch.candidate_offsets[i + 1])
        row = {name: _at(column, i) for name, column in batch.request.items()}
        row |= {name: [_at(column, c) for c in range(first, last)] for name, column in batch.candidates.items()}
        rows.append(row)
    return rows


def assert_read_as_stored(table: Table, spec: DatasetSpec, **options: Any) -> None:
    """The reader gives each request of the table once, as PyIceberg reads it from the files."""
    expected = expected_rows(table.scan().to_arrow(), spec)
    rows = [row for batch in Reader(table, **options) for row in rows_of(batch)]
    assert sorted(row["request_id"] for row in rows) == sorted(expected)
    for row in rows:
        want = expected[row["request_id"]]
        assert same(row, want), {k: (row[k], want[k]) for k in want if not same(row[k], want[k])}


def same(a: Any, b: Any) -> bool:
    """Equal, with NaN equal to NaN."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


def _at(column: Any, i: int) -> Any:
    return (column.row(i) if isinstance(column, Jagged) else column[i]).tolist()


def _column(value: Any, column: Column, candidates: int, spec: DatasetSpec) -> Any:
    if column.per_candidate:
        values = value if value is not None else [None] * candidates
        return [_value(v, column, spec) for v in values]
    return _value(value, column, spec)


def _value(value: Any, column: Column, spec: DatasetSpec) -> Any:
    if column.type.shape == "scalar":
        return _scalar(value, column, spec)
    if column.type.shape == "list":
        return [_scalar(v, column, spec) for v in value or []]
    return [_scalar(v, column, spec) for v in (value or [None] * (column.type.size or 0))]


def _scalar(value: Any, column: Column, spec: DatasetSpec) -> Any:
    is_label = column.name in spec.labels
    if value is None and column.feature is not None and not is_label:
        value = column.feature.default
    if value is None:
        return math.nan if is_label or column.type.is_float else False if column.type.element == "bool" else 0
    if isinstance(value, str):
        return string_id(value)
    if isinstance(value, datetime):
        return round(value.timestamp() * 1_000_000)
    return float(np.float32(value)) if is_label else value
