"""Which rows differ between two snapshots of one request table, found by key and a 64-bit hash of the whole row.

A data file that both snapshots hold, with the same deletes, holds the same rows: it is not read. So a set that only
grew costs its new files, and a rewritten table costs both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

KEY = ("user_id", "request_id", "request_hash")


@dataclass(frozen=True)
class RowChanges:
    """Requests of the later set alone, of the earlier alone, and those of both whose rows differ."""

    added: int
    removed: int
    changed: int


def row_changes(table: Table, before: int, after: int) -> RowChanges:
    """Compare two snapshots by id. The columns compared are those that both have."""
    old, new = _tasks(table, before), _tasks(table, after)
    shared = old.keys() & new.keys()
    columns = _shared_columns(table, before, after)
    connection = duckdb.connect(":memory:")
    try:
        for name, snapshot, tasks in (("old", before, old), ("new", after, new)):
            own = [t for key, t in tasks.items() if key not in shared]
            _hash_rows(connection, name, read_tasks(table, snapshot, own, columns), columns)
        on = " AND ".join(f"o.{k} = n.{k}" for k in KEY)
        row = connection.execute(
            f"SELECT count(*) FILTER (o.user_id IS NULL), count(*) FILTER (n.user_id IS NULL), "
            f"count(*) FILTER (o.hash <> n.hash) FROM old o FULL JOIN new n ON {on}"
        ).fetchone()
    finally:
        connection.close()
    assert row is not None
    return RowChanges(*row)


def _tasks(table: Table, snapshot_id: int) -> dict[tuple[str, ...], FileScanTask]:
    """Files by path and deletes, schemes left out: engines write one place differently."""
    tasks = table.scan(snapshot_id=snapshot_id).plan_files()
    return {(_bare(t.file.file_path), *sorted(_bare(d.file_path) for d in t.delete_files)): t for t in tasks}


def _bare(path: str) -> str:
    return path.partition(":")[2].lstrip("/") if ":" in path else path.lstrip("/")


def _shared_columns(table: Table, before: int, after: int) -> list[str]:
    schemas = [table.scan(snapshot_id=s).projection() for s in (before, after)]
    later = {f.name for f in schemas[1].fields}
    return [f.name for f in schemas[0].fields if f.name in later]


def _hash_rows(connection: duckdb.DuckDBPyConnection, name: str, parts: Iterator[pa.Table], columns: list[str]) -> None:
    keys = ", ".join(f'"{k}"' for k in KEY)
    connection.execute(f"CREATE TABLE {name} (user_id BIGINT, request_id BIGINT, request_hash BIGINT, hash UBIGINT)")
    rest = ", ".join(f'"{c}"' for c in columns if c not in KEY)
    for rows in parts:
        connection.register("rows", rows)
        connection.execute(f"INSERT INTO {name} SELECT {keys}, hash(row({rest})) FROM rows")
        connection.unregister("rows")


def read_tasks(table: Table, snapshot_id: int, tasks: list[FileScanTask], columns: list[str]) -> Iterator[pa.Table]:
    """The rows of files of one snapshot, deletes applied, as batches in Arrow."""
    if not tasks:
        return
    schema = table.scan(snapshot_id=snapshot_id, selected_fields=tuple(columns)).projection()
    for batch in ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_record_batches(tasks):
        yield pa.Table.from_batches([batch])
