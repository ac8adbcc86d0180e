"""Iceberg's metadata tables as SQL sees them: `"t$snapshots"`, `"t$files"`, `"t$refs"`, `"t$history"`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

TIME = pa.timestamp("us", "UTC")
SNAPSHOTS = pa.schema(
    {
        "committed_at": TIME,
        "snapshot_id": pa.int64(),
        "parent_id": pa.int64(),
        "operation": pa.string(),
        "manifest_list": pa.string(),
    }
)
HISTORY = pa.schema(
    {"made_current_at": TIME, "snapshot_id": pa.int64(), "parent_id": pa.int64(), "is_current_ancestor": pa.bool_()}
)
REFS = pa.schema({"name": pa.string(), "type": pa.string(), "snapshot_id": pa.int64()})
FILES = pa.schema(
    {
        "content": pa.int32(),
        "file_path": pa.string(),
        "file_format": pa.string(),
        "record_count": pa.int64(),
        "file_size_in_bytes": pa.int64(),
    }
)


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _snapshots(table: Table, _: Snapshot | None) -> list[dict[str, Any]]:
    return [
        {
            "committed_at": _time(s.timestamp_ms),
            "snapshot_id": s.snapshot_id,
            "parent_id": s.parent_snapshot_id,
            "operation": s.summary.operation.value if s.summary else None,
            "manifest_list": s.manifest_list,
        }
        for s in table.snapshots()
    ]


def _history(table: Table, _: Snapshot | None) -> list[dict[str, Any]]:
    parents = {s.snapshot_id: s.parent_snapshot_id for s in table.snapshots()}
    current = table.current_snapshot()
    ancestors: set[int] = set()
    at = current.snapshot_id if current else None
    while at is not None and at not in ancestors:
        ancestors.add(at)
        at = parents.get(at)
    return [
        {
            "made_current_at": _time(e.timestamp_ms),
            "snapshot_id": e.snapshot_id,
            "parent_id": parents.get(e.snapshot_id),
            "is_current_ancestor": e.snapshot_id in ancestors,
        }
        for e in table.history()
    ]


def _refs(table: Table, _: Snapshot | None) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": ref.snapshot_ref_type.value.upper(), "snapshot_id": ref.snapshot_id}
        for name, ref in table.metadata.refs.items()
    ]


def _files(table: Table, snapshot: Snapshot | None) -> list[dict[str, Any]]:
    if snapshot is None:
        return []
    return [
        {
            "content": entry.data_file.content.value,
            "file_path": entry.data_file.file_path,
            "file_format": entry.data_file.file_format.value,
            "record_count": entry.data_file.record_count,
            "file_size_in_bytes": entry.data_file.file_size_in_bytes,
        }
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


METADATA: dict[str, tuple[pa.Schema, Callable[[Table, Snapshot | None], list[dict[str, Any]]]]] = {
    "snapshots": (SNAPSHOTS, _snapshots),
    "history": (HISTORY, _history),
    "refs": (REFS, _refs),
    "files": (FILES, _files),
}


def metadata_table(table: Table, kind: str, snapshot: Snapshot | None) -> pa.Table:
    """One metadata table as Arrow; `files` of the snapshot, the others of the whole table."""
    schema, make = METADATA[kind]
    return pa.Table.from_pylist(make(table, snapshot), schema=schema)
