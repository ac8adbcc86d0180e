"""A table's size in the figures that every maintenance job prints before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table


@dataclass(frozen=True)
class TableState:
    """One table's current snapshot, and how many snapshots there are."""

    files: int = 0
    delete_files: int = 0
    file_bytes: int = 0
    rows: int = 0
    manifests: int = 0
    snapshots: int = 0

    @classmethod
    def of(cls, table: Table) -> TableState:
        """Count from the current snapshot's manifests; `rows` are those of the data files less position deletes."""
        snapshot = table.current_snapshot()
        if snapshot is None:
            return cls()
        manifests = snapshot.manifests(table.io)
        files = deletes = size = rows = 0
        for manifest in manifests:
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                data = entry.data_file.content == DataFileContent.DATA
                files, deletes = files + data, deletes + (not data)
                size += entry.data_file.file_size_in_bytes
                if data:
                    rows += entry.data_file.record_count
                elif entry.data_file.content == DataFileContent.POSITION_DELETES:
                    rows -= entry.data_file.record_count
        return cls(files, deletes, size, rows, len(manifests), len(table.metadata.snapshots))


@dataclass(frozen=True)
class UpkeepReport:
    """What one job did to one table (or would do, where `dry_run`). `did` says it in a line each."""

    job: str
    table: str
    before: TableState
    after: TableState
    did: tuple[str, ...] = ()
    dry_run: bool = False
    removed_files: int = 0
    removed_bytes: int = 0
    seconds: float = 0.0
    plan: tuple[Any, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
