"""What the quarantine holds and why, read without Spark; the ingest writes it (spark_jobs/quarantine.py)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression
from pyiceberg.table import Table

from lakehouse.catalog import load_table, table_names
from lakehouse.errors import RawDataError, nearest
from lakehouse.predicates import equal_to
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

MASK = "***"


@dataclass(frozen=True)
class HeldGroup:
    """Rows of one batch that are held for one reason; `detail` is the column at fault, `files` how many they lie in."""

    batch_id: str
    reason: str
    detail: str
    rows: int
    files: int
    newest: datetime


@dataclass(frozen=True)
class HeldRow:
    """One held row; `raw` is all of it by raw column, sensitive values masked.

    A stored candidate that a late row overruled lies in no file: `file` then names the table and the snapshot.
    """

    batch_id: str
    reason: str
    detail: str
    file: str
    row: int
    raw: dict[str, Any]


def held_groups(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> list[HeldGroup]:
    """What is held, by batch, reason and column: the newest batch first, the largest group first in it."""
    table = _table(catalog, spec, settings)
    if table is None:
        return []
    names = ("batch_id", "reason", "detail", "file", "quarantined_at")
    rows: Counter[tuple[str, str, str]] = Counter()
    files: dict[tuple[str, str, str], set[str]] = {}
    newest: dict[str, datetime] = {}
    for batch in table.scan(selected_fields=names).to_arrow_batch_reader():
        for found in batch.to_pylist():
            key = (found["batch_id"], found["reason"], found["detail"] or "")
            rows[key] += 1
            files.setdefault(key, set()).add(found["file"])
            newest[key[0]] = max(newest.get(key[0], found["quarantined_at"]), found["quarantined_at"])
    groups = [HeldGroup(*key, count, len(files[key]), newest[key[0]]) for key, count in rows.items()]
    return sorted(groups, key=lambda g: (-g.newest.timestamp(), g.batch_id, -g.rows, g.reason, g.detail))


def held_rows(
    catalog: Catalog,
    spec: DatasetSpec,
    settings: Settings,
    *,
    reason: str | None = None,
    batch_id: str | None = None,
    limit: int = 20,
) -> list[HeldRow]:
    """Up to `limit` held rows, by file and row. Raises RawDataError for a reason or a batch of which none is held."""
    table = _table(catalog, spec, settings)
    if table is None:
        return []
    wanted: BooleanExpression = AlwaysTrue()
    for name, value in (("reason", reason), ("batch_id", batch_id)):
        if value is not None:
            wanted = And(wanted, equal_to(name, value))
    found = table.scan(row_filter=wanted, selected_fields=("batch_id", "reason", "detail", "file", "row", "raw"))
    rows = found.to_arrow().sort_by([("file", "ascending"), ("row", "ascending")]).slice(0, limit).to_pylist()
    if not rows and (reason or batch_id):
        groups = held_groups(catalog, spec, settings)
        known = {g.reason for g in groups} if reason else {g.batch_id for g in groups}
        asked = " and ".join(f"{n} {v!r}" for n, v in (("reason", reason), ("batch", batch_id)) if v)
        hint = nearest(reason or batch_id or "", known)
        raise RawDataError(f"no row of {spec.name} is held with {asked}.{hint} Held are: {', '.join(sorted(known))}")
    hidden = set(_sensitive(spec))
    return [
        HeldRow(r["batch_id"], r["reason"], r["detail"] or "", r["file"], r["row"], _masked(r["raw"], hidden))
        for r in rows
    ]


def _table(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> Table | None:
    name = spec.table("quarantine")
    return load_table(catalog, name, settings) if name in table_names(catalog, spec.namespace) else None


def _sensitive(spec: DatasetSpec) -> Iterator[str]:
    """Names of sensitive columns, as a raw log or the table has them."""
    keys, files = spec.keys, spec.label_files
    for name, key in (("user_id", keys.user_id), ("request_id", keys.request_id), ("item_id", keys.item_id)):
        if key.sensitive:
            yield from (name, f"{name}_raw", *(column for column in (key.column, getattr(files, name)) if column))
    if keys.user_id.sensitive:
        yield from keys.user_id.fallback
    for column in spec.columns():
        if column.sensitive:
            yield from (column.name, column.raw, column.raw.split(".")[0], files.labels.get(column.name, column.name))


def _masked(raw: str | None, hidden: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(raw) if raw else {}
    return {name: MASK if name in hidden and value is not None else value for name, value in values.items()}
