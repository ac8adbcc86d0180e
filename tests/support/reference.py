"""Deduplication in plain Python, to hold every fast way against, and a table writer without Spark."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from lakehouse.catalog import open_catalog
from lakehouse.schema import arrow_schema, ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import Column, DatasetSpec


def string_id(text: str) -> int:
    """A string id as the table holds it: xxhash64 of its UTF-8, seed 42, as signed int64."""
    value = xxhash.xxh64_intdigest(text.encode(), 42)
    return value - (1 << 64) if value >= 1 << 63 else value


def reference_requests(raw: pa.Table, spec: DatasetSpec) -> pa.Table:
    """Deduplicate a clean raw log in plain Python, one row at a time: the request table's rows, sorted by their key.

    Rows of one request that disagree on a request feature follow `split`. Hash and rank columns hold 0: leave them out
    of comparisons.
    """
    shared = spec.columns("request", "sequence")
    own = spec.columns("candidate", "label")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    opened: dict[tuple[int, int], datetime] = {}
    for row in raw.to_pylist():
        key = (_id(row, spec.keys.user_id), _id(row, spec.keys.request_id))
        at = _time(row[spec.keys.request_ts.column], spec.keys.request_ts.unit)
        opened[key] = min(opened.get(key, at), at)
        groups[(*key, repr([row[c.raw] for c in shared]))].append(row)
    out = []
    for (user, request, _), rows in sorted(groups.items(), key=lambda kv: (kv[0][0], kv[0][1], kv[0][2])):
        first = rows[0]
        shown = sorted({repr(r): r for r in rows}.values(), key=lambda r: _place(r, spec))
        out.append(
            {
                "user_id": user,
                "request_id": request,
                "request_ts": opened[(user, request)],
                "request_hash": 0,
                "request_rank": 0,
            }
            | {
                f"{k}_raw": first[getattr(spec.keys, k).column]
                for k in ("user_id", "request_id")
                if _is_string(spec, k)
            }
            | {c.name: _value(first, c) for c in shared}
            | {"item_id": [_id(r, spec.keys.item_id) for r in shown]}
            | ({"item_id_raw": [r[spec.keys.item_id.column] for r in shown]} if _is_string(spec, "item_id") else {})
            | {"position": [r[spec.keys.position] if spec.keys.position else i for i, r in enumerate(shown)]}
            | ({"impression_ts": [_place(r, spec)[0] for r in shown]} if spec.keys.impression_ts else {})
            | {c.name: [_candidate(r, c, spec) for r in shown] for c in own}
            | {"candidate_rank": [0] * len(shown), "request_version": None, "candidate_version": None}
        )
    return pa.Table.from_pylist(out, schema=arrow_schema(spec))


def _is_string(spec: DatasetSpec, key: str) -> bool:
    return getattr(spec.keys, key).type == "string"


def _id(row: dict[str, Any], column: Any) -> int:
    value = row[column.column]
    return string_id(value) if column.type == "string" else value


def _time(value: Any, unit: str | None) -> datetime:
    if unit is None:
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=value * {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    )


def _place(row: dict[str, Any], spec: DatasetSpec) -> tuple[Any, ...]:
    if spec.keys.position:
        return (row[spec.keys.position],)
    at = spec.keys.impression_ts
    return (_time(row[at.column], at.unit) if at else 0, _id(row, spec.keys.item_id))


def _value(row: dict[str, Any], column: Column) -> Any:
    value, unit = row[column.raw], column.feature.unit if column.feature else None
    return [_time(v, unit) for v in value] if unit and value is not None else value


def _candidate(row: dict[str, Any], column: Column, spec: DatasetSpec) -> Any:
    label = spec.labels.get(column.name.removesuffix("_time"))
    if column.role == "label" and label is not None and label.time is not None and column.name.endswith("_time"):
        value = row[label.time.column]
        return None if value is None else _time(value, label.time.unit)
    return row[column.raw]


def write_request_table(
    settings: Settings, spec: DatasetSpec, requests: pa.Table, files: int = 2, row_group: int = 64
) -> Any:
    """Append requests to the spec's table by PyIceberg alone, in `files` commits of row groups of `row_group` rows.

    A commit writes one file per partition it touches. Returns the PyIceberg table, refreshed.
    """
    table = ensure_request_table(open_catalog(settings), spec, settings)
    with table.transaction() as change:
        change.set_properties({"write.parquet.row-group-limit": str(row_group)})
    order = pc.sort_indices(requests, sort_keys=[("user_id", "ascending"), ("request_id", "ascending")])
    requests = requests.take(order)
    step = max(1, -(-len(requests) // files))
    for start in range(0, len(requests), step):
        table.append(requests.slice(start, step).cast(table.schema().as_arrow()))
    return table.refresh()
